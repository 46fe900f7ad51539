package probe

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/reflector"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/node/sockets"
	"ringfence/internal/testkit"
)

// TestMain lets more tests run at a time than there are processors, since what they do most is wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		_ = flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0))))
	}
	os.Exit(m.Run())
}

// space is a network namespace that this process made. Sockets belong to where they were opened.
type space struct {
	t  testing.TB
	fd *os.File
}

func newSpace(t testing.TB) *space {
	t.Helper()
	s := &space{t: t}
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			s.fd, err = os.Open("/proc/thread-self/ns/net")
		}
	})
	wg.Wait()
	if err != nil {
		t.Fatalf("%v: this test makes network namespaces; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
	t.Cleanup(func() { s.fd.Close() })
	return s
}

// in runs f in the namespace.
func (s *space) in(f func() error) error {
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		if err = unix.Setns(int(s.fd.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	})
	wg.Wait()
	return err
}

func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.fd.Fd()) }

// do runs commands, one a line.
func (s *space) do(lines string) {
	s.t.Helper()
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		words[0] = testkit.Need(s.t, map[string]string{"ip": "/sbin/ip", "nft": "/usr/sbin/nft"}[words[0]], map[string]string{"ip": "iproute2", "nft": "nftables"}[words[0]])
		var out []byte
		err := s.in(func() (err error) {
			out, err = exec.Command(words[0], words[1:]...).CombinedOutput()
			return err
		})
		if err != nil {
			s.t.Fatalf("%s: %v\n%s", strings.TrimSpace(line), err, out)
		}
	}
}

// rules loads a file of nft.
func (s *space) rules(text string) {
	s.t.Helper()
	var out []byte
	err := s.in(func() (err error) {
		cmd := exec.Command(testkit.Need(s.t, "/usr/sbin/nft", "nftables"), "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		s.t.Fatalf("nft: %v\n%s\n%s", err, out, text)
	}
}

// hand opens sockets in a namespace.
type hand struct {
	*space
	o *sockets.Opener
}

func (h hand) Listen(ctx context.Context, flow string, a netip.AddrPort) (ln net.Listener, err error) {
	e := h.in(func() error { ln, err = h.o.Listen(ctx, flow, a); return err })
	return ln, e
}

func (h hand) ListenUDP(ctx context.Context, flow string, a netip.AddrPort) (pc net.PacketConn, err error) {
	e := h.in(func() error { pc, err = h.o.ListenUDP(ctx, flow, a); return err })
	return pc, e
}

func (h hand) Dial(ctx context.Context, flow string, a netip.AddrPort) (c net.Conn, err error) {
	e := h.in(func() error { c, err = h.o.Dial(ctx, flow, a); return err })
	return c, e
}

func (h hand) DialFrom(ctx context.Context, flow string, from, to netip.AddrPort) (c net.Conn, err error) {
	e := h.in(func() error { c, err = h.o.DialFrom(ctx, flow, from, to); return err })
	return c, e
}

func (h hand) ListenICMP(ctx context.Context, flow string, at netip.Addr) (pc net.PacketConn, err error) {
	e := h.in(func() error { pc, err = h.o.ListenICMP(ctx, flow, at); return err })
	return pc, e
}

func (h hand) SourceFor(to netip.AddrPort) (a netip.Addr, err error) {
	e := h.in(func() error { a, err = h.o.SourceFor(to); return err })
	return a, e
}

// lab is a site behind a router, and the cloud with a reflector behind that.
type lab struct {
	*testing.T
	site, router, cloud *space
	at                  netip.AddrPort
	stop                func() // the reflector
}

var labKey = []byte("a key for tests only")

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{T: t, site: newSpace(t), router: newSpace(t), cloud: newSpace(t)}
	l.router.do(`ip link set lo up
		ip link add inside type veth peer name eth0 netns ` + l.site.path() + `
		ip link add outside type veth peer name eth0 netns ` + l.cloud.path() + `
		ip address add 10.0.0.1/24 dev inside
		ip address add 192.0.2.1/24 dev outside
		ip link set inside up
		ip link set outside up`)
	l.site.do(`ip link set lo up
		ip address add 10.0.0.2/24 dev eth0
		ip link set eth0 up
		ip route add default via 10.0.0.1`)
	l.cloud.do(`ip link set lo up
		ip address add 192.0.2.2/24 dev eth0
		ip address add 192.0.2.3/24 dev eth0
		ip link set eth0 up
		ip route add default via 192.0.2.1`)
	if err := l.router.in(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	l.reflect(nil)
	return l
}

// reflect starts the reflector.
func (l *lab) reflect(change func(*reflector.Config)) {
	l.Helper()
	o, err := sockets.New(reflector.Flows())
	if err != nil {
		l.Fatal(err)
	}
	c := reflector.Config{Listen: netip.MustParseAddrPort("192.0.2.2:8470"), Second: netip.MustParseAddr("192.0.2.3"), Key: labKey, Allow: []need.Ports{{First: 1, Last: 65535}}, Opener: hand{l.cloud, o}}
	if change != nil {
		change(&c)
	}
	r, err := reflector.New(c)
	if err != nil {
		l.Fatal(err)
	}
	ctx, stop := context.WithCancel(l.Context())
	ready, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	go func() { done <- r.Serve(ctx, func(at netip.AddrPort) { ready <- at }) }()
	select {
	case l.at = <-ready:
	case err := <-done:
		l.Fatal(err)
	}
	l.stop = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			l.Error(err)
		}
	})
	l.Cleanup(l.stop)
}

