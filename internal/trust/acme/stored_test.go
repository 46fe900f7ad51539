package acme_test

import (
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/acme"
)

func openStored(t *testing.T) acme.Stored {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return acme.NewStored(st)
}

// TestStored holds the State on a database to what the interface promises.
func TestStored(t *testing.T) { stateRules(t, func() acme.State { return openStored(t) }) }

func TestStoredBindings(t *testing.T) {
	s, ctx := openStored(t), t.Context()
	b := acme.NewBinding([]string{".example.org"}, time.Time{})
	if err := s.AddBinding(ctx, "web", b); err != nil {
		t.Fatal(err)
	}
	if err := s.AddBinding(ctx, "web", acme.NewBinding(nil, time.Time{})); ringfence.KindOf(err) != ringfence.KindConflict {
		t.Error(err)
	}
	got, err := s.Binding(ctx, b.ID)
	if err != nil || got.KeyText() != b.KeyText() || got.Revoked || len(got.Names) != 1 {
		t.Errorf("%+v %v", got, err)
	}
	if err := s.WithdrawBinding(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	all, err := s.AllBindings(ctx)
	if err != nil || len(all) != 1 || !all[0].Revoked || all[0].Name != "web" {
		t.Errorf("%+v %v", all, err)
	}
	if err := s.WithdrawBinding(ctx, "none"); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Error(err)
	}
}

// TestBindingOnACommandLine: clients take the id and the key as arguments, and one that begins with a dash is an option there.
func TestBindingOnACommandLine(t *testing.T) {
	for range 2000 {
		b := acme.NewBinding(nil, time.Time{})
		if key := base64.RawURLEncoding.EncodeToString(b.Key); strings.HasPrefix(key, "-") || strings.HasPrefix(b.ID, "-") {
			t.Fatalf("%s %s", b.ID, key)
		}
	}
}
