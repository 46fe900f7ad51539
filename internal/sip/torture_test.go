package sip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type tortureCase struct {
	name, section, outcome string
	status                 int
	text                   []byte
}

// tortureCases reads the table and the messages of RFC 4475 and RFC 5118 in testdata/torture.
func tortureCases(t testing.TB) []tortureCase {
	t.Helper()
	f, err := os.Open("testdata/torture/index.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []tortureCase
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		c := tortureCase{name: words[0], section: words[1], outcome: words[2]}
		if c.outcome != "accept" {
			if _, err := fmt.Sscan(words[3], &c.status); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if c.text, err = os.ReadFile(filepath.Join("testdata/torture", c.name+".dat")); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	return cases
}

// judge parses and validates a copy of text.
func judge(text []byte) (*Message, error) {
	m := new(Message)
	if err := m.Parse(bytes.Clone(text), Limits{}); err != nil {
		return m, err
	}
	return m, m.Validate()
}

func TestTorture(t *testing.T) {
	cases := tortureCases(t)
	files, err := filepath.Glob("testdata/torture/*.dat")
	if err != nil || len(files) != len(cases) {
		t.Fatalf("%d files, %d cases, %v", len(files), len(cases), err)
	}
	v6 := 0
	for _, c := range cases {
		if strings.HasPrefix(c.section, "v6-") {
			v6++
		}
		t.Run(c.name, func(t *testing.T) {
			m, err := judge(c.text)
			if c.outcome == "reject" {
				var fault *ParseError
				if !errors.As(err, &fault) || fault.Status != c.status {
					t.Fatalf("err = %v, want status %d", err, c.status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.outcome == "element" {
				if got := elementAnswer(m); got != c.status {
					t.Errorf("an element would answer %d, want %d", got, c.status)
				}
			}
			again, err := judge(m.Bytes())
			if err != nil || !bytes.Equal(again.Bytes(), m.Bytes()) {
				t.Errorf("what was accepted does not parse again: %v", err)
			}
		})
	}
	if rfc4475 := len(cases) - v6; rfc4475 != 49 || v6 != 12 {
		t.Errorf("%d messages of RFC 4475 and %d of RFC 5118, want 49 and 12", rfc4475, v6)
	}
}

// elementAnswer is what a plain user agent and registrar would do with a valid message: the least that shows that the
// accessors give an element what it needs to decide.
func elementAnswer(m *Message) int {
	vias := 0
	for line := range m.All(HeaderVia) {
		for range Values(line) {
			vias++
		}
	}
	to, _ := m.To()
	switch {
	case !m.IsRequest() && vias > 1:
		return 0
	case m.Method() == MethodOther:
		return 501
	case m.Has(HeaderRequire) && !m.HasOption(HeaderRequire, "replaces"):
		return 420
	case len(m.Body()) > 0 && !EqualFold(m.Get(HeaderContentType), "application/sdp"):
		return 415
	case m.Method() == REGISTER && !to.URI.IsSIP():
		return 400
	case m.Method() == REGISTER && m.Has(HeaderAuthorization):
		if _, ok := m.CredentialsFor(HeaderAuthorization, "example.com"); !ok {
			return 401
		}
	case m.Has(HeaderAccept) && !m.HasOption(HeaderAccept, "application/sdp"):
		return 406
	}
	if hops, ok := m.Uint(HeaderMaxForwards, 255); ok && hops == 0 {
		return 483
	}
	return 200
}

// TestTortureValues looks into the messages that are easily accepted for the wrong reason.
func TestTortureValues(t *testing.T) {
	messages := map[string]*Message{}
	for _, c := range tortureCases(t) {
		if c.outcome != "reject" {
			messages[c.name], _ = judge(c.text)
		}
	}
	check := func(name, what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s: %s", name, what)
		}
	}
	m := messages["wsinv"]
	from, err := m.From()
	check("wsinv", "From", err == nil && string(from.Display) == `J Rosenberg \\\"` && string(from.Tag()) == "98asjd8")
	check("wsinv", "To tag", string(m.ToTag()) == "1918181833n")
	var vias []string
	for line := range m.All(HeaderVia) {
		for v := range Values(line) {
			via, err := ParseVia(v)
			vias = append(vias, fmt.Sprintf("%s %s %s %v", via.Transport, via.Host, via.Branch(), err))
		}
	}
	check("wsinv", fmt.Sprintf("vias %q", vias), strings.Join(vias, "|") ==
		"UDP 192.0.2.2 390skdjuw <nil>|TCP spindle.example.com z9hG4bK9ikj8 <nil>|UDP 192.168.255.111 z9hG4bK30239 <nil>")
	contact, err := m.Contact()
	q, _ := contact.Params.Get("q")
	check("wsinv", "Contact", err == nil && string(q) == "0.33" && string(contact.URI.Host) == "example.com")
	check("wsinv", "body", len(m.Body()) == 150)
	hops, _ := m.Uint(HeaderMaxForwards, 255)
	seq, method, _ := m.CSeq()
	check("wsinv", "numbers", hops == 68 && seq == 9 && method == INVITE)

	m = messages["intmeth"]
	from, err = m.From()
	check("intmeth", "From", err == nil && string(from.Tag()) == "_token~1'+`*%!-." && string(from.Display) == "token1~` token2'+_ token3*%!.-")
	uri, err := ParseURI(m.RequestURI())
	check("intmeth", "Request-URI", err == nil && string(uri.Host) == "example.com" && string(uri.Password) == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
	to, err := m.To()
	check("intmeth", "To", err == nil && string(to.Display) == "BEL:\\\a NUL:\\\x00 DEL:\\\x7f")

	uri, err = ParseURI(messages["esc01"].RequestURI())
	check("esc01", "user", err == nil && string(Unescape(uri.User)) == "sips:user@example.com" && string(uri.Host) == "example.net")
	contact, _ = messages["esc01"].Contact()
	value, ok := contact.URI.Params.Get("n%61me")
	check("esc01", "parameter", ok && string(Unescape(value)) == "value%41")
	to, _ = messages["escnull"].To()
	check("escnull", "user", string(Unescape(to.URI.User)) == "null-\x00-null")
	check("dblreq", "first request only", len(messages["dblreq"].Body()) == 0 && bytes.HasSuffix(messages["dblreq"].Bytes(), []byte("Content-Length: 0\r\n\r\n")))
	check("mpart01", "body", bytes.Count(messages["mpart01"].Body(), []byte{0}) >= 2 && len(messages["mpart01"].Body()) == 553)
	check("noreason", "reason", messages["noreason"].Status() == 100 && len(messages["noreason"].Reason()) == 0)
	contact, _ = messages["cparam01"].Contact()
	_, inField := contact.Params.Get("unknownparam")
	check("cparam01", "parameter", inField && len(contact.URI.Params) == 0)
	contact, _ = messages["cparam02"].Contact()
	_, inURI := contact.URI.Params.Get("unknownparam")
	check("cparam02", "parameter", inURI && len(contact.Params) == 0)
	uri, _ = ParseURI(messages["port-ambiguous"].RequestURI())
	check("port-ambiguous", "port", uri.Port == 0 && string(uri.Host) == "2001:db8::10:5070")
	uri, _ = ParseURI(messages["port-unambiguous"].RequestURI())
	check("port-unambiguous", "port", uri.Port == 5070)
}

// TestValidateRefuses has the faults that the torture messages do not show alone.
func TestValidateRefuses(t *testing.T) {
	const good = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TLS a.example.com;branch=z9hG4bKx\r\nFrom: <sip:a@example.com>;tag=1\r\n" +
		"To: <sip:b@example.com>\r\nCall-ID: x@y\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:a@a.example.com>\r\nContent-Length: 0\r\n\r\n"
	if _, err := judge([]byte(good)); err != nil {
		t.Fatal(err)
	}
	add := func(field string) string { return strings.Replace(good, "Contact:", field+"\r\nContact:", 1) }
	for name, text := range map[string]string{
		"two Call-IDs":         add("i: z"),
		"two From":             add("f: <sip:c@example.com>;tag=2"),
		"two To":               add("t: <sip:c@example.com>"),
		"two CSeq":             add("CSeq: 1 INVITE"),
		"two Max-Forwards":     add("Max-Forwards: 70"),
		"two tags":             strings.Replace(good, ";tag=1", ";tag=1;tag=2", 1),
		"flag and tag":         strings.Replace(good, ";tag=1", ";tag;tag=1", 1),
		"tag not a token":      strings.Replace(good, ";tag=1", ";tag=1:2", 1),
		"quoted and no token":  strings.Replace(good, ";tag=1", `;tag="1 2"`, 1),
		"tag with = in it":     strings.Replace(good, ";tag=1", ";tag=1=2", 1),
		"branch not a token":   strings.Replace(good, "z9hG4bKx", "z9hG4bK[x", 1),
		"only the cookie":      strings.Replace(good, "z9hG4bKx", "z9hG4bK", 1),
		"flag and branch":      strings.Replace(good, ";branch=z9hG4bKx", ";Branch;branch=z9hG4bKx", 1),
		"password of nobody":   strings.Replace(good, "sip:bob@", "sip::secret@", 1),
		"port with a letter":   strings.Replace(good, "bob@example.com", "bob@example.com:50a", 1),
		"port of 20 digits":    strings.Replace(good, "bob@example.com", "bob@example.com:00000000000000005060", 1),
		"empty tag":            strings.Replace(good, ";tag=1", ";tag=", 1),
		"Max-Forwards 256":     strings.Replace(good, "Max-Forwards: 70", "Max-Forwards: 256", 1),
		"empty Via":            strings.Replace(good, "SIP/2.0/TLS a.example.com;branch=z9hG4bKx", ",", 1),
		"two branches":         strings.Replace(good, ";branch=z9hG4bKx", ";branch=z9hG4bKx;branch=z9hG4bKy", 1),
		"quote in parameter":   strings.Replace(good, ";tag=1", `;x="a"b";tag=1`, 1),
		"bracket in parameter": strings.Replace(good, ";tag=1", `;x=(a;tag=1`, 1),
		"space in parameter":   strings.Replace(good, ";tag=1", `;x y;tag=1`, 1),
		"second Via bad":       add("Via: SIP/2.0 nonsense"),
		"Via port 0":           strings.Replace(good, "a.example.com;branch", "a.example.com:0;branch", 1),
		"Call-ID with space":   strings.Replace(good, "x@y", "x y", 1),
		"Call-ID two @":        strings.Replace(good, "x@y", "x@y@z", 1),
		"CSeq 2^31":            strings.Replace(good, "CSeq: 1 ", "CSeq: 2147483648 ", 1),
		"CSeq suffix only":     strings.Replace(good, "CSeq: 1 INVITE", "CSeq: 1 REINVITE", 1),
		"bare route":           add("Route: sip:proxy.example.com;lr"),
		"bad second contact":   add("Contact: <sip:a@b>, <nonsense>"),
		"star and another":     add("Contact: *"),
		"bad option tag":       add("Require: a b"),
		"bad event":            add("Event: ;x"),
		"bad content type":     add("Content-Type: sdp"),
		"body without type":    strings.Replace(good, "Content-Length: 0\r\n\r\n", "Content-Length: 1\r\n\r\nx", 1),
		"bad escape":           strings.Replace(good, "sip:bob@", "sip:b%zzb@", 1),
		"mailto":               strings.Replace(good, "INVITE sip:", "INVITE mailto:", 1),
		"empty headers":        strings.Replace(good, "bob@example.com SIP", "bob@example.com? SIP", 1),
	} {
		m, err := judge([]byte(text))
		var fault *ParseError
		if !errors.As(err, &fault) || fault.Status < 400 || fault.Offset > len(m.Bytes()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