// row is a requirement of a test.
func row(id, transport string, from, to string) need.Need {
	n := need.Need{ID: id, Purpose: "test", Protocol: "test", Transport: []string{transport}, Direction: need.Outbound, From: []string{"phone"}, To: []string{"service"}}
	for f := range strings.FieldsSeq(from) {
		n.FromPorts = append(n.FromPorts, must(need.ParsePorts(f)))
	}
	for f := range strings.FieldsSeq(to) {
		n.ToPorts = append(n.ToPorts, must(need.ParsePorts(f)))
	}
	return n
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (l *lab) run(kinds string, change func(*Config), rows ...need.Need) *verdict.Report {
	l.Helper()
	o, err := sockets.New(Flows())
	if err != nil {
		l.Fatal(err)
	}
	set := &need.Set{ID: "test", Title: "A test", Roles: map[string]need.Role{"phone": {Side: "customer"}, "service": {Side: "elsewhere"}}, Needs: rows}
	c := Config{Set: set, Direction: need.Outbound, Kinds: strings.Fields(kinds), Reflector: l.at, Key: labKey, Opener: hand{l.site, o}, Seed: 1, Between: 8, Voice: time.Second,
		Again: func(kind string, rows []string) string { return "again " + kind + " " + strings.Join(rows, ",") }}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithTimeout(l.Context(), 3*time.Minute)
	defer cancel()
	r, err := Run(ctx, c)
	if err != nil {
		l.Fatalf("%v\n%+v", err, r)
	}
	return r
}

// check returns a check by its id.
func check(t testing.TB, r *verdict.Report, id string) verdict.Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.ID == id {
			t.Logf("%s: %s; %s; cause %s; blocked %v; change: %s; %v; %.1f s", c.ID, c.Status, c.Seen, c.Cause, c.Blocked, c.Change, c.Values, c.Took)
			return c
		}
	}
	t.Fatalf("there is no check %s", id)
	return verdict.Check{}
}

func is(t testing.TB, c verdict.Check, status verdict.Status, cause verdict.Cause, blocked ...string) {
	t.Helper()
	if c.Status != status || c.Cause != cause || !slices.Equal(c.Blocked, blocked) {
		t.Errorf("%s: %s, %q, blocked %q; want %s, %q, %q", c.ID, c.Status, c.Cause, c.Blocked, status, cause, blocked)
	}
	if c.Status == verdict.Fail && (c.Change == "" || c.Again == "" || c.Sent == "" || c.Seen == "") {
		t.Errorf("%s does not say all: %+v", c.ID, c)
	}
}

// V07: the kernel drops and rejects parts of ranges; the part is named to the port, and two open ports hide nothing.
func TestPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.router.rules(`table ip t { chain f { type filter hook forward priority 0; policy accept;
		udp sport 19560-19660 udp dport 20000-40000 drop
		ip protocol udp ip daddr 192.0.2.2 udp dport 3000-3099 reject with icmp admin-prohibited
		udp dport 4000-65535 udp sport 7000-7099 udp dport != { 30000, 30001 } drop
		iifname inside udp sport 8550-8599 drop
		tcp dport 6970 reject with tcp reset
		tcp dport 6971 drop
		tcp dport 7000-7999 tcp sport 5070-5080 drop
	}
}`)
	r := l.run("tcp udp", nil,
		row("all", "udp", "9000-9100", "5004 8500-8699 19560-65535"),
		row("part", "udp", "19560-19660", "5004 19560-65535"),
		row("refused", "udp", "1024-65535", "2900-3199"),
		row("two", "udp", "7000-7099", "19560-65535"),
		row("source", "udp", "8500-8599", "5004 9000"),
		row("nothing", "udp", "8570-8580", "5004"),
		row("open", "tcp", "1024-65535", "443 8934"),
		row("reset", "tcp", "1024-65535", "6969-6970"),
		row("dropped", "tcp", "1024-65535", "6971"),
		row("from", "tcp", "5060-5080", "7000"),
		row("chosen", "tcp", "1024-65535", ""))
	is(t, check(t, r, "udp/all"), verdict.Pass, "")
	is(t, check(t, r, "udp/part"), verdict.Fail, verdict.Dropped, "to 20000-40000")
	is(t, check(t, r, "udp/refused"), verdict.Fail, verdict.Rejected, "to 3000-3099")
	if c := check(t, r, "udp/refused"); !strings.Contains(c.Seen, "10.0.0.1") || c.Hop != "10.0.0.1" {
		t.Errorf("who refused it is not named: %s", c.Seen)
	}
	is(t, check(t, r, "udp/two"), verdict.Fail, verdict.Dropped, "19560-65535")
	is(t, check(t, r, "udp/source"), verdict.Fail, verdict.Dropped, "from 8550-8599")
	is(t, check(t, r, "udp/nothing"), verdict.Fail, verdict.Dropped, "5004")
	is(t, check(t, r, "tcp/open"), verdict.Pass, "")
	is(t, check(t, r, "tcp/reset"), verdict.Fail, verdict.Rejected, "to 6970")
	is(t, check(t, r, "tcp/dropped"), verdict.Fail, verdict.Dropped, "6971")
	is(t, check(t, r, "tcp/from"), verdict.Fail, verdict.Dropped, "from 5070-5080")
	is(t, check(t, r, "tcp/chosen"), verdict.Skip, verdict.Untested)
	if err := r.Err(); ringfence.KindOf(err) != ringfence.KindConflict {
		t.Errorf("%v", err)
	}
}
