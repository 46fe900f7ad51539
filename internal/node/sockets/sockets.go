package sockets

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"ringfence"
)

// Opener is the ringfence.Opener of a real host. It opens what the flow table declares and nothing else.
type Opener struct {
	mu    sync.Mutex
	flows map[string]ringfence.Flow
}

// New returns an opener for a flow table.
func New(flows []ringfence.Flow) (*Opener, error) {
	if err := ringfence.CheckFlows(flows); err != nil {
		return nil, err
	}
	s := &Opener{flows: map[string]ringfence.Flow{}}
	for _, f := range flows {
		s.flows[f.Name] = f
	}
	return s, nil
}

// flow returns the declared flow, or a fault that names what was not declared.
func (s *Opener) flow(name string, direction ringfence.Direction, transport string, addr netip.AddrPort) (ringfence.Flow, error) {
	s.mu.Lock()
	f, ok := s.flows[name]
	s.mu.Unlock()
	undeclared := func(why string) error {
		return &ringfence.Fault{Op: "sockets", Kind: ringfence.KindDenied, Text: fmt.Sprintf("%s %s %s: %s", name, transport, addr, why),
			Hint: "every socket must be declared as a flow"}
	}
	switch {
	case !ok:
		return f, undeclared("no such flow")
	case f.Direction != direction || f.Transport != transport:
		return f, undeclared("the flow is declared to " + string(f.Direction) + " " + f.Transport)
	case f.Ports != (ringfence.PortRange{}) && !f.Ports.Contains(addr.Port()):
		return f, undeclared("the flow is declared for ports " + f.Ports.String())
	case f.Addr.IsValid() && !f.Addr.IsUnspecified() && f.Addr != addr.Addr():
		return f, undeclared("the flow is declared for " + f.Addr.String())
	}
	return f, nil
}

// mark sets the DSCP of a socket (RFC 2474), before it is used.
func mark(dscp uint8) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			// On a dual-stack socket both apply; where one does not, the kernel says so and there is nothing to do.
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS, int(dscp)<<2)
			if network[len(network)-1] != '4' {
				_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, int(dscp)<<2)
			}
		})
	}
}

// queue is how many bytes of datagrams the kernel keeps for a socket until they are read. Its own default is full after some 90
// packets of ordinary size: whoever sprays garbage at a media port would push out the voice, if we are late by a few milliseconds. Linux
// gives no more than twice net.core.rmem_max, which is twice its default at least.
const queue = 512 << 10

// How a host finds out that the other end of a connection is gone without a word: it answers no probe after a minute of silence, or
// has not acknowledged for half a minute what was sent to it.
const (
	probeIdle     = 30 * time.Second
	probeInterval = 10 * time.Second
	probeCount    = 3
	ackTimeout    = 30 * time.Second
)

func probes() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeInterval, Count: probeCount}
}

// markTCP is mark, and bounds how long what was sent may stay unacknowledged (RFC 5482), which accepted connections inherit.
func markTCP(dscp uint8) func(network, address string, c syscall.RawConn) error {
	also := mark(dscp)
	return func(network, address string, c syscall.RawConn) error {
		if err := setAckTimeout(c, ackTimeout); err != nil {
			return err
		}
		return also(network, address, c)
	}
}

// Listen implements ringfence.Opener.
func (s *Opener) Listen(ctx context.Context, flow string, addr netip.AddrPort) (net.Listener, error) {
	f, err := s.flow(flow, ringfence.Listens, "tcp", addr)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: markTCP(f.DSCP), KeepAliveConfig: probes()}
	ln, err := lc.Listen(ctx, "tcp", addr.String())
	return ln, inUse(err, flow, addr)
}

// ListenUDP implements ringfence.Opener.
func (s *Opener) ListenUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.PacketConn, error) {
	f, err := s.flow(flow, ringfence.Listens, "udp", addr)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: mark(f.DSCP)}
	pc, err := lc.ListenPacket(ctx, "udp", addr.String())
	if err != nil {
		return nil, inUse(err, flow, addr)
	}
	_ = pc.(*net.UDPConn).SetReadBuffer(queue) // a system that gives less still receives
	return pc, nil
}

