package transport

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"ringfence/internal/sip"
)

// udpSocket is a UDP socket with the remote addresses that it talks to, the one heard last at the front. What it remembers
// is bounded, and only a request that could be parsed makes it remember a new address.
type udpSocket struct {
	layer *Layer
	flow  string
	pc    datagrams
	local netip.AddrPort

	delivery delivery
	now      int64 // when what is read at present came, as Layer.tick counts; it is the reader's

	mu    sync.Mutex
	peers map[netip.AddrPort]*list.Element // of *Conn
	order list.List
}

// datagrams is a socket as udpSocket uses it.
type datagrams interface {
	// read waits for datagrams and hands over what has come. A slice is valid until each returns.
	read(each func(b []byte, from netip.AddrPort)) error
	// writer returns what sends to one address, for one goroutine at a time. It does not wait longer than the kernel needs to take the
	// datagrams, and tells of the last failure; the others are sent all the same.
	writer(to netip.AddrPort) writer
	Close() error
}

// plainDatagrams is a socket that is none of the kernel's, as in tests, or on a system that we know no better way for.
type plainDatagrams struct {
	net.PacketConn
	buf [65536]byte
}

func (p *plainDatagrams) read(each func(b []byte, from netip.AddrPort)) error {
	n, from, err := p.ReadFrom(p.buf[:])
	if err == nil {
		each(p.buf[:n], addrPort(from))
	}
	return err
}

func (p *plainDatagrams) writer(to netip.AddrPort) writer {
	return plainWriter(p.PacketConn, to)
}

func plainWriter(pc net.PacketConn, to netip.AddrPort) writer {
	addr := net.UDPAddrFromAddrPort(to)
	return oneByOne(func(msg []byte) error {
		_, err := pc.WriteTo(msg, addr)
		return err
	})
}

// ListenUDP opens the named flow at addr and serves it until Close. UDP is for peers with a named exception: nothing
// on it is secret, and nobody on it has proved a name. Each remote address is a [Conn] of its own.
func (l *Layer) ListenUDP(ctx context.Context, flow string, addr netip.AddrPort) (netip.AddrPort, error) {
	pc, err := l.cfg.Opener.ListenUDP(ctx, flow, addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	local := addrPort(pc.LocalAddr())
	s := &udpSocket{layer: l, flow: flow, pc: newDatagrams(pc), local: local, peers: map[netip.AddrPort]*list.Element{}}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		_ = s.pc.Close()
		return netip.AddrPort{}, net.ErrClosed
	}
	l.sockets[flow] = s
	l.wg.Go(s.readLoop)
	l.mu.Unlock()
	return s.local, nil
}

// PeerUDP returns the Conn for a remote address on a flow that ListenUDP opened, or nil if there is no such flow.
func (l *Layer) PeerUDP(flow string, remote netip.AddrPort) *Conn {
	l.mu.Lock()
	s := l.sockets[flow]
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.peer(remote, true, l.tick())
}

// peer finds the Conn for a remote address, from which something came at now, or to which something is to go. With add, it makes one if
// there is none, at the cost of the one that was silent for longest, within a second, if the table is full.
func (s *udpSocket) peer(remote netip.AddrPort, add bool, now int64) *Conn {
	s.mu.Lock()
	if e := s.peers[remote]; e != nil {
		c := e.Value.(*Conn)
		if now-c.fresh >= 1000 { // a busy peer is at the front anyway
			c.fresh = now
			s.order.MoveToFront(e)
		}
		s.mu.Unlock()
		return c
	}
	if !add {
		s.mu.Unlock()
		return nil
	}
	l := s.layer
	c := &Conn{ID: l.nextID.Add(1), Flow: s.flow, Network: "UDP", Local: s.localFor(remote), Remote: remote, Since: time.Now(), layer: l, udp: s, fresh: now}
	c.framed = s.pc.writer(remote)
	c.ready.Store(true)
	c.lastRead.Store(now)
	s.peers[remote] = s.order.PushFront(c)
	var evicted *Conn
	if len(s.peers) > l.cfg.MaxUDPPeers {
		evicted = s.order.Back().Value.(*Conn)
		s.drop(evicted)
	}
	s.mu.Unlock()
	l.remember(c)
	if evicted != nil {
		evicted.Close(net.ErrClosed)
	}
	return c
}

// localFor returns our address as remote sees it, where the socket is bound to every address and the opener can tell.
func (s *udpSocket) localFor(remote netip.AddrPort) netip.AddrPort {
	o, ok := s.layer.cfg.Opener.(interface {
		SourceFor(netip.AddrPort) (netip.Addr, error)
	})
	if !ok || !s.local.Addr().IsUnspecified() {
		return s.local
	}
	addr, err := o.SourceFor(remote)
	if err != nil {
		return s.local
	}
	return netip.AddrPortFrom(addr, s.local.Port())
}

// drop runs with mu held.
func (s *udpSocket) drop(c *Conn) {
	if e := s.peers[c.Remote]; e != nil && e.Value == c {
		s.order.Remove(e)
		delete(s.peers, c.Remote)
	}
}

func (s *udpSocket) forget(c *Conn) {
	s.mu.Lock()
	s.drop(c)
	s.mu.Unlock()
}

func (s *udpSocket) readLoop() {
	var msg sip.Message
	each := func(b []byte, from netip.AddrPort) {
		if s.now == 0 {
			s.now = s.layer.tick()
		}
		s.receive(b, from, &msg)
	}
	s.delivery.on = true // what they cause leaves together: whoever is woken for one of them is awake for the next
	for {
		s.now = 0
		err := s.pc.read(each)
		s.delivery.flush()
		if err != nil {
			if s.layer.isClosed() || !s.layer.pause() {
				return
			}
			// A port that is not reachable, or too little memory: the socket lives on.
		}
	}
}

func (l *Layer) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (s *udpSocket) receive(b []byte, from netip.AddrPort, msg *sip.Message) {
	if isKeepAlive(b) {
		return
	}
	l := s.layer
	err := msg.Parse(b, l.cfg.Limits)
	if err == nil {
		err = msg.Validate()
	}
	if err != nil { // no answer: the source may be forged, and an answer would be what a reflection attack is after
		l.count(&l.stats.Garbage)
		return
	}
	c := s.peer(from, msg.IsRequest(), s.now)
	if c == nil { // an answer from someone we never wrote to
		l.count(&l.stats.Garbage)
		return
	}
	c.lastRead.Store(s.now)
	c.messages.Add(1)
	l.cfg.Receiver.Receive(c, msg, nil)
}

// isKeepAlive tells the short nothings that phones send to hold a NAT binding.
func isKeepAlive(b []byte) bool {
	for _, c := range b {
		if c != '\r' && c != '\n' && c != 0 {
			return false
		}
	}
	return len(b) <= 64
}
