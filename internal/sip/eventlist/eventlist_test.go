package eventlist

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"ringfence"
)

// related is the type of a body whose boundary is b.
const related = `multipart/related;type="application/rlmi+xml";boundary=b`

func body(list string, parts ...string) []byte {
	return []byte("--b\r\nContent-Type: application/rlmi+xml;charset=\"UTF-8\"\r\nContent-ID: <root@x>\r\n\r\n" + list + "\r\n--b\r\n" + strings.Join(parts, "\r\n--b\r\n") + "\r\n--b--\r\n")
}

func about(cid, text string) string {
	return "Content-Transfer-Encoding: binary\r\nContent-ID: <" + cid + ">\r\nContent-Type: application/dialog-info+xml\r\n\r\n" + text
}

const list = `<?xml version="1.0"?><list xmlns="urn:ietf:params:xml:ns:rlmi" uri="sip:lamps@example.com" version="0" fullState="true"><name xml:lang="en">Lamps</name>
<resource uri="sip:bob@example.com"><name>Bob</name><instance id="a" state="active" cid="bob@x"/></resource><resource uri="sip:carol@example.com"><instance id="b" state="terminated" reason="rejected"/></resource><resource uri="sip:dave@example.com"/></list>`

func TestParse(t *testing.T) {
	for _, kind := range []string{related, related + `;start="<root@x>"`} {
		l, err := Parse(kind, body(list, about("bob@x", "<dialog-info/>")))
		if err != nil || l.URI != "sip:lamps@example.com" || l.Version != 0 || !l.Full || len(l.Resources) != 3 {
			t.Fatalf("%+v %v", l, err)
		}
		bob, carol := l.Resources[0], l.Resources[1]
		if bob.Name != "Bob" || len(bob.Instances) != 1 || bob.Instances[0].State != "active" || bob.Instances[0].Type != "application/dialog-info+xml" || string(bob.Instances[0].Body) != "<dialog-info/>" {
			t.Errorf("%+v", bob)
		}
		if carol.Name != "" || carol.Instances[0].Reason != "rejected" || carol.Instances[0].Body != nil || len(l.Resources[2].Instances) != 0 {
			t.Errorf("%+v", l.Resources[1:])
		}
	}
	if l, err := Parse(related, body(strings.Replace(list, ">Bob<", ">B\u009b31mob\x7f "+strings.Repeat("é", 100)+"<", 1))); err != nil || !strings.HasPrefix(l.Resources[0].Name, "B31mob é") || len(l.Resources[0].Name) > maxName || !utf8.ValidString(l.Resources[0].Name) {
		t.Errorf("%q %v", l.Resources[0].Name, err)
	}
	// The list need not come first.
	if l, err := Parse(`multipart/related;boundary="b";start="<root@x>"`, []byte("--b\r\n"+about("bob@x", "<dialog-info/>")+"\r\n"+string(body(list, "Content-ID: <other>\r\n\r\n")))); err != nil || len(l.Resources[0].Instances[0].Body) == 0 {
		t.Errorf("%+v %v", l, err)
	}
}

func TestRefused(t *testing.T) {
	with := func(old, now string) []byte { return body(strings.Replace(list, old, now, 1)) }
	many := strings.Repeat(`<resource uri="sip:x@example.com"/>`, maxResources+1)
	parts := make([]string, maxParts)
	for i := range parts {
		parts[i] = about(fmt.Sprint(i), "")
	}
	for name, x := range map[string]struct {
		kind string
		body []byte
	}{
		"no multipart": {"application/rlmi+xml", []byte(list)}, "no boundary": {"multipart/related", body(list)}, "another kind of multipart": {"multipart/mixed;boundary=b", body(list)},
		"no end": {related, []byte("--b\r\n\r\n" + list)}, "no part": {related, []byte("--b--\r\n")}, "a start that is not there": {related + `;start="<no>"`, body(list)}, "a start that is no list": {related + `;start="<bob@x>"`, body(list, about("bob@x", ""))},
		"no version": {related, with(`version="0"`, "")}, "a negative version": {related, with(`version="0"`, `version="-1"`)}, "half a state": {related, with(`fullState="true"`, `fullState="half"`)},
		"a document type": {related, with(`<list`, `<!DOCTYPE list [<!ENTITY a "b">]><list`)}, "no list": {related, body("<x/>")}, "an address with a blank": {related, with("sip:bob@example.com", "sip:bob @example.com")},
		"an address in other letters": {related, with("sip:bob@example.com", "sip:b\u009bob@example.com")}, "no address": {related, with("sip:bob@example.com", " ")}, "a line end in an address": {related, with("sip:bob@example.com", "sip:bob&#13;&#10;@x")}, "a state that is none": {related, with(`state="active"`, `state="odd"`)},
		"many resources": {related, with("<resource ", many+"<resource ")}, "many instances": {related, with(`<instance id="a"`, strings.Repeat(`<instance id="z" state="active"/>`, maxInstances)+`<instance id="a"`)},
		"many parts": {related, body(list, parts...)}, "too long": {related, append(body(list), make([]byte, MaxBody)...)}, "a type that is too long": {related + ";x=" + strings.Repeat("y", 1024), body(list)},
	} {
		if l, err := Parse(x.kind, x.body); ringfence.KindOf(err) != ringfence.KindInvalid || len(l.Resources) != 0 {
			t.Errorf("%s: %+v %v", name, l, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(related, body(list, about("bob@x", "<dialog-info/>")))
	f.Add(related+`;start="<root@x>"`, body(strings.Replace(list, `fullState="true"`, `fullState="0"`, 1)))
	f.Add("multipart/related;boundary=\"\"", []byte("--\r\n\r\n----\r\n"))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		l, err := Parse(kind, b)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Error(err)
			}
			return
		}
		for _, r := range l.Resources {
			if r.URI == "" || strings.ContainsAny(r.URI, "\r\n <>") || len(r.Instances) > maxInstances || len(r.Name) > maxName {
				t.Errorf("%+v", r)
			}
		}
	})
}
