package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// shelf is Versions in memory.
type shelf struct {
	all  []store.ConfigVersion
	fail error
}

func (s *shelf) AddConfigVersion(_ context.Context, v store.ConfigVersion) error {
	if s.fail != nil {
		return s.fail
	}
	s.all = append(s.all, v)
	return nil
}

func (s *shelf) ConfigVersion(_ context.Context, n int64) (store.ConfigVersion, error) {
	if n == 0 {
		n = int64(len(s.all))
	}
	if n < 1 || n > int64(len(s.all)) {
		return store.ConfigVersion{}, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no such version"}
	}
	return s.all[n-1], nil
}

func (s *shelf) ConfigVersions(context.Context, int) ([]store.ConfigVersion, error) {
	return s.all, nil
}

func TestApplyAndUndo(t *testing.T) {
	ctx, file, kept := t.Context(), filepath.Join(t.TempDir(), "ringfence.yaml"), &shelf{}
	var live Config
	k, err := NewKeeper(ctx, KeeperConfig{File: file, Running: Default(), Versions: kept, Live: func(c Config) { live = c }, Now: func() time.Time { return time.Unix(1, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	for i, max := range []string{"100", "200", "300"} {
		p, err := k.Apply(ctx, "calls:\n  max: "+max+"\n", "f", "me", "")
		if err != nil || p.Version != int64(i+2) || len(p.Changes) != 1 || p.Restart() {
			t.Fatalf("apply %s: %+v %v", max, p, err)
		}
	}
	if live.Calls.Max != 300 {
		t.Errorf("live: %d", live.Calls.Max)
	}
	for _, want := range []int{200, 100, Default().Calls.Max} {
		if _, err := k.Undo(ctx, 0, "me"); err != nil || live.Calls.Max != want {
			t.Fatalf("undo: %v, max %d, want %d", err, live.Calls.Max, want)
		}
	}
	if _, err := k.Undo(ctx, 0, "me"); ringfence.KindOf(err) != ringfence.KindConflict {
		t.Errorf("undo before the first: %v", err)
	}
	if _, err := k.Undo(ctx, 3, "me"); err != nil || live.Calls.Max != 200 {
		t.Errorf("undo to 3: %v, max %d", err, live.Calls.Max)
	}
	b, _ := os.ReadFile(file)
	if !strings.Contains(string(b), "200") {
		t.Errorf("the file says %s", b)
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	ctx, file, kept := t.Context(), filepath.Join(t.TempDir(), "ringfence.yaml"), &shelf{}
	if err := os.WriteFile(file, []byte("domain: a.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lives := 0
	start, _ := Load(file)
	k, err := NewKeeper(ctx, KeeperConfig{File: file, Running: start, Versions: kept, Live: func(Config) { lives++ }})
	if err != nil {
		t.Fatal(err)
	}
	unchanged := func(when string) {
		t.Helper()
		if b, _ := os.ReadFile(file); string(b) != "domain: a.example\n" || lives != 0 || len(kept.all) != 1 || k.Text() != string(b) {
			t.Errorf("%s: file %q, %d live, %d versions", when, b, lives, len(kept.all))
		}
	}
	if _, err := k.Apply(ctx, "domain: a.example\ncalls: {max: 0}\n", "f", "me", ""); ringfence.KindOf(err) != ringfence.KindInvalid || err == nil {
		t.Errorf("invalid: %v", err)
	}
	unchanged("invalid")
	kept.fail = &ringfence.Fault{Kind: ringfence.KindOverload, Text: "the disk is full"}
	if _, err := k.Apply(ctx, "domain: a.example\ncalls: {max: 7}\n", "f", "me", ""); err == nil {
		t.Error("applied on a full disk")
	}
	unchanged("disk full")
}

func TestRestartIsAwaited(t *testing.T) {
	ctx, kept := t.Context(), &shelf{}
	k, err := NewKeeper(ctx, KeeperConfig{File: filepath.Join(t.TempDir(), "ringfence.yaml"), Running: Default(), Versions: kept})
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Apply(ctx, "sip:\n  expires: 2h\ncalls:\n  max: 9\n", "f", "me", "")
	if err != nil || !p.Restart() {
		t.Fatalf("%+v %v", p, err)
	}
	if w := k.Waiting(); len(w) != 1 || w[0] != "sip.expires" {
		t.Errorf("waiting: %v", w)
	}
	if _, err := k.Undo(ctx, 0, "me"); err != nil || len(k.Waiting()) != 0 {
		t.Errorf("after undo: %v %v", err, k.Waiting())
	}
}
