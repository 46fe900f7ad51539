package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
)

func signedText(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, embed bool, payload string) []byte {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{EmbedJWK: embed, ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(m.FullSerialize())
}

// FuzzMessage reads messages of strangers: nothing may panic, and what is taken is what the signature covers.
func FuzzMessage(f *testing.F) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	header := map[jose.HeaderKey]any{"nonce": "AAAA", "url": "https://node.example.org/acme/new-account"}
	f.Add(signedText(f, jose.ES256, p256, header, true, `{"contact":["mailto:a@example.org"]}`))
	f.Add(signedText(f, jose.EdDSA, ed, header, true, `{}`))
	f.Add(signedText(f, jose.RS256, rsaKey, header, true, ``))
	f.Add(signedText(f, jose.HS256, bytes.Repeat([]byte{1}, 32), map[jose.HeaderKey]any{"kid": "x", "url": "y"}, false, `{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, algs := range [][]jose.SignatureAlgorithm{algorithms(), {jose.HS256}} {
			m, err := openJWS(text, algs)
			if err != nil {
				p, ok := errors.AsType[*problem](err)
				if !ok || p.Status < 400 || !strings.HasPrefix(p.Type, problemType) {
					t.Fatalf("a refusal that is no problem: %v", err)
				}
				continue
			}
			if (m.key == nil) == (m.kid == "") && m.kid != "" || !slices.Contains(algs, m.alg) {
				t.Fatalf("taken: %+v", m)
			}
			if m.key == nil {
				continue
			}
			if _, err := thumbprint(m.key); err != nil {
				t.Fatalf("a key without a thumbprint was taken: %v", err)
			}
			if m.verify(m.key) == nil {
				if got := m.jws.UnsafePayloadWithoutVerification(); !bytes.Equal(got, m.body) {
					t.Fatalf("the signature covers %q, we read %q", got, m.body)
				}
			}
		}
	})
}

// fuzzSite is an issuer, a resolver and a host of bindings that know nothing.
type fuzzSite struct{}

func (fuzzSite) Sign(context.Context, Wanted) ([][]byte, error)           { return nil, io.EOF }
func (fuzzSite) Revoke(context.Context, *x509.Certificate, int) error     { return io.EOF }
func (fuzzSite) Revoked(context.Context, *x509.Certificate) (bool, error) { return false, io.EOF }
func (fuzzSite) LookupTXT(context.Context, string) ([]string, error)      { return nil, io.EOF }
func (fuzzSite) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, io.EOF
}
func (fuzzSite) Binding(_ context.Context, id string) (Binding, error) {
	if id != "b" {
		return Binding{}, fault("", ringfence.KindNotFound, "", "", nil)
	}
	return Binding{ID: "b", Key: make([]byte, 32), Names: []string{".example.org", "192.0.2.0/24"}}, nil
}

// FuzzPayload signs what a stranger wrote with a good account and a good nonce, and sends it everywhere: each answer is JSON with a
// status that fits, and none is a failure of ours.
func FuzzPayload(f *testing.F) {
	const base = "https://node.example.org"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.example.org"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	paths := []string{pathNewAccount, pathNewOrder, pathAccount + "AAAAAAAAAAAAAAAAAAAAAA", pathOrder + "AAAAAAAAAAAAAAAAAAAAAA/finalize", pathAuthz + "AAAAAAAAAAAAAAAAAAAAAA", pathRevoke, pathKeyChange,
		pathAccount + "AAAAAAAAAAAAAAAAAAAAAA/orders?after=x"}
	for i := range paths {
		for _, text := range []string{``, `{}`, `{"status":"deactivated","contact":["mailto:a@example.org"]}`, `{"identifiers":[{"type":"dns","value":"a.example.org"},{"type":"ip","value":"192.0.2.1"}],"replaces":"AQ.AQ"}`,
			`{"csr":"` + rawURL(csr) + `"}`, `{"certificate":"AA","reason":1}`, string(signedText(f, jose.ES256, key, map[jose.HeaderKey]any{"url": base + pathKeyChange}, true, `{"account":"x","oldKey":{}}`))} {
			f.Add(i, []byte(text))
		}
	}
	jwk, err := jose.JSONWebKey{Key: key.Public()}.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	thumb, err := thumbprint(&jose.JSONWebKey{Key: key.Public()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, i int, payload []byte) {
		state, id := NewMemory(), "AAAAAAAAAAAAAAAAAAAAAA"
		state.accounts[id] = Account{ID: id, Status: StatusValid, Key: jwk, Thumbprint: thumb, Binding: "b"}
		o := Order{ID: id, Account: id, Status: StatusReady, Identifiers: []Identifier{{"dns", "a.example.org"}}, Authorizations: []string{id}, Expires: time.Now().Add(time.Hour)}
		state.orders[id] = o
		state.authz[id] = Authorization{ID: id, Account: id, Order: id, Identifier: o.Identifiers[0], Status: StatusValid, Expires: o.Expires}
		s, err := New(Config{Base: base, State: state, Bindings: fuzzSite{}, Issuer: fuzzSite{}, Resolver: fuzzSite{}, Log: slog.New(slog.DiscardHandler),
			Dial:  func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, io.EOF },
			Audit: func(context.Context, string, string, string) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		path := paths[max(i, -i, 0)%len(paths)]
		embed := path == pathNewAccount
		header := map[jose.HeaderKey]any{"url": base + path, "nonce": s.nonces.fresh()}
		if !embed {
			header["kid"] = base + pathAccount + id
		}
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(signedText(t, jose.ES256, key, header, embed, string(payload))))
		r.Header.Set("Content-Type", "application/jose+json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusCreated && w.Code/100 != 4 && path != paths[3] || w.Header().Get("Replay-Nonce") == "" {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s: %s", path, w.Body)
		}
	})
}
