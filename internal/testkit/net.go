package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"ringfence"
)

// Shape says how the network treats what it carries. The zero value delivers everything at once and in order.
type Shape struct {
	Latency time.Duration // one way, for streams and datagrams
	Loss    float64       // share of datagrams lost, 0 to 1
	Reorder float64       // share of datagrams that are held back for ReorderBy
	// ReorderBy is how long a datagram that is reordered is held back; 0 means 20 ms.
	ReorderBy time.Duration
	// Buffer is how many bytes a stream holds in one direction before the writer has to wait; 0 means 64 KiB.
	Buffer int
}

// Net is one network. It is safe for concurrent use.
type Net struct {
	mu        sync.Mutex
	random    *rand.Rand
	shape     Shape
	listeners map[netip.AddrPort]*listener
	packets   map[netip.AddrPort]*packetConn
	streams   map[*stream]struct{} // the dialling ends
	holes     map[path]bool
	cuts      map[path]bool
	ports     map[netip.Addr]uint16
}

type path struct{ a, b netip.Addr }

func pathOf(a, b netip.Addr) path {
	if b.Less(a) {
		a, b = b, a
	}
	return path{a, b}
}

// New returns a network without hosts. seed makes loss and reordering repeatable.
func New(seed uint64) *Net {
	return &Net{random: rand.New(rand.NewPCG(seed, 1)), listeners: map[netip.AddrPort]*listener{}, packets: map[netip.AddrPort]*packetConn{},
		streams: map[*stream]struct{}{}, holes: map[path]bool{}, cuts: map[path]bool{}, ports: map[netip.Addr]uint16{}}
}

// SetShape changes how the network behaves from now on. Buffer applies to streams opened afterwards.
func (n *Net) SetShape(s Shape) {
	n.mu.Lock()
	n.shape = s
	n.mu.Unlock()
}

// Host returns the opener of the host with this address. An address stands for the same host every time.
func (n *Net) Host(addr netip.Addr) ringfence.Opener { return &host{net: n, addr: addr} }

// Cut resets every stream between two hosts and refuses new ones until [Net.Heal]. Datagrams are lost.
func (n *Net) Cut(a, b netip.Addr) {
	n.mu.Lock()
	n.cuts[pathOf(a, b)] = true
	var hit []*stream
	for s := range n.streams {
		if pathOf(s.local.Addr(), s.remote.Addr()) == pathOf(a, b) {
			hit = append(hit, s)
		}
	}
	n.mu.Unlock()
	for _, s := range hit {
		s.reset()
	}
}

// Blackhole makes what either host sends to the other vanish without a word, as a firewall does that drops: streams stay open.
func (n *Net) Blackhole(a, b netip.Addr) { n.hole(a, b, true) }

// Heal undoes Cut and Blackhole. What a stream had accepted meanwhile then arrives, as by TCP's retransmission.
func (n *Net) Heal(a, b netip.Addr) {
	n.mu.Lock()
	delete(n.cuts, pathOf(a, b))
	n.mu.Unlock()
	n.hole(a, b, false)
}

func (n *Net) hole(a, b netip.Addr, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if on {
		n.holes[pathOf(a, b)] = true
	} else {
		delete(n.holes, pathOf(a, b))
	}
	for s := range n.streams {
		if pathOf(s.local.Addr(), s.remote.Addr()) == pathOf(a, b) {
			s.in.setHole(on)
			s.out.setHole(on)
		}
	}
}

// Streams returns how many streams are open at one end or both.
func (n *Net) Streams() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.streams)
}

// freePort finds a port on addr that nothing uses. It runs with mu held.
func (n *Net) freePort(addr netip.Addr) uint16 {
	for {
		p := n.ports[addr]
		if p < 40000 || p == 65535 {
			p = 40000
		}
		n.ports[addr] = p + 1
		at := netip.AddrPortFrom(addr, p)
		if n.listeners[at] == nil && n.packets[at] == nil {
			return p
		}
	}
}

type host struct {
	net  *Net
	addr netip.Addr
}

var _ ringfence.Opener = (*host)(nil)

// claim finds where a socket of a flow listens: it puts an unspecified address on this host and refuses that of another, finds a port if
// there is none, and refuses one that is taken. It runs with the net's lock held.
func (h *host) claim(flow string, at netip.AddrPort, taken func(netip.AddrPort) bool) (netip.AddrPort, error) {
	if !at.Addr().IsValid() || at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(h.addr, at.Port())
	}
	if at.Addr() != h.addr {
		return at, &net.OpError{Op: "listen", Net: "virtual", Err: syscall.EADDRNOTAVAIL}
	}
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), h.net.freePort(at.Addr()))
	}
	if taken(at) {
		return at, &net.OpError{Op: "listen", Net: "virtual", Err: fmt.Errorf("flow %s at %s: %w", flow, at, syscall.EADDRINUSE)}
	}
	return at, nil
}

// Listen implements ringfence.Opener.
func (h *host) Listen(_ context.Context, flow string, at netip.AddrPort) (net.Listener, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	at, err := h.claim(flow, at, func(at netip.AddrPort) bool { return n.listeners[at] != nil })
	if err != nil {
		return nil, err
	}
	l := &listener{net: n, addr: at}
	l.wake.L = &l.mu
	n.listeners[at] = l
	return l, nil
}

// Dial implements ringfence.Opener.
func (h *host) Dial(ctx context.Context, _ string, to netip.AddrPort) (net.Conn, error) {
	n := h.net
	n.mu.Lock()
	shape := n.shape
	p := pathOf(h.addr, to.Addr())
	n.mu.Unlock()
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	if err := sleep(ctx, 2*shape.Latency); err != nil {
		return fail(err)
	}
	n.mu.Lock()
	if n.holes[p] {
		n.mu.Unlock()
		<-ctx.Done()
		return fail(ctx.Err())
	}
	l := n.listeners[to]
	if l == nil || n.cuts[p] {
		n.mu.Unlock()
		return fail(syscall.ECONNREFUSED)
	}
	near, far := newStreams(n, netip.AddrPortFrom(h.addr, n.freePort(h.addr)), to, shape)
	n.streams[near] = struct{}{}
	n.mu.Unlock()
	if !l.offer(far) {
		near.reset()
		return fail(syscall.ECONNREFUSED)
	}
	return near, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// listener queues streams until they are accepted.
type listener struct {
	net  *Net
	addr netip.AddrPort

	mu     sync.Mutex
	wake   sync.Cond
	queue  []*stream
	closed bool
}

func (l *listener) offer(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.queue = append(l.queue, s)
	l.wake.Signal()
	return true
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.wake.Wait()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	s := l.queue[0]
	l.queue = l.queue[1:]
	return s, nil
}

// Close implements net.Listener; streams that nobody accepted are reset.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.closed = true
	queue := l.queue
	l.queue = nil
	l.wake.Broadcast()
	l.mu.Unlock()
	for _, s := range queue {
		s.reset()
	}
	l.net.mu.Lock()
	delete(l.net.listeners, l.addr)
	l.net.mu.Unlock()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }
