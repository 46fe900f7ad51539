package directory

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/testkit"
)

func TestFilter(t *testing.T) {
	for text, want := range map[string]string{
		"(sn=a)":                  "a3070402736e040161",
		"(sn=*)":                  "8702736e",
		"(sn=a*)":                 "a4090402736e3003800161",
		"(sn=*b*)":                "a4090402736e3003810162",
		"(sn=a*b*c)":              "a40f0402736e3009800161810162820163",
		"(!(sn>=a))":              "a209a5070402736e040161",
		"(&(sn~=a)(cn<=b))":       "a012a8070402736e040161a6070402636e040162",
		`(sn=\2a\28\29\5c\00)`:    "a30b0402736e04052a28295c00",
		"(|(sn=\xc3\xa4)(sn=x*))": "a115a3080402736e0402c3a4a4090402736e3003800178",
	} {
		if b, err := ParseFilter(text); err != nil || hex.EncodeToString(b) != want {
			t.Errorf("%s: %x %v, want %s", text, b, err, want)
		}
	}
	for _, text := range []string{"", "sn=a", "(sn=a", "(sn)", "(=a)", "(sn=a)x", "(sn=a)(cn=b)", "(&)", "(!(a=b)(c=d))", "(s n=a)", `(sn=\2)`, `(sn=\zz)`, "(sn=a(b)", "(sn=**)", "(sn:dn:=a)", strings.Repeat("(!", 30) + "(a=b)" + strings.Repeat(")", 30), "(sn=" + strings.Repeat("x", 5000) + ")"} {
		if b, err := ParseFilter(text); err == nil {
			t.Errorf("%.40s: %x", text, b)
		}
	}
}

// TestWhatIsTypedIsNoFilter has a user type what would be part of a filter.
func TestWhatIsTypedIsNoFilter(t *testing.T) {
	for _, typed := range []string{"*", "a)(objectClass=*", `\2a`, "*)(userPassword=*", "a\x00b", "))((", "$VALUE"} {
		f, err := Phrase("(sn=$VALUE*)", "(givenName=$VALUE*)", typed)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseFilter(f)
		if err != nil {
			t.Fatal(err)
		}
		value := strings.Fields(typed)[0]
		want := tlv(filterOr, tlv(filterSubstrings, octets("sn"), tlv(tagSequence, tlv(contextual, []byte(value)))), tlv(filterSubstrings, octets("givenName"), tlv(tagSequence, tlv(contextual, []byte(value)))))
		if !bytes.Equal(b, want) {
			t.Errorf("%q: %s", typed, f)
		}
	}
	if f, err := Phrase("(sn=$VALUE*)", "(givenName=$VALUE*)", "Ada  King Lovelace"); err != nil || f != "(|(&(givenName=Ada*)(sn=Lovelace*))(&(sn=Ada*)(givenName=Lovelace*))(sn=Ada King Lovelace*)(givenName=Ada King Lovelace*))" {
		t.Errorf("%s %v", f, err)
	}
	if _, err := Phrase("(sn=$VALUE*)", "(givenName=$VALUE*)", " "); err == nil {
		t.Error("nothing was typed")
	}
}

