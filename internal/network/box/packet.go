package box

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interfaces numbers the names of network interfaces; 0 is every interface that has no number.
type Interfaces struct{ names []string }

// Number returns the number of a name, which gets one if it has none.
func (n *Interfaces) Number(name string) int {
	i := slices.Index(n.names, name)
	if i < 0 {
		i = len(n.names)
		n.names = append(n.names, name)
	}
	return min(i+1, MaxInterface)
}

// Name returns the name with a number, or "" for 0 and numbers that none has.
func (n *Interfaces) Name(i int) string { return n.name(i) }

func (n *Interfaces) name(i int) string {
	if n == nil || i < 1 || i > len(n.names) {
		return ""
	}
	return n.names[i-1]
}

// Packet is one packet, the first of its connection.
type Packet struct {
	Hook     uint8
	In, Out  int
	Protocol uint8
	From, To netip.Addr
	FromPort uint16
	ToPort   uint16
}

func (p Packet) numbers() [Dims]Num {
	family := IPv6
	if p.From.Is4() {
		family = IPv4
	}
	return [Dims]Num{N(p.Hook), N(p.In), N(p.Out), N(family), N(p.Protocol), Addr(p.From), Addr(p.To), N(p.FromPort), N(p.ToPort)}
}

// Packet returns a packet of the box: the smallest one, but one that can be sent if the box has such a one.
func (b Box) Packet() Packet {
	family := uint8(b[Family].First.Lo)
	address := func(s Span, usual string) netip.Addr {
		n := s.First
		if a := netip.MustParseAddr(usual); n == (Num{}) && s.Has(Addr(a)) {
			n = Addr(a)
		} else if n == (Num{}) && n != s.Last {
			n = n.next()
		}
		return n.addr(family)
	}
	from, to := "192.0.2.1", "198.51.100.1"
	if family == IPv6 {
		from, to = "2001:db8::1", "2001:db8:ffff::1"
	}
	protocol := uint8(b[Protocol].First.Lo)
	for _, p := range []uint8{TCP, UDP} {
		if b[Protocol].Has(N(p)) {
			protocol = p
			break
		}
	}
	port := func(s Span) uint16 {
		if !HasPorts(protocol) || s.First != (Num{}) || s.First == s.Last {
			return uint16(s.First.Lo)
		}
		return uint16(min(1024, s.Last.Lo))
	}
	return Packet{Hook: uint8(b[Hook].First.Lo), In: int(b[In].First.Lo), Out: int(b[Out].First.Lo), Protocol: protocol, From: address(b[From], from), To: address(b[To], to), FromPort: port(b[FromPort]), ToPort: port(b[ToPort])}
}

// Describe returns the packet in words, e.g. "forward tcp 10.0.0.1:5060 -> 192.0.2.1:8934".
func (p Packet) Describe(n *Interfaces) string {
	var b strings.Builder
	b.WriteString([]string{"forward", "input", "output"}[min(p.Hook, Output)])
	if i := n.name(p.In); i != "" {
		fmt.Fprintf(&b, " in by %s", i)
	}
	if i := n.name(p.Out); i != "" {
		fmt.Fprintf(&b, " out by %s", i)
	}
	b.WriteString(" " + ProtocolName(p.Protocol))
	switch {
	case HasPorts(p.Protocol):
		fmt.Fprintf(&b, " %s -> %s", netip.AddrPortFrom(p.From, p.FromPort), netip.AddrPortFrom(p.To, p.ToPort))
	case p.Protocol == ICMP || p.Protocol == ICMPv6:
		fmt.Fprintf(&b, " type %d code %d %s -> %s", p.FromPort, p.ToPort, p.From, p.To)
	default:
		fmt.Fprintf(&b, " %s -> %s", p.From, p.To)
	}
	return b.String()
}

// ProtocolName returns the name of a protocol, or its number.
func ProtocolName(p uint8) string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case DCCP:
		return "dccp"
	case ICMPv6:
		return "icmpv6"
	case SCTP:
		return "sctp"
	case UDPLite:
		return "udplite"
	}
	return fmt.Sprintf("protocol %d", p)
}

// Addresses returns an interval of addresses in words: "any", an address, a network, or the first and the last.
func Addresses(s Span, family uint8) string {
	if s == Everything(family)[From] {
		return "any"
	}
	first, last := s.First.addr(family), s.Last.addr(family)
	for bits := first.BitLen(); bits >= 0; bits-- {
		if p, err := first.Prefix(bits); err == nil && Prefix(p) == s {
			if bits == first.BitLen() {
				return first.String()
			}
			return p.String()
		}
	}
	return first.String() + "-" + last.String()
}

// Describe returns the box in words.
func (b Box) Describe(n *Interfaces) string {
	family := uint8(b[Family].First.Lo)
	numbers := func(s Span) string {
		switch {
		case s.First == s.Last:
			return fmt.Sprint(s.First.Lo)
		case s == Range(0, 65535):
			return "any"
		}
		return fmt.Sprintf("%d-%d", s.First.Lo, s.Last.Lo)
	}
	side := func(d Dim, word string) string {
		if b[d].First == b[d].Last {
			if name := n.name(int(b[d].First.Lo)); name != "" {
				return word + name
			}
		}
		return ""
	}
	protocol := numbers(b[Protocol])
	ports := true
	if s := b[Protocol]; s.First == s.Last {
		protocol, ports = ProtocolName(uint8(s.First.Lo)), HasPorts(uint8(s.First.Lo))
		if uint8(s.First.Lo) == ICMP || uint8(s.First.Lo) == ICMPv6 {
			protocol += " type " + numbers(b[FromPort]) + " code " + numbers(b[ToPort])
		}
	}
	from, to := Addresses(b[From], family), Addresses(b[To], family)
	if ports && b[FromPort].Last != (Num{}) {
		from, to = from+" port "+numbers(b[FromPort]), to+" port "+numbers(b[ToPort])
	}
	hook := []string{"forward", "input", "output"}[min(b[Hook].First.Lo, uint64(Output))]
	return hook + side(In, " in by ") + side(Out, " out by ") + fmt.Sprintf(" IPv%d %s %s -> %s", family, protocol, from, to)
}

// Bounds returns the addresses at and next to both ends of an interval of addresses, and the one in the middle.
func (b Box) Bounds(d Dim) (out []netip.Addr) {
	family := uint8(b[Family].First.Lo)
	all, s := Everything(family)[d], b[d]
	if s.First != all.First {
		out = append(out, s.First.prev().addr(family))
	}
	out = append(out, s.First.addr(family), s.middle().addr(family), s.Last.addr(family))
	if s.Last != all.Last {
		out = append(out, s.Last.next().addr(family))
	}
	return out
}
