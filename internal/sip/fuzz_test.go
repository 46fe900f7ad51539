package sip

import (
	"bytes"
	"net/netip"
	"testing"
)

// inside reports whether part is a slice of whole, so that an accessor cannot have read past the message.
func inside(whole, part []byte) bool {
	return len(part) == 0 || bytes.Contains(whole, part)
}

// touch calls every accessor and fails if one returns something that is not in the message.
func touch(t *testing.T, m *Message) {
	t.Helper()
	raw := m.Bytes()
	for _, part := range [][]byte{m.MethodText(), m.RequestURI(), m.Reason(), m.Body(), m.CallID(), m.FromTag(), m.ToTag(), m.GetName("X-Unknown")} {
		if !inside(raw, part) {
			t.Fatalf("%q is not part of the message", part)
		}
	}
	for id, pair := range m.Fields() {
		if !inside(raw, pair[0]) || !inside(raw, pair[1]) || LookupHeader(pair[0]) != id || bytes.ContainsAny(pair[1], "\r\n") {
			t.Fatalf("field %v: %q %q", id, pair[0], pair[1])
		}
		for v := range Values(pair[1]) {
			_, _ = ParseNameAddr(v)
			_, _ = ParseVia(v)
		}
	}
	for id := range numHeaders {
		n := 0
		for v := range m.All(id) {
			if n++; n == 1 && !bytes.Equal(v, m.Get(id)) {
				t.Fatalf("%v: Get and All disagree", id)
			}
		}
		if m.Has(id) != (n > 0) || m.repeated(id) != (n > 1) {
			t.Fatalf("%v: %d fields, Has = %v", id, n, m.Has(id))
		}
		m.Uint(id, 1<<32)
		m.HasOption(id, "100rel")
	}
	_, _, _ = m.CSeq()
	_, _ = m.From()
	_, _ = m.To()
	_, _ = m.Contact()
	_, _ = m.TopVia()
}

func FuzzMessage(f *testing.F) {
	for _, c := range tortureCases(f) {
		f.Add(c.text)
	}
	f.Add(inviteText())
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again Message
		if err := m.Parse(bytes.Clone(b), Limits{}); err != nil {
			_ = m.Validate() // what was read may be used to answer
			touch(t, &m)
			return
		}
		touch(t, &m)
		if err := again.Parse(bytes.Clone(m.Bytes()), Limits{}); err != nil {
			t.Fatalf("its own bytes are refused: %v", err)
		}
		if !bytes.Equal(again.Bytes(), m.Bytes()) || len(again.fields) != len(m.fields) || again.Method() != m.Method() || again.Status() != m.Status() {
			t.Fatalf("parsed again: %q, was %q", again.Bytes(), m.Bytes())
		}
		if (again.Validate() == nil) != (m.Validate() == nil) {
			t.Fatal("Validate changed its mind")
		}
		if m.Has(HeaderContentLength) {
			if start, n, _, err := Frame(m.Bytes(), Limits{}); err != nil || start != 0 || n != len(m.Bytes()) {
				t.Fatalf("Frame = %d, %d, %v of %d bytes", start, n, err, len(m.Bytes()))
			}
		}
		if m.Validate() == nil {
			keptRight(t, &m)
			if m.IsRequest() {
				answerParses(t, &m, netip.AddrPort{})
				answerParses(t, &m, netip.MustParseAddrPort("198.51.100.7:40001"))
			}
		}
	})
}

// keptRight asserts that what Validate has kept, in the message and in a clone, is what is read anew.
func keptRight(t *testing.T, m *Message) {
	t.Helper()
	var anew Message
	if err := anew.Parse(bytes.Clone(m.Bytes()), Limits{}); err != nil {
		t.Fatal(err)
	}
	if want := answers(t, &anew); answers(t, m) != want || answers(t, m.Clone()) != want {
		t.Fatalf("%q is kept, %q of a clone, want %q", answers(t, m), answers(t, m.Clone()), want)
	}
}

