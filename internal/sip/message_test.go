package sip

import (
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