// ListenMulticast joins a group by the link that the host's routes name for it, and hears what is sent to the group and to nothing else. Others on this host may hear the same.
func (s *Opener) ListenMulticast(ctx context.Context, flow string, group netip.AddrPort) (net.PacketConn, error) {
	if _, err := s.flow(flow, ringfence.Listens, "udp", group); err != nil {
		return nil, err
	}
	if !group.Addr().IsMulticast() {
		return nil, &ringfence.Fault{Op: "sockets", Kind: ringfence.KindInvalid, Text: group.String() + " is no multicast group"}
	}
	from, err := s.SourceFor(group)
	if err != nil {
		return nil, err
	}
	link, err := linkOf(from)
	if err != nil {
		return nil, err
	}
	pc, err := net.ListenMulticastUDP("udp", link, net.UDPAddrFromAddrPort(group))
	if err != nil {
		return nil, inUse(err, flow, group)
	}
	_ = pc.SetReadBuffer(queue) // a system that gives less still receives
	return pc, nil
}

// linkOf returns the link that has an address.
func linkOf(a netip.Addr) (*net.Interface, error) {
	links, err := net.Interfaces()
	for i := range links {
		addrs, _ := links[i].Addrs() // one that went away has none
		for _, at := range addrs {
			if n, ok := at.(*net.IPNet); ok && n.IP.Equal(a.AsSlice()) {
				return &links[i], nil
			}
		}
	}
	return nil, &ringfence.Fault{Op: "sockets", Kind: ringfence.KindUnavailable, Text: "no link of this host has the address " + a.String(), Err: err}
}

// ListenLink opens a datagram socket of one link of this host: it hears and sends there alone, before the link has an address as well.
func (s *Opener) ListenLink(ctx context.Context, flow, link string, addr netip.AddrPort) (net.PacketConn, error) {
	f, err := s.flow(flow, ringfence.Listens, "udp", addr)
	if err != nil {
		return nil, err
	}
	also, network := mark(f.DSCP), "udp6"
	if addr.Addr().Is4() {
		network = "udp4"
	}
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		if err := toLink(c, link); err != nil {
			return err
		}
		return also(network, address, c)
	}}
	pc, err := lc.ListenPacket(ctx, network, addr.String())
	if err != nil {
		return nil, inUse(err, flow, addr)
	}
	return pc, nil
}

// Dial implements ringfence.Opener.
func (s *Opener) Dial(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error) {
	f, err := s.flow(flow, ringfence.Dials, "tcp", addr)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Control: markTCP(f.DSCP), KeepAliveConfig: probes()}
	return d.DialContext(ctx, "tcp", addr.String())
}

// DialFrom is Dial from an address and port of this host that the caller chooses: what a firewall lets through may depend on them.
func (s *Opener) DialFrom(ctx context.Context, flow string, from, to netip.AddrPort) (net.Conn, error) {
	f, err := s.flow(flow, ringfence.Dials, "tcp", to)
	if err != nil {
		return nil, err
	}
	control := markTCP(f.DSCP)
	d := net.Dialer{KeepAliveConfig: probes(), LocalAddr: net.TCPAddrFromAddrPort(from), Control: func(network, address string, c syscall.RawConn) error {
		// The same port may go to several destinations one after the other; the last connection need not be forgotten first.
		_ = c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
		return control(network, address, c)
	}}
	return d.DialContext(ctx, "tcp", to.String())
}

