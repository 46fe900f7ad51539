package phone

import (
	"testing"

	"ringfence/internal/sip"
)

// TestPages tells pages from other calls.
func TestPages(t *testing.T) {
	for fields, want := range map[string]bool{
		"": false,
		"Call-Info: <sip:a@example.com>;answer-after=0\r\n":                                          true,
		"Call-Info: <sip:a@example.com>;answer-after=5\r\n":                                          false,
		"Call-Info: <http://x/;answer-after=0>;purpose=icon\r\n":                                     false,
		"Call-Info: <http://x/>;purpose=icon, <sip:a@example.com> ; purpose=x; Answer-After = 0\r\n": true,
		"Answer-Mode: Auto\r\n":          true,
		"Answer-Mode: auto;require\r\n":  true,
		"Answer-Mode: Manual\r\n":        false,
		"Call-Info: answer-after=0\r\n":  false,
		"Call-Info: ,,>;;=\r\n":          false,
		"Answer-Mode: ;Auto\r\nX: y\r\n": false,
	} {
		m := new(sip.Message)
		if err := m.Parse([]byte("INVITE sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"+fields+"Content-Length: 0\r\n\r\n"), sip.Limits{}); err != nil {
			t.Fatalf("%q: %v", fields, err)
		}
		if got := isPage(m); got != want {
			t.Errorf("%q: %v", fields, got)
		}
	}
}
