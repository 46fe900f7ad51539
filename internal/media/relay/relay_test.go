package relay

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// hostOpener opens real sockets on the loopback interface.
type hostOpener struct{}

func (hostOpener) Listen(context.Context, string, netip.AddrPort) (net.Listener, error) {
	return nil, errors.New("no listeners in this test")
}
func (hostOpener) Dial(context.Context, string, netip.AddrPort) (net.Conn, error) {
	return nil, errors.New("no dialling in this test")
}
func (hostOpener) ListenUDP(_ context.Context, _ string, addr netip.AddrPort) (net.PacketConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
}

func loopback() netip.Addr { return netip.MustParseAddr("127.0.0.1") }

// newHostEngine returns an engine on the loopback interface and checks at the end that nothing leaked.
func newHostEngine(t testing.TB, first uint16, mod ...func(*Config)) *Engine {
	t.Helper()
	before := runtime.NumGoroutine()
	cfg := Config{Opener: hostOpener{}, Flow: "media", Addr: loopback(),
		Ports: ringfence.PortRange{First: first, Last: first + 199}, DSCP: 46, Shards: 2}
	for _, m := range mod {
		m(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
			}
		}
	})
	return e
}

// phone is a peer of one leg, with keys and a socket of its own.
type phone struct {
	t      testing.TB
	conn   net.PacketConn
	seal   *rtp.Sealer
	open   *rtp.Opener
	leg    *Endpoint
	mine   rtp.Keys // what the phone seals with
	theirs rtp.Keys // what the relay seals with
	ssrc   uint32
	seq    uint16
	stamp  uint32
	buf    [1600]byte
}

