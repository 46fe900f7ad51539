package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// memory is a network without a kernel, so that time can be virtual. It is an opener.
type memory struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*memoryConn
	next  uint16
}

type memoryConn struct {
	net      *memory
	addr     netip.AddrPort
	in       chan datagram
	gone     chan struct{}
	once     sync.Once
	deadline time.Time
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

func (*memory) Listen(context.Context, string, netip.AddrPort) (net.Listener, error) {
	return nil, errors.ErrUnsupported
}
func (*memory) Dial(context.Context, string, netip.AddrPort) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}
func (m *memory) ListenUDP(_ context.Context, _ string, a netip.AddrPort) (net.PacketConn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.Port() == 0 {
		m.next++
		a = netip.AddrPortFrom(a.Addr(), 50_000+m.next)
	}
	if m.conns[a] != nil {
		return nil, errors.New("address in use")
	}
	c := &memoryConn{net: m, addr: a, in: make(chan datagram, 1024), gone: make(chan struct{})}
	m.conns[a] = c
	return c, nil
}

func (c *memoryConn) ReadFrom(b []byte) (int, net.Addr, error) {
	var late <-chan time.Time
	if !c.deadline.IsZero() {
		t := time.NewTimer(time.Until(c.deadline))
		defer t.Stop()
		late = t.C
	}
	select {
	case d := <-c.in:
		return copy(b, d.b), net.UDPAddrFromAddrPort(d.from), nil
	case <-c.gone:
		return 0, nil, net.ErrClosed
	case <-late:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *memoryConn) WriteTo(b []byte, to net.Addr) (int, error) {
	a, _ := addrPort(to)
	c.net.mu.Lock()
	dst := c.net.conns[a]
	c.net.mu.Unlock()
	if dst != nil {
		select {
		case dst.in <- datagram{append([]byte(nil), b...), c.addr}:
		default: // a full queue drops, as a kernel's would
		}
	}
	return len(b), nil
}

func (c *memoryConn) Close() error {
	c.once.Do(func() {
		close(c.gone)
		c.net.mu.Lock()
		delete(c.net.conns, c.addr)
		c.net.mu.Unlock()
	})
	return nil
}
func (c *memoryConn) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(c.addr) }
func (c *memoryConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *memoryConn) SetReadDeadline(t time.Time) error  { c.deadline = t; return nil }
func (c *memoryConn) SetWriteDeadline(t time.Time) error { return nil }

// virtual runs f in virtual time with an engine on a network in memory.
func virtual(t *testing.T, ports ringfence.PortRange, f func(t *testing.T, e *Engine, listen func() net.PacketConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{conns: map[netip.AddrPort]*memoryConn{}}
		e, err := New(Config{Opener: m, Flow: "media", Addr: netip.MustParseAddr("192.0.2.1"), Ports: ports, DSCP: 46})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		f(t, e, func() net.PacketConn {
			c, err := m.ListenUDP(t.Context(), "", netip.MustParseAddrPort("192.0.2.99:0"))
			if err != nil {
				t.Fatal(err)
			}
			return c
		})
	})
}

func somePorts() ringfence.PortRange { return ringfence.PortRange{First: 16384, Last: 16483} }

func virtualPair(t *testing.T, e *Engine, listen func() net.PacketConn, sa, sb rtp.Suite) (a, b *phone) {
	t.Helper()
	a, b = newPhone(t, e, "a-leg", sa, listen), newPhone(t, e, "bb-leg", sb, listen)
	if err := e.Join(a.leg, b.leg); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// silent checks that nothing more arrives at the phone.
func (p *phone) silent() {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
	if n, _, err := p.conn.ReadFrom(p.buf[:]); err == nil {
		p.t.Fatalf("phone of leg %s got %d octets", p.leg.ID(), n)
	}
}

// More than 65,536 packets each way, with different suites on the legs, a hold and an unchanged re-INVITE in the middle.
func TestRollOverSurvivesHoldAndReinvite(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_256_GCM, rtp.AES_CM_128_HMAC_SHA1_80)
		for i := range 70_000 {
			a.say(b, "to b")
			b.say(a, "to a")
			switch i {
			case 68_000: // past the wrap of both
				a.rekey(a.mine, a.theirs)
				b.rekey(b.mine, b.theirs)
			case 68_500:
				b.leg.Hold(Inactive)
				a.send(a.sealed("held"))
				b.send(b.sealed("held"))
				a.silent()
				b.silent()
				b.leg.Hold(SendRecv)
			}
		}
		for _, p := range []*phone{a, b} {
			if m := p.leg.Stats(); m.PacketsIn != 70_001 || m.PacketsOut != 70_000 || m.Rejected != 0 || m.Lost != 0 {
				t.Fatalf("%+v", m)
			}
		}
	})
}

