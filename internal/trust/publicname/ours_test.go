package publicname

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
	ours "ringfence/internal/trust/acme"
)

// port is Answers on a real port of loopback, as a node opens it.
type port struct {
	kind string
	mu   sync.Mutex
	at   string // where it is open; empty: closed
}

func (p *port) Open(_ context.Context, r *Responder) (func(), error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.set(ln.Addr().String())
	if p.kind == HTTP01 {
		hs := &http.Server{Handler: r}
		go func() { _ = hs.Serve(ln) }()
		return func() { p.set(""); _ = hs.Close() }, nil
	}
	conf := &tls.Config{NextProtos: []string{"acme-tls/1"}, GetCertificate: r.Certificate}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = tls.Server(c, conf).Handshake()
			_ = c.Close()
		}
	}()
	return func() { p.set(""); _ = ln.Close() }, nil
}

func (p *port) set(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
}

// issuer signs whatever the server lets pass.
type issuer struct {
	root *x509.Certificate
	key  any
}

func (i issuer) Sign(_ context.Context, w ours.Wanted) ([][]byte, error) {
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: w.DNSNames[0]}, DNSNames: w.DNSNames, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, i.root, w.PublicKey, i.key)
	return [][]byte{der, i.root.Raw}, err
}
func (issuer) Revoke(context.Context, *x509.Certificate, int) error { return nil }
func (issuer) Revoked(context.Context, *x509.Certificate) (bool, error) {
	return false, nil
}

type bindings map[string]ours.Binding

func (b bindings) Binding(_ context.Context, id string) (ours.Binding, error) {
	if x, ok := b[id]; ok {
		return x, nil
	}
	return ours.Binding{}, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no such binding"}
}

// zone is a DNS in which every name is here.
type zone struct{}

func (zone) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}
func (zone) LookupTXT(context.Context, string) ([]string, error) { return nil, nil }

// TestOurOwnServer orders from the ACME server of the product, which looks at real ports, by both kinds of challenge and with a binding.
func TestOurOwnServer(t *testing.T) {
	for _, kind := range []string{HTTP01, TLSALPN01} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := &port{kind: kind}
			ca := newAuthority(t, nil)
			b := ours.NewBinding([]string{".example.org"}, time.Time{})
			web := httptest.NewUnstartedServer(nil)
			var d net.Dialer
			quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
			server, err := ours.New(ours.Config{Base: "https://" + web.Listener.Addr().String(), State: ours.NewMemory(), Bindings: bindings{b.ID: b}, Issuer: issuer{ca.cert, ca.key}, Resolver: zone{}, Log: quiet,
				Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
					p.mu.Lock()
					at := p.at
					p.mu.Unlock()
					return d.DialContext(ctx, "tcp", at)
				}, Reach: func(netip.Addr) bool { return true }, Audit: func(context.Context, string, string, string) error { return nil }, Tries: 2, Pause: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			tlsCA := testkit.NewAuthority("Directory")
			web.TLS, web.Config.Handler = tlsCA.Server("127.0.0.1"), server.Handler()
			web.StartTLS()
			t.Cleanup(func() { web.Close(); server.Close() })
			r := &ring{}
			transport := &http.Transport{TLSClientConfig: tlsCA.Client("", "127.0.0.1")}
			t.Cleanup(transport.CloseIdleConnections)
			c := Config{Names: []string{"pbx.example.org", "voice.example.org"}, Directory: "https://" + web.Listener.Addr().String() + "/acme/directory", Challenge: kind, Alias: "public", Node: "node-1", Vault: &vault{}, Ring: r, Answers: p,
				Transport: transport, Binding: &Binding{ID: b.ID, Key: b.Key}, Log: quiet}
			k, err := Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			k.once(t.Context())
			got, err := r.Certificate("public")
			if err != nil {
				t.Fatalf("%+v", k.Status())
			}
			for _, n := range c.Names {
				if err := got.Leaf.VerifyHostname(n); err != nil {
					t.Error(err)
				}
			}
			if p.at != "" {
				t.Error("the port is still open")
			}
			// A name that the binding does not allow is refused, in words, and the one that is there stays.
			c.Names = []string{"pbx.example.net"}
			if k, err = Open(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			k.once(t.Context())
			st := k.Status()
			if now, err := r.Certificate("public"); err != nil || !now.Leaf.Equal(got.Leaf) || !strings.Contains(st.Error, "pbx.example.net") || st.Failures != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}
