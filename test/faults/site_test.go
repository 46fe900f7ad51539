package faults_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
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
)

var (
	big   = flag.Bool("faults.big", false, "run with the sizes of the acceptance")
	child = flag.String("faults.child", "", "be the node of a test, with this plan (JSON)")
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

// target is what a client must know of a node.
type target struct {
	sip, https netip.AddrPort
	roots      *x509.CertPool
	domain     string
}

// site is a node, here or in another process, with the clients of a test.
type site struct {
	*testing.T
	target
	node *node.Node // nil if it runs elsewhere
	ctx  context.Context
	tap  *tap
}

func loopback() config.Config {
	c := config.Default()
	c.SIP.TLS = netip.MustParseAddrPort("127.0.0.1:0")
	c.API.HTTPS = netip.MustParseAddrPort("127.0.0.1:0")
	c.Media.Addr = netip.MustParseAddr("127.0.0.1")
	return c
}

func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	c := loopback()
	if change != nil {
		change(&c)
	}
	s := &site{T: t, tap: &tap{}}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := node.Open(s.ctx, node.Options{Config: c, Data: t.TempDir(), Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	s.node = n
	s.target = target{sip: n.SIPAddr(), https: n.HTTPSAddr(), roots: n.Authority.Roots(), domain: c.Domain}
	return s
}

func (s *site) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v (%s)", err, ringfence.HintOf(err))
	}
}

// until waits for a condition that the outside world brings about.
func (s *site) until(what string, cond func() bool) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.Fatalf("never: %s", what)
		}
	}
}

// users adds users NAME0 to NAMEn-1, each with a number and a device of the same name that answers digest challenges.
func addUsers(ctx context.Context, n *node.Node, name string, first, count int) error {
	for i := range count {
		user := ringfence.UserID(name + strconv.Itoa(i))
		if err := n.Store.CreateUser(ctx, store.User{ID: user, Name: string(user), Numbers: []ringfence.Number{ringfence.Number(strconv.Itoa(first + i))}, TollClass: "internal"}); err != nil {
			return err
		}
		if err := n.Store.CreateDevice(ctx, store.Device{ID: ringfence.DeviceID(user), User: user, Kind: "test", Created: time.Now(),
			Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthDigestSHA256}}}); err != nil {
			return err
		}
		ha1 := sha256.Sum256([]byte(string(user) + ":" + n.Config.Domain + ":" + secret + string(user)))
		if err := n.Store.PutDigestSecret(ctx, store.DigestSecret{Device: ringfence.DeviceID(user), Username: string(user), Realm: n.Config.Domain,
			Algorithm: ringfence.AuthDigestSHA256, HA1: ha1[:]}); err != nil {
			return err
		}
	}
	return n.Roster.Reload(ctx)
}

func (s *site) users(name string, first, count int) {
	s.Helper()
	s.ok(addUsers(s.ctx, s.node, name, first, count))
}

// phone opens a registered headless phone of a user.
func (s *site) phone(user string) *phone.Phone {
	s.Helper()
	sockets, err := node.NewSockets(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}))
	s.ok(err)
	p, err := phone.Open(s.ctx, phone.Config{Opener: &tapped{Opener: sockets, tap: s.tap}, Server: s.sip, ServerName: s.domain,
		TLS:  &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS13},
		User: user, Domain: s.domain, Password: secret + user, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard(), Codecs: []codec.Name{codec.PCMU},
		RetryMin: 200 * time.Millisecond, RetryMax: time.Second, Trace: s.tap.trace})
	s.ok(err)
	s.Cleanup(func() { _ = p.Close() })
	return p
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
	out, err := from.Call(s.ctx, number, phone.CallOptions{Audio: phone.Tone(440)})
	s.ok(err)
	var in *phone.Call
	select {
	case in = <-to.Incoming():
	case <-s.ctx.Done():
		s.Fatal("no call came")
	}
	s.ok(in.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.ok(out.WaitAnswered(s.ctx))
	t := &talk{site: s, a: from, b: to, out: out, in: in}
	t.hears()
	return t
}

// hears waits until both ends hear the other's tone.
func (t *talk) hears() {
	t.Helper()
	near := func(got, want float64) bool { return got > want*0.98 && got < want*1.02 }
	t.until("both tones are heard", func() bool { return near(t.out.Audio().HeardHz, 700) && near(t.in.Audio().HeardHz, 440) })
}

// goesOn checks that voice still flows both ways: a second's worth more, with its tone, and nothing was ever lost,
// also not in the kernel's queue, which what is sprayed at a port shares with the voice.
func (t *talk) goesOn() {
	t.Helper()
	a, b := t.out.Proof().Media.PacketsIn, t.in.Proof().Media.PacketsIn
	t.until("voice goes on", func() bool { return t.out.Proof().Media.PacketsIn > a+50 && t.in.Proof().Media.PacketsIn > b+50 })
	t.hears()
	for _, c := range []*phone.Call{t.out, t.in} {
		if m := c.Proof().Media; m.Lost != 0 || m.Rejected != 0 {
			t.Errorf("the call suffered: %+v", m)
		}
	}
	if t.node == nil {
		return
	}
	for _, v := range t.node.Calls.List() {
		for _, l := range v.Legs {
			if l.Media != nil && (l.Media.Lost != 0 || l.Media.Overrun != 0) {
				t.Errorf("leg %s suffered: %+v", l.ID, l.Media)
			}
		}
	}
}

func (t *talk) hangup() {
	t.Helper()
	t.out.Hangup()
	t.ok(t.in.WaitEnded(t.ctx))
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

// settled waits until the heap has grown by at most so many bytes over what it was; buffers of what has just ended need a moment.
func (s *site) settled(what string, before, grown uint64) {
	s.Helper()
	last := heap()
	for range 100 {
		if last <= before+grown {
			s.Logf("%s: heap %d KiB before, %d KiB after", what, before>>10, last>>10)
			return
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-s.ctx.Done():
		}
		last = heap()
	}
	s.Errorf("%s: the heap grew from %d to %d KiB, %d KiB are allowed", what, before>>10, last>>10, grown>>10)
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
		case <-s.ctx.Done():
		}
	}
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	s.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:min(len(stacks), 20_000)])
}

// dialFrom connects from an address of this host, e.g. 127.0.0.9, so that an attacker has another source than the phones.
func (s *site) dialFrom(source string, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: 5 * time.Second}
	return d.DialContext(s.ctx, "tcp", to.String())
}

// dialTLS is a verified TLS connection of nobody, from a source.
func (s *site) dialTLS(source string, to netip.AddrPort) (*tls.Conn, error) {
	c, err := s.dialFrom(source, to)
	if err != nil {
		return nil, err
	}
	t := tls.Client(c, &tls.Config{RootCAs: s.roots, ServerName: s.domain, MinVersion: tls.VersionTLS13})
	if err := t.HandshakeContext(s.ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("TLS from %s: %w", source, err)
	}
	return t, nil
}
