package sip

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

// callDescription is the offer of a phone with RTP in the clear, as bench/load sends it.
const callDescription = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0 101\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"

// callTexts returns the messages that a B2BUA receives for one call over UDP: INVITE, ACK and BYE from the caller, 180 and 200 from
// the callee and its 200 for the BYE.
func callTexts(credentials string) [][]byte {
	request := func(method, target, toTag, seq, more, body string) string {
		return method + " " + target + " SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:40001;branch=z9hG4bKu1-18a1b2c3d4e5f60b" + seq + ";rport\r\n" +
			"Max-Forwards: 70\r\nFrom: <sip:u1@bench.example>;tag=c1\r\nTo: <sip:u2@bench.example>" + toTag + "\r\n" +
			"Call-ID: u1-18a1b2c3d4e5f60c1\r\nCSeq: " + seq + " " + method + "\r\n" + more + "Content-Length: " + itoa(len(body)) + "\r\n\r\n" + body
	}
	answer := func(status, seq, method, more, body string) string {
		return "SIP/2.0 " + status + "\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKc5a4b3f2e1d0c9b8;rport\r\n" +
			"From: <sip:u1@bench.example>;tag=3kq0v9c1f2a8\r\nTo: <sip:u2@bench.example>;tag=au2\r\n" +
			"Call-ID: 7f3c9a51e2d04b86\r\nCSeq: " + seq + " " + method + "\r\n" + more + "Content-Length: " + itoa(len(body)) + "\r\n\r\n" + body
	}
	const typed = "Content-Type: application/sdp\r\n"
	const caller, callee = "Contact: <sip:u1@127.0.0.1:40001>\r\n", "Contact: <sip:u2@127.0.0.1:40002>\r\n"
	const node, toTag = "sip:node@127.0.0.1:5060", ";tag=9x8y7z6w5v4u"
	texts := []string{
		request("INVITE", "sip:u2@bench.example", "", "2", caller+"Authorization: "+credentials+"\r\n"+typed, callDescription),
		answer("180 Ringing", "1", "INVITE", callee, ""),
		answer("200 OK", "1", "INVITE", callee+typed, callDescription),
		request("ACK", node, toTag, "2", "", ""),
		request("BYE", node, toTag, "3", "", ""),
		answer("200 OK", "2", "BYE", "", ""),
	}
	out := make([][]byte, len(texts))
	for i, s := range texts {
		out[i] = []byte(s)
	}
	return out
}

