package datagram

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// NoMark stands for a mark that could not be read.
const NoMark = 255

// Refusal is what a machine on the way said about a datagram (ICMP, RFC 792 and 4443).
type Refusal struct {
	To  netip.AddrPort // where the datagram should have gone
	By  netip.Addr     // who refused it; invalid: this host
	Why string
	MTU int // what would have passed, if it was too long
	// Expired says that it came to the end of its hops there, as it was meant to (see [Conn.Hops]).
	Expired bool
}

// Conn is a socket for datagrams. One that is no socket of this host has no marks and hears no refusals.
type Conn struct {
	net.PacketConn
	udp *net.UDPConn
	raw syscall.RawConn
}

// New takes a socket over.
func New(pc net.PacketConn) *Conn {
	c := &Conn{PacketConn: pc}
	if udp, ok := pc.(*net.UDPConn); ok {
		if raw, err := udp.SyscallConn(); err == nil {
			c.udp, c.raw = udp, raw
			c.attend()
		}
	}
	return c
}

// Read receives a datagram with its DSCP, or NoMark. Refusals are no errors here; see [Conn.Refusals].
func (c *Conn) Read(b []byte) (n int, from netip.AddrPort, mark uint8, err error) {
	for {
		if c.udp == nil {
			n, a, err := c.PacketConn.ReadFrom(b)
			if err != nil {
				return 0, from, NoMark, err
			}
			if u, ok := a.(*net.UDPAddr); ok {
				from = netip.AddrPortFrom(u.AddrPort().Addr().Unmap(), u.AddrPort().Port())
			}
			return n, from, NoMark, nil
		}
		var oob [128]byte
		n, m, _, from, err := c.udp.ReadMsgUDPAddrPort(b, oob[:])
		if soft(err) {
			continue
		}
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), markOf(oob[:m]), err
	}
}

// Write sends a datagram with a DSCP. A refusal of an earlier one is no error of this one.
func (c *Conn) Write(b []byte, to netip.AddrPort, mark uint8) error {
	if c.udp == nil {
		_, err := c.PacketConn.WriteTo(b, net.UDPAddrFromAddrPort(to))
		return err
	}
	var err error
	for range 4 { // the kernel reports earlier refusals here, each once
		if _, _, err = c.udp.WriteMsgUDPAddrPort(b, withMark(to.Addr(), mark), to); !soft(err) || errors.Is(err, syscall.EMSGSIZE) {
			return err
		}
	}
	return err
}

// soft reports whether an error is what the network said about another datagram.
func soft(err error) bool {
	for _, e := range [...]syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE, syscall.EACCES, syscall.EPROTO, syscall.EOPNOTSUPP, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
