package mediasec

import (
	"fmt"
	"strings"
	"testing"

	"ringfence/internal/sip"
)

func response(t testing.TB, status int, fields ...string) *sip.Message {
	t.Helper()
	text := fmt.Sprintf("SIP/2.0 %d X\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>;tag=2\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n%sContent-Length: 0\r\n\r\n", status, strings.Join(append(fields, ""), "\r\n"))
	m := new(sip.Message)
	if err := m.Parse([]byte(text), sip.Limits{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// wrote returns the fields that an agreement adds to a request.
func wrote(a *Agreement, method sip.Method) string {
	var w sip.Writer
	w.Reset(nil)
	a.Write(&w, method)
	return strings.ReplaceAll(strings.TrimSpace(string(w.Bytes())), "\r\n", " | ")
}

const required = "Require: mediasec | Proxy-Require: mediasec"

// TestClientBegins follows the exchange of the published flow, request by request.
func TestClientBegins(t *testing.T) {
	a := New(Client)
	first := "Security-Client: sdes-srtp;mediasec | " + required
	if got := wrote(a, sip.REGISTER); got != first {
		t.Error(got)
	}
	if got := wrote(a, sip.INVITE); got != "" {
		t.Error(got)
	}
	list := []string{"Security-Server: msrp-tls;mediasec", "Security-Server: sdes-srtp;mediasec, dtls-srtp;mediasec", "Security-Server: ipsec-3gpp;q=0.1;alg=hmac-md5-96"}
	if a.Heard(response(t, 401, list...)) {
		t.Error("a challenge is for who has the password")
	}
	verify := "Security-Verify: msrp-tls;mediasec | Security-Verify: sdes-srtp;mediasec | Security-Verify: dtls-srtp;mediasec | " + required
	if got := wrote(a, sip.REGISTER); got != "Security-Client: sdes-srtp;mediasec | "+verify {
		t.Error(got)
	}
	if a.Heard(response(t, 200)) || !a.Agreed() {
		t.Error(a.State())
	}
	for _, m := range []sip.Method{sip.INVITE, sip.OPTIONS, sip.BYE, sip.SUBSCRIBE} {
		if got := wrote(a, m); got != verify {
			t.Errorf("%s: %s", m, got)
		}
	}
	if wrote(a, sip.ACK) != "" || wrote(a, sip.CANCEL) != "" {
		t.Error("ACK and CANCEL have fields that nobody can answer")
	}
	// Another list, then one that does not come to an end.
	if !a.Heard(response(t, 494, "Security-Server: sdes-srtp;mediasec")) || wrote(a, sip.INVITE) != "Security-Verify: sdes-srtp;mediasec | "+required {
		t.Error(wrote(a, sip.INVITE))
	}
	if a.Heard(response(t, 494, "Security-Server: sdes-srtp;mediasec")) {
		t.Error("the same again is no reason to go on")
	}
	if a.Heard(response(t, 494, "Security-Server: dtls-srtp;mediasec")) || a.Agreed() {
		t.Error("nothing in common")
	}
	if s, l := a.State(); s != Different || len(l) != 1 || wrote(a, sip.INVITE) != "" {
		t.Error(s, l)
	}
	a.Reset()
	if s, l := a.State(); s != Asked || len(l) != 0 || wrote(a, sip.REGISTER) != first {
		t.Error(s, l)
	}
	if !a.Heard(response(t, 420, "Unsupported: mediasec")) || a.Heard(response(t, 420, "Unsupported: mediasec")) || wrote(a, sip.REGISTER) != "" {
		t.Error("a server that does not know it is asked again")
	}
	if s, _ := a.State(); s != Unknown {
		t.Error(s)
	}
}

func TestServerBegins(t *testing.T) {
	for _, status := range []int{200, 401, 407, 494} {
		a := New(Server)
		if got := wrote(a, sip.REGISTER); got != "" {
			t.Error(got)
		}
		if retry := a.Heard(response(t, status, "Security-Server: SDES-SRTP; MediaSec")); retry != (status == 494) || wrote(a, sip.REGISTER) != "Security-Verify: SDES-SRTP; MediaSec | "+required {
			t.Errorf("%d: %s", status, wrote(a, sip.REGISTER))
		}
	}
	a := New(Server)
	if a.Heard(response(t, 494)) || a.Heard(response(t, 421, "Require: sec-agree")) || a.Heard(response(t, 420, "Unsupported: path")) {
		t.Error("nothing there is about sealed media")
	}
	if !a.Heard(response(t, 421, "Require: mediasec")) || !strings.HasPrefix(wrote(a, sip.REGISTER), "Security-Client: ") || a.Heard(response(t, 421, "Require: mediasec")) {
		t.Error("a server insists, and the client does not begin")
	}
	nobody := New(Nobody)
	if nobody.Heard(response(t, 494, "Security-Server: sdes-srtp;mediasec")) || wrote(nobody, sip.REGISTER) != "" || nobody.Agreed() {
		t.Error("nobody wanted it")
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{"sdes-srtp;mediasec", "a;mediasec, b;q=0.1;MEDIASEC,,", ";mediasec", "\"a,b\";mediasec", strings.Repeat("a;mediasec,", 50), "a\x01;mediasec"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if strings.ContainsAny(v, "\r\n") {
			return
		}
		m := new(sip.Message)
		if m.Parse([]byte("SIP/2.0 494 X\r\nVia: SIP/2.0/TLS 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>;tag=2\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\nSecurity-Server: "+v+"\r\nContent-Length: 0\r\n\r\n"), sip.Limits{}) != nil {
			return
		}
		list := Read(m)
		if len(list) > maxMechanisms {
			t.Errorf("%d mechanisms", len(list))
		}
		for _, x := range list {
			if len(x) > maxLength || strings.ContainsAny(x, "\r\n") || !strings.Contains(v, x) {
				t.Errorf("%q of %q", x, v)
			}
		}
	})
}