// TestDigest computes the example of RFC 2831 section 4.
func TestDigest(t *testing.T) {
	c, err := ParseChallenge([]byte(`realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8`))
	if err != nil {
		t.Fatal(err)
	}
	d, err := answer(c, "chris", "secret", "imap/elwood.innosoft.com", "OA6MHXh6VqTrRk")
	if err != nil || !strings.HasSuffix(d.response, `digest-uri="imap/elwood.innosoft.com",response=d388dad90d4bbd760a152321f2143af7`) || !strings.HasPrefix(d.response, `charset=utf-8,username="chris",realm="elwood.innosoft.com"`) {
		t.Errorf("%s %v", d.response, err)
	}
	if !d.proven([]byte("rspauth=ea40f60335c427b5527b84dbabcdfffd")) || d.proven([]byte("rspauth=00000000000000000000000000000000")) || d.proven(nil) {
		t.Error("the server's proof is not checked")
	}
	for _, text := range []string{`nonce="x`, "=", "nonce", `nonce="a",nonce="b",algorithm=md5-sess`} {
		if c, err := ParseChallenge([]byte(text)); err == nil {
			t.Errorf("%s: %v", text, c)
		}
	}
	for text, kind := range map[string]ringfence.Kind{`nonce="a"`: ringfence.KindInvalid, `nonce="a",algorithm=md5-sess,qop="auth-conf"`: ringfence.KindUnsupported} {
		c, err := ParseChallenge([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer(c, "u", "p", "h", "c"); ringfence.KindOf(err) != kind {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func result(op byte, code uint32, more ...[]byte) []byte {
	return tlv(op, integer(tagEnumerated, code), octets(""), octets("said"), bytes.Join(more, nil))
}

func message(id uint32, op []byte) []byte { return tlv(tagSequence, integer(tagInteger, id), op) }

func person(dn string, pairs ...string) []byte {
	var attributes [][]byte
	for i := 0; i < len(pairs); i += 2 {
		attributes = append(attributes, tlv(tagSequence, octets(pairs[i]), tlv(tagSet, octets(pairs[i+1]))))
	}
	return tlv(opEntry, octets(dn), tlv(tagSequence, attributes...))
}

// against runs a search at a server of few lines.
func against(t *testing.T, s Server, serve func(c net.Conn)) ([]Entry, bool, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); serve(theirs); _ = theirs.Close() }()
	s.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}
	s.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { return ours, nil }
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	found, more, _, err := s.Search(ctx, Query{Base: "dc=example", Filter: "(sn=a*)", Attributes: []string{"cn"}, Limit: 2})
	_ = ours.Close()
	<-done
	return found, more, err
}

// read takes a request and returns its number and operation.
func read(c net.Conn) (uint32, element) {
	b, err := readMessage(c)
	if err != nil {
		return 0, element{}
	}
	outer, _, _ := next(b)
	parts, _ := all(outer.body)
	if len(parts) < 2 {
		return 0, element{}
	}
	id, _ := parts[0].number()
	return id, parts[1]
}

// TestHostileServer has servers that lie.
func TestHostileServer(t *testing.T) {
	clear := Server{URL: "ldap://dir.example.com", Clear: true}
	send := func(c net.Conn, b []byte) { _, _ = c.Write(b) }
	for name, x := range map[string]struct {
		kind  ringfence.Kind
		serve func(c net.Conn)
	}{
		"hangs up":          {ringfence.KindUnavailable, func(c net.Conn) { read(c) }},
		"no LDAP":           {ringfence.KindInvalid, func(c net.Conn) { read(c); send(c, []byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }},
		"endless":           {ringfence.KindInvalid, func(c net.Conn) { read(c); send(c, []byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}) }},
		"indefinite length": {ringfence.KindInvalid, func(c net.Conn) { read(c); send(c, []byte{0x30, 0x80}) }},
		"a bind's answer":   {ringfence.KindInvalid, func(c net.Conn) { id, _ := read(c); send(c, message(id, result(opBindAnswer, 0))) }},
		"ill-formed entry":  {ringfence.KindInvalid, func(c net.Conn) { id, _ := read(c); send(c, message(id, tlv(opEntry, octets("x")))) }},
		"no such base":      {ringfence.KindNotFound, func(c net.Conn) { id, _ := read(c); send(c, message(id, result(opSearchDone, 32))) }},
		"says goodbye":      {ringfence.KindUnavailable, func(c net.Conn) { read(c); send(c, message(0, result(opExtendedDone, 52))) }},
		"answers others": {ringfence.KindInvalid, func(c net.Conn) {
			id, _ := read(c)
			for range maxSkipped {
				send(c, message(id+7, result(opSearchDone, 0)))
			}
		}},
	} {
		if found, _, err := against(t, clear, x.serve); ringfence.KindOf(err) != x.kind {
			t.Errorf("%s: %v %v", name, found, err)
		}
	}
	found, more, err := against(t, clear, func(c net.Conn) {
		id, op := read(c)
		if op.tag != opSearch {
			return
		}
		send(c, message(id, tlv(opReference, octets("ldap://elsewhere.example.com/"))))
		for range 3 { // more than was asked for
			send(c, message(id, person("cn=\x1b[2J", "cn", "Ada\n\xff")))
		}
	})
	if err != nil || !more || len(found) != 2 || found[0].DN != "cn=?[2J" || found[0].Attributes[0].Values[0] != "Ada??" {
		t.Errorf("%q %v %v", found, more, err)
	}

	// Pages that have no end, and one without a place.
	pages := 0
	found, more, err = against(t, clear, func(c net.Conn) {
		for {
			id, op := read(c)
			if op.tag != opSearch {
				return
			}
			send(c, message(id, person("cn=a", "cn", "Ada")))
			if pages++; pages == 1 {
				send(c, message(id, result(opSearchDone, resultLimit)))
			} else {
				send(c, tlv(tagSequence, integer(tagInteger, id), result(opSearchDone, 0), page(0, []byte("more"))))
			}
		}
	})
	if err != nil || !more || len(found) != 2 || pages != 3 {
		t.Errorf("%q %v %v after %d pages", found, more, err, pages)
	}
	if _, _, err := against(t, clear, func(c net.Conn) {
		id, _ := read(c)
		send(c, tlv(tagSequence, integer(tagInteger, id), result(opSearchDone, 0), tlv(contextual|constructed, tlv(tagSequence, octets(pagedResults), octets("nonsense")))))
	}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%v", err)
	}

	// StartTLS that is not there, and an answer that brings more with it, in the clear.
	ca := testkit.NewAuthority("CA")
	upgraded := Server{URL: "ldap://dir.example.com", StartTLS: true, TLS: &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12}}
	var asked []byte
	if _, _, err := against(t, upgraded, func(c net.Conn) {
		id, op := read(c)
		asked = append(asked, op.tag)
		send(c, message(id, result(opExtendedDone, 2)))
		_, op = read(c)
		asked = append(asked, op.tag)
	}); ringfence.KindOf(err) != ringfence.KindInsecure || !slices.Equal(asked, []byte{opExtended, 0}) {
		t.Errorf("%v %x", err, asked)
	}
	if found, _, err := against(t, upgraded, func(c net.Conn) {
		id, _ := read(c)
		go send(c, slices.Concat(message(id, result(opExtendedDone, 0)), message(id+1, person("cn=mallory", "cn", "Mallory")), message(id+1, result(opSearchDone, 0))))
		b := make([]byte, 4096)
		_, _ = c.Read(b)
	}); ringfence.KindOf(err) != ringfence.KindInsecure || found != nil {
		t.Errorf("%v %v", found, err)
	}
	if _, _, err := against(t, Server{URL: "ldap://dir.example.com"}, func(net.Conn) {}); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("%v", err)
	}
	for _, address := range []string{"", "dir.example.com", "http://dir.example.com", "ldaps://", "ldaps://a:b@dir", "ldaps://dir/dc=x", "ldaps://dir:0"} {
		if _, _, err := against(t, Server{URL: address}, func(net.Conn) {}); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", address, err)
		}
	}
	// Bindings that would be somebody else's.
	for name, s := range map[string]Server{"no password": {Method: Simple, DN: "cn=a"}, "no user": {Method: Digest, Password: "x"}, "another": {Method: "GSSAPI"}} {
		s.URL, s.Clear = "ldap://dir.example.com", true
		if _, _, err := against(t, s, func(net.Conn) {}); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	digest := Server{URL: "ldap://dir.example.com", Clear: true, Method: Digest, User: "u", Password: "p"}
	if _, _, err := against(t, digest, func(c net.Conn) { // knows no password, and says that all is well
		id, _ := read(c)
		send(c, message(id, result(opBindAnswer, saslProgress, tlv(contextual|7, []byte(`nonce="x",qop="auth",algorithm=md5-sess,charset=utf-8`)))))
		id, _ = read(c)
		send(c, message(id, result(opBindAnswer, 0, tlv(contextual|7, []byte("rspauth=00000000000000000000000000000000")))))
	}); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("%v", err)
	}
}

