package reflector

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/wire"
	"ringfence/internal/node/sockets"
)

var key = []byte("a key for tests only")

// start runs a reflector on loopback and returns where its control channel is.
func start(t *testing.T) netip.AddrPort {
	t.Helper()
	o, err := sockets.New(Flows())
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Key: key, Allow: []need.Ports{{First: 1024, Last: 65535}}, Opener: o})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	at, done := make(chan netip.AddrPort, 1), make(chan error, 1)
	go func() { done <- r.Serve(ctx, func(a netip.AddrPort) { at <- a }) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(r.sessions) != 0 || r.total != 0 {
			t.Errorf("left over: %d sessions, %d connections", len(r.sessions), r.total)
		}
	})
	select {
	case a := <-at:
		return a
	case err := <-done:
		t.Fatal(err)
	}
	return netip.AddrPort{}
}

// prober is a control channel with one UDP port that is open.
type prober struct {
	*testing.T
	*wire.Channel
	conn net.Conn
	at   netip.AddrPort
}

func newProber(t *testing.T, at netip.AddrPort) *prober {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	ch, err := wire.Dial(c, key)
	if err != nil {
		t.Fatal(err)
	}
	p := &prober{T: t, Channel: ch, conn: c}
	for port := uint16(42000); port < 42100; port++ {
		if r := p.ask(wire.Request{Op: "open", UDP: []uint16{port}}); len(r.Unopened) == 0 {
			p.at = netip.AddrPortFrom(at.Addr(), port)
			return p
		}
	}
	t.Fatal("no port is free")
	return nil
}

func (p *prober) ask(q wire.Request) (r wire.Reply) {
	p.Helper()
	if err := p.Send(q); err != nil {
		p.Fatal(err)
	}
	if err := p.Receive(&r); err != nil {
		p.Fatal(err)
	}
	return r
}

// udp sends datagrams and then a good one from the same place, and returns how long the answers before that one's were.
func (p *prober) udp(from string, seq uint32, all ...[]byte) (lengths []int) {
	p.Helper()
	c, err := net.ListenPacket("udp4", from+":0")
	if err != nil {
		p.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for _, b := range append(all, wire.Probe{Kind: wire.Reach, Session: p.Session, Seq: seq}.Append(nil, p.Key, 0)) {
		if _, err := c.WriteTo(b, net.UDPAddrFromAddrPort(p.at)); err != nil {
			p.Fatal(err)
		}
	}
	b := make([]byte, wire.MaxSize)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			p.Fatal(err)
		}
		a, err := wire.ParseProbe(b[:n])
		if err != nil || !wire.Genuine(b[:n], p.Key) || !a.Answer {
			p.Fatalf("%+v %v", a, err)
		}
		if a.Seq == seq {
			return lengths
		}
		lengths = append(lengths, n)
	}
}

// Nothing but a fresh, genuine probe is answered, and no answer is longer than what it answers.
func TestAnswers(t *testing.T) {
	p := newProber(t, start(t))
	probe := func(seq uint32, change func(*wire.Probe), size int) []byte {
		q := wire.Probe{Kind: wire.Reach, Session: p.Session, Seq: seq}
		if change != nil {
			change(&q)
		}
		return q.Append(nil, p.Key, size)
	}
	mark := uint32(100)
	for name, c := range map[string]struct {
		send []byte
		want int
	}{
		"short":           {probe(1, nil, 0), wire.Size},
		"padded":          {probe(2, nil, 1400), wire.Size},
		"whole":           {probe(3, func(q *wire.Probe) { q.Whole = true }, 1400), 1400},
		"another session": {probe(5, func(q *wire.Probe) { q.Session++ }, 0), 0},
		"an answer":       {probe(6, func(q *wire.Probe) { q.Answer = true }, 0), 0},
		"another key":     {wire.Probe{Kind: wire.Reach, Session: p.Session, Seq: 7}.Append(nil, key, 0), 0},
		"cut":             {probe(8, nil, 0)[:wire.Size-1], 0},
		"number 0":        {probe(0, nil, 0), 0},
		"no probe":        {[]byte("OPTIONS sip:a@b SIP/2.0\r\n\r\n"), 0},
		"no other port":   {probe(9, func(q *wire.Probe) { q.Kind = wire.Elsewhere }, 0), 0},
	} {
		mark++
		got := p.udp("127.0.0.1", mark, c.send)
		if c.want == 0 && len(got) != 0 || c.want != 0 && (len(got) != 1 || got[0] != c.want || got[0] > len(c.send)) {
			t.Errorf("%s: answers of %v bytes, want %d", name, got, c.want)
		}
	}
	if got := p.udp("127.0.0.1", 200, probe(1, nil, 0), probe(1, nil, 0)); len(got) != 0 {
		t.Errorf("a copied probe is answered: %v", got)
	}
}

