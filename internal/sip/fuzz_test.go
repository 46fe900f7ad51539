package sip

import (
	"bytes"
	"testing"
)

func seeds() []string {
	return []string{
		string(inviteText()),
		"\r\n\r\n" + string(inviteText()),
		"SIP/2.0 200 OK\r\nVia: SIP/2.0/TLS [2001:db8::1]:5061;branch=z9hG4bK1;received=192.0.2.1\r\nf: <sip:a@example.com>;tag=1\r\n" +
			"t: sip:b@example.com;tag=2\r\ni: x\r\nCSeq: 1 INVITE\r\nm: \"B, \\\"b\\\"\" <sip:b@[2001:db8::2];lr>;expires=60, <tel:+1234>\r\nl: 0\r\n\r\n",
		"OPTIONS sip:example.com SIP/2.0\r\nVia: SIP / 2.0 / UDP host;ttl=1\r\n ;branch=z9hG4bK2\r\nContent-Length: 5\r\n\r\nabcde",
		"BYE sips:u;p=1:secret@host:5061;transport=tcp?Subject=x SIP/2.0\r\nContent-Length: 99999999999\r\n\r\n",
	}
}

// FuzzMessage parses anything, and asks an accepted message every question there is. What was accepted is accepted again.
func FuzzMessage(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Message
		size := len(b)
		if err := m.Parse(bytes.Clone(b), Limits{}); err != nil {
			var p *ParseError
			if p, _ = err.(*ParseError); p == nil || p.Status < 400 || p.Offset < 0 || p.Offset > size {
				t.Fatalf("%#v does not say what to answer", err)
			}
			return
		}
		lim := DefaultLimits()
		fields := 0
		for id, field := range m.Fields() {
			fields++
			if len(field[0]) == 0 || len(field[0])+len(field[1]) > lim.Header {
				t.Fatalf("field %v %q: %q is empty or larger than the limit", id, field[0], field[1])
			}
		}
		if fields > lim.Headers || len(m.Body()) > lim.Body || len(m.Bytes()) > size {
			t.Fatalf("%d fields and a body of %d bytes in %d are over the limits", fields, len(m.Body()), size)
		}
		_ = m.Validate()
		_, _ = m.TopVia()
		_, _ = m.From()
		_, _ = m.To()
		_, _ = m.Contact()
		_, _, _ = m.CSeq()
		_ = m.HasOption(HeaderSupported, "timer")
		_, _ = m.CredentialsFor(HeaderAuthorization, "example.com")
		var again Message
		if err := again.Parse(bytes.Clone(m.Bytes()), Limits{}); err != nil {
			t.Fatalf("what was accepted is refused the second time: %v\n%q", err, m.Bytes())
		}
		if again.Method() != m.Method() || again.Status() != m.Status() || !bytes.Equal(again.CallID(), m.CallID()) || !bytes.Equal(again.Body(), m.Body()) {
			t.Fatalf("the second reading differs:\n%q\n%q", m.Bytes(), again.Bytes())
		}
	})
}

// FuzzFrame cuts a stream at any place: the message found must not depend on how much of the stream has arrived.
func FuzzFrame(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s+s), uint16(len(s)/2))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		start, n, _, err := Frame(b, Limits{})
		if start < 0 || n < 0 || start+n > len(b) {
			t.Fatalf("%d+%d bytes found in %d", start, n, len(b))
		}
		if err != nil || n == 0 {
			return
		}
		if s, again, _, err := Frame(b[:start+n], Limits{}); s != start || again != n || err != nil {
			t.Fatalf("without the bytes after it the message is %d+%d (%v), with them %d+%d", s, again, err, start, n)
		}
		k := int(cut) % (start + n)
		if _, early, _, err := Frame(b[:k], Limits{}); early != 0 || err != nil {
			t.Fatalf("%d of %d bytes make a message of %d (%v)", k, start+n, early, err)
		}
		var m Message
		if m.Parse(bytes.Clone(b[start:start+n]), Limits{}) == nil && len(m.Bytes()) != n {
			t.Fatalf("the stream holds %d bytes, the message %d: the rest could be smuggled", n, len(m.Bytes()))
		}
	})
}

// FuzzFields reads single header field values. Whatever they return lies within what they were given.
func FuzzFields(f *testing.F) {
	for _, s := range []string{"sip:alice;x=1:pw@[2001:db8::1]:5061;transport=tls;lr?Subject=a", "tel:+1-201-555-0123;phone-context=example.com",
		"\"A \\\" B\" <sips:b@example.com;gr=urn:x>;tag=1;expires=\"7\"", "SIP/2.0/WSS host.invalid:443;branch=z9hG4bK;rport;received=::1",
		"<urn:service:sos>", "sip:@", "SIP/2.0/UDP [::1", "\"<sip:x@y>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, err := ParseURI(b); err == nil {
			if u.String() != string(b) || len(u.User)+len(u.Host)+len(u.Params)+len(u.Headers) > len(b) {
				t.Fatalf("%q is read as %+v", b, u)
			}
			if again, err := ParseURI([]byte(u.String())); err != nil || !bytes.Equal(again.Host, u.Host) || again.Port != u.Port {
				t.Fatalf("%q is read differently the second time: %v", b, err)
			}
			_ = Unescape(u.User)
		}
		if a, err := ParseNameAddr(b); err == nil {
			if len(a.Display)+len(a.URI.Raw())+len(a.Params) > len(b) {
				t.Fatalf("%q is read as %+v", b, a)
			}
			_ = a.Tag()
		}
		if v, err := ParseVia(b); err == nil {
			if len(v.Host) == 0 || len(v.Transport) == 0 {
				t.Fatalf("%q has no host or transport: %+v", b, v)
			}
			_ = v.Branch()
		}
		for v := range Values(b) {
			if len(v) > len(b) {
				t.Fatal("a value is longer than its line")
			}
		}
	})
}
