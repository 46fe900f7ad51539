package faults_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// wall is a wall clock that somebody sets.
type wall struct{ by atomic.Int64 }

func (w *wall) now() time.Time       { return time.Now().Round(0).Add(time.Duration(w.by.Load())) }
func (w *wall) step(d time.Duration) { w.by.Add(int64(d)) }

// The wall clock is stepped by an hour, either way: nobody is locked out by a certificate made just before, no binding on disk is
// lost early, and a digest nonce is asked for again instead of being taken for a forgery or living twice.
func TestWallClockSteps(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	st, err := store.Open(ctx, store.Config{DSN: "sqlite:" + filepath.Join(dir, "x.db"), KeyFile: filepath.Join(dir, "seal.key")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			w := &wall{}
			t.Run("certificates", func(t *testing.T) { certificatesStep(t, ctx, st, w, by) })
			w.by.Store(0)
			t.Run("nonces", func(t *testing.T) { noncesStep(t, w, by) })
		})
	}
	t.Run("bindings", func(t *testing.T) { bindingsStep(t, ctx, st, filepath.Join(dir, "journal")) })
}

func certificatesStep(t *testing.T, ctx context.Context, st *store.Store, w *wall, by time.Duration) {
	a, err := ca.Open(ctx, ca.Config{Name: "Test", Vault: st, Ledger: st, Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(ctx, ca.Request{Role: ca.RoleNode, Name: "node-1", DNSNames: []string{"node.test"}, PublicKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range issued.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	w.step(by)
	if _, err := a.Verify(chain, ca.RoleNode, w.now()); err != nil {
		t.Errorf("a certificate made just before the step: %v", err)
	}
	w.step(20 * 365 * 24 * time.Hour)
	if _, err := a.Verify(chain, ca.RoleNode, w.now()); err == nil {
		t.Error("the certificate never expires")
	}
}

func noncesStep(t *testing.T, w *wall, by time.Duration) {
	n, err := sip.NewNonces(w.now, rand.Reader, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	old := []byte(n.New())
	if s := n.Use(old, 1); s != sip.NonceGood {
		t.Fatalf("a fresh nonce: %v", s)
	}
	w.step(by)
	if s := n.Check(old); s != sip.NonceStale {
		t.Errorf("a nonce from before the step: %v, want stale", s)
	}
	fresh := []byte(n.New())
	if s := n.Use(fresh, 1); s != sip.NonceGood {
		t.Errorf("a nonce from after the step: %v", s)
	}
	w.step(-by) // back again: what was used may not be used again
	if s := n.Use(old, 1); s == sip.NonceGood {
		t.Error("a count passed twice")
	}
}

func bindingsStep(t *testing.T, ctx context.Context, st *store.Store, path string) {
	if err := st.CreateUser(ctx, store.User{ID: "u", Name: "U", Numbers: []ringfence.Number{"1"}, TollClass: "internal"}); err != nil {
		t.Fatal(err)
	}
	if err := st.CreateDevice(ctx, store.Device{ID: "d", User: "u", Kind: "test", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	j, err := st.OpenJournal(ctx, store.JournalConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	now := time.Now()
	b := store.Binding{AOR: "sip:u@x", Device: "d", Contact: "sip:u@192.0.2.1", Expires: now.Add(90 * time.Minute), Updated: now}
	if err := j.ApplyBindings(ctx, []store.Binding{b}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{0, 1}, {-time.Hour, 1}, {time.Hour, 1}, {2 * time.Hour, 0}, {0, 1}} {
		got := 0
		if err := j.AllBindings(ctx, now.Add(c.at), func(store.Binding) error { got++; return nil }); err != nil || got != c.want {
			t.Errorf("%v after: %d bindings, want %d (%v)", c.at, got, c.want, err)
		}
	}
}
