package tlspolicy

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
)

// An authority of the world asks for a certificate, and shall not learn who we are; towards a collector the node proves its name.
func TestPublicAuthorityLearnsNothing(t *testing.T) {
	far, _, err := occasion([]string{"acme.example.net"})
	if err != nil {
		t.Fatal(err)
	}
	tree := Tree{"/system": {Identity: "other", Anchors: []string{"own"}}}
	if wrong := tree.Check(nil); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	for class, want := range map[string]int{"public-acme": 0, "syslog": 1} {
		conf, err := New(tree, ring{id: identity(t), pool: []*x509.Certificate{far.Leaf}}).Client(At(class, netip.MustParseAddrPort("192.0.2.9:443")), "acme.example.net", Options{})
		if err != nil {
			t.Fatal(err)
		}
		shown := -1
		server := &tls.Config{Certificates: []tls.Certificate{far}, ClientAuth: tls.RequestClientCert, VerifyConnection: func(cs tls.ConnectionState) error { shown = len(cs.PeerCertificates); return nil }}
		if _, err := shake(t, server, conf); err != nil || shown != want {
			t.Errorf("%s: %d certificates, %v", class, shown, err)
		}
		o, err := tree.For(At(class, netip.AddrPort{})).Try(Peer{})
		if err != nil || !o.OK || !o.Asked {
			t.Errorf("%s: %+v %v", class, o, err)
		}
		if v, _, _ := value(tree.For(At(class, netip.AddrPort{})), "identity"); (v != "") != (want > 0) {
			t.Errorf("%s: identity %q", class, v)
		}
	}
	wrong := Tree{"/interface/public-acme": {Identity: "node"}}.Check(nil)
	if len(wrong) != 1 || !strings.Contains(wrong[0].Text, "presents nothing of ours") {
		t.Errorf("%v", wrong)
	}
}

// A listener for challenges presents what it is told for the one who asks, whatever identity is set, and nobody is shut out by it.
func TestChallengesChooseWhatIsPresented(t *testing.T) {
	challenge, _, err := occasion([]string{"pbx.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	tree := Tree{"/system": {Min: "1.2", Identity: "other"}}
	var asked []string
	conf, err := New(tree, ring{id: identity(t)}).Server(At("public-tls", netip.MustParseAddrPort("192.0.2.7:443")), Options{NextProtos: []string{"acme-tls/1"}, Present: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked = append(asked, h.ServerName)
		return &challenge, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := shake(t, conf, &tls.Config{ServerName: "pbx.example.com", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}})
	if err != nil || len(asked) != 1 || asked[0] != "pbx.example.com" || cs.NegotiatedProtocol != "acme-tls/1" || !cs.PeerCertificates[0].Equal(challenge.Leaf) {
		t.Errorf("%q %v", asked, err)
	}
	if w := tree.Risks(Site{Domain: "example.com", Listens: map[string]netip.AddrPort{"public-tls": netip.MustParseAddrPort("[::]:443")}, Presents: func(string) *x509.Certificate { return nil }}); len(w) > 0 {
		t.Errorf("%v", w)
	}
}
