package relay

import (
	"net"
	"net/netip"
)

// socket sends datagrams from one port of a leg.
type socket interface {
	// send is called with the leg's outbound lock held, and never after close.
	send(b []byte, to netip.AddrPort) error
	// dscp returns the mark on what is sent.
	dscp() uint8
	// overrun returns how many datagrams the kernel threw away unread since the leg has the socket, because the queue was full.
	overrun() uint64
	close()
}

// goSocket is a socket that no kernel owns, or one on a system without our loop: it has a goroutine of its own.
type goSocket struct {
	conn net.PacketConn
	mark uint8
}

func (s *goSocket) send(b []byte, to netip.AddrPort) error {
	var err error
	if c, ok := s.conn.(interface {
		WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	}); ok {
		_, err = c.WriteToUDPAddrPort(b, to)
	} else {
		_, err = s.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
	return err
}

func (s *goSocket) dscp() uint8     { return s.mark }
func (s *goSocket) overrun() uint64 { return 0 } // nobody can be asked
func (s *goSocket) close()          { _ = s.conn.Close() }

// run receives until the socket is closed.
func (s *goSocket) run(p *Endpoint, control bool) {
	var sc scratch
	e := p.engine
	for {
		n, from, err := s.conn.ReadFrom(sc.in[:])
		if err != nil {
			p.in.mu.Lock()
			closed := p.in.closed
			p.in.mu.Unlock()
			if closed || e.ctx.Err() != nil {
				return
			}
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				continue
			}
			e.cfg.Log.Warn("a media socket failed", "leg", p.id, "error", err)
			return
		}
		at, ok := addrPort(from)
		if !ok {
			continue
		}
		now := e.since(e.cfg.Now())
		p.in.mu.Lock()
		p.receive(&sc, n, at, now, control)
	}
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	if u, ok := a.(*net.UDPAddr); ok {
		ap := u.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
	}
	ap, err := netip.ParseAddrPort(a.String())
	return ap, err == nil
}