func TestRekeyLosesNothingInFlight(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_128_GCM, rtp.AEAD_AES_256_GCM)
		a.say(b, "before")
		if h := b.say(a, "before"); h.SSRC != b.ssrc {
			t.Fatal("the SSRC did not pass through")
		}
		inFlight := [][]byte{a.sealed("late 1"), a.sealed("late 2")}
		a.rekey(newKeys(t, rtp.AES_CM_128_HMAC_SHA1_80), newKeys(t, rtp.AES_CM_128_HMAC_SHA1_80))
		for _, pkt := range inFlight {
			a.send(pkt)
			b.hear()
		}
		a.say(b, "after")
		if h := b.say(a, "after"); h.SSRC == b.ssrc {
			t.Fatal("under our new keys the stream kept its SSRC")
		}
		pass(graceful + time.Second)
		old := newKeys(t, rtp.AEAD_AES_128_GCM)
		a.seal, _ = rtp.NewSealer(old)
		a.send(a.sealed("under keys never agreed"))
		b.silent()
		if m := a.leg.Stats(); m.Rejected != 1 || m.Suite != "AES_CM_128_HMAC_SHA1_80" {
			t.Fatalf("%+v", m)
		}
	})
}

// After the grace time the old keys open nothing.
func TestOldKeysEnd(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_128_GCM, rtp.AEAD_AES_256_GCM)
		late := a.sealed("late")
		a.rekey(newKeys(t, rtp.AEAD_AES_128_GCM), a.theirs)
		pass(graceful + time.Millisecond)
		a.send(late)
		b.silent()
		if m := a.leg.Stats(); m.Rejected != 1 {
			t.Fatalf("%+v", m)
		}
	})
}

// A stream that returns to a leg out of step must not use an index twice, and must be heard at once.
func TestReturningStreamGetsFreshSource(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_256_GCM, rtp.AEAD_AES_256_GCM)
		if h := a.say(b, "first"); h.SSRC != a.ssrc {
			t.Fatal("the SSRC did not pass through")
		}
		b.leg.Hold(RecvOnly)
		for range 40_000 { // beyond half the sequence space
			a.send(a.sealed("held"))
			if a.seq%256 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		b.leg.Hold(SendRecv)
		h := a.say(b, "back")
		if h.SSRC == a.ssrc {
			t.Fatal("the stream came back under its old SSRC")
		}
		if again := a.say(b, "and on"); again.SSRC != h.SSRC || again.Sequence != h.Sequence+1 {
			t.Fatalf("%+v after %+v", again, h)
		}
		// The peer speaks of the SSRC it sees; a must read its own.
		b.report(rtp.Block{SSRC: h.SSRC, Fraction: 64, Lost: 5})
		if c := a.hearReport(); c.Blocks[0].SSRC != a.ssrc {
			t.Fatalf("a reads a report about %#x, its SSRC is %#x", c.Blocks[0].SSRC, a.ssrc)
		}
		a.report()
		if c := b.hearReport(); c.SSRC != h.SSRC {
			t.Fatalf("b reads a report from %#x, it hears %#x", c.SSRC, h.SSRC)
		}
		if r := b.leg.Remote(); r.Fraction != 0.25 || r.Lost != 5 || r.Reports != 1 {
			t.Fatalf("%+v", r)
		}
	})
}