func TestProfile(t *testing.T) {
	set := flatprofile.NewSet(flatprofile.Parameters())
	if _, err := Of(set); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Errorf("%v", err)
	}
	put := func(name, value string) { set.Put(flatprofile.Value{Name: name, Value: value, From: "test"}) }
	put("LDAP_Dir_Enable", "Yes")
	put("LDAP_Server", "ldaps://10.45.76.79")
	put("LDAP_Last_Name_Filter", "sn:(sn=*$VALUE*)")
	put("LDAP_Display_Attrs", "a=cn,n=Name; a=telephoneNumber,n=Work Phone,t=p;")
	put("LDAP_Number_Mapping", "(<:9>x.)")
	put("LDAP_Search_Item_3", "title")
	put("LDAP_Search_Item_4", "Room of the person")
	put("LDAP_item_4_Filter", "(&(objectClass=person)(roomNumber=$VALUE))")
	s, err := Of(set)
	if err != nil || s.Last != "(sn=*$VALUE*)" || s.First != "(givenName=$VALUE*)" || s.Server.Method != None || !slices.Equal(s.Attributes(), []string{"cn", "telephoneNumber"}) {
		t.Errorf("%+v %v", s, err)
	}
	c := s.Contact(Entry{DN: "cn=a", Attributes: []Attribute{{"CN", []string{"Ada"}}, {"telephonenumber", []string{"1", "2"}}, {"mail", []string{"x"}}}})
	if len(c.Fields) != 3 || c.Fields[1] != (Field{"Work Phone", "1", true, "91"}) {
		t.Errorf("%+v", c)
	}
	if s.Items != [2]Item{{"title", "(title=$VALUE*)"}, {"Room of the person", "(&(objectClass=person)(roomNumber=$VALUE))"}} {
		t.Errorf("%+v", s.Items)
	}
	for want, w := range map[string]Who{"(&(sn=*a\\2a*)(title=b*))": {Last: "a*", Items: [2]string{"b", " "}}, "(&(givenName=x*)(&(objectClass=person)(roomNumber=7\\29)))": {First: "x", Items: [2]string{"", "7)"}}} {
		if got, err := s.Filter(w); err != nil || got != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
	if got, err := s.Filter(Who{First: " "}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%s %v", got, err)
	}
	if got, err := (Settings{}).Filter(Who{Items: [2]string{"x", ""}}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%s %v", got, err)
	}
	contacts := []Contact{{DN: "2", Fields: []Field{{Value: "bee"}}}, {DN: "1", Fields: []Field{{Value: "Bee"}}}, {DN: "0", Fields: []Field{{Value: "ada"}}}, {DN: "9"}}
	if Sort(contacts); contacts[0].DN != "9" || contacts[1].DN != "0" || contacts[2].DN != "1" {
		t.Errorf("%+v", contacts)
	}
	for name, value := range map[string]string{"LDAP_Last_Name_Filter": "(sn=$VALUE", "LDAP_First_Name_Filter": "(objectClass=*)", "LDAP_Display_Attrs": "cn", "LDAP_Number_Mapping": "(a)", "LDAP_item_4_Filter": "(roomNumber=", "LDAP_Search_Item_3": "of no attribute"} {
		before := set.Text(name)
		put(name, value)
		if _, err := Of(set); ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		put(name, before)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(message(1, person("cn=a", "cn", "Ada")))
	f.Add(message(2, result(opBindAnswer, saslProgress, tlv(contextual|7, []byte("x")))))
	f.Add(tlv(tagSequence, integer(tagInteger, 3), result(opSearchDone, 0), page(0, []byte("next"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		for _, a := range m.Entry.Attributes {
			if len(a.Values) > maxValues {
				t.Errorf("%d values", len(a.Values))
			}
		}
		if r, err := readMessage(bytes.NewReader(b)); err != nil || !bytes.Equal(r, b) {
			t.Errorf("%x is read as %x, %v", b, r, err)
		}
	})
}

func FuzzParseFilter(f *testing.F) {
	f.Add("(&(sn=a*b)(!(cn~=\\2a)))", "*)(x=*")
	f.Fuzz(func(t *testing.T, text, typed string) {
		if b, err := ParseFilter(text); err == nil {
			if _, rest, err := next(b); err != nil || len(rest) > 0 {
				t.Errorf("%q: %x", text, b)
			}
		}
		if strings.TrimSpace(typed) == "" || len(typed) > 200 {
			return
		}
		phrase, err := Phrase("(sn=$VALUE*)", "(givenName=*$VALUE)", typed)
		if err != nil {
			return
		}
		b, err := ParseFilter(phrase)
		if err != nil || b[0] != filterOr {
			t.Errorf("%q: %s %v", typed, phrase, err)
			return
		}
		if top, _, _ := next(b); len(strings.Fields(typed)) == 1 {
			if parts, err := all(top.body); err != nil || len(parts) != 2 || parts[0].tag != filterSubstrings {
				t.Errorf("%q: %s", typed, phrase)
			}
		}
	})
}

func FuzzParseChallenge(f *testing.F) {
	f.Add([]byte(`realm="a\"b",nonce="x",qop="auth,auth-int",algorithm=md5-sess,charset=utf-8`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseChallenge(b); err == nil {
			if d, err := answer(c, "user", "password", "host", "cnonce"); err == nil && strings.Contains(d.response, "password") && !strings.Contains(string(b), "password") {
				t.Error(d.response)
			}
		}
	})
}

func FuzzParseDisplay(f *testing.F) {
	f.Add("a=cn,n=Name;a=telephoneNumber,n=Phone,t=p")
	f.Fuzz(func(t *testing.T, s string) {
		shown, err := ParseDisplay(s)
		for _, x := range shown {
			if err == nil && (!isAttribute(x.Attribute) || x.Label == "") {
				t.Errorf("%+v", x)
			}
		}
	})
}
