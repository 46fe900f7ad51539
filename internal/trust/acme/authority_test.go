package acme_test

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/acme"
	"ringfence/internal/trust/ca"
)

// ours is the organisation's own authority as an Issuer, which is how a node joins the two rooms.
type ours struct{ *ca.Authority }

func serialOf(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

func (o ours) Sign(ctx context.Context, w acme.Wanted) ([][]byte, error) {
	out, err := o.Issue(ctx, ca.Request{Role: ca.RoleTrunk, Name: "acme-" + w.Account[:8], DNSNames: w.DNSNames, IPs: w.IPs, PublicKey: w.PublicKey})
	return out.Chain, err
}

func (o ours) Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error {
	text := map[int]string{1: "key compromise", 3: "affiliation changed", 4: "superseded", 5: "cessation of operation", 9: "privilege withdrawn"}[reason]
	if text == "" {
		text = "asked for by its holder"
	}
	if o.IsRevoked(serialOf(leaf)) {
		return &ringfence.Fault{Op: "acme.revoke", Kind: ringfence.KindConflict, Text: "the certificate is revoked already"}
	}
	return o.Authority.Revoke(ctx, serialOf(leaf), text)
}

func (o ours) Revoked(_ context.Context, leaf *x509.Certificate) (bool, error) {
	return o.IsRevoked(serialOf(leaf)), nil
}

// TestOwnAuthority joins the server with the authority of the product and a real database.
func TestOwnAuthority(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	authority, err := ca.Open(t.Context(), ca.Config{Name: "Example", Vault: st, Ledger: st})
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	s := newSite(t, func(c *acme.Config) { c.HTTPPort, c.Issuer = m.http, ours{authority} })
	s.zone.here("pbx.example.org")
	c := s.xclient("pbx.example.org")
	chain, _, err := m.order(t, s, c, "http-01", "pbx.example.org")
	if err != nil {
		t.Fatal(err)
	}
	var certs []*x509.Certificate
	for _, der := range chain {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, x)
	}
	if _, err := authority.Verify(certs, ca.RoleTrunk, time.Now()); err != nil || certs[0].VerifyHostname("pbx.example.org") != nil {
		t.Fatalf("%v", err)
	}
	if err := c.RevokeCert(t.Context(), nil, chain[0], 4); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Verify(certs, ca.RoleTrunk, time.Now()); err == nil || !strings.Contains(err.Error(), "superseded") {
		t.Errorf("after the revocation: %v", err)
	}
}
