package ringfence

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Direction says which side opens a flow.
type Direction string

// The directions of a flow, seen from this node.
const (
	Listens Direction = "listen"
	Dials   Direction = "dial"
)

// TLSMode says how a flow is protected.
type TLSMode string

// The TLS modes of a flow. A flow that is TLSNone must say in its Purpose why that is safe.
const (
	TLSNone    TLSMode = "none"   // not TLS: sealed otherwise (SRTP), local to the host, or a named exception
	TLSServer  TLSMode = "server" // the listener proves its name, the peer may prove one
	TLSMutual  TLSMode = "mutual" // both sides prove their names
	MediaSRTP  TLSMode = "srtp"   // RTP sealed by SRTP (RFC 3711)
	HostSocket TLSMode = "host"   // a Unix socket guarded by file permissions
)

// PortRange is an inclusive range of ports; First == Last for one port. The zero value means any port
// (for a dialled flow, an ephemeral source).
type PortRange struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// Contains reports whether port lies in the range.
func (r PortRange) Contains(port uint16) bool { return port >= r.First && port <= r.Last }

// String returns "5061", "16384-32767" or "any".
func (r PortRange) String() string {
	switch {
	case r == PortRange{}:
		return "any"
	case r.First == r.Last:
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Flow declares one network need: who talks to whom, why, over which transport and ports, with which DSCP and TLS mode.
// Whatever listens or dials is declared as a Flow exactly once; listeners, firewall rules, QoS marks and the readiness
// test all derive from that table.
type Flow struct {
	Name      string     `json:"name"`      // unique, e.g. "sip-tls"
	Purpose   string     `json:"purpose"`   // one sentence
	Room      string     `json:"room"`      // the room that declares it, e.g. "sip/transport"
	Direction Direction  `json:"direction"` // who opens it
	Transport string     `json:"transport"` // "tcp", "udp", "unix" or "icmp"; "ethernet" for frames of one type on one link
	Addr      netip.Addr `json:"addr"`      // local address to listen on; invalid for a dialled or unix flow
	Path      string     `json:"path,omitempty"`
	Ports     PortRange  `json:"ports"` // local ports if it listens, remote ports if it dials
	Peers     string     `json:"peers"` // who is at the other end, in words: "any phone", "this host"
	DSCP      uint8      `json:"dscp"`  // 0 to 63 (RFC 2474)
	TLS       TLSMode    `json:"tls"`
	Until     string     `json:"until,omitempty"` // expiry of a named exception, RFC 3339
}

// Opener is the one hand that opens sockets. A room names the flow that it declared; an opener refuses what no flow covers.
type Opener interface {
	// Listen opens a stream listener for the named flow at addr (port 0: any port the flow allows).
	Listen(ctx context.Context, flow string, addr netip.AddrPort) (net.Listener, error)
	// ListenUDP opens a datagram socket for the named flow at addr and sets the flow's DSCP on it.
	ListenUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.PacketConn, error)
	// Dial opens a stream to addr for the named flow.
	Dial(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error)
}

// CheckFlows reports the first contradiction in a flow table: an empty or repeated name, an unknown transport, a port
// range that is inverted, or two listeners whose transport, address and ports overlap.
func CheckFlows(flows []Flow) error {
	seen := map[string]bool{}
	for i, f := range flows {
		switch {
		case f.Name == "" || f.Purpose == "" || f.Room == "":
			return &Fault{Op: "flow.check", Kind: KindInvalid, Text: fmt.Sprintf("flow %d (%q) needs a name, a purpose and a room", i, f.Name)}
		case seen[f.Name]:
			return &Fault{Op: "flow.check", Kind: KindConflict, Text: fmt.Sprintf("flow %q is declared twice", f.Name)}
		case !slices.Contains([]string{"tcp", "udp", "unix", "icmp", "ethernet"}, f.Transport):
			return &Fault{Op: "flow.check", Kind: KindInvalid, Text: fmt.Sprintf("flow %q has the unknown transport %q", f.Name, f.Transport)}
		case f.Ports.First > f.Ports.Last:
			return &Fault{Op: "flow.check", Kind: KindInvalid, Text: fmt.Sprintf("flow %q has the inverted port range %s", f.Name, f.Ports)}
		case f.DSCP > 63:
			return &Fault{Op: "flow.check", Kind: KindInvalid, Text: fmt.Sprintf("flow %q has DSCP %d, the highest is 63", f.Name, f.DSCP)}
		}
		seen[f.Name] = true
		for _, g := range flows[:i] {
			if f.Direction == Listens && g.Direction == Listens && f.Transport == g.Transport && f.Transport != "unix" &&
				(f.Addr == g.Addr || f.Addr.IsUnspecified() || g.Addr.IsUnspecified()) &&
				f.Ports != (PortRange{}) && g.Ports != (PortRange{}) &&
				f.Ports.First <= g.Ports.Last && g.Ports.First <= f.Ports.Last {
				return &Fault{Op: "flow.check", Kind: KindConflict,
					Text: fmt.Sprintf("flows %q and %q both listen on %s %s", g.Name, f.Name, f.Transport, f.Ports),
					Hint: "give one of them other ports"}
			}
		}
	}
	return nil
}
