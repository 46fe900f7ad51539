package subject

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"slices"
	"testing"
)

func cert(cn string, dns []string, uris ...string) *x509.Certificate {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, DNSNames: dns}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return c
}

// TestDomains goes through the cases of RFC 5922 section 7.1.
func TestDomains(t *testing.T) {
	for name, x := range map[string]struct {
		cert *x509.Certificate
		want []string
	}{
		"URI before DNS":            {cert("cn.example.com", []string{"dns.example.com"}, "sip:example.com"), []string{"example.com"}},
		"URI with port and more":    {cert("", nil, "sip:example.com:5061;transport=tls", "sip:[2001:db8::1]:5061"), []string{"example.com", "2001:db8::1"}},
		"a person is no domain":     {cert("cn.example.com", []string{"dns.example.com"}, "sip:alice@example.com"), []string{"dns.example.com"}},
		"sips proves no sip domain": {cert("", []string{"dns.example.com"}, "sips:example.com"), []string{"dns.example.com"}},
		"no wildcards":              {cert("x", []string{"*.example.com", "a.example.com"}), []string{"a.example.com"}},
		"common name alone":         {cert("cn.example.com", nil), []string{"cn.example.com"}},
		"wildcard common name":      {cert("*.example.com", nil), nil},
		"no common name beside":     {cert("cn.example.com", nil, "urn:x:y"), nil},
		"only wildcards":            {cert("cn.example.com", []string{"*.example.com"}), nil},
	} {
		if got := Domains(x.cert); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}

func TestMatches(t *testing.T) {
	c := cert("cube-1", []string{"cube.example.com", "*.example.net"}, "sip:trunk.example.com", "urn:ringfence:role:trunk")
	c.IPAddresses = []net.IP{net.ParseIP("192.0.2.7")}
	c.EmailAddresses = []string{"ops@example.com"}
	for name, want := range map[string][2]bool{ // of SIP, of anything else
		"trunk.example.com":        {true, false},
		"TRUNK.example.com.":       {true, false},
		"cube.example.com":         {false, true},
		"192.0.2.7":                {false, true},
		"::ffff:192.0.2.7":         {false, true},
		"cube-1":                   {false, true},
		"CN=cube-1":                {true, true},
		"CN=":                      {false, false},
		"":                         {false, false},
		"CN=trunk.example.com":     {false, false},
		"urn:ringfence:role:trunk": {true, true},
		"sip:trunk.example.com":    {true, true},
		"ops@example.com":          {true, true},
		"a.example.net":            {false, false},
		"evil-cube.example.com":    {false, false},
	} {
		if got := [2]bool{Matches(c, name, true), Matches(c, name, false)}; got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	if ProvesDomain(cert("", []string{"a.example.com"}), "") {
		t.Error("an empty name was proved")
	}
}
