package faults_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit/onehost"
)

var (
	big   = flag.Bool("faults.big", false, "run with the sizes of the acceptance")
	child = flag.String("faults.child", "", "be the node of a test, with this plan (JSON)")
	alone = flag.Bool("faults.alone", false, "this process has a network of its own")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *child != "" {
		os.Exit(beNode(*child))
	}
	os.Exit(m.Run())
}

// size picks the size of a test.
func size(small, race, large int) int {
	switch {
	case *big:
		return large
	case raceOn:
		return race
	}
	return small
}

const secret = "a long enough pass phrase of "

// site is a node, here or in another process, with the clients of a test.
type site struct {
	*onehost.Site
	tap *tap
}

// within is how long a test may take.
const within = 3 * time.Minute

func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	return &site{onehost.Open(t, onehost.Options{Change: change, Within: within, Level: slog.LevelWarn}), &tap{}}
}

// users adds users NAME0 to NAMEn-1, each with a number and a device of the same name that answers digest challenges.
func addUsers(ctx context.Context, n *node.Node, name string, first, count int) error {
	for i := range count {
		user := ringfence.UserID(name + strconv.Itoa(i))
		if err := n.Store.CreateUser(ctx, store.User{ID: user, Name: string(user), Numbers: []ringfence.Number{ringfence.Number(strconv.Itoa(first + i))}, TollClass: "internal"}); err != nil {
			return err
		}
		if err := onehost.AddPassword(ctx, n, user, ringfence.DeviceID(user), secret+string(user), ringfence.AuthDigestSHA256); err != nil {
			return err
		}
	}
	return n.Roster.Reload(ctx)
}

func (s *site) users(name string, first, count int) {
	s.Helper()
	s.OK(addUsers(s.Ctx, s.Node, name, first, count))
}

// phone opens a registered headless phone of a user.
func (s *site) phone(user string) *phone.Phone {
	s.Helper()
	c := s.Client()
	c.Opener, c.User, c.Password, c.Codecs = &tapped{Opener: c.Opener, tap: s.tap}, user, secret+user, []codec.Name{codec.PCMU}
	c.RetryMin, c.RetryMax, c.Trace = 200*time.Millisecond, time.Second, s.tap.trace
	return s.Start(c)
}

// talk is a call of two headless phones with tones both ways.
type talk struct {
	*site
	a, b    *phone.Phone
	out, in *phone.Call
}

// talk sets up a call between two phones; number is the second one's.
func (s *site) talk(from, to *phone.Phone, number string) *talk {
	s.Helper()
	out, in := s.Talk(from, to, number)
	t := &talk{site: s, a: from, b: to, out: out, in: in}
	t.hears()
	return t
}

// hears waits until both ends hear the other's tone.
func (t *talk) hears() {
	t.Helper()
	near := func(got, want float64) bool { return got > want*0.98 && got < want*1.02 }
	t.Until("both tones are heard", func() bool { return near(t.out.Audio().HeardHz, 700) && near(t.in.Audio().HeardHz, 440) })
}

// goesOn checks that voice still flows both ways: a second's worth more, with its tone, and nothing was ever lost.
func (t *talk) goesOn() {
	t.Helper()
	t.goesOnBut(0)
}

// goesOnBut is goesOn for a call that may have lost so many packets of each direction.
func (t *talk) goesOnBut(lost uint64) {
	t.Helper()
	a, b := t.out.Proof().Media.PacketsIn, t.in.Proof().Media.PacketsIn
	t.Until("voice goes on", func() bool { return t.out.Proof().Media.PacketsIn > a+50 && t.in.Proof().Media.PacketsIn > b+50 })
	t.hears()
	for _, c := range []*phone.Call{t.out, t.in} {
		if m := c.Proof().Media; m.Lost > lost || m.Rejected != 0 {
			t.Errorf("the call suffered: %+v", m)
		}
	}
	if t.Node == nil {
		return
	}
	for _, v := range t.Node.Calls.List() {
		for _, l := range v.Legs {
			if l.Media != nil && l.Media.Lost > lost {
				t.Errorf("leg %s suffered: %+v", l.ID, l.Media)
			}
		}
	}
}

