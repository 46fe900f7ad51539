package keyring

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/trust/chain"
)

// vault keeps secrets in memory.
type vault struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (v *vault) Secret(_ context.Context, name string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if b, ok := v.m[name]; ok {
		return b, nil
	}
	return nil, fault("vault", ringfence.KindNotFound, "no secret", "", nil)
}

func (v *vault) CreateSecret(_ context.Context, name string, b []byte) error {
	return v.ReplaceSecret(context.Background(), name, nil, b)
}

func (v *vault) ReplaceSecret(_ context.Context, name string, old, b []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !bytes.Equal(v.m[name], old) {
		return fault("vault", ringfence.KindConflict, "changed", "", nil)
	}
	v.m[name] = b
	return nil
}

// maker is an authority for tests.
type maker struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (m *maker) sign(t *testing.T, name string, change func(*x509.Certificate)) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	tpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(tpl)
	}
	by := m
	if by == nil {
		by = &maker{tpl, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, by.cert, key.Public(), by.key)
	ok(t, err)
	c, err := x509.ParseCertificate(der)
	ok(t, err)
	return &maker{c, key}
}

func leaf(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.DNSNames = false, 0, []string{"sip.example.com"}
}

func (m *maker) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.cert.Raw})
}

func (m *maker) keyPEM(t *testing.T) []byte {
	b, err := x509.MarshalPKCS8PrivateKey(m.key)
	ok(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err error, k ringfence.Kind, text string) {
	t.Helper()
	if err == nil || ringfence.KindOf(err) != k || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want %v %q", err, k, text)
	}
}

func open(t *testing.T, v Vault) *Ring {
	t.Helper()
	r, err := Open(t.Context(), Config{Vault: v})
	ok(t, err)
	return r
}

func aliases(r *Ring) (out []string) {
	for _, a := range r.Anchors() {
		out = append(out, a.Alias)
	}
	return out
}

