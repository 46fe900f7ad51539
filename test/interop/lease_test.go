package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
)

// Two nodes of one name on one database: the second does not start, the first may start again in its data directory at once however it ended, and one that was away for so
// long that another took its name stops when it comes back.
func TestTwoNodesOfOneName(t *testing.T) {
	t.Parallel()
	bin, dir := product(t), t.TempDir()
	s := onehost.New(t, 2*time.Minute)
	pg := testkit.NewPostgres(t, "fsync=off")
	dsn := pg.DSN(t)
	nodes := map[string]*built{}
	for _, name := range []string{"one", "two"} {
		b := &built{Site: &onehost.Site{T: t, Ctx: s.Ctx}, bin: bin, data: filepath.Join(dir, name), conf: filepath.Join(dir, name+".yaml")}
		from, to := mediaPorts(t)
		s.OK(os.MkdirAll(b.data, 0o700))
		s.OK(os.WriteFile(b.conf, fmt.Appendf(nil, "node: node-1\nmedia:\n  first: %d\n  last: %d\nstore:\n  dsn: %s\n", from, to, dsn), 0o600))
		nodes[name] = b
	}
	one, two := nodes["one"], nodes["two"]
	up := func(b *built) *program {
		t.Helper()
		began := time.Now()
		p := b.up("127.0.0.1:0", "127.0.0.1:0")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the start took %v", took)
		}
		return p
	}
	refused := func(b *built, by *built) {
		t.Helper()
		p := start(t, dir, bin, "up", "--data", b.data, "--listen-sip", "127.0.0.1:0", "--listen-https", "127.0.0.1:0", "--config", b.conf)
		if p.finish(s.Ctx) == 0 || !strings.Contains(p.text(), "another node called node-1 uses this database") || !strings.Contains(p.text(), by.data) || !strings.Contains(p.text(), "a name of its own") {
			t.Fatalf("it said %s", p.text())
		}
	}
	kill := func(p *program, with syscall.Signal) int {
		t.Helper()
		s.OK(syscall.Kill(p.cmd.Process.Pid, with))
		return p.finish(s.Ctx)
	}
	aged := func() {
		t.Helper()
		pg.Query(dsn, "UPDATE node_leases SET renewed = renewed - 41000000")
	}

	first := up(one)
	key, err := os.ReadFile(filepath.Join(one.data, "seal.key"))
	s.OK(err)
	s.OK(os.WriteFile(filepath.Join(two.data, "seal.key"), key, 0o600))
	refused(two, one)

	kill(first, syscall.SIGKILL)
	refused(two, one)
	first = up(one)

	// It is frozen, as a virtual machine may be, until the name is free; the other takes it. When it goes on it stops, and says why.
	s.OK(syscall.Kill(first.cmd.Process.Pid, syscall.SIGSTOP))
	aged()
	second := up(two)
	s.OK(syscall.Kill(first.cmd.Process.Pid, syscall.SIGCONT))
	began := time.Now()
	if code := first.finish(s.Ctx); code == 0 || !strings.Contains(first.text(), "the name node-1 belongs to") || !strings.Contains(first.text(), two.data) {
		t.Errorf("it ended with %d and said %s", code, first.text())
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it stopped after %v", took)
	}
	refused(one, two)

	// A node that stops in peace gives its name back, and one with another name was never concerned.
	if code := kill(second, syscall.SIGTERM); code != 0 {
		t.Errorf("a stop ended with %d: %s", code, second.text())
	}
	first = up(one)
	text, err := os.ReadFile(two.conf)
	s.OK(err)
	s.OK(os.WriteFile(two.conf, []byte(strings.Replace(string(text), "node-1", "node-2", 1)), 0o600))
	up(two)
	if got := pg.Query(dsn, "SELECT string_agg(node, ' ' ORDER BY node) FROM node_leases"); got != "node-1 node-2" {
		t.Errorf("leases of %q", got)
	}
	kill(first, syscall.SIGTERM)
}
