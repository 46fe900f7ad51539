package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca/internal/keys"
	"ringfence/internal/trust/subject"
)

// bench is an authority on a real store, with a clock that the test turns.
type bench struct {
	*Authority
	store *store.Store
	mu    sync.Mutex
	at    time.Time
}

func (b *bench) clock() time.Time     { b.mu.Lock(); defer b.mu.Unlock(); return b.at }
func (b *bench) turn(d time.Duration) { b.mu.Lock(); defer b.mu.Unlock(); b.at = b.at.Add(d) }

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(context.Background(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	must(t, err)
	t.Cleanup(func() { st.Close() })
	b := &bench{store: st, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.Authority, err = Open(context.Background(), Config{Name: "Example", Vault: st, Ledger: st, Now: b.clock})
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, ringfence.HintOf(err))
	}
}

func wantFault(t *testing.T, err error, k ringfence.Kind, words string) {
	t.Helper()
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok || f.Kind != k || !strings.Contains(f.Text, words) {
		t.Fatalf("got %v (%v), want %v with %q", err, ringfence.KindOf(err), k, words)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

func (b *bench) issue(t testing.TB, role Role, name string) (Issued, *ecdsa.PrivateKey) {
	t.Helper()
	k := newKey(t)
	req := Request{Role: role, Name: name, PublicKey: k.Public()}
	if role == RoleNode {
		req.DNSNames = []string{name + ".example.com"}
	}
	out, err := b.Issue(context.Background(), req)
	must(t, err)
	return out, k
}

func TestIssue(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	out, err := b.Issue(ctx, Request{Role: RoleNode, Name: "node-1", DNSNames: []string{"sip.example.com", "*.example.com"},
		IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, URIs: []string{"sip:example.com"}, PublicKey: newKey(t).Public()})
	must(t, err)
	l := out.Leaf
	for what, ok := range map[string]bool{
		"subject":  l.Subject.String() == "CN=node-1,O=Example",
		"names":    slices.Equal(subject.Names(l), []string{"sip.example.com", "*.example.com", "192.0.2.1", "2001:db8::1", "urn:ringfence:role:node", "sip:example.com"}),
		"not a CA": !l.IsCA && l.BasicConstraintsValid,
		"usage":    l.KeyUsage == x509.KeyUsageDigitalSignature && slices.Equal(l.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}),
		"lifetime": l.NotAfter.Equal(b.clock().Add(30*24*time.Hour)) && l.NotBefore.Before(b.clock()),
		"chain":    len(out.Chain) == 2 && strings.Count(string(out.PEM), "BEGIN CERTIFICATE") == 2,
		"serial":   l.SerialNumber.BitLen() >= 120 && l.SerialNumber.Sign() > 0,
		"renewal":  RenewAt(l).After(b.clock().Add(19*24*time.Hour)) && RenewAt(l).Before(b.clock().Add(21*24*time.Hour)),
	} {
		if !ok {
			t.Errorf("%s is wrong: %+v", what, l.Subject)
		}
	}
	mids := x509.NewCertPool()
	mid, err := x509.ParseCertificate(out.Chain[1])
	must(t, err)
	mids.AddCert(mid)
	_, err = l.Verify(x509.VerifyOptions{Roots: b.Roots(), Intermediates: mids, DNSName: "sip.example.com", CurrentTime: b.clock()})
	must(t, err)
	rec, err := b.store.Certificate(ctx, serialText(l))
	must(t, err)
	if rec.Role != "node" || rec.PEM != string(out.PEM) {
		t.Errorf("record: %+v", rec)
	}
	log, err := b.store.Audit(ctx, 0, 9)
	must(t, err)
	if len(log) != 3 || log[0].What != "certificate.issue" || !strings.Contains(log[0].Target, rec.Serial) {
		t.Errorf("audit: %+v", log) // root, issuing authority, node
	}
	dev, _ := b.issue(t, RoleDevice, "alice-desk")
	if !slices.Equal(dev.Leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || !dev.Leaf.NotAfter.Equal(b.clock().Add(90*24*time.Hour)) ||
		!slices.Equal(subject.Names(dev.Leaf), []string{"urn:ringfence:role:device", "urn:ringfence:device:alice-desk"}) {
		t.Errorf("device: %v", subject.Names(dev.Leaf))
	}
}

func TestIssueRefusals(t *testing.T) {
	b := newBench(t)
	pub := newKey(t).Public()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	for _, r := range []Request{
		{Role: "king", Name: "x", PublicKey: pub},
		{Role: RoleDevice, Name: "", PublicKey: pub},
		{Role: RoleDevice, Name: "a b", PublicKey: pub},
		{Role: RoleDevice, Name: "a\x00", PublicKey: pub},
		{Role: RoleDevice, Name: strings.Repeat("a", 65), PublicKey: pub},
		{Role: RoleDevice, Name: "d", DNSNames: []string{"sip.example.com"}, PublicKey: pub},
		{Role: RoleDevice, Name: "d", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, PublicKey: pub},
		{Role: RoleDevice, Name: "d", URIs: []string{"urn:ringfence:role:admin"}, PublicKey: pub},
		{Role: RoleDevice, Name: "d", URIs: []string{"https://example.com"}, PublicKey: pub},
		{Role: RoleAdmin, Name: "d", URIs: []string{"sip:alice@example.com"}, PublicKey: pub},
		{Role: RoleNode, Name: "n", DNSNames: []string{"-x.example.com"}, PublicKey: pub},
		{Role: RoleNode, Name: "n", DNSNames: []string{"x..example.com"}, PublicKey: pub},
		{Role: RoleNode, Name: "n", DNSNames: []string{"a.*.example.com"}, PublicKey: pub},
		{Role: RoleNode, Name: "n", IPs: []netip.Addr{{}}, PublicKey: pub},
		{Role: RoleNode, Name: "n", DNSNames: slices.Repeat([]string{"a.example.com"}, 101), PublicKey: pub},
		{Role: RoleDevice, Name: "d", PublicKey: pub, Lifetime: 181 * 24 * time.Hour},
		{Role: RoleDevice, Name: "d", PublicKey: pub, Lifetime: -1},
		{Role: RoleDevice, Name: "d", PublicKey: small.Public()},
		{Role: RoleDevice, Name: "d", PublicKey: p224.Public()},
		{Role: RoleDevice, Name: "d", PublicKey: ed},
		{Role: RoleDevice, Name: "d"},
	} {
		if _, err := b.Issue(context.Background(), r); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%+v: %v", r, err)
		}
	}
	list, err := b.store.Certificates(context.Background(), "", 10)
	must(t, err)
	if len(list) != 0 {
		t.Errorf("%d certificates were recorded", len(list))
	}
}

func csr(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"evil.example.com"}}, key)
	must(t, err)
	return der
}

