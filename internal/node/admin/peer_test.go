package admin

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"ringfence/internal/node/admin/api"
)

func TestWhoIsAtTheSocket(t *testing.T) {
	for _, c := range []struct {
		uid, own int
		want     bool
	}{{0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {0, 0, true}} {
		if got := trusted(c.uid, c.own); got != c.want {
			t.Errorf("uid %d at a node of uid %d: %v", c.uid, c.own, got)
		}
	}
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if uid, ok := peerUID(far); !ok || uid != os.Geteuid() {
		t.Errorf("the kernel says uid %d, %v", uid, ok)
	}
	// What is no Unix socket has no user.
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, ok := peerUID(a); ok {
		t.Error("a pipe has a user")
	}
}

func TestScopes(t *testing.T) {
	for have, may := range map[string][3]bool{api.ScopeRead: {true, false, false}, api.ScopeWrite: {true, true, false}, api.ScopeAdmin: {true, true, true}, "other": {}, "": {}} {
		w := who{Scopes: []string{have}}
		if got := [3]bool{w.may(api.ScopeRead), w.may(api.ScopeWrite), w.may(api.ScopeAdmin)}; got != may {
			t.Errorf("%q: %v, want %v", have, got, may)
		}
		if w.may("everything") || w.may("") {
			t.Errorf("%q may what nobody named", have)
		}
	}
	if (who{}).may(api.ScopeRead) {
		t.Error("nobody may read")
	}
}