// BenchmarkCall does what this package does for one call between two phones over UDP, part by part: what comes in is parsed and validated, the
// layers above ask for what they use of it, what goes out is written, and the digest of the INVITE is checked.
func BenchmarkCall(b *testing.B) {
	nonces, err := NewNonces(time.Now, zeros{}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	const realm = "bench.example"
	challenge := Challenge{Realm: realm, Nonce: nonces.New(), Algorithm: DigestMD5, QOP: true}
	texts := callTexts(challenge.Authorize(Answer{Username: "d1", Password: "secret", Method: "INVITE", URI: "sip:u2@bench.example", CNonce: "0a4f113b", NC: 1}))
	ha1 := HA1(DigestMD5, "d1", realm, "secret")
	messages := make([]Message, len(texts))
	parse := func(b *testing.B) {
		for i, text := range texts {
			if err := messages[i].Parse(text, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	}
	validate := func(b *testing.B) {
		for i := range messages {
			if err := messages[i].Validate(); err != nil {
				b.Fatal(err)
			}
		}
	}
	read := func(b *testing.B) {
		for i := range messages {
			readForCall(b, &messages[i])
		}
	}
	digest := func(b *testing.B) {
		c, ok := messages[0].CredentialsFor(HeaderAuthorization, realm)
		if !ok || nonces.Check(c.Nonce) != NonceGood || !c.Verify(ha1, "INVITE") || !c.MatchesURI(messages[0].RequestURI()) || nonces.Use(c.Nonce, c.NC) == NonceForged {
			b.Fatal("the credentials are not good")
		}
	}
	var out [2048]byte
	source := netip.MustParseAddrPort("127.0.0.1:40001")
	write := func(*testing.B) { writeForCall(messages, out[:], source) }
	parse(b)
	validate(b)
	for _, part := range []struct {
		name  string
		steps []func(*testing.B)
	}{{"parse", []func(*testing.B){parse}}, {"validate", []func(*testing.B){parse, validate}}, {"read", []func(*testing.B){read}},
		{"digest", []func(*testing.B){digest}}, {"write", []func(*testing.B){write}}, {"all", []func(*testing.B){parse, validate, read, digest, write}}} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, step := range part.steps {
					step(b)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// readForCall asks m for what the transaction, dialog and call layers ask it for.
func readForCall(b *testing.B, m *Message) {
	via, err := m.TopVia()
	if err != nil || len(via.Branch()) == 0 || len(m.CallID()) == 0 {
		b.Fatal(err)
	}
	if _, _, ok := m.CSeq(); !ok {
		b.Fatal("no CSeq")
	}
	if m.Has(HeaderContact) { // what makes and refreshes a dialog
		if a, err := m.Contact(); err != nil || !a.URI.IsSIP() {
			b.Fatal(err)
		}
		for range 2 {
			if m.HasOption(HeaderSupported, "100rel") || m.HasOption(HeaderRequire, "100rel") || m.HasOption(HeaderSupported, "timer") {
				b.Fatal("more than was sent")
			}
		}
	}
	if !m.IsRequest() {
		if len(m.ToTag()) == 0 {
			b.Fatal("no tag")
		}
		return
	}
	for range 2 { // it is compared, and kept
		if !bytes.HasPrefix(via.Branch(), []byte(MagicCookie)) {
			b.Fatal("no branch")
		}
	}
	if m.Method() != INVITE {
		if len(m.ToTag()) == 0 || len(m.FromTag()) == 0 {
			b.Fatal("no tags")
		}
		return
	}
	for _, id := range [...]HeaderID{HeaderFrom, HeaderTo} {
		if _, err := ParseNameAddr(m.Get(id)); err != nil {
			b.Fatal(err)
		}
	}
	if u, err := ParseURI(m.RequestURI()); err != nil || !u.IsSIP() {
		b.Fatal(err)
	}
	if hops, ok := m.Uint(HeaderMaxForwards, 255); !ok || hops != 70 {
		b.Fatal("no hops")
	}
	for _, id := range [...]HeaderID{HeaderReplaces, HeaderRequire, HeaderPrivacy, HeaderRecordRoute} {
		for range m.All(id) {
			b.Fatal("more than was sent")
		}
	}
}

// writeForCall writes what a B2BUA sends for the received messages of a call.
func writeForCall(received []Message, out []byte, source netip.AddrPort) {
	const allow, supported, agent, contact = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, INFO, REFER, NOTIFY", "100rel, timer, replaces", "Ringfence", "<sip:node@127.0.0.1:5060>"
	var w Writer
	request := func(method Method, target, toTag string, seq uint32) {
		w.Reset(out)
		w.RequestLine(method, target)
		w.Header(HeaderVia, "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKc5a4b3f2e1d0c9b8;rport")
		w.Uint(HeaderMaxForwards, 70)
		w.Tagged(HeaderFrom, "<sip:u1@bench.example>", "3kq0v9c1f2a8")
		w.Tagged(HeaderTo, "<sip:u2@bench.example>", toTag)
		w.Header(HeaderCallID, "7f3c9a51e2d04b86")
		w.CSeq(seq, method)
		w.Header(HeaderUserAgent, agent)
	}
	answer := func(m *Message, status int) {
		w.Reset(out)
		w.ResponseTo(m, status, "", "9x8y7z6w5v4u", source)
		w.Header(HeaderServer, agent)
	}
	description := []byte(callDescription)
	request(INVITE, "sip:u2@127.0.0.1:40002", "", 1)
	w.Header(HeaderContact, contact)
	w.Header(HeaderAllow, allow)
	w.Header(HeaderSupported, supported)
	w.Header(HeaderSessionExpires, "1800")
	w.Uint(HeaderMinSE, 90)
	w.Header(HeaderPAssertedIdentity, "<sip:u1@bench.example>")
	w.Body("application/sdp", description)
	for _, status := range [...]int{180, 200} {
		answer(&received[0], status)
		w.Header(HeaderContact, contact)
		w.Header(HeaderAllow, allow)
		if status == 200 {
			w.Header(HeaderSupported, supported)
			w.Body("application/sdp", description)
		} else {
			w.Body("", nil)
		}
	}
	for _, method := range [...]Method{ACK, BYE} {
		request(method, "sip:u2@127.0.0.1:40002", "au2", uint32(method))
		w.Body("", nil)
	}
	answer(&received[4], 200)
	w.Body("", nil)
	if !bytes.HasSuffix(w.Bytes(), []byte("\r\n\r\n")) {
		panic("not written")
	}
}

func BenchmarkNonce(b *testing.B) {
	nonces, err := NewNonces(time.Now, zeros{}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	two := [2][]byte{[]byte(nonces.New()), []byte(nonces.New())}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if nonces.Check(two[i&1]) != NonceGood {
			b.Fatal("not good")
		}
	}
}