func newKeys(t testing.TB, s rtp.Suite) rtp.Keys {
	t.Helper()
	k, err := rtp.NewKeys(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newPhone opens a leg with fresh keys and a phone at its other end.
func newPhone(t testing.TB, e *Engine, id ringfence.LegID, suite rtp.Suite, listen func() net.PacketConn) *phone {
	t.Helper()
	leg, err := e.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	p := &phone{t: t, conn: listen(), leg: leg, ssrc: uint32(len(id)) * 7919, seq: 100}
	p.ssrc += uint32(id[0])
	t.Cleanup(func() { _ = p.conn.Close() })
	p.rekey(newKeys(t, suite), newKeys(t, suite))
	return p
}

// rekey makes both sides use these keys, as a re-INVITE would.
func (p *phone) rekey(mine, theirs rtp.Keys) {
	p.t.Helper()
	if !p.mine.Equal(mine) || p.seal == nil {
		p.seal, _ = rtp.NewSealer(mine)
	}
	if !p.theirs.Equal(theirs) || p.open == nil {
		p.open, _ = rtp.NewOpener(theirs)
	}
	p.mine, p.theirs = mine, theirs
	if err := p.leg.SetLocalKeys(theirs); err != nil {
		p.t.Fatal(err)
	}
	if err := p.leg.SetRemote(RemoteParams{Addr: p.addr(), Mux: true, Keys: mine}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) addr() netip.AddrPort {
	a, _ := addrPort(p.conn.LocalAddr())
	return a
}

func listenHost(t testing.TB) func() net.PacketConn {
	return func() net.PacketConn {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback(), 0)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// sealed returns the phone's next packet, sealed.
func (p *phone) sealed(payload string) []byte {
	p.t.Helper()
	b := rtp.AppendHeader(nil, rtp.Header{PayloadType: 0, Sequence: p.seq, Timestamp: p.stamp, SSRC: p.ssrc})
	p.seq++
	p.stamp += 160
	b, err := p.seal.RTP(nil, append(b, payload...))
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *phone) send(b []byte) {
	p.t.Helper()
	if _, err := p.conn.WriteTo(b, net.UDPAddrFromAddrPort(p.leg.Local())); err != nil {
		p.t.Fatal(err)
	}
}

// hear waits for the next packet and opens it.
func (p *phone) hear() (rtp.Header, string) {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err := p.conn.ReadFrom(p.buf[:])
	if err != nil {
		p.t.Fatalf("phone of leg %s heard nothing: %v", p.leg.ID(), err)
	}
	b, err := p.open.RTP(nil, p.buf[:n])
	if err != nil {
		p.t.Fatalf("phone of leg %s: %v", p.leg.ID(), err)
	}
	h, err := rtp.ParseHeader(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return h, string(b[h.Offset:])
}

// say sends one packet to q's phone and checks that it is what q hears.
func (p *phone) say(q *phone, payload string) rtp.Header {
	p.t.Helper()
	p.send(p.sealed(payload))
	h, heard := q.hear()
	if heard != payload {
		p.t.Fatalf("said %q, heard %q", payload, heard)
	}
	return h
}

// until waits for a condition that the engine's goroutines bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

func joined(t testing.TB, e *Engine, sa, sb rtp.Suite) (a, b *phone) {
	t.Helper()
	a = newPhone(t, e, "a-leg", sa, listenHost(t))
	b = newPhone(t, e, "bb-leg", sb, listenHost(t))
	if err := e.Join(a.leg, b.leg); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestRelayBothWaysAllSuites(t *testing.T) {
	e := newHostEngine(t, 21000)
	for _, sa := range rtp.Suites() {
		for _, sb := range rtp.Suites() {
			a, b := joined(t, e, sa, sb)
			seq, stamp := a.seq, a.stamp
			h := a.say(b, "from a to b")
			if h.Sequence != seq || h.Timestamp != stamp || h.SSRC != a.ssrc {
				t.Fatalf("%s to %s: header changed on the way: %+v", sa, sb, h)
			}
			b.say(a, "from b to a")
			m := a.leg.Close()
			if m.Suite != string(sa) || m.DSCP != 46 || m.PacketsIn != 1 || m.PacketsOut != 1 || m.Rejected != 0 || m.MOS < 4 {
				t.Fatalf("%s: %+v", sa, m)
			}
			b.leg.Close()
		}
	}
}

func TestForgedAndReplayedChangeNothing(t *testing.T) {
	e := newHostEngine(t, 21200)
	a, b := joined(t, e, rtp.AEAD_AES_256_GCM, rtp.AES_CM_128_HMAC_SHA1_80)
	first := a.sealed("one")
	a.send(first)
	b.hear()
	stranger := listenHost(t)()
	defer stranger.Close()
	forged := bytes.Clone(first)
	forged[len(forged)-1] ^= 1
	plain := rtp.AppendHeader(nil, rtp.Header{Sequence: 500, SSRC: a.ssrc})
	for _, pkt := range [][]byte{first, forged, append(plain, "plain"...), {0x80}, nil} {
		_, _ = stranger.WriteTo(pkt, net.UDPAddrFromAddrPort(a.leg.Local()))
	}
	until(t, "five rejects", func() bool { return a.leg.Stats().Rejected == 5 })
	if a.leg.Peer() != a.addr() {
		t.Fatalf("media moved to %s", a.leg.Peer())
	}
	b.say(a, "still to the right place")
	if h := a.say(b, "two"); h.Sequence != 101 {
		t.Fatalf("something else was relayed: %+v", h)
	}
}

func TestSourceMovesOnlyAfterThreePackets(t *testing.T) {
	e := newHostEngine(t, 21400)
	a, b := joined(t, e, rtp.AEAD_AES_128_GCM, rtp.AEAD_AES_128_GCM)
	a.say(b, "x")
	old := a.conn
	a.conn = listenHost(t)()
	defer a.conn.Close()
	for i := range moves {
		if a.leg.Peer().Port() != old.LocalAddr().(*net.UDPAddr).AddrPort().Port() {
			t.Fatalf("moved after %d packets", i)
		}
		a.say(b, "from elsewhere")
	}
	until(t, "the move", func() bool { return a.leg.Peer() == a.addr() })
	b.say(a, "follows")
}

func TestNothingLeavesBeforeKeys(t *testing.T) {
	e := newHostEngine(t, 21600)
	a := newPhone(t, e, "a", rtp.AEAD_AES_256_GCM, listenHost(t))
	leg, err := e.Open("b")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Join(a.leg, leg); err != nil {
		t.Fatal(err)
	}
	c := listenHost(t)()
	defer c.Close()
	addr, _ := addrPort(c.LocalAddr())
	if err := leg.SetRemote(RemoteParams{Addr: addr, Mux: true, Keys: newKeys(t, rtp.AEAD_AES_256_GCM)}); err != nil {
		t.Fatal(err)
	}
	a.send(a.sealed("too early"))
	until(t, "the packet", func() bool { return a.leg.Stats().PacketsIn == 1 })
	if n := leg.Stats().PacketsOut; n != 0 {
		t.Fatalf("%d packets left without keys", n)
	}
	_, _ = c.WriteTo([]byte("anything before the other's keys"), net.UDPAddrFromAddrPort(leg.Local()))
	if err := leg.SetLocalKeys(rtp.Keys{}); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Fatalf("no keys at all were taken: %v", err)
	}
}