func (p *phone) report(blocks ...rtp.Block) {
	p.t.Helper()
	b := rtp.AppendReport(nil, p.ssrc, &rtp.Sender{NTP: 1 << 40, Packets: 9}, blocks...)
	b, err := p.seal.RTCP(nil, rtp.AppendName(b, p.ssrc, "phone"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(b)
}

func (p *phone) hearReport() rtp.Control {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, _, err := p.conn.ReadFrom(p.buf[:])
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := p.open.RTCP(nil, p.buf[:n])
	if err != nil {
		p.t.Fatal(err)
	}
	var c rtp.Control
	if err := rtp.ParseRTCP(b, &c); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func TestSeparateControlPort(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_256_GCM, rtp.AES_CM_128_HMAC_SHA1_80)
		control := listen()
		defer control.Close()
		addr, _ := addrPort(control.LocalAddr())
		if err := b.leg.SetRemote(RemoteParams{Addr: b.addr(), RTCP: addr, Keys: b.mine}); err != nil {
			t.Fatal(err)
		}
		a.report()
		media := b.conn
		b.conn = control
		if c := b.hearReport(); c.SSRC != a.ssrc || !c.IsSender {
			t.Fatalf("%+v", c)
		}
		report, err := b.seal.RTCP(nil, rtp.AppendReport(nil, b.ssrc, nil))
		if err != nil {
			t.Fatal(err)
		}
		to := netip.AddrPortFrom(b.leg.Local().Addr(), b.leg.Local().Port()+1)
		_, _ = control.WriteTo(report, net.UDPAddrFromAddrPort(to))
		if c := a.hearReport(); c.SSRC != b.ssrc {
			t.Fatalf("%+v", c)
		}
		b.conn = media
		a.say(b, "media stays where it was")
	})
}

func TestPayloadMapDigitsAndTap(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_256_GCM, rtp.AEAD_AES_256_GCM)
		if err := a.leg.SetPayloadMap(map[uint8]uint8{101: 96}); err != nil {
			t.Fatal(err)
		}
		if err := a.leg.SetPayloadMap(map[uint8]uint8{128: 1}); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Fatal(err)
		}
		var keys []rune
		var tapped int
		a.leg.OnDigit(101, func(d rune) { keys = append(keys, d) })
		a.leg.Tap(func(h *rtp.Header, payload []byte, _ time.Duration) { tapped += len(payload) })
		for _, key := range "1*1#" {
			src, _ := rtp.NewDigitSource(key, 60*time.Millisecond, 8000)
			a.stamp += 1600
			for {
				var buf [4]byte
				n, first := src.Next(buf[:])
				if n == 0 {
					break
				}
				h := rtp.Header{PayloadType: 101, Marker: first, Sequence: a.seq, Timestamp: a.stamp, SSRC: a.ssrc}
				a.seq++
				pkt, err := a.seal.RTP(nil, append(rtp.AppendHeader(nil, h), buf[:n]...))
				if err != nil {
					t.Fatal(err)
				}
				a.send(pkt)
				if got, _ := b.hear(); got.PayloadType != 96 || got.Marker != first {
					t.Fatalf("%+v", got)
				}
			}
		}
		synctest.Wait()
		if string(keys) != "1*1#" || tapped != 4*6*4 {
			t.Fatalf("keys %q, %d octets tapped", string(keys), tapped)
		}
	})
}

// counting yields n frames.
type counting struct{ n, left int }

func (c *counting) Next(buf []byte) int {
	if c.left == 0 {
		return 0
	}
	c.left--
	buf[0] = byte(c.n - c.left)
	return 160
}

