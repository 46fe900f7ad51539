package box

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Num is a number of 128 bits: an address, a port, a protocol.
type Num struct{ Hi, Lo uint64 }

// N makes a number.
func N[T ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64](v T) Num { return Num{Lo: uint64(v)} }

// Less reports whether a is smaller than b.
func (a Num) Less(b Num) bool { return a.Hi < b.Hi || a.Hi == b.Hi && a.Lo < b.Lo }

func (a Num) next() Num {
	lo, carry := bits.Add64(a.Lo, 1, 0)
	return Num{a.Hi + carry, lo}
}

func (a Num) prev() Num {
	lo, borrow := bits.Sub64(a.Lo, 1, 0)
	return Num{a.Hi - borrow, lo}
}

// Span is an interval, both ends included.
type Span struct{ First, Last Num }

// One is the interval of one number.
func One[T ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64](v T) Span { return Span{N(v), N(v)} }

// Range is the interval from a to b.
func Range[T ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64](a, b T) Span { return Span{N(a), N(b)} }

// Prefix returns the addresses of a network; those of IPv4 are numbers of 32 bits.
func Prefix(p netip.Prefix) Span {
	a := Addr(p.Masked().Addr())
	host := p.Addr().BitLen() - p.Bits()
	last := a
	switch {
	case host >= 64:
		last.Lo = ^uint64(0)
		if host > 64 {
			last.Hi |= ^uint64(0) >> (128 - host)
		}
	case host > 0:
		last.Lo |= ^uint64(0) >> (64 - host)
	}
	return Span{a, last}
}

