package redact_test

import (
	"bytes"
	"strings"
	"testing"

	"ringfence/internal/node/observe/redact"
)

func masked(s string) string {
	b := []byte(s)
	redact.Mask(b)
	return string(b)
}

func lines(s ...string) string { return strings.Join(s, "\r\n") }

func TestMask(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"key of a crypto line, its tag and suite stay",
			lines("INVITE sip:a@b SIP/2.0", "Content-Type: application/sdp", "", "v=0", "a=crypto:1 AEAD_AES_256_GCM inline:SecretKey+/=|2^20|1:4 UNENCRYPTED_SRTP", "a=sendrecv", ""),
			lines("INVITE sip:a@b SIP/2.0", "Content-Type: application/sdp", "", "v=0", "a=crypto:1 AEAD_AES_256_GCM inline:xxxxxxxxxxxxxxxxxxxxx xxxxxxxxxxxxxxxx", "a=sendrecv", "")},
		{"crypto lines in odd spellings",
			lines("SIP/2.0 200 OK", "c: Application/SDP ;x=y", "", "A=CRYPTO:1  AES  Inline:abc", "a=crypto:abc", "a=crypto:1 inline:abc", "k=base64:abc", "a=ice-pwd:abc", "a=key-mgmt:mikey abc"),
			lines("SIP/2.0 200 OK", "c: Application/SDP ;x=y", "", "A=CRYPTO:1  AES  Inline:xxx", "a=crypto:xxx", "a=crypto:x xxxxxxxxxx", "k=xxxxxxxxxx", "a=ice-pwd:xxx", "a=key-mgmt:xxxxx xxx")},
		{"digest credentials, folded too",
			lines("REGISTER sip:b SIP/2.0", "Authorization: Digest username=\"a\",", "  response=\"f00\"", "proxy-authorization : Basic YTpi", "Authentication-Info: rspauth=\"1\"", "CSeq: 2 REGISTER", "", ""),
			lines("REGISTER sip:b SIP/2.0", "Authorization: Digest xxxxxxxxxxxxx", "  xxxxxxxxxxxxxx", "proxy-authorization : xxxxx xxxx", "Authentication-Info: xxxxxxxxxxx", "CSeq: 2 REGISTER", "", "")},
		{"passwords and credentials in URIs",
			lines("INVITE sip:a:pw@b:5061 SIP/2.0", "Refer-To: <sip:c@d?Replaces=1&Authorization=Digest%20x>", "Contact: <SIPS:e:secret@f>, <sip:g@h:5060>", "", ""),
			lines("INVITE sip:a:xx@b:5061 SIP/2.0", "Refer-To: <sip:c@d?Replaces=1&xxxxxxxxxxxxxxxxxxxxxxxxx", "Contact: <SIPS:e:xxxxxx@f>, <sip:g@h:5060>", "", "")},
		{"digits in the body of INFO",
			lines("INFO sip:a@b SIP/2.0", "Content-Type: application/dtmf-relay", "", "Signal=5", "Duration=160"),
			lines("INFO sip:a@b SIP/2.0", "Content-Type: application/dtmf-relay", "", "xxxxxxxx", "xxxxxxxxxxxx")},
		{"an encoded body", lines("INVITE sip:a@b SIP/2.0", "Content-Type: application/sdp", "Content-Encoding: gzip", "", "abc"),
			lines("INVITE sip:a@b SIP/2.0", "Content-Type: application/sdp", "Content-Encoding: gzip", "", "xxx")},
		{"an encoded part", lines("INVITE sip:a@b SIP/2.0", "Content-Type: multipart/mixed;boundary=z", "", "--z", "Content-Transfer-Encoding: base64", "", "YT1jcnlwdG8="),
			lines("INVITE sip:a@b SIP/2.0", "Content-Type: multipart/mixed;boundary=z", "", "xxx", "xxxxxxxxxxxxxxxxxxxxxxxxxx xxxxxx", "", "xxxxxxxxxxxx")},
		{"credentials inside a fragment", lines("NOTIFY sip:a@b SIP/2.0", "Content-Type: message/sipfrag;version=2.0", "", "SIP/2.0 200 OK", "Authorization: Digest q"),
			lines("NOTIFY sip:a@b SIP/2.0", "Content-Type: message/sipfrag;version=2.0", "", "SIP/2.0 200 OK", "Authorization: Digest x")},
		{"a challenge stays", lines("SIP/2.0 401 Unauthorized", "WWW-Authenticate: Digest realm=\"b\", nonce=\"1\"", "", ""), lines("SIP/2.0 401 Unauthorized", "WWW-Authenticate: Digest realm=\"b\", nonce=\"1\"", "", "")},
		{"bare line feeds", "INVITE sip:a@b SIP/2.0\nAuthorization: Digest z\n\n", "INVITE sip:a@b SIP/2.0\nAuthorization: Digest x\n\n"},
	} {
		if got := masked(c.in); got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
}

// FuzzMask checks on any bytes that the length stays and that no key text of a well-formed crypto or credential line is left.
func FuzzMask(f *testing.F) {
	f.Add([]byte("INVITE sip:a@b SIP/2.0\r\nAuthorization: Digest x\r\n\r\na=crypto:1 X inline:abc\r\n"))
	f.Add([]byte("\r\n\r\n"))
	f.Add([]byte("a=crypto"))
	f.Add([]byte("Refer-To: <sip:a@b?&&body=1>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const secret = "TheSecretThatMustNotLeave"
		msg := append([]byte("INVITE sip:a@b SIP/2.0\r\nContent-Type: application/sdp\r\n"), b...)
		msg = append(msg, "\r\nAuthorization: Digest response=\""+secret+"\"\r\n\r\nv=0\r\na=crypto:1 AEAD_AES_256_GCM inline:"+secret+"\r\n"...)
		n := len(msg)
		redact.Mask(msg)
		if len(msg) != n {
			t.Fatal("the length changed")
		}
		if bytes.Contains(msg, []byte(secret)) {
			t.Fatalf("a secret is left:\n%s", msg)
		}
		again := bytes.Clone(msg)
		if redact.Mask(again); len(again) != n {
			t.Fatal("the length changed")
		}
	})
}

func BenchmarkMask(b *testing.B) {
	msg := []byte(lines("INVITE sip:alice@example.org SIP/2.0", "Via: SIP/2.0/TLS 192.0.2.1:5061;branch=z9hG4bK1", "From: <sip:a@example.org>;tag=1", "To: <sip:b@example.org>",
		"Call-ID: 1@x", "CSeq: 1 INVITE", "Contact: <sip:a@192.0.2.1:5061;transport=tls>", "Content-Type: application/sdp", "Content-Length: 1", "", "v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-",
		"c=IN IP4 192.0.2.1", "t=0 0", "m=audio 4000 RTP/SAVP 8 0 101", "a=crypto:1 AEAD_AES_256_GCM inline:abcdefghijklmnopqrstuvwxyzabcdefghijklmnop", "a=rtpmap:8 PCMA/8000", "a=sendrecv", ""))
	b.ReportAllocs()
	for b.Loop() {
		redact.Mask(msg)
	}
}