func TestPlayIsPacedAndReplacesTheRelay(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_256_GCM, rtp.AEAD_AES_128_GCM)
		ended := make(chan struct{})
		began := time.Now()
		if err := b.leg.Play(Format{PayloadType: 8, Samples: 160}, &counting{50, 50}, func() { close(ended) }); err != nil {
			t.Fatal(err)
		}
		a.send(a.sealed("not heard"))
		var last rtp.Header
		for i := range 50 {
			h, payload := b.hear()
			if payload[0] != byte(i+1) || h.Marker != (i == 0) || h.PayloadType != 8 {
				t.Fatalf("frame %d: %+v %d", i, h, payload[0])
			}
			if i > 0 && (h.Sequence != last.Sequence+1 || h.Timestamp != last.Timestamp+160 || h.SSRC != last.SSRC) {
				t.Fatalf("%+v after %+v", h, last)
			}
			if at := time.Since(began); at != time.Duration(i+1)*frameTime {
				t.Fatalf("frame %d came after %v", i, at)
			}
			last = h
		}
		<-ended
		a.say(b, "heard again")

		if err := b.leg.PlayDigit(101, '7', 100*time.Millisecond, 8000, nil); err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			h, payload := b.hear()
			if ev, err := rtp.ParseEvent([]byte(payload)); err != nil || ev.Code != 7 || ev.End != (i >= 5) || h.PayloadType != 101 {
				t.Fatalf("%d: %+v %v", i, ev, err)
			}
		}
		stopped := false
		if err := b.leg.Play(Format{PayloadType: 0, Samples: 160}, &counting{1000, 1000}, func() { stopped = true }); err != nil {
			t.Fatal(err)
		}
		b.hear()
		b.leg.Stop()
		if !stopped {
			t.Fatal("done was not called")
		}
		b.silent()
		if err := b.leg.Play(Format{}, nil, nil); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Fatal(err)
		}
	})
}

// A leg that talks with this node itself gets reports from it: about what it sends, and about what is played to it.
func TestReportsToALegThatEndsHere(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a := newPhone(t, e, "a-leg", rtp.AEAD_AES_256_GCM, listen)
		for range 9 {
			a.send(a.sealed("hello"))
		}
		a.seq++ // one is lost
		a.send(a.sealed("hello"))
		c := a.hearReport()
		if c.IsSender || c.Count != 1 || c.Blocks[0].SSRC != a.ssrc || c.Blocks[0].Lost != 1 {
			t.Fatalf("%+v", c)
		}
		if err := a.leg.Play(Format{PayloadType: 0, Samples: 160}, &counting{1000, 1000}, nil); err != nil {
			t.Fatal(err)
		}
		var last rtp.Header
		packets := uint32(0)
		for {
			_ = a.conn.SetReadDeadline(time.Now().Add(time.Second))
			n, _, err := a.conn.ReadFrom(a.buf[:])
			if err != nil {
				t.Fatal(err)
			}
			if !rtp.IsRTCP(a.buf[:n]) {
				packets++
				last, _ = rtp.ParseHeader(a.buf[:n])
				continue
			}
			b, err := a.open.RTCP(nil, a.buf[:n])
			if err != nil {
				t.Fatal(err)
			}
			var c rtp.Control
			if err := rtp.ParseRTCP(b, &c); err != nil {
				t.Fatal(err)
			}
			if !c.IsSender || c.SSRC != last.SSRC || c.Sender.Packets != packets || c.Sender.Octets != 160*packets || c.Sender.Timestamp != last.Timestamp {
				t.Fatalf("%+v after %d packets, the last %+v", c, packets, last)
			}
			return
		}
	})
}

// Playing, replacing, stopping and closing at once must call every done exactly once and leave no player behind.
func TestPlayersEndOnce(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		var wg sync.WaitGroup
		var begun, ended atomic.Int64
		for i := range 40 {
			p := newPhone(t, e, ringfence.LegID(fmt.Sprint(i)), rtp.AEAD_AES_128_GCM, listen)
			for range 4 {
				wg.Go(func() {
					for range 5 {
						if p.leg.Play(Format{Samples: 160}, &counting{1 << 30, 1 << 30}, func() { ended.Add(1) }) == nil {
							begun.Add(1)
						}
						p.leg.Stop()
						pass(time.Millisecond)
					}
				})
			}
			wg.Go(func() { pass(2 * time.Millisecond); p.leg.Close() })
		}
		wg.Wait()
		pass(time.Second)
		synctest.Wait()
		if begun.Load() == 0 || begun.Load() != ended.Load() {
			t.Fatalf("%d begun, %d ended", begun.Load(), ended.Load())
		}
		e.players.mu.Lock()
		defer e.players.mu.Unlock()
		if len(e.players.active) != 0 || e.players.running {
			t.Fatalf("%d players left", len(e.players.active))
		}
	})
}

