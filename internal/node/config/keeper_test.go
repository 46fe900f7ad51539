package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/tlspolicy"
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

func (s *shelf) ConfigVersionBefore(_ context.Context, node string, n int64) (store.ConfigVersion, error) {
	for _, v := range slices.Backward(s.all) {
		if (n == 0 || v.N < n) && v.Node == node {
			return v, nil
		}
	}
	return store.ConfigVersion{}, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no such version"}
}

func (s *shelf) ConfigVersions(_ context.Context, node string, _ int) (out []store.ConfigVersion, err error) {
	for _, v := range slices.Backward(s.all) {
		if v.Node == node {
			out = append(out, v)
		}
	}
	return out, nil
}

// Two nodes keep their versions in one database. Each undoes its own changes.
func TestNodesUndoTheirOwn(t *testing.T) {
	ctx, kept := t.Context(), &shelf{}
	var keepers [2]*Keeper
	var live [2]Config
	for i, node := range []string{"node-1", "node-2"} {
		running := Default()
		running.Node = node
		k, err := NewKeeper(ctx, KeeperConfig{File: filepath.Join(t.TempDir(), "ringfence.yaml"), Running: running, Versions: kept, Live: func(c Config) { live[i] = c }, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		keepers[i] = k
	}
	for _, max := range []string{"100", "200"} {
		for i, node := range []string{"node-1", "node-2"} {
			if _, err := keepers[i].Apply(ctx, "node: "+node+"\ncalls:\n  max: "+max+"\n", "f", "me", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := keepers[0].Undo(ctx, 0, "me"); err != nil || live[0].Calls.Max != 100 || live[0].Node != "node-1" || live[1].Calls.Max != 200 {
		t.Errorf("undo at the first: %v, max %d and %d, node %s", err, live[0].Calls.Max, live[1].Calls.Max, live[0].Node)
	}
	if _, err := keepers[1].Undo(ctx, 3, "me"); ringfence.KindOf(err) != ringfence.KindConflict {
		t.Errorf("the second took a version of the first: %v", err)
	}
	for i, want := range []int{4, 3} {
		if list, err := keepers[i].List(ctx, 10); err != nil || len(list) != want {
			t.Errorf("node %d lists %+v, %v", i+1, list, err)
		}
	}
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

// TestEditedByHand: what somebody wrote into the file and did not apply yet is not written over; it can be applied itself.
func TestEditedByHand(t *testing.T) {
	ctx, file, kept := t.Context(), filepath.Join(t.TempDir(), "ringfence.yaml"), &shelf{}
	k, err := NewKeeper(ctx, KeeperConfig{File: file, Running: Default(), Versions: kept})
	if err != nil {
		t.Fatal(err)
	}
	set := func(text string) func() error {
		return func() error { _, err := k.Apply(ctx, text, "f", "me", ""); return err }
	}
	for _, text := range []string{"calls: {max: 7}\n", "calls: {max: 8}\n"} {
		if err := set(text)(); err != nil {
			t.Fatal(err)
		}
	}
	const mine = "# mine\ncalls: {max: 9}\n"
	if err := os.WriteFile(file, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	stricter := func() error {
		_, err := k.EditTLS(ctx, "me", "", false, func(tlspolicy.Tree) (tlspolicy.Tree, error) {
			return tlspolicy.Tree{"/system": {Min: "1.3"}}, nil
		})
		return err
	}
	for name, do := range map[string]func() error{
		"edit":  stricter,
		"apply": set("calls: {max: 10}\n"),
		"undo":  func() error { _, err := k.Undo(ctx, 0, "me"); return err },
	} {
		if err := do(); ringfence.KindOf(err) != ringfence.KindConflict || !strings.Contains(ringfence.HintOf(err), "config apply") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b, _ := os.ReadFile(file); string(b) != mine || len(kept.all) != 3 {
		t.Errorf("the file says %q, %d versions", b, len(kept.all))
	}
	if err := set(mine)(); err != nil {
		t.Error(err)
	}
	if err := stricter(); err != nil || !strings.Contains(k.Text(), "# mine") {
		t.Errorf("%v: %s", err, k.Text())
	}
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