// answerParses asserts that a response to any valid request, wherever it came from, is valid and goes back on the same path.
func answerParses(t *testing.T, req *Message, source netip.AddrPort) {
	t.Helper()
	var w Writer
	w.Reset(nil)
	w.ResponseTo(req, 486, "", "totag", source)
	w.Body("", nil)
	var resp Message
	if err := resp.Parse(w.Bytes(), Limits{}); err != nil {
		if len(w.Bytes()) < 60000 {
			t.Fatalf("response is refused: %v\n%q", err, w.Bytes())
		}
		return
	}
	if err := resp.Validate(); err != nil {
		t.Fatalf("response is not valid: %v\n%q", err, w.Bytes())
	}
	if len(resp.ToTag()) == 0 || !bytes.Equal(resp.FromTag(), req.FromTag()) || !bytes.Equal(resp.CallID(), req.CallID()) {
		t.Fatalf("response lost its dialog: %q", w.Bytes())
	}
	a, _ := req.TopVia()
	b, err := resp.TopVia()
	if err != nil || !bytes.Equal(a.Branch(), b.Branch()) {
		t.Fatalf("response lost its branch: %q", w.Bytes())
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(append([]byte("\r\n\r\n"), inviteText()...), uint16(7))
	f.Add([]byte("\r\n\r\n\r\n"), uint16(1))
	f.Add([]byte("OPTIONS sip:a SIP/2.0\r\nl : 3\r\n\r\nabcBYE"), uint16(30))
	f.Add([]byte("A sip:a SIP/2.0\r\nContent-Length:\r\n 3\r\n\r\nabc"), uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, cutAt uint16) {
		start, n, pings, err := Frame(b, Limits{})
		if start < 0 || n < 0 || start+n > len(b) || pings < 0 || n > 0 && err != nil {
			t.Fatalf("Frame = %d, %d, %d, %v of %d bytes", start, n, pings, err, len(b))
		}
		// A message that is there already is the same message when more has arrived.
		part := b[:int(cutAt)%(len(b)+1)]
		if s, k, _, err := Frame(part, Limits{}); k > 0 && (s != start || k != n) {
			t.Fatalf("a part gives %d, %d, %v, the whole %d, %d", s, k, err, start, n)
		}
		if n == 0 {
			return
		}
		var m Message
		if err := m.Parse(bytes.Clone(b[start:start+n]), Limits{}); err == nil && len(m.Bytes()) != n {
			t.Fatalf("framed %d bytes, parsed %d", n, len(m.Bytes()))
		}
	})
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"sip:alice@example.com", "sips:a%40b:pw@[2001:db8::1]:5061;transport=tls;lr?subject=x&to=y", "tel:+1-201-555-0123;ext=7",
		"sip:user;par=u%40example.net@example.com", "urn:service:sos", "sip:example.com;maddr=239.255.255.1;ttl=15"} {
		f.Add([]byte(s), []byte("sip:alice@EXAMPLE.com;lr"))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		u, err := ParseURI(a)
		if err != nil {
			return
		}
		again, err := ParseURI([]byte(u.String()))
		if err != nil || !u.Equal(&again) || !again.Equal(&u) {
			t.Fatalf("%q is not equal to itself: %v", a, err)
		}
		if u.IsSIP() && (len(u.Host) == 0 || u.HasUser != (len(u.User) > 0)) {
			t.Fatalf("%q: host %q, user %q", a, u.Host, u.User)
		}
		if escaped := Unescape(u.User); len(escaped) > len(u.User) {
			t.Fatalf("unescaping made %q longer", u.User)
		}
		for name, value := range u.Params.All() {
			if !inside(a, name) || !inside(a, value) {
				t.Fatalf("parameter %q=%q of %q", name, value, a)
			}
		}
		u.Addr()
		if o, err := ParseURI(b); err == nil && u.Equal(&o) != o.Equal(&u) {
			t.Fatalf("%q and %q: equality is not symmetric", a, b)
		}
	})
}

func FuzzNameAddr(f *testing.F) {
	for _, s := range []string{`"A. \"B\" <c>" <sip:a@b;x=y>;tag=1`, "sip:a@b;tag=1", "Bob <sip:b@c>", "<tel:+1>;q=0.3", "José <sip:j@c>", `"<sip:x@y>" <sip:a@b>`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseNameAddr(b)
		if err != nil {
			return
		}
		if !inside(b, a.Display) || !inside(b, a.URI.Raw()) || !inside(b, a.Params) || !inside(b, a.Tag()) {
			t.Fatalf("%q gives %+v", b, a)
		}
		// Written with quotes and brackets, which are always allowed, it is the same address.
		text := append(append(append([]byte(`"`), a.Display...), `" <`...), a.URI.Raw()...)
		again, err := ParseNameAddr(append(append(text, ">;"...), a.Params...))
		if err != nil || !bytes.Equal(again.URI.Raw(), a.URI.Raw()) || !bytes.Equal(again.Tag(), a.Tag()) || !bytes.Equal(again.Display, a.Display) {
			t.Fatalf("%q came back as %+v, %v", b, again, err)
		}
	})
}

func FuzzVia(f *testing.F) {
	for _, s := range []string{"SIP/2.0/TLS a.example.com:5061;branch=z9hG4bKx;rport", "SIP / 2.0 / UDP [2001:db8::1] : 5060 ;received=[::1]", "SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK56sdasks"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVia(b)
		if err != nil {
			return
		}
		if len(v.Host) == 0 || !isToken(v.Transport) || !inside(b, v.Transport) || !inside(b, v.Params) || !inside(b, v.Branch()) {
			t.Fatalf("%q gives %+v", b, v)
		}
	})
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{`a, "b, c" <sip:d,e>, f (g, h)`, ",,a,,", `"unterminated, a`, "<a, b", `\", a`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		at := 0
		for v := range Values(b) {
			if len(v) == 0 || len(trim(v)) != len(v) {
				t.Fatalf("member %q of %q", v, b)
			}
			i := bytes.Index(b[at:], v)
			if i < 0 {
				t.Fatalf("member %q is out of order in %q", v, b)
			}
			at += i + len(v)
		}
		for name, value := range Params(b).All() {
			if !inside(b, name) || !inside(b, value) {
				t.Fatalf("parameter %q=%q of %q", name, value, b)
			}
		}
	})
}