func (t *talk) hangup() {
	t.Helper()
	t.out.Hangup()
	t.OK(t.in.WaitEnded(t.Ctx))
}

// tap remembers where media goes and the last sealed packets that phones sent there.
type tap struct {
	mu      sync.Mutex
	ports   []netip.AddrPort
	packets []sealed
}

type sealed struct {
	to    netip.AddrPort
	bytes []byte
}

var audioPort = regexp.MustCompile(`(?m)^m=audio (\d+) `)

// trace learns from descriptions that phones receive which ports the node opened for them.
func (p *tap) trace(_ *transport.Conn, msg []byte, sent bool) {
	m := audioPort.FindSubmatch(msg)
	if sent || m == nil {
		return
	}
	port, _ := strconv.ParseUint(string(m[1]), 10, 16)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, have := range p.ports {
		if have == at {
			return
		}
	}
	p.ports = append(p.ports, at)
}

func (p *tap) media() []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]netip.AddrPort(nil), p.ports...)
}

// caught returns the packets that phones sent lately.
func (p *tap) caught() []sealed {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]sealed(nil), p.packets...)
}

// tapped is an opener whose datagram sockets tell the tap what they send.
type tapped struct {
	ringfence.Opener
	tap *tap
}

func (o *tapped) ListenUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.PacketConn, error) {
	pc, err := o.Opener.ListenUDP(ctx, flow, addr)
	if err != nil {
		return nil, err
	}
	return &tappedConn{UDPConn: pc.(*net.UDPConn), tap: o.tap}, nil
}

type tappedConn struct {
	*net.UDPConn
	tap *tap
}

func (c *tappedConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	c.note(b, addr.(*net.UDPAddr).AddrPort())
	return c.UDPConn.WriteTo(b, addr)
}

func (c *tappedConn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	c.note(b, addr)
	return c.UDPConn.WriteToUDPAddrPort(b, addr)
}

func (c *tappedConn) note(b []byte, addr netip.AddrPort) {
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	if len(c.tap.packets) >= 64 {
		c.tap.packets = c.tap.packets[1:]
	}
	c.tap.packets = append(c.tap.packets, sealed{to: addr, bytes: append([]byte(nil), b...)})
}

// heap returns the bytes in use after a thorough collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// settled fails unless the heap has grown by at most so many bytes over what it was.
func (s *site) settled(what string, before, grown uint64) {
	s.Helper()
	if !s.settles(what, before, grown) {
		s.Errorf("%s: the heap grew by more than %d KiB", what, grown>>10)
	}
}

// settles waits until the heap has grown by at most so many bytes over what it was; buffers of what has just ended need a moment.
func (s *site) settles(what string, before, grown uint64) bool {
	s.Helper()
	last := heap()
	for range 100 {
		if last <= before+grown {
			break
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.Ctx.Done():
		}
		last = heap()
	}
	s.Logf("%s: heap %d KiB before, %d KiB after", what, before>>10, last>>10)
	return last <= before+grown
}

// goroutines waits until there are no more than before, and shows what is left otherwise.
func (s *site) goroutines(before int) {
	s.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.Ctx.Done():
		}
	}
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	s.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:min(len(stacks), 20_000)])
}

// dialFrom connects from an address of this host, e.g. 127.0.0.9, so that an attacker has another source than the phones.
func (s *site) dialFrom(source string, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 5 * time.Second}
	return d.DialContext(s.Ctx, "tcp", to.String())
}

// dialTLS is a verified TLS connection of nobody, from a source.
func (s *site) dialTLS(source string, to netip.AddrPort) (*tls.Conn, error) {
	c, err := s.dialFrom(source, to)
	if err != nil {
		return nil, err
	}
	t := tls.Client(c, &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, MinVersion: tls.VersionTLS13})
	if err := t.HandshakeContext(s.Ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("TLS from %s: %w", source, err)
	}
	return t, nil
}
