package phone

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/testkit"
)

// TestNoWildcards has a server prove its name by a wildcard, which is nobody's name in SIP (RFC 5922 section 7.2).
func TestNoWildcards(t *testing.T) {
	a := testkit.NewAuthority("any")
	for _, x := range []struct {
		name string
		in   []string
		good bool
	}{
		{"sip.example.test", []string{"*.example.test"}, false},
		{"sip.example.test", []string{"*.example.test", "sip.example.test"}, true},
		{"SIP.example.test", []string{"sip.example.test"}, true},
		{"192.0.2.1", []string{"192.0.2.1"}, true},
		{"", []string{"*.example.test"}, true}, // whoever left the name out checks it otherwise
	} {
		leaf, err := x509.ParseCertificate(a.Issue(x.in...).Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = verifier{}.Verify(tls.ConnectionState{ServerName: x.name, PeerCertificates: []*x509.Certificate{leaf}})
		if (err == nil) != x.good || err != nil && (ringfence.KindOf(err) != ringfence.KindInsecure || !strings.Contains(err.Error(), "wildcard")) {
			t.Errorf("%s by %v: %v", x.name, x.in, err)
		}
	}
}
