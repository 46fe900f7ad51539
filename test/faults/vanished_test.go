package faults_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/call/registrar"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

// ownNetwork runs the test again in a process whose network nobody else has, and reports whether this is that process.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if *alone {
		if out, err := exec.CommandContext(t.Context(), testkit.Need(t, "/sbin/ip", "iproute2"), "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("ip: %v\n%s", err, out)
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-faults.alone", "-test.v", "-test.parallel=8", "-test.run=^"+t.Name()+"$", "-test.timeout="+within.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: this test has a network namespace of its own; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN\n%s", err, out)
	}
	return false
}

// cut drops every packet of a connection from now on, both ways and without a word to either end.
func (s *site) cut(port uint16) {
	s.Helper()
	nft := testkit.Need(s.T, "/usr/sbin/nft", "nftables")
	for _, rule := range []string{
		"add table inet vanished", "add chain inet vanished drops { type filter hook input priority 0; }",
		fmt.Sprintf("add rule inet vanished drops tcp sport %d drop", port), fmt.Sprintf("add rule inet vanished drops tcp dport %d drop", port),
	} {
		if out, err := exec.CommandContext(s.Ctx, nft, strings.Fields(rule)...).CombinedOutput(); err != nil {
			s.Fatalf("nft %s: %v\n%s", rule, err, out)
		}
	}
}

// port is the phone's end of its connection, as the node sees it.
func (p *peer) port() uint16 { return p.conn.LocalAddr().(*net.TCPAddr).AddrPort().Port() }

// connected reports whether the node holds a connection from a port.
func (s *site) connected(port uint16) bool {
	for _, c := range s.Node.Transport.Conns() {
		if c.Remote.Port() == port {
			return true
		}
	}
	return false
}

// bindings returns the registrations of a user, and how many of them can be called.
func (s *site) bindings(user string) (all []registrar.Contact, live int) {
	for _, c := range s.Node.Registrar.All() {
		if string(c.Device) == user {
			all = append(all, c)
			if c.Live() {
				live++
			}
		}
	}
	return all, live
}

// promised reads a row of the guide: within how long something happens.
func promised(t *testing.T, row string) time.Duration {
	t.Helper()
	b, err := os.ReadFile("../../docs/guides/observing.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row) + ` \| (\d+) s \|$`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("the guide does not say %q", row)
	}
	seconds, _ := strconv.Atoi(string(m[1]))
	return time.Duration(seconds) * time.Second
}

// vanishing is a site whose phones vanish, and what the guide says of that.
type vanishing struct {
	*site
	idle, busy, next, none time.Duration
}

// A phone's packets are dropped and nobody is told, as when a NAT forgets it or its cable is pulled. What the guide says of each case holds.
func TestVanishedPhone(t *testing.T) {
	t.Parallel()
	s := &vanishing{
		idle: promised(t, "a connection on which nothing was said is known to be dead"), busy: promised(t, "a connection on which the node said something is known to be dead"),
		next: promised(t, "a call rings by the phone's other flow"), none: promised(t, "a call to a phone without another flow ends with 480, or goes where `unreachable` says"),
	}
	if !ownNetwork(t) {
		return
	}
	s.site = newSite(t, nil)
	s.users("idle", 110, 1)
	s.users("two", 120, 1)
	s.users("one", 130, 1)
	s.users("back", 140, 1)
	s.users("away", 160, 1)
	u, err := s.Node.Store.User(s.Ctx, "away0")
	s.OK(err)
	u.Forward.Unreachable, u.Forward.NoAnswer, u.Forward.NoAnswerAfter = "170", "180", 50*time.Second
	s.OK(s.Node.Store.UpdateUser(s.Ctx, u))
	s.users("stand", 170, 1)
	s.users("caller", 150, 5)
	for name, run := range map[string]func(*testing.T){"nothing under way": s.nothing, "another flow": s.another, "no other flow": s.alone, "forwarded": s.forwarded, "it comes back": s.back} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t)
		})
	}
}

func instance(n, reg int) string {
	return fmt.Sprintf(`;+sip.instance="<urn:uuid:00000000-0000-1000-8000-%012d>";reg-id=%d`, n, reg)
}

// via registers a user over a connection of its own.
func (s *vanishing) via(t *testing.T, user, params string) *peer {
	t.Helper()
	p, err := s.flow(user, params)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// turnedAway has somebody call a number, and returns how that ended and when.
func (s *vanishing) turnedAway(t *testing.T, from *peer, number string) (int, time.Duration) {
	t.Helper()
	began := time.Now()
	m, err := from.refused(number)
	if err != nil {
		t.Fatal(err)
	}
	return m.Status(), time.Since(began)
}

// gone waits until the node knows that a connection is dead.
func (s *vanishing) gone(t *testing.T, p *peer, within time.Duration) {
	t.Helper()
	began := time.Now()
	for s.connected(p.port()) && time.Since(began) < within {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-s.Ctx.Done():
		}
	}
	if s.connected(p.port()) {
		t.Errorf("after %v the connection is still taken for a living one", time.Since(began))
	}
	t.Logf("dead after %v, within %v", time.Since(began).Round(time.Second/10), within)
}