func TestCSR(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	good := csr(t, newKey(t))
	out, err := b.IssueFromCSR(ctx, good, Constraints{Role: RoleDevice, Name: "alice-desk", URIs: []string{"sip:alice@example.com"}})
	must(t, err)
	if got := subject.Names(out.Leaf); out.Leaf.Subject.CommonName != "alice-desk" || slices.Contains(got, "evil.example.com") {
		t.Fatalf("the request chose its names: %v %v", out.Leaf.Subject, got)
	}
	forged := slices.Clone(good)
	forged[len(forged)-1] ^= 1
	_, err = b.IssueDevice(ctx, forged, "alice-desk", "")
	wantFault(t, err, ringfence.KindDenied, "not signed by its own key")
	_, err = b.IssueDevice(ctx, []byte("junk"), "alice-desk", "")
	wantFault(t, err, ringfence.KindInvalid, "cannot be read")
	_, err = b.IssueDevice(ctx, make([]byte, maxCSR+1), "alice-desk", "")
	wantFault(t, err, ringfence.KindInvalid, "too long")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	for _, k := range []crypto.Signer{p384, rsa2048} {
		_, err = b.IssueDevice(ctx, csr(t, k), "alice-desk", "sip:alice@example.com")
		must(t, err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	_, err = b.IssueDevice(ctx, csr(t, ed), "alice-desk", "")
	wantFault(t, err, ringfence.KindInvalid, "kind or size")
}

func FuzzCSR(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f, err)
	f.Add(csr(f, k))
	f.Add([]byte{0x30, 0x82})
	f.Fuzz(func(t *testing.T, der []byte) {
		pub, err := CSRKey(der)
		if err == nil && checkKey("fuzz", pub) != nil {
			t.Fatalf("accepted a key of type %T", pub)
		}
		if _, ok := errors.AsType[*ringfence.Fault](err); err != nil && !ok {
			t.Fatalf("%v is no fault", err)
		}
	})
}

func TestVerify(t *testing.T) {
	b, other := newBench(t), newBench(t)
	dev, _ := b.issue(t, RoleDevice, "alice-desk")
	alien, _ := other.issue(t, RoleDevice, "alice-desk")
	chain := []*x509.Certificate{dev.Leaf}
	v, err := b.Verify(chain, RoleDevice, b.clock())
	must(t, err)
	if v.Name != "alice-desk" || v.Role != RoleDevice || v.Serial != serialText(dev.Leaf) || !strings.Contains(v.AnchorSubject, "Ringfence Root") {
		t.Fatalf("verified: %+v", v)
	}
	for _, c := range []struct {
		name  string
		chain []*x509.Certificate
		role  Role
		at    time.Time
		kind  ringfence.Kind
		words string
	}{
		{"none", nil, RoleDevice, b.clock(), ringfence.KindUnauthenticated, "no certificate"},
		{"many", slices.Repeat(chain, 11), RoleDevice, b.clock(), ringfence.KindUnauthenticated, "too many"},
		{"alien", []*x509.Certificate{alien.Leaf}, RoleDevice, b.clock(), ringfence.KindUnauthenticated, "unknown issuer"},
		{"late", chain, RoleDevice, b.clock().Add(91 * 24 * time.Hour), ringfence.KindUnauthenticated, "expired on 2026-05-30 12:00 UTC"},
		{"early", chain, RoleDevice, b.clock().Add(-3 * time.Hour), ringfence.KindUnauthenticated, "not valid before 2026-03-01 10:00 UTC"},
		{"role", chain, RoleAdmin, b.clock(), ringfence.KindDenied, "has the role device, not admin"},
		{"issuing", []*x509.Certificate{b.issuing.Load().cert}, RoleNode, b.clock(), ringfence.KindDenied, "has no role"},
		{"root", []*x509.Certificate{b.RootCerts()[0]}, RoleNode, b.clock(), ringfence.KindDenied, "has no role"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Verify(c.chain, c.role, c.at)
			wantFault(t, err, c.kind, c.words)
			if c.name != "many" && ringfence.HintOf(err) == "" {
				t.Errorf("%v has no hint", err)
			}
		})
	}
}

