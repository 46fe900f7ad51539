package acme_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	xacme "golang.org/x/crypto/acme"

	"ringfence/internal/trust/acme"
)

// machine is a host on loopback that shows what challenges ask for.
type machine struct {
	mu    sync.Mutex
	files map[string]string
	certs map[string]*tls.Certificate
	http  uint16
	alpn  uint16
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{files: map[string]string{}, certs: map[string]*tls.Certificate{}}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		text, ok := m.files[r.Host+r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(text + "\n"))
	}))
	t.Cleanup(web.Close)
	m.http = netip.MustParseAddrPort(web.Listener.Addr().String()).Port()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{xacme.ALPNProto}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if c := m.certs[h.ServerName]; c != nil && slices.Equal(h.SupportedProtos, []string{xacme.ALPNProto}) {
			return c, nil
		}
		return nil, errors.New("no such name")
	}})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				_ = c.(*tls.Conn).HandshakeContext(context.Background())
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wait.Wait() })
	m.alpn = netip.MustParseAddrPort(l.Addr().String()).Port()
	return m
}

// meet does what a challenge asks for.
func (m *machine) meet(t *testing.T, s *site, c *xacme.Client, name string, ch *xacme.Challenge) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch ch.Type {
	case "http-01":
		text, err := c.HTTP01ChallengeResponse(ch.Token)
		if err != nil {
			t.Fatal(err)
		}
		m.files[name+c.HTTP01ChallengePath(ch.Token)] = text
	case "dns-01":
		text, err := c.DNS01ChallengeRecord(ch.Token)
		if err != nil {
			t.Fatal(err)
		}
		s.zone.setTXT("_acme-challenge."+strings.TrimPrefix(name, "*."), "something else", text)
	case "tls-alpn-01":
		if net.ParseIP(name) == nil {
			cert, err := c.TLSALPN01ChallengeCert(ch.Token, name)
			if err != nil {
				t.Fatal(err)
			}
			m.certs[name] = &cert
			return
		}
		cert, err := c.TLSALPN01ChallengeCert(ch.Token, name)
		if err != nil {
			t.Fatal(err)
		}
		m.certs["1.0.0.127.in-addr.arpa"] = &cert
	}
}

// order gets a certificate for names, each shown by one kind of challenge.
func (m *machine) order(t *testing.T, s *site, c *xacme.Client, kind string, names ...string) ([][]byte, crypto.Signer, error) {
	t.Helper()
	ctx := t.Context()
	var ids []xacme.AuthzID
	for _, n := range names {
		if net.ParseIP(n) != nil {
			ids = append(ids, xacme.IPIDs(n)...)
		} else {
			ids = append(ids, xacme.DomainIDs(n)...)
		}
	}
	o, err := c.AuthorizeOrder(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	for i, url := range o.AuthzURLs {
		z, err := c.GetAuthorization(ctx, url)
		if err != nil {
			return nil, nil, err
		}
		j := slices.IndexFunc(z.Challenges, func(ch *xacme.Challenge) bool { return ch.Type == kind })
		if j < 0 {
			t.Fatalf("%s is not offered for %s", kind, names[i])
		}
		m.meet(t, s, c, names[i], z.Challenges[j])
		if _, err := c.Accept(ctx, z.Challenges[j]); err != nil {
			return nil, nil, err
		}
		if _, err := c.WaitAuthorization(ctx, url); err != nil {
			return nil, nil, err
		}
	}
	if o, err = c.WaitOrder(ctx, o.URI); err != nil {
		return nil, nil, err
	}
	key := newKey(t)
	chain, _, err := c.CreateOrderCert(ctx, o.FinalizeURL, csrFor(t, key, names...), true)
	return chain, key, err
}

// TestAnotherClientGetsCertificates lets the client of golang.org/x/crypto show control of names in every way.
func TestAnotherClientGetsCertificates(t *testing.T) {
	m := newMachine(t)
	s := newSite(t, func(c *acme.Config) { c.HTTPPort, c.TLSPort = m.http, m.alpn })
	home := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")} // the first is not to be gone to
	s.zone.addr["pbx.example.org"], s.zone.addr["gw.example.org"] = home, home
	c := s.xclient(".example.org", "*.example.org", "127.0.0.1")
	for _, tc := range []struct {
		kind  string
		names []string
	}{
		{"http-01", []string{"pbx.example.org", "gw.example.org"}},
		{"http-01", []string{"127.0.0.1"}},
		{"dns-01", []string{"pbx.example.org"}},
		{"dns-01", []string{"*.example.org"}},
		{"tls-alpn-01", []string{"gw.example.org"}},
		{"tls-alpn-01", []string{"127.0.0.1"}},
	} {
		t.Run(tc.kind+" "+tc.names[0], func(t *testing.T) {
			chain, key, err := m.order(t, s, c, tc.kind, tc.names...)
			if err != nil {
				t.Fatal(err)
			}
			if len(chain) != 2 {
				t.Fatalf("the chain has %d certificates", len(chain))
			}
			leaf, err := x509.ParseCertificate(chain[0])
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AddCert(s.ca.cert)
			for _, n := range tc.names {
				if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: strings.Replace(n, "*", "any", 1)}); err != nil {
					t.Errorf("%s: %v", n, err)
				}
			}
			if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(leaf.PublicKey) {
				t.Error("the certificate is for another key")
			}
		})
	}
	for _, a := range s.dials() {
		if a.Addr() != netip.MustParseAddr("127.0.0.1") || a.Port() != m.http && a.Port() != m.alpn {
			t.Errorf("the server went to %s", a)
		}
	}
	// The audit has every account and every decision.
	if text := strings.Join(s.audit, "\n"); strings.Count(text, "acme.account") != 1 || strings.Count(text, "acme.challenge") != 7 {
		t.Errorf("audit:\n%s", text)
	}
}