// A genuine probe from another address than that of the control channel is told of, and not answered: whoever copies one cannot aim the answer.
func TestForgedSender(t *testing.T) {
	p := newProber(t, start(t))
	c, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo(wire.Probe{Kind: wire.Reach, Session: p.Session, Seq: 1}.Append(nil, p.Key, 0), net.UDPAddrFromAddrPort(p.at)); err != nil {
		t.Fatal(err)
	}
	p.udp("127.0.0.1", 2)
	if r := p.ask(wire.Request{Op: "counts"}); len(r.Strays) != 1 || r.Strays[0] != c.LocalAddr().String() {
		t.Errorf("%+v", r)
	}
	if r := p.ask(wire.Request{Op: "poke", To: c.LocalAddr().String(), UDP: []uint16{p.at.Port()}}); r.Error == "" {
		t.Error("it sends to where nobody proved to be")
	}
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, _, err := c.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes went to the forged sender", n)
	}
}

// Strangers on TCP get nothing, and a wrong key opens nothing.
func TestStrangers(t *testing.T) {
	at := start(t)
	for _, say := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x00\x05hello", wire.Magic + string(make([]byte, wire.Size)), "OPTIONS sip:a SIP/2.0\r\nContent-Length: 99999999999\r\n\r\n"} {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, say)
		_ = c.(*net.TCPConn).CloseWrite()
		if b, _ := io.ReadAll(c); len(b) != 0 {
			t.Errorf("%.10q is answered with %q", say, b)
		}
		c.Close()
	}
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := wire.Dial(c, []byte("another key for tests")); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("%v", err)
	}
}

// What may not be opened is named, limits hold, and ports close with the channel.
func TestOpen(t *testing.T) {
	at := start(t)
	p := newProber(t, at)
	if r := p.ask(wire.Request{Op: "open", TCP: []uint16{80, at.Port()}, UDP: []uint16{0}}); len(r.Unopened) != 2 || r.Unopened["tcp/80"] == "" || r.Unopened["udp/0"] == "" {
		t.Errorf("%+v", r)
	}
	if r := p.ask(wire.Request{Op: "open", TCP: make([]uint16, maxAsked+1)}); r.Error == "" {
		t.Error("any number of ports in one request")
	}
	if r := p.ask(wire.Request{Op: "nonsense"}); r.Error == "" {
		t.Error("nonsense is done")
	}
	p.conn.Close()
	for {
		again := newProber(t, at) // the listener of the reflector itself stays
		if again.at == p.at {
			break
		}
		again.conn.Close()
		if t.Context().Err() != nil {
			t.Fatal("the port stays open")
		}
	}
}

// The window takes each number once, in any order, and none that is too old to know.
func TestOnce(t *testing.T) {
	s := &session{}
	for _, c := range []struct {
		seq  uint32
		want bool
	}{{0, false}, {1, true}, {1, false}, {5, true}, {3, true}, {3, false}, {5, false}, {windowSize + 10, true}, {5, false}, {10, false}, {11, true}, {windowSize + 9, true}, {1 << 31, true}, {1 << 31, false}, {1<<31 - 1, true}, {windowSize + 10, false}, {1<<32 - 1, true}, {1<<32 - 1, false}} {
		if got := s.once(c.seq); got != c.want {
			t.Errorf("%d: %v", c.seq, got)
		}
	}
}

func TestRate(t *testing.T) {
	now := time.Unix(0, 0)
	s := &session{rate: perSecond, tokens: perSecond, filled: now}
	n := 0
	for range 3 * perSecond {
		if s.mayAnswer(now) {
			n++
		}
	}
	if n != perSecond || !s.mayAnswer(now.Add(time.Second)) {
		t.Errorf("%d answers in no time", n)
	}
}

func FuzzStream(f *testing.F) {
	o, err := sockets.New(Flows())
	if err != nil {
		f.Fatal(err)
	}
	r, err := New(Config{Key: key, Opener: o})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("OPTIONS sip:a SIP/2.0\r\nl: 4\r\n\r\nabcd"))
	f.Add([]byte(wire.Greeting + "\x010123456789abcdef0123456789abcdef0123456789abcdef"))
	f.Add(wire.Probe{Kind: wire.Reach}.Append(nil, key, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, c := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.stream(context.Background(), c)
			c.Close()
		}()
		go func() {
			_, _ = a.Write(b)
			_ = a.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, _ = a.Read(make([]byte, 4096)) // a greeting is answered
			a.Close()
		}()
		<-done
		if len(r.sessions) != 0 {
			t.Error("a stranger has a session")
		}
	})
}
