package tlspolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
)

func TestRisks(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	presents := map[string]*x509.Certificate{
		NodeIdentity: {DNSNames: []string{"example.com"}, PublicKey: ec.Public()},
		TVSIdentity:  {DNSNames: []string{"example.com"}, PublicKey: long.Public()},
		CAPFIdentity: {DNSNames: []string{"example.com"}, PublicKey: long.Public()},
		"wild":       {DNSNames: []string{"*.example.com"}, PublicKey: ec.Public()},
		"public":     {DNSNames: []string{"example.com"}, PublicKey: long.Public()},
	}
	site := Site{Domain: "example.com", Presents: func(alias string) *x509.Certificate { return presents[alias] }, Listens: map[string]netip.AddrPort{}}
	for i, c := range []string{"sip", "sip-wss", "sip-oauth", "https", "tvs", "capf", "cti"} {
		site.Listens[c] = netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(5061+i))
	}
	for name, x := range map[string]struct {
		tree Tree
		want []string // in order of place and text
	}{
		"nothing is set":            {nil, nil},
		"stricter, and all can":     {Tree{"/system/transport/sip": {Min: "1.3"}, "/interface/https": {Groups: []string{"x25519"}}, "/system/transport/phones": {Max: "1.2"}}, nil},
		"more is believed":          {Tree{"/interface/sip": {Anchors: []string{"own", "carrier"}}}, nil},
		"a carrier instead of us":   {Tree{"/interface/sip": {Anchors: []string{"carrier"}}}, []string{"anchors: own is not among them"}},
		"everywhere":                {Tree{"/system": {Anchors: []string{"carrier"}}}, []string{"refused at https", "refused at sip", "refused at sip-wss"}},
		"at one address":            {Tree{"/interface/sip/192.0.2.7:5061": {Anchors: []string{"carrier"}, Subjects: []string{"carrier.example"}}}, nil},
		"names that only they have": {Tree{"/interface/sip": {Subjects: []string{"carrier.example"}}}, []string{"subjects: whoever"}},
		"passwords":                 {Tree{"/interface/sip": {ClientAuth: "require"}}, []string{"client-auth: phones that sign in"}},
		"tokens":                    {Tree{"/interface/sip-oauth": {ClientAuth: "require"}}, []string{"client-auth: phones that sign in"}},
		"no certificate yet":        {Tree{"/interface/capf": {ClientAuth: "require"}}, []string{"client-auth: phones that have no"}},
		"whoever follows calls":     {Tree{"/interface/cti": {Anchors: []string{"carrier"}, Subjects: []string{"carrier.example"}, Identity: "public"}}, nil},
		"old phones":                {Tree{"/system": {Min: "1.3"}}, []string{"refused at capf", "refused at tvs"}},
		"what no list names":        {Tree{"/interface/capf": {Identity: "node"}}, []string{"identity: enterprise phones believe"}},
		"somebody else's":           {Tree{"/interface/https": {Identity: "public"}}, []string{"also when they renew"}},
		"a wildcard":                {Tree{"/interface/sip": {Identity: "wild"}}, []string{"does not prove example.com", "also when they renew"}},
		"another name":              {Tree{"/interface/https": {Identity: "wild"}}, []string{"does not prove example.com", "also when they renew"}},
		"no group for most":         {Tree{"/interface/sip": {Groups: []string{"X25519MLKEM768"}}}, []string{"groups: whoever knows no ML-KEM"}},
		"suites of another key":     {Tree{"/interface/sip": {Suites: "ECDHE+aRSA+AESGCM"}}, []string{"goes with the ECDSA key of node"}},
		"and of phones":             {Tree{"/system/transport/phones": {Suites: "ECDHE+aECDSA+AESGCM"}}, []string{"goes with the RSA key of capf", "goes with the RSA key of tvs"}},
	} {
		if wrong := x.tree.Check(nil); len(wrong) > 0 {
			t.Errorf("%s: %v", name, wrong)
		}
		got := x.tree.Risks(site)
		bad := len(got) != len(x.want)
		for i := range min(len(got), len(x.want)) {
			bad = bad || !strings.Contains(got[i].Text, x.want[i])
		}
		if bad {
			t.Errorf("%s: %v, want %q", name, got, x.want)
		}
	}
	site.Listens = map[string]netip.AddrPort{"sip": site.Listens["sip"]}
	if got := (Tree{"/system": {Min: "1.3"}}).Risks(site); len(got) > 0 {
		t.Errorf("where no enterprise phone comes: %v", got)
	}
	site.Listens = map[string]netip.AddrPort{"sip": netip.MustParseAddrPort("192.0.2.7:5061")}
	if got := (Tree{"/interface/sip/192.0.2.7:5061": {Subjects: []string{"carrier.example"}}}).Risks(site); len(got) != 1 || !strings.Contains(got[0].Text, "subjects: whoever") {
		t.Errorf("at the only address: %v", got)
	}
}