func TestTimeout(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_256_GCM, rtp.AEAD_AES_256_GCM)
		var quiet int
		a.leg.OnTimeout(5*time.Second, func() { quiet++ })
		for range 10 {
			pass(time.Second)
			a.say(b, "alive")
		}
		synctest.Wait()
		if quiet != 0 {
			t.Fatal("timed out while talking")
		}
		forged := a.sealed("x")
		forged[20] ^= 1
		for range 8 { // forgeries keep nobody alive
			pass(time.Second)
			a.send(forged)
		}
		synctest.Wait()
		if quiet != 1 {
			t.Fatalf("told %d times", quiet)
		}
		a.leg.Hold(SendOnly)
		pass(time.Minute)
		a.leg.Hold(SendRecv)
		a.say(b, "back")
		pass(6 * time.Second)
		synctest.Wait()
		if quiet != 2 {
			t.Fatalf("told %d times", quiet)
		}
	})
}

func TestPortsRestAndRunOut(t *testing.T) {
	virtual(t, ringfence.PortRange{First: 16385, Last: 16391}, func(t *testing.T, e *Engine, _ func() net.PacketConn) {
		open := func(id ringfence.LegID) *Endpoint {
			t.Helper()
			p, err := e.Open(id)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		one, two := open("1"), open("2")
		three := open("3")
		got := []uint16{one.Local().Port(), two.Local().Port(), three.Local().Port()}
		slices.Sort(got)
		if !slices.Equal(got, []uint16{16386, 16388, 16390}) {
			t.Fatal(got)
		}
		freed := two.Local().Port()
		if _, err := e.Open("1"); ringfence.KindOf(err) != ringfence.KindConflict {
			t.Fatal(err)
		}
		if _, err := e.Open("4"); ringfence.KindOf(err) != ringfence.KindOverload {
			t.Fatal(err)
		}
		two.Close()
		two.Close()
		if _, err := e.Open("4"); ringfence.KindOf(err) != ringfence.KindOverload {
			t.Fatalf("a port was given away without rest: %v", err)
		}
		pass(5 * time.Second)
		if p := open("2"); p.Local().Port() != freed {
			t.Fatal(p.Local())
		}
		e.Close()
		if _, err := e.Open("5"); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Fatal(err)
		}
		if err := one.Play(Format{Samples: 160}, &counting{1, 1}, nil); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Fatal(err)
		}
	})
}

func TestPortHeldBySomebodyElseIsSkipped(t *testing.T) {
	virtual(t, ringfence.PortRange{First: 16384, Last: 16389}, func(t *testing.T, e *Engine, _ func() net.PacketConn) {
		taken, err := e.cfg.Opener.ListenUDP(t.Context(), "", netip.MustParseAddrPort("192.0.2.1:16385"))
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		for _, id := range []ringfence.LegID{"x", "y"} { // the pair with the held port is passed over, in whatever order
			p, err := e.Open(id)
			if err != nil || p.Local().Port() == 16384 {
				t.Fatal(p.Local(), err)
			}
		}
	})
}