func (s *vanishing) nothing(t *testing.T) {
	p, caller := s.via(t, "idle0", instance(1, 1)), s.via(t, "caller0", "")
	before, live := s.bindings("idle0")
	if len(before) != 1 || live != 1 {
		t.Fatalf("%d bindings, %d live", len(before), live)
	}
	// What the node said last is acknowledged with what the phone says next; only then nothing is under way.
	said := time.Now()
	if _, err := p.conn.Write([]byte("\r\n")); err != nil {
		t.Fatal(err)
	}
	s.Until("the node has heard the phone", func() bool { return before[0].Conn.LastRead().After(said.Add(-time.Millisecond)) })
	s.cut(p.port())
	s.gone(t, p, s.idle)
	after, live := s.bindings("idle0")
	if len(after) != 1 || live != 0 || !after[0].Expires.Equal(before[0].Expires) {
		t.Errorf("the registration is to be kept until it expires, and not to be called: %+v, %d live", after, live)
	}
	if status, took := s.turnedAway(t, caller, "110"); status != 480 || took > time.Second {
		t.Errorf("a call ended with %d after %v", status, took)
	}
	// It comes back by another connection: the same flow of the same phone, and not one more.
	again := s.via(t, "idle0", instance(1, 1))
	if all, live := s.bindings("idle0"); len(all) != 1 || live != 1 {
		t.Errorf("when it is back: %+v, %d live", all, live)
	}
	if _, err := caller.call(again, "110"); err != nil {
		t.Error(err)
	}
}

func (s *vanishing) another(t *testing.T) {
	older, newest, caller := s.via(t, "two0", instance(2, 1)), s.via(t, "two0", instance(2, 2)), s.via(t, "caller1", "")
	s.cut(newest.port())
	began := time.Now()
	call, err := caller.call(older, "120")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > s.next {
		t.Errorf("the other flow had the call after %v, the guide says %v", took, s.next)
	}
	s.gone(t, newest, s.busy)
	if all, live := s.bindings("two0"); len(all) != 2 || live != 1 {
		t.Errorf("bindings: %+v, %d live", all, live)
	}
	// The call is not touched by the end of the other flow, and ends as any.
	if err := caller.request("BYE", call.contact, call.remote, call.callID, nil); err != nil {
		t.Fatal(err)
	}
	bye, err := older.expect(sip.BYE, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := older.reply(bye, 200, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := caller.expect(0, 200); err != nil {
		t.Fatal(err)
	}
	// What is known to be dead is not tried again.
	began = time.Now()
	if _, err := caller.call(older, "120"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the next call took %v", took)
	}
}

func (s *vanishing) alone(t *testing.T) {
	p, caller := s.via(t, "one0", instance(3, 1)), s.via(t, "caller2", "")
	s.cut(p.port())
	status, took := s.turnedAway(t, caller, "130")
	t.Logf("%d after %v", status, took.Round(time.Second/10))
	if status != 480 || took > s.none {
		t.Errorf("a call ended with %d after %v, the guide says 480 within %v", status, took, s.none)
	}
	s.gone(t, p, max(s.busy-took, 0))
	if all, live := s.bindings("one0"); len(all) != 1 || live != 0 {
		t.Errorf("bindings: %+v, %d live", all, live)
	}
}

func (s *vanishing) forwarded(t *testing.T) {
	p, stand, caller := s.via(t, "away0", instance(4, 1)), s.via(t, "stand0", ""), s.via(t, "caller4", "")
	s.cut(p.port())
	began := time.Now()
	if _, err := caller.call(stand, "160"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > s.none {
		t.Errorf("it was forwarded after %v, the guide says within %v", took, s.none)
	}
}

func (s *vanishing) back(t *testing.T) {
	c := s.Client()
	c.User, c.Password, c.KeepAlive, c.RetryMin, c.RetryMax = "back0", secret+"back0", 5*time.Second, 200*time.Millisecond, time.Second
	p := s.Start(c)
	all, live := s.bindings("back0")
	if len(all) != 1 || live != 1 {
		t.Fatalf("%d bindings, %d live", len(all), live)
	}
	old := all[0].Conn
	s.cut(old.Remote.Port())
	s.OK(p.WaitRegistration(s.Ctx, func(r phone.Registration) bool { return r.State != phone.Registered }))
	s.OK(p.WaitRegistration(s.Ctx, func(r phone.Registration) bool { return r.State == phone.Registered }))
	if all, live = s.bindings("back0"); len(all) != 1 || live != 1 || all[0].Conn == old {
		t.Errorf("bindings: %+v, %d live", all, live)
	}
	caller := s.phone("caller3")
	s.talk(caller, p, "140").hangup()
}