// SourceFor returns the address of this host that packets to addr leave from. Nothing is sent.
func (s *Opener) SourceFor(addr netip.AddrPort) (netip.Addr, error) {
	c, err := net.Dial("udp", addr.String())
	if err != nil {
		return netip.Addr{}, &ringfence.Fault{Op: "sockets", Kind: ringfence.KindUnavailable, Text: "there is no route to " + addr.String(), Err: err}
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// ListenUnix opens a socket file that only its owner may use.
func (s *Opener) ListenUnix(ctx context.Context, flow, path string) (net.Listener, error) {
	if _, err := s.flow(flow, ringfence.Listens, "unix", netip.AddrPort{}); err != nil {
		return nil, err
	}
	_ = os.Remove(path) // left over from a process that was killed
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, &ringfence.Fault{Op: "sockets", Kind: ringfence.KindUnavailable, Text: "no socket at " + path, Err: err}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, &ringfence.Fault{Op: "sockets", Kind: ringfence.KindUnavailable, Text: "the socket at " + path + " cannot be guarded", Err: err}
	}
	return ln, nil
}

func inUse(err error, flow string, addr netip.AddrPort) error {
	if err == nil {
		return nil
	}
	f := &ringfence.Fault{Op: "sockets", Kind: ringfence.KindUnavailable, Text: "flow " + flow + " cannot listen on " + addr.String(), Err: err}
	if addr.Port() != 0 {
		f.Hint = "see who uses the port: ss -lntup sport = :" + strconv.Itoa(int(addr.Port())) + "; or set another one in the configuration"
	}
	return f
}

// DialUnix connects to a socket file of this host for the named flow.
func (s *Opener) DialUnix(ctx context.Context, flow, path string) (net.Conn, error) {
	if _, err := s.flow(flow, ringfence.Dials, "unix", netip.AddrPort{}); err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

// DialUDP returns a socket that sends datagrams to addr and hears from nobody else, for the named flow.
func (s *Opener) DialUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error) {
	f, err := s.flow(flow, ringfence.Dials, "udp", addr)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Control: mark(f.DSCP)}
	return d.DialContext(ctx, "udp", addr.String())
}

// ListenICMP returns a socket that hears what routers say to an address of this host (RFC 792, 4443), for the named flow. It takes root, or CAP_NET_RAW.
func (s *Opener) ListenICMP(ctx context.Context, flow string, addr netip.Addr) (net.PacketConn, error) {
	if _, err := s.flow(flow, ringfence.Listens, "icmp", netip.AddrPortFrom(addr, 0)); err != nil {
		return nil, err
	}
	network := "ip4:icmp"
	if addr.Is6() {
		network = "ip6:ipv6-icmp"
	}
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, network, addr.String())
	if err != nil {
		return nil, &ringfence.Fault{Op: "sockets", Kind: ringfence.KindDenied, Text: "what routers say cannot be heard", Hint: "it takes root, or CAP_NET_RAW", Err: err}
	}
	return pc, nil
}

// DialUnixgram returns a socket that sends datagrams to a socket file of this host, for the named flow.
func (s *Opener) DialUnixgram(ctx context.Context, flow, path string) (net.Conn, error) {
	if _, err := s.flow(flow, ringfence.Dials, "unix", netip.AddrPort{}); err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "unixgram", path)
}

// DialUnixgramFrom is DialUnixgram from a socket that can be answered; own is its name. One that begins with @ is no file.
func (s *Opener) DialUnixgramFrom(ctx context.Context, flow, own, path string) (net.Conn, error) {
	if _, err := s.flow(flow, ringfence.Dials, "unix", netip.AddrPort{}); err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: &net.UnixAddr{Name: own, Net: "unixgram"}}
	return d.DialContext(ctx, "unixgram", path)
}

// OpenFrames opens a link for Ethernet frames of one type: those to this host, to everybody, and to a group if one is given; with all those to others as well.
func (s *Opener) OpenFrames(flow, link string, etherType uint16, group [6]byte, all bool) (io.ReadWriteCloser, error) {
	if _, err := s.flow(flow, ringfence.Listens, "ethernet", netip.AddrPort{}); err != nil {
		return nil, err
	}
	i, err := net.InterfaceByName(link)
	if err == nil {
		var f io.ReadWriteCloser
		if f, err = frames(i.Index, etherType, group, all); err == nil {
			return f, nil
		}
	}
	return nil, &ringfence.Fault{Op: "sockets", Kind: ringfence.KindUnavailable, Text: "flow " + flow + " cannot open the link " + link, Err: err, Hint: "it takes root, on Linux"}
}