// TestLeafCannotSign: a device's key signs a certificate for another; nobody believes it.
func TestLeafCannotSign(t *testing.T) {
	b := newBench(t)
	dev, key := b.issue(t, RoleDevice, "mallory")
	tmpl := *dev.Leaf
	tmpl.SerialNumber = big.NewInt(5)
	tmpl.Subject.CommonName = "alice-desk"
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, dev.Leaf, newKey(t).Public(), key)
	must(t, err)
	forged, err := x509.ParseCertificate(der)
	must(t, err)
	_, err = b.Verify([]*x509.Certificate{forged, dev.Leaf}, RoleDevice, b.clock())
	if ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Fatalf("got %v", err)
	}
}

func TestRevoke(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	dev, _ := b.issue(t, RoleDevice, "alice-desk")
	kept, _ := b.issue(t, RoleDevice, "bob-desk")
	serial := serialText(dev.Leaf)
	wantFault(t, b.Revoke(ctx, serial, ""), ringfence.KindInvalid, "reason")
	wantFault(t, b.Revoke(ctx, "1234", "lost"), ringfence.KindNotFound, "1234")
	peer, err := Open(ctx, Config{Name: "Example", Vault: b.store, Ledger: b.store, Now: b.clock}) // another node
	must(t, err)
	must(t, b.Revoke(ctx, serial, "key compromise"))
	wantFault(t, b.Revoke(ctx, serial, "again"), ringfence.KindConflict, "already")
	if !b.IsRevoked(serial) || b.IsRevoked(serialText(kept.Leaf)) || peer.IsRevoked(serial) {
		t.Fatal("the wrong certificates are revoked")
	}
	must(t, peer.Refresh(ctx))
	_, err = peer.VerifyDevice([]*x509.Certificate{dev.Leaf}, b.clock())
	wantFault(t, err, ringfence.KindDenied, "was revoked at 2026-03-01 12:00 UTC (key compromise)")
	id, err := peer.VerifyDevice([]*x509.Certificate{kept.Leaf}, b.clock())
	if err != nil || id != "bob-desk" {
		t.Fatalf("%v %v", id, err)
	}
	der, err := b.CRL(ctx)
	must(t, err)
	crl, err := x509.ParseRevocationList(der)
	must(t, err)
	must(t, crl.CheckSignatureFrom(b.issuing.Load().cert))
	if e := crl.RevokedCertificateEntries; len(e) != 1 || e[0].SerialNumber.Cmp(dev.Leaf.SerialNumber) != 0 || e[0].ReasonCode != 1 {
		t.Fatalf("the list holds %+v", e)
	}
	b.turn(time.Minute)
	der, err = b.CRL(ctx)
	must(t, err)
	next, err := x509.ParseRevocationList(der)
	must(t, err)
	if next.Number.Cmp(crl.Number) <= 0 {
		t.Fatal("the list's number does not grow")
	}
}

