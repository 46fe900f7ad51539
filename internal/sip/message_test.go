package sip

import (
	"bytes"
	"strings"
	"testing"
)

func inviteText() []byte {
	body := "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 9 8 0 101\r\n" +
		"a=crypto:1 AEAD_AES_256_GCM inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVzcyAoKCkgewkyMjA7fQp9Cg==\r\na=sendrecv\r\n"
	head := "INVITE sip:bob@example.com;transport=tls SIP/2.0\r\n" +
		"Via: SIP/2.0/TLS 192.0.2.10:5061;branch=z9hG4bK776asdhds;rport\r\nMax-Forwards: 70\r\n" +
		"From: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\nTo: Bob <sip:bob@example.com>\r\n" +
		"Call-ID: a84b4c76e66710@192.0.2.10\r\nCSeq: 314159 INVITE\r\nContact: <sip:alice@192.0.2.10:5061;transport=tls>\r\n" +
		"Allow: INVITE, ACK, CANCEL, BYE,\r\n OPTIONS, UPDATE\r\nSupported: replaces, timer, outbound\r\n" +
		"User-Agent: test\r\nContent-Type: application/sdp\r\nContent-Length: "
	return []byte(head + itoa(len(body)) + "\r\n\r\n" + body)
}

func itoa(n int) string {
	var w Writer
	w.Uint(HeaderOther, uint64(n))
	return strings.Trim(string(w.Bytes()), ": \r\n")
}

func TestParseInvite(t *testing.T) {
	var m Message
	if err := m.Parse(inviteText(), Limits{}); err != nil {
		t.Fatal(err)
	}
	if m.Method() != INVITE || string(m.RequestURI()) != "sip:bob@example.com;transport=tls" {
		t.Errorf("start line: %v %s", m.Method(), m.RequestURI())
	}
	via, err := m.TopVia()
	if err != nil || string(via.Branch()) != "z9hG4bK776asdhds" || via.Port != 5061 {
		t.Errorf("via = %+v, %v", via, err)
	}
	from, err := m.From()
	if err != nil || string(from.Display) != "Alice" || string(from.Tag()) != "1928301774" || string(from.URI.User) != "alice" {
		t.Errorf("from = %+v, %v", from, err)
	}
	seq, method, ok := m.CSeq()
	if seq != 314159 || method != INVITE || !ok {
		t.Errorf("cseq = %d %v %v", seq, method, ok)
	}
	if !m.HasOption(HeaderAllow, "UPDATE") || !m.HasOption(HeaderSupported, "outbound") || m.HasOption(HeaderAllow, "REFER") {
		t.Error("folded Allow or Supported was not read")
	}
	if !strings.HasSuffix(string(m.Body()), "a=sendrecv\r\n") {
		t.Errorf("body = %q", m.Body())
	}
	start, n, _, err := Frame(append([]byte("\r\n\r\n"), inviteText()...), Limits{})
	if err != nil || start != 4 || n != len(inviteText()) {
		t.Errorf("frame = %d, %d, %v", start, n, err)
	}
}

// answers is what a message says of its transaction and dialog.
func answers(t *testing.T, m *Message) string {
	t.Helper()
	via, err := m.TopVia()
	if err != nil {
		t.Fatal(err)
	}
	seq, method, ok := m.CSeq()
	if !ok {
		t.Fatal("no CSeq")
	}
	return strings.Join([]string{string(via.Transport), string(via.Host), itoa(int(via.Port)), string(via.Params), string(via.Branch()), string(m.FromTag()),
		string(m.ToTag()), itoa(int(seq)), method.String(), string(m.CallID())}, " ")
}

// TestValidateKeeps asks for what Validate keeps: the answers are those of before, a clone's are its own, and the next message in the same
// Message has none of them.
func TestValidateKeeps(t *testing.T) {
	head := func(via, from, to, cseq string) []byte {
		return []byte("BYE sip:a@b SIP/2.0\r\n" + via + "From: " + from + "\r\nTo: " + to + "\r\nCall-ID: c\r\nCSeq: " + cseq + "\r\n\r\n")
	}
	other := head("Via: SIP/2.0/TCP x\r\n", "<sip:x@y>", "<sip:x@z>", "9 BYE")
	for name, tt := range map[string]struct {
		text []byte
		want string
	}{
		"plain":  {head("Via: SIP/2.0/UDP h:5070;rport;branch=z9hG4bK1\r\n", "<sip:a@b>;tag=1", "sip:b@c;x;tag=2", "7 BYE"), "UDP h 5070 rport;branch=z9hG4bK1 z9hG4bK1 1 2 7 BYE c"},
		"spaces": {head("Via: SIP / 2.0 / TLS  h : 5061 ; branch = z9hG4bK2 , SIP/2.0/UDP i\r\n", "\"A, B\" <sip:a@b>; tag = 3", "<sip:b@c>", "8  BYE"), "TLS h 5061  branch = z9hG4bK2 z9hG4bK2 3  8 BYE c"},
		"after an empty one": {head("Via:\r\nVia: , SIP/2.0/WSS [2001:db8::1]:443;branch=z9hG4bK4;\r\n", "<sip:a@b>;tag=\"5\"", "<sip:b@c>;tag=6", "2147483647 BYE"),
			"WSS 2001:db8::1 443 branch=z9hG4bK4; z9hG4bK4 5 6 2147483647 BYE c"},
		"of RFC 2543": {head("Via: SIP/2.0/UDP h\r\n", "<sip:a@b>", "<sip:b@c>", "1 BYE"), "UDP h 0     1 BYE c"},
	} {
		var m Message
		text := bytes.Clone(tt.text)
		if err := m.Parse(text, Limits{}); err != nil {
			t.Fatal(name, err)
		}
		if got := answers(t, &m); got != tt.want {
			t.Errorf("%s: %q before, want %q", name, got, tt.want)
		}
		if err := m.Validate(); err != nil {
			t.Fatal(name, err)
		}
		if got := answers(t, &m); got != tt.want {
			t.Errorf("%s: %q after, want %q", name, got, tt.want)
		}
		clone := m.Clone()
		clear(text)
		if err := m.Parse(bytes.Clone(other), Limits{}); err != nil {
			t.Fatal(err)
		}
		if got, want := answers(t, &m), "TCP x 0     9 BYE c"; got != want {
			t.Errorf("%s: %q of the next message, want %q", name, got, want)
		}
		if got := answers(t, clone); got != tt.want || clone.Validate() != nil {
			t.Errorf("%s: %q of the clone, want %q", name, got, tt.want)
		}
	}
}

func BenchmarkParseInvite(b *testing.B) {
	text := inviteText()
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Parse(text, Limits{}); err != nil {
			b.Fatal(err)
		}
		if _, err := m.TopVia(); err != nil {
			b.Fatal(err)
		}
	}
}
