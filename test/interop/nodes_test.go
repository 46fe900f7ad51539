package interop_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/service/phone"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
	"ringfence/internal/trust/enroll"
)

// natsServer starts Debian's NATS server behind TLS and returns its address, and a file with the authority of its certificate.
func natsServer(within *onehost.Site) (url, roots string) {
	within.Helper()
	s := &site{Site: within, home: within.TempDir()}
	authority := testkit.NewAuthority("bus")
	cert := authority.Issue("127.0.0.1")
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	s.OK(err)
	write := func(name, kind string, der []byte) string {
		return s.file(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	p := start(s.T, s.home, testkit.Need(s.T, "/usr/sbin/nats-server", "nats-server"), "-a", "127.0.0.1", "-p", "-1", "--tls", "--tlscert", write("cert.pem", "CERTIFICATE", cert.Certificate[0]),
		"--tlskey", write("key.pem", "EC PRIVATE KEY", key), "--ports_file_dir", s.home)
	s.Until("the NATS server listens", func() bool {
		var ports struct{ Nats []string }
		b, _ := os.ReadFile(s.path(fmt.Sprintf("nats-server_%d.ports", p.cmd.Process.Pid)))
		if json.Unmarshal(b, &ports) != nil || len(ports.Nats) == 0 {
			return false
		}
		url = "tls://127.0.0.1" + ports.Nats[0][strings.LastIndexByte(ports.Nats[0], ':'):]
		return true
	})
	return url, write("ca.pem", "CERTIFICATE", authority.Root())
}

// Two nodes on one PostgreSQL and one NATS server: what is done on one holds on the other, and either goes on without the other.
func TestTwoNodesOnOneDatabase(t *testing.T) {
	t.Parallel()
	bin, dir := product(t), t.TempDir()
	s := onehost.New(t, 2*time.Minute)
	ctx := s.Ctx
	dsn := testkit.NewPostgres(t, "fsync=off").DSN(t)
	bus, roots := natsServer(s)
	reached := map[*built]string{} // where each node says that others reach it
	config := func(name string) *built {
		b := &built{Site: &onehost.Site{T: t, Ctx: ctx}, bin: bin, data: filepath.Join(dir, name), conf: filepath.Join(dir, name+".yaml")}
		from, to := mediaPorts(t)
		s.OK(os.MkdirAll(b.data, 0o700))
		sip := freePort(t)
		reached[b] = sip.String()
		s.OK(os.WriteFile(b.conf, fmt.Appendf(nil, "node: %s\nsip:\n  reached-at: %s\nmedia:\n  first: %d\n  last: %d\nstore:\n  dsn: %s\nbus:\n  url: %s\nobserve:\n  authorities: %s\n", name, sip, from, to, dsn, bus, roots), 0o600))
		return b
	}
	one, two := config("node-1"), config("node-2")
	first := one.up(reached[one], "127.0.0.1:0")
	// The secrets in the database are sealed with the key of the first, which the second needs.
	early := start(t, dir, bin, "up", "--data", two.data, "--listen-sip", "127.0.0.1:0", "--listen-https", "127.0.0.1:0", "--config", two.conf)
	if early.finish(ctx) == 0 || !strings.Contains(early.text(), "sealing key") {
		t.Fatalf("a node without the sealing key said %s", early.text())
	}
	key, err := os.ReadFile(filepath.Join(one.data, "seal.key"))
	s.OK(err)
	s.OK(os.WriteFile(filepath.Join(two.data, "seal.key"), key, 0o600))
	two.up(reached[two], "127.0.0.1:0")

	// People and phones are added at one node, and enrol at either.
	phones := map[string]*phone.Phone{}
	ids := map[string]enroll.Identity{}
	for i, p := range []struct {
		user string
		at   *built
	}{{"alice", one}, {"anna", one}, {"bob", two}, {"ben", two}} {
		ids[p.user] = p.at.Enrol(one.person(p.user, fmt.Sprint(101+i)))
		phones[p.user] = p.at.Start(p.at.answering(ids[p.user]))
	}
	talk := func(from, number string) *phone.Call {
		t.Helper()
		c, err := phones[from].Call(ctx, number, phone.CallOptions{Audio: phone.Tone(440)})
		s.OK(err)
		s.OK(c.WaitAnswered(ctx))
		s.Hears(c, 700)
		return c
	}
	talk("alice", "102")
	mine := talk("bob", "104")

	// A call to a phone at the other node goes there over mutual TLS, sealed on each of its four legs, whoever hangs up.
	across(t, s, one, two, phones["anna"], "103", "node-2")
	across(t, s, two, one, phones["ben"], "101", "node-1")

	// Both know all four, from the same database.
	for _, b := range []*built{one, two} {
		var users []struct{ ID string }
		if b.run(&users, "user", "list"); len(users) != 4 {
			t.Errorf("%s lists %+v", b.data, users)
		}
	}

	// A number that is changed at one is dialled at the other.
	one.do("user", "set", "ben", "--number", "204")
	s.Until("the new number is known at the other node", func() bool {
		var decision struct{ User string }
		two.run(&decision, "call", "explain", "--from", "bob", "--to", "204")
		return decision.User == "ben"
	})

	// A device that is revoked at one is cut off at the other: its call, its registration, its certificate.
	began := time.Now()
	one.do("device", "revoke", "ben-desk", "--reason", "lost")
	_ = mine.WaitEnded(ctx)
	s.OK(phones["ben"].WaitRegistration(ctx, func(r phone.Registration) bool { return r.State != phone.Registered }))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("revocation took %v to reach the other node", took)
	}
	if _, err := phone.Open(ctx, two.answering(ids["ben"])); err == nil {
		t.Error("a revoked phone was let in")
	}

	// Each has a configuration of its own: a change at one is undone there and not at the other.
	text, err := os.ReadFile(one.conf)
	s.OK(err)
	changed := filepath.Join(dir, "changed.yaml")
	s.OK(os.WriteFile(changed, append(text, "calls:\n  max: 77\n"...), 0o600))
	one.do("config", "apply", changed)
	before, err := os.ReadFile(two.conf)
	s.OK(err)
	if out, err := two.try("config", "undo"); err == nil {
		t.Errorf("the second node undid a change that was made at the first: %s", out)
	}
	if after, err := os.ReadFile(two.conf); err != nil || string(after) != string(before) {
		t.Errorf("the second node's configuration became %s (%v)", after, err)
	}
	one.do("config", "undo")
	if after, err := os.ReadFile(one.conf); err != nil || string(after) != string(text) {
		t.Errorf("the first node's configuration is not what it was: %s (%v)", after, err)
	}

	// One node is killed; the other goes on, and takes its phones.
	s.OK(syscall.Kill(first.cmd.Process.Pid, syscall.SIGKILL))
	first.finish(ctx)
	for _, user := range []string{"alice", "anna"} {
		phones[user] = two.Start(two.answering(ids[user]))
	}
	talk("alice", "102").Hangup()
	talk("alice", "103").Hangup()
	talk("bob", "101").Hangup()
	one.up(one.SIP.String(), one.HTTPS.String())
	s.Until("every call that was answered has one record", func() bool {
		var records []record
		one.run(&records, "cdr", "list")
		answered := 0
		for _, r := range records {
			if !r.Answer.IsZero() {
				answered++
			}
		}
		return answered == 9 // two of them at both nodes
	})
}

// across has a phone at one node call a phone at another, and looks at what both nodes and both phones say of that.
func across(t *testing.T, s *onehost.Site, from, to *built, caller *phone.Phone, number, node string) {
	t.Helper()
	c, err := caller.Call(s.Ctx, number, phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	s.OK(c.WaitAnswered(s.Ctx))
	s.Hears(c, 700)
	type call struct {
		ID, State, Verdict, To string
		Legs                   []struct {
			Peer, Via, Verdict string
			TLS                struct{ Version string }
			Media              struct{ Suite string }
		}
	}
	of := func(b *built) (found call) {
		t.Helper()
		s.Until("the node shows the call", func() bool {
			var all []call
			b.run(&all, "call", "list")
			for _, one := range all {
				if one.To == number && one.State == "up" {
					b.run(&found, "call", "show", one.ID)
					return true
				}
			}
			return false
		})
		return found
	}
	here, there := of(from), of(to)
	for where, c := range map[string]call{"here": here, "there": there} {
		if c.Verdict != "sealed" || len(c.Legs) != 2 {
			t.Fatalf("%s: %+v", where, c)
		}
		for _, l := range c.Legs {
			if l.TLS.Version != "TLS 1.3" || l.Media.Suite != "AEAD_AES_256_GCM" {
				t.Errorf("%s: %+v", where, l)
			}
		}
	}
	c.Hangup()
	s.Until("neither node has the call", func() bool {
		left := 0
		for _, b := range []*built{from, to} {
			var all []call
			b.run(&all, "call", "list")
			for _, one := range all {
				if one.To == number {
					left++
				}
			}
		}
		return left == 0
	})
	if via := here.Legs[1].Via; via != node {
		t.Errorf("the caller's node reaches the phone via %q", via)
	}
	if peer := there.Legs[0].Peer; !strings.HasPrefix(peer, "node node-") {
		t.Errorf("the other node's caller is %q", peer)
	}
}