func TestJoinLeavesTheFormerPartner(t *testing.T) {
	virtual(t, somePorts(), func(t *testing.T, e *Engine, listen func() net.PacketConn) {
		a, b := virtualPair(t, e, listen, rtp.AEAD_AES_256_GCM, rtp.AEAD_AES_256_GCM)
		c := newPhone(t, e, "ccc-leg", rtp.AEAD_AES_128_GCM, listen)
		a.say(b, "1")
		if err := e.Join(a.leg, c.leg); err != nil {
			t.Fatal(err)
		}
		a.say(c, "2")
		b.send(b.sealed("to nobody"))
		a.silent()
		c.say(a, "3")
		e.Unjoin(c.leg)
		a.send(a.sealed("to nobody"))
		c.silent()
		for _, pair := range [][2]*Endpoint{{a.leg, a.leg}, {a.leg, nil}} {
			if err := e.Join(pair[0], pair[1]); ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Fatal(err)
			}
		}
	})
}

func TestConfigValidate(t *testing.T) {
	good := Config{Opener: hostOpener{}, Flow: "media", Addr: loopback(), Ports: somePorts()}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	flows := good.Flows()
	if err := ringfence.CheckFlows(flows); err != nil || len(flows) != 1 || flows[0].Ports != good.Ports || flows[0].TLS != ringfence.MediaSRTP {
		t.Fatal(flows, err)
	}
	for name, spoil := range map[string]func(*Config){
		"opener": func(c *Config) { c.Opener = nil }, "flow": func(c *Config) { c.Flow = "" },
		"addr": func(c *Config) { c.Addr = netip.Addr{} }, "ports": func(c *Config) { c.Ports = ringfence.PortRange{} },
		"one port": func(c *Config) { c.Ports = ringfence.PortRange{First: 4001, Last: 4002} },
		"dscp":     func(c *Config) { c.DSCP = 64 }, "shards": func(c *Config) { c.Shards = -1 },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// pass lets virtual time go by.
func pass(d time.Duration) { <-time.After(d) }

// FuzzMaskControl: masking twice restores every packet that was accepted, so it touches nothing it does not understand.
func FuzzMaskControl(f *testing.F) {
	b := rtp.AppendReport(nil, 1, &rtp.Sender{}, rtp.Block{SSRC: 2}, rtp.Block{SSRC: 3})
	b = rtp.AppendBye(rtp.AppendName(b, 1, "x"), 1)
	f.Add(b, uint32(5), uint32(6))
	f.Add(append(rtp.AppendReport(nil, 1, nil), 0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2), uint32(1), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, forth, back uint32) {
		var c rtp.Control
		if rtp.ParseRTCP(b, &c) != nil {
			return
		}
		masked := bytes.Clone(b)
		maskControl(masked, forth, back)
		var d rtp.Control
		if err := rtp.ParseRTCP(masked, &d); err != nil || d.SSRC != c.SSRC^forth || d.Count != c.Count {
			t.Fatalf("%v: %+v became %+v", err, c, d)
		}
		maskControl(masked, forth, back)
		if !bytes.Equal(masked, b) {
			t.Fatal("masking twice changed the packet")
		}
	})
}

// FuzzReceive: whatever arrives, from anywhere, at either port, moves and ends nothing and is not relayed.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3}, false)
	f.Add(rtp.AppendReport(nil, 1, nil), true)
	f.Add([]byte{}, false)
	k, err := rtp.NewKeys(rtp.AEAD_AES_256_GCM)
	if err != nil {
		f.Fatal(err)
	}
	e, err := New(Config{Opener: &memory{conns: map[netip.AddrPort]*memoryConn{}}, Flow: "media", Addr: loopback(), Ports: somePorts()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(e.Close)
	leg, err := e.Open("x")
	if err != nil {
		f.Fatal(err)
	}
	if err := leg.SetRemote(RemoteParams{Keys: k}); err != nil {
		f.Fatal(err)
	}
	from := netip.MustParseAddrPort("192.0.2.7:4000")
	f.Fuzz(func(t *testing.T, b []byte, control bool) {
		var s scratch
		before := leg.Stats()
		leg.in.mu.Lock()
		leg.receive(&s, copy(s.in[:], b), from, time.Second, control)
		after := leg.Stats()
		if after.Rejected != before.Rejected+1 || after.PacketsIn != 0 || leg.Peer().IsValid() {
			t.Fatalf("%+v, peer %s", after, leg.Peer())
		}
	})
}