// TestAnchors splits the combined file of an authority, as CombinedCertChain2023.txt of seed 004 is split by hand.
func TestAnchors(t *testing.T) {
	v := &vault{m: map[string][]byte{}}
	r := open(t, v)
	var none *maker
	root := none.sign(t, "Internal Private Root", nil)
	issuing := root.sign(t, "Internal Private TLS SubCA", nil)
	file := slices.Concat([]byte("issued by the partner\n"), root.pem(), []byte("\n# and\n"), issuing.pem(), root.pem())
	added, err := r.AddAnchors(t.Context(), "webexclient2023", file)
	ok(t, err)
	if len(added) != 2 || !slices.Equal(aliases(r), []string{"webexclient2023-issuing", "webexclient2023-root"}) {
		t.Fatal(added, aliases(r))
	}
	if a := r.Anchors(); a[0].SelfSigned() || !a[1].SelfSigned() {
		t.Error("which one signed itself is not known")
	}
	again := open(t, v)
	if !slices.Equal(aliases(again), aliases(r)) {
		t.Error("another node sees", aliases(again))
	}
	_, err = r.AddAnchors(t.Context(), "webexclient2023", file)
	want(t, err, ringfence.KindConflict, "already")
	_, err = r.AddAnchors(t.Context(), "other", issuing.pem())
	want(t, err, ringfence.KindConflict, "as webexclient2023-issuing")
	_, err = r.AddAnchors(t.Context(), "leaf", issuing.sign(t, "a phone", leaf).pem())
	want(t, err, ringfence.KindInvalid, "is no authority")
	_, err = r.AddAnchors(t.Context(), "old", none.sign(t, "old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).pem())
	want(t, err, ringfence.KindInvalid, "expired on")
	_, err = r.AddAnchors(t.Context(), "usage", none.sign(t, "usage", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }).pem())
	want(t, err, ringfence.KindInvalid, "may not sign certificates")
	for _, alias := range []string{"", "own", "host", "node", "Big", "-a", "a b", strings.Repeat("a", 65)} {
		_, err = r.AddAnchors(t.Context(), alias, root.pem())
		want(t, err, ringfence.KindInvalid, "alias")
	}
	// All of a file or nothing.
	fresh := none.sign(t, "fresh", nil)
	_, err = r.AddAnchors(t.Context(), "mixed", slices.Concat(fresh.pem(), issuing.sign(t, "a phone", leaf).pem()))
	want(t, err, ringfence.KindInvalid, "is no authority")
	_, err = r.AddAnchors(t.Context(), "fresh", fresh.cert.Raw) // DER
	ok(t, err)
	ok(t, again.RemoveAnchor(t.Context(), "webexclient2023-root")) // knows what the other node did
	ok(t, r.Reload(t.Context()))
	if !slices.Equal(aliases(r), []string{"fresh", "webexclient2023-issuing"}) {
		t.Error(aliases(r))
	}
	want(t, r.RemoveAnchor(t.Context(), "webexclient2023-root"), ringfence.KindNotFound, "no anchor")
}

func TestIdentities(t *testing.T) {
	r := open(t, &vault{m: map[string][]byte{}})
	var none *maker
	root := none.sign(t, "Public Root", nil)
	one := root.sign(t, "Public One", nil)
	two := one.sign(t, "Public Two", nil)
	site := two.sign(t, "sip.example.com", leaf)
	stray := none.sign(t, "Stray", nil)
	chainOf := func(ms ...*maker) (out []byte) {
		for _, m := range ms {
			out = append(out, m.pem()...)
		}
		return out
	}
	id, notes, err := r.AddIdentity(t.Context(), "public", chainOf(site, two, one), site.keyPEM(t), false)
	ok(t, err)
	if len(notes) != 0 || len(id.Chain) != 3 {
		t.Error(notes, id.Chain)
	}
	// The wrong order, the root and a stranger: repaired, and said so.
	id, notes, err = r.AddIdentity(t.Context(), "public", chainOf(root, one, stray, site, two), site.keyPEM(t), true)
	ok(t, err)
	if len(id.Chain) != 3 || !id.Chain[0].Equal(site.cert) || !id.Chain[1].Equal(two.cert) || !id.Chain[2].Equal(one.cert) {
		t.Error(id.Chain)
	}
	for i, text := range []string{"CN=sip.example.com, signed by CN=Public Two, signed by CN=Public One", "signed nothing of this chain: CN=Stray", "left out the root"} {
		if len(notes) != 3 || !strings.Contains(notes[i], text) {
			t.Error(notes, text)
		}
	}
	c, err := r.Certificate("public")
	ok(t, err)
	if !c.PrivateKey.(crypto.Signer).Public().(*ecdsa.PublicKey).Equal(site.cert.PublicKey) || c.Leaf == nil {
		t.Error("another key")
	}
	_, notes, err = r.AddIdentity(t.Context(), "alone", site.pem(), site.keyPEM(t), false)
	if ok(t, err); len(notes) != 1 || !strings.Contains(notes[0], "no authority beside") {
		t.Error(notes)
	}
	_, _, err = r.AddIdentity(t.Context(), "public", chainOf(site), site.keyPEM(t), false)
	want(t, err, ringfence.KindConflict, "already")
	_, _, err = r.AddIdentity(t.Context(), "x", chainOf(site, two), stray.keyPEM(t), false)
	want(t, err, ringfence.KindInvalid, "belongs to none of the certificates: CN=sip.example.com, CN=Public Two")
	old := two.sign(t, "old", func(c *x509.Certificate) { leaf(c); c.NotAfter = time.Now().Add(-time.Minute) })
	_, _, err = r.AddIdentity(t.Context(), "x", old.pem(), old.keyPEM(t), false)
	want(t, err, ringfence.KindInvalid, "expired on")
	for text, key := range map[string][]byte{
		"no private key": site.pem(),
		"is encrypted":   pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}),
		"cannot be read": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
		"is too long":    bytes.Repeat([]byte("x"), chain.MaxFile+1),
	} {
		_, _, err = r.AddIdentity(t.Context(), "x", site.pem(), key, false)
		want(t, err, ringfence.KindInvalid, text)
	}
	ok(t, r.RemoveIdentity(t.Context(), "public"))
	want(t, r.RemoveIdentity(t.Context(), "public"), ringfence.KindNotFound, "no identity")
}

// TestTwoNodes adds at the same time from two nodes; nothing is lost.
func TestTwoNodes(t *testing.T) {
	v := &vault{m: map[string][]byte{}}
	var none *maker
	var wg sync.WaitGroup
	names := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		r, m := open(t, v), none.sign(t, name, nil)
		names[name] = true
		wg.Go(func() {
			if _, err := r.AddAnchors(context.Background(), name, m.pem()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := aliases(open(t, v)); !slices.Equal(got, slices.Sorted(maps.Keys(names))) {
		t.Error(got)
	}
}

func FuzzReadKey(f *testing.F) {
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := readKey(b); (err == nil) != (key != nil) {
			t.Fatal(key, err)
		}
	})
}