// TestReload opens the authority twice at once on an empty store, and again later: it is one authority.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(context.Background(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	must(t, err)
	defer st.Close()
	roots := make(chan string, 8)
	var wg sync.WaitGroup
	for range cap(roots) {
		wg.Go(func() {
			a, err := Open(context.Background(), Config{Name: "Example", Vault: st, Ledger: st})
			if err != nil {
				t.Error(err)
				return
			}
			roots <- string(a.RootPEM())
		})
	}
	wg.Wait()
	close(roots)
	first := <-roots
	for r := range roots {
		if r != first {
			t.Fatal("two nodes founded two authorities")
		}
	}
	held, err := st.Secret(context.Background(), VaultName)
	must(t, err)
	must(t, st.ReplaceSecret(context.Background(), VaultName, held, []byte(`{"root":{},"issuing":[{}]}`)))
	_, err = Open(context.Background(), Config{Name: "Example", Vault: st, Ledger: st})
	wantFault(t, err, ringfence.KindInvalid, "damaged")
	_, err = Open(context.Background(), Config{Vault: st, Ledger: st})
	wantFault(t, err, ringfence.KindInvalid, "name")
}

// TestRotate lives through two issuing authorities.
func TestRotate(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	must(t, b.Maintain(ctx))
	first := b.issuing.Load().cert
	b.turn(RenewAt(first).Sub(b.clock()) - 24*time.Hour)
	old, _ := b.issue(t, RoleDevice, "old")
	must(t, b.Maintain(ctx))
	if !sameCert(b.issuing.Load().cert, first) {
		t.Fatal("renewed too early")
	}
	peer, err := Open(ctx, Config{Name: "Example", Vault: b.store, Ledger: b.store, Now: b.clock})
	must(t, err)
	b.turn(48 * time.Hour)
	must(t, b.Maintain(ctx))
	must(t, peer.Maintain(ctx)) // finds that the other was first
	if sameCert(b.issuing.Load().cert, first) || !sameCert(b.issuing.Load().cert, peer.issuing.Load().cert) {
		t.Fatal("the nodes do not agree on the new issuing authority")
	}
	fresh, _ := b.issue(t, RoleDevice, "fresh")
	for _, l := range []*x509.Certificate{old.Leaf, fresh.Leaf} {
		_, err := peer.VerifyDevice([]*x509.Certificate{l}, b.clock())
		must(t, err)
		must(t, b.Revoke(ctx, serialText(l), "superseded"))
	}
	der, err := b.CRL(ctx)
	must(t, err)
	crl, err := x509.ParseRevocationList(der)
	must(t, err)
	if e := crl.RevokedCertificateEntries; len(e) != 1 || e[0].SerialNumber.Cmp(fresh.Leaf.SerialNumber) != 0 {
		t.Fatalf("the list names certificates of another issuer: %+v", e)
	}
	again, err := Open(ctx, Config{Name: "Example", Vault: b.store, Ledger: b.store, Now: b.clock})
	must(t, err)
	if len(again.issuing.Load().older) != 1 || !again.IsRevoked(serialText(old.Leaf)) {
		t.Fatal("the older issuing authority is forgotten")
	}
	b.turn(11 * 365 * 24 * time.Hour)
	wantFault(t, b.Maintain(ctx), ringfence.KindUnavailable, "root certificate expired on")
	_, err = b.Issue(ctx, Request{Role: RoleDevice, Name: "late", PublicKey: newKey(t).Public()})
	wantFault(t, err, ringfence.KindUnavailable, "issuing authority expired on")
}

// lostLedger cannot keep anything.
type lostLedger struct{ Ledger }

func (lostLedger) RecordCertificate(context.Context, store.Certificate, store.AuditEntry) error {
	return fault("store", ringfence.KindOverload, "the disk is full", "", nil)
}

func TestNoRecordNoCertificate(t *testing.T) {
	b := newBench(t)
	b.ledger = lostLedger{b.ledger}
	out, err := b.Issue(context.Background(), Request{Role: RoleDevice, Name: "d", PublicKey: newKey(t).Public()})
	wantFault(t, err, ringfence.KindOverload, "disk is full")
	if out.Leaf != nil || out.Chain != nil {
		t.Fatal("a certificate that is not on record was handed out")
	}
}

func TestKeyIsHidden(t *testing.T) {
	k, err := keys.New()
	must(t, err)
	for _, s := range []string{fmt.Sprintf("%v", k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), fmt.Sprintf("%x", k), fmt.Sprint(struct{ K *keys.Key }{k})} {
		if strings.ContainsAny(s, "0123456789") && !strings.Contains(s, "0x") || len(s) > 60 {
			t.Errorf("formatting shows %q", s)
		}
	}
}

func BenchmarkIsRevoked(b *testing.B) {
	a := &Authority{}
	m := map[string]revocation{}
	for i := range 10000 {
		m[fmt.Sprintf("%032x", i)] = revocation{}
	}
	a.revoked.Store(&m)
	for b.Loop() {
		a.IsRevoked("000000000000000000000000000000ff")
	}
}

func BenchmarkIssue(b *testing.B) {
	k := newKey(b)
	a := newBench(b)
	for b.Loop() {
		if _, err := a.Issue(context.Background(), Request{Role: RoleDevice, Name: "d", PublicKey: k.Public()}); err != nil {
			b.Fatal(err)
		}
	}
}
