package testkit

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxDatagrams is how many datagrams wait at a socket before more are dropped.
const maxDatagrams = 4096

type packetConn struct {
	net  *Net
	addr netip.AddrPort

	mu     sync.Mutex
	wake   sync.Cond
	queue  []datagram
	closed bool
	readBy deadline
}

type datagram struct {
	from netip.AddrPort
	data []byte
}

// ListenUDP implements ringfence.Opener.
func (h *host) ListenUDP(_ context.Context, flow string, at netip.AddrPort) (net.PacketConn, error) {
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	at, err := h.claim(flow, at, func(at netip.AddrPort) bool { return n.packets[at] != nil })
	if err != nil {
		return nil, err
	}
	p := &packetConn{net: n, addr: at}
	p.wake.L = &p.mu
	n.packets[at] = p
	return p, nil
}

// WriteTo implements net.PacketConn. A datagram that nobody can receive is lost without an error.
func (p *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	dst, err := netip.ParseAddrPort(to.String())
	if err != nil {
		return 0, err
	}
	if len(b) > 65507 {
		return 0, syscall.EMSGSIZE
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	n := p.net
	n.mu.Lock()
	shape, way := n.shape, pathOf(p.addr.Addr(), dst.Addr())
	lost := n.cuts[way] || n.holes[way] || n.random.Float64() < shape.Loss
	delay := shape.Latency
	if n.random.Float64() < shape.Reorder {
		if shape.ReorderBy == 0 {
			shape.ReorderBy = 20 * time.Millisecond
		}
		delay += shape.ReorderBy
	}
	peer := n.packets[dst]
	n.mu.Unlock()
	if lost || peer == nil {
		return len(b), nil
	}
	d := datagram{from: p.addr, data: append([]byte(nil), b...)}
	if delay > 0 {
		time.AfterFunc(delay, func() { peer.deliver(d) })
	} else {
		peer.deliver(d)
	}
	return len(b), nil
}

func (p *packetConn) deliver(d datagram) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && len(p.queue) < maxDatagrams {
		p.queue = append(p.queue, d)
		p.wake.Broadcast()
	}
}

// ReadFrom implements net.PacketConn.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, nil, net.ErrClosed
		case p.readBy.passed():
			return 0, nil, os.ErrDeadlineExceeded
		case len(p.queue) > 0:
			d := p.queue[0]
			p.queue = p.queue[1:]
			return copy(b, d.data), net.UDPAddrFromAddrPort(d.from), nil
		}
		p.wake.Wait()
	}
}

// Close implements net.PacketConn.
func (p *packetConn) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return net.ErrClosed
	}
	p.closed = true
	p.queue = nil
	p.readBy.stop()
	p.wake.Broadcast()
	p.mu.Unlock()
	p.net.mu.Lock()
	delete(p.net.packets, p.addr)
	p.net.mu.Unlock()
	return nil
}

// LocalAddr implements net.PacketConn.
func (p *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.addr) }

// SetDeadline implements net.PacketConn.
func (p *packetConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (p *packetConn) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.readBy.set(&p.wake, t)
	}
	return nil
}

// SetWriteDeadline implements net.PacketConn; writing never waits.
func (p *packetConn) SetWriteDeadline(time.Time) error { return nil }