// TestAccountLife lets the other client change its key and contacts, find itself again and leave.
func TestAccountLife(t *testing.T) {
	m := newMachine(t)
	s := newSite(t, func(c *acme.Config) { c.HTTPPort = m.http })
	s.zone.here("pbx.example.org")
	c := s.xclient("pbx.example.org")
	ctx := t.Context()
	was, err := c.GetReg(ctx, "")
	if err != nil || !slices.Equal(was.Contact, []string{"mailto:admin@example.org"}) || was.Status != xacme.StatusValid {
		t.Fatalf("%+v %v", was, err)
	}
	if now, err := c.UpdateReg(ctx, &xacme.Account{Contact: []string{"mailto:other@example.org"}}); err != nil || now.Contact[0] != "mailto:other@example.org" {
		t.Fatalf("%+v %v", now, err)
	}
	old := c.Key
	if err := c.AccountKeyRollover(ctx, newKey(t)); err != nil {
		t.Fatal(err)
	}
	chain, _, err := m.order(t, s, c, "http-01", "pbx.example.org")
	if err != nil {
		t.Fatalf("with the new key: %v", err)
	}
	again := &xacme.Client{Key: c.Key, DirectoryURL: c.DirectoryURL, HTTPClient: s.client}
	if now, err := again.GetReg(ctx, ""); err != nil || now.URI != was.URI {
		t.Fatalf("the account of the new key: %+v %v", now, err)
	}
	stale := &xacme.Client{Key: old, DirectoryURL: c.DirectoryURL, HTTPClient: s.client}
	if _, err := stale.GetReg(ctx, ""); !errors.Is(err, xacme.ErrNoAccount) {
		t.Fatalf("the old key still has an account: %v", err)
	}
	if err := c.RevokeCert(ctx, nil, chain[0], xacme.CRLReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	if len(s.ca.revoked) != 1 {
		t.Fatal("nothing was revoked")
	}
	if err := c.DeactivateReg(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AuthorizeOrder(ctx, xacme.DomainIDs("pbx.example.org")); err == nil || !strings.Contains(err.Error(), "deactivated") {
		t.Fatalf("a deactivated account orders: %v", err)
	}
}

// TestSeveralClientsAtOnce has clients order side by side.
func TestSeveralClientsAtOnce(t *testing.T) {
	m := newMachine(t)
	s := newSite(t, func(c *acme.Config) { c.HTTPPort = m.http })
	var wait sync.WaitGroup
	seen := make([][]byte, 8)
	for i := range seen {
		name := string(rune('a'+i)) + ".example.org"
		s.zone.here(name)
		c := s.xclient(name)
		wait.Go(func() {
			if chain, _, err := m.order(t, s, c, "http-01", name); err != nil {
				t.Error(err)
			} else {
				seen[i] = chain[0]
			}
		})
	}
	wait.Wait()
	for i := range seen {
		for j := range i {
			if bytes.Equal(seen[i], seen[j]) {
				t.Error("two clients have the same certificate")
			}
		}
	}
}