// Addr returns the number of an address.
func Addr(a netip.Addr) Num {
	if a.Is4() {
		b := a.As4()
		return Num{Lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return Num{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a Num) addr(family uint8) netip.Addr {
	if family == IPv4 {
		return netip.AddrFrom4([4]byte{byte(a.Lo >> 24), byte(a.Lo >> 16), byte(a.Lo >> 8), byte(a.Lo)})
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	return netip.AddrFrom16(b)
}

func (s Span) overlaps(t Span) bool { return !s.Last.Less(t.First) && !t.Last.Less(s.First) }
func (s Span) covers(t Span) bool   { return !t.First.Less(s.First) && !s.Last.Less(t.Last) }

// Has reports whether the interval has a number.
func (s Span) Has(n Num) bool { return !n.Less(s.First) && !s.Last.Less(n) }

func (s Span) meet(t Span) (Span, bool) {
	if s.First.Less(t.First) {
		s.First = t.First
	}
	if t.Last.Less(s.Last) {
		s.Last = t.Last
	}
	return s, !s.Last.Less(s.First)
}

// Dim is a dimension of a packet.
type Dim int

// The dimensions. For ICMP and ICMPv6 the ports are type and code; a protocol without ports has 0 there.
const (
	Hook     Dim = iota // where the packet is judged: [Forward], [Input], [Output]
	In                  // the interface it comes by, as a number of an [Interfaces]
	Out                 // the interface it leaves by
	Family              // [IPv4] or [IPv6]
	Protocol            // of the IP header, or the last of the next headers
	From                // source address
	To                  // destination address
	FromPort            // source port, or ICMP type
	ToPort              // destination port, or ICMP code
	Dims
)

// What stands in [Hook].
const (
	Forward uint8 = iota
	Input
	Output
)

// What stands in [Family].
const (
	IPv4 uint8 = 4
	IPv6 uint8 = 6
)

// Protocols with ports, and those of ICMP (IANA).
const (
	ICMP    uint8 = 1
	TCP     uint8 = 6
	UDP     uint8 = 17
	DCCP    uint8 = 33
	ICMPv6  uint8 = 58
	SCTP    uint8 = 132
	UDPLite uint8 = 136
)

// Box is a product of intervals.
type Box [Dims]Span

// MaxInterface is the largest number that [Interfaces] gives.
const MaxInterface = 1<<16 - 1

// Everything is the box of all numbers of a family, also of those that no packet has; see [Real].
func Everything(family uint8) Box {
	last := Num{Lo: 1<<32 - 1}
	if family == IPv6 {
		last = Num{^uint64(0), ^uint64(0)}
	}
	return Box{Hook: Range(Forward, Output), In: Range(0, MaxInterface), Out: Range(0, MaxInterface), Family: One(family), Protocol: Range(0, 255), From: {Last: last}, To: {Last: last}, FromPort: Range(0, 65535), ToPort: Range(0, 65535)}
}

// Real returns all packets that there can be: only some protocols have ports, a type has 8 bits, what is forwarded has two interfaces, and what is not has one.
func Real() (l List) {
	for _, family := range []uint8{IPv4, IPv6} {
		icmp := ICMP
		if family == IPv6 {
			icmp = ICMPv6
		}
		for _, hook := range []uint8{Forward, Input, Output} {
			b := Everything(family)
			b[Hook] = One(hook)
			switch hook {
			case Input:
				b[Out] = One(0)
			case Output:
				b[In] = One(0)
			}
			for p, first := 0, 0; p <= 256; p++ {
				ports := p < 256 && HasPorts(uint8(p))
				if p < 256 && !ports && uint8(p) != icmp {
					continue
				}
				if first < p {
					c := b
					c[Protocol], c[FromPort], c[ToPort] = Range(first, p-1), One(0), One(0)
					l = append(l, c)
				}
				first = p + 1
				if p == 256 {
					break
				}
				b[Protocol] = One(p)
				if c := b; ports {
					l = append(l, c)
				} else {
					c[FromPort], c[ToPort] = Range(0, 255), Range(0, 255)
					l = append(l, c)
				}
			}
		}
	}
	return l
}

// HasPorts reports whether a protocol begins with two ports.
func HasPorts(protocol uint8) bool {
	switch protocol {
	case TCP, UDP, DCCP, SCTP, UDPLite:
		return true
	}
	return false
}

// Intersect returns what is in both.
func (b Box) Intersect(c Box) (Box, bool) {
	for d := range b {
		var ok bool
		if b[d], ok = b[d].meet(c[d]); !ok {
			return Box{}, false
		}
	}
	return b, true
}

func (b *Box) overlaps(c *Box) bool {
	for d := Dims - 1; d >= 0; d-- { // the last dimensions differ most often
		if !b[d].overlaps(c[d]) {
			return false
		}
	}
	return true
}

// Covers reports whether all of c is in b.
func (b Box) Covers(c Box) bool {
	for d := range b {
		if !b[d].covers(c[d]) {
			return false
		}
	}
	return true
}

// Has reports whether a packet is in the box.
func (b Box) Has(p Packet) bool {
	n := p.numbers()
	return b.has(&n)
}

func (b *Box) has(n *[Dims]Num) bool {
	for d := Dims - 1; d >= 0; d-- { // the last dimensions differ most often
		if !b[d].Has(n[d]) {
			return false
		}
	}
	return true
}

// Reply returns the packets of the other direction. What answers a request of ICMP has another type; all types are taken.
func (b Box) Reply() Box {
	b[From], b[To], b[FromPort], b[ToPort], b[In], b[Out] = b[To], b[From], b[ToPort], b[FromPort], b[Out], b[In]
	switch b[Hook] {
	case One(Input):
		b[Hook] = One(Output)
	case One(Output):
		b[Hook] = One(Input)
	}
	if p := b[Protocol]; p == One(ICMP) || p == One(ICMPv6) {
		b[FromPort], b[ToPort] = Range(0, 255), Range(0, 255)
	}
	return b
}

// minus appends what of b is not in c: at most two slabs in each dimension.
func (b Box) minus(c *Box, out []Box) []Box {
	if !b.overlaps(c) {
		return append(out, b)
	}
	for d := range b {
		if b[d].First.Less(c[d].First) {
			slab := b
			slab[d].Last = c[d].First.prev()
			out = append(out, slab)
			b[d].First = c[d].First
		}
		if c[d].Last.Less(b[d].Last) {
			slab := b
			slab[d].First = c[d].Last.next()
			out = append(out, slab)
			b[d].Last = c[d].Last
		}
	}
	return out
}

// middle returns the number halfway between both ends, rounded down.
func (s Span) middle() Num {
	lo, borrow := bits.Sub64(s.Last.Lo, s.First.Lo, 0)
	hi, _ := bits.Sub64(s.Last.Hi, s.First.Hi, borrow)
	lo, hi = lo>>1|hi<<63, hi>>1
	lo, carry := bits.Add64(s.First.Lo, lo, 0)
	return Num{s.First.Hi + hi + carry, lo}
}
