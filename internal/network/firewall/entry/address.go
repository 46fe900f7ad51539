package entry

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"

	"ringfence/internal/network/box"
)

// Wildcard returns the IPv4 addresses that agree with a where mask has no bit, as IOS writes masks; the bits that may differ need not stand together.
func Wildcard(a, mask netip.Addr) ([]box.Span, error) {
	if !a.Is4() || !mask.Is4() {
		return nil, fmt.Errorf("%s and %s are no address and mask of IPv4", a, mask)
	}
	a4, m4 := a.As4(), mask.As4()
	base, m := binary.BigEndian.Uint32(a4[:]), binary.BigEndian.Uint32(m4[:])
	low := bits.TrailingZeros32(^m)
	tail := uint32(1)<<low - 1
	if low == 32 {
		tail = ^uint32(0)
	}
	holes := m &^ tail
	if n := bits.OnesCount32(holes); n > 10 {
		return nil, fmt.Errorf("the mask %s leaves %d bits open that do not stand together, which are too many", mask, n)
	}
	base &^= m
	var out []box.Span
	for sub := holes; ; sub = (sub - 1) & holes { // every subset of the open bits
		first := base | sub
		out = append(out, box.Range(first, first|tail))
		if sub == 0 {
			return box.Merge(out), nil
		}
	}
}

// Netmask returns the IPv4 addresses of a network that is written with a mask whose bits stand together.
func Netmask(a, mask netip.Addr) (box.Span, error) {
	if !a.Is4() || !mask.Is4() {
		return box.Span{}, fmt.Errorf("%s and %s are no address and mask of IPv4", a, mask)
	}
	m4 := mask.As4()
	m := binary.BigEndian.Uint32(m4[:])
	n := bits.LeadingZeros32(^m)
	if n < 32 && m<<n != 0 {
		return box.Span{}, fmt.Errorf("the mask %s has holes", mask)
	}
	return box.Prefix(netip.PrefixFrom(a, n)), nil
}

// Mask returns a prefix length as a mask of IPv4.
func Mask(length int) netip.Addr {
	var b [4]byte
	if length > 0 {
		binary.BigEndian.PutUint32(b[:], ^uint32(0)<<(32-length))
	}
	return netip.AddrFrom4(b)
}

// Address reads an address without a zone, in the family that it is written in.
func Address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return a, fmt.Errorf("%.60q is no address", s)
	}
	return a, nil
}

// Network reads a network, or one address; bits of a host are left out, as devices do.
func Network(s string) (box.Span, uint8, error) {
	if a, err := Address(s); err == nil {
		return box.Span{First: box.Addr(a), Last: box.Addr(a)}, FamilyOf(a), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return box.Span{}, 0, fmt.Errorf("%.60q is no network", s)
	}
	return box.Prefix(p.Masked()), FamilyOf(p.Addr()), nil
}

// AddressRange reads the addresses from one to another.
func AddressRange(first, last string) (box.Span, uint8, error) {
	a, err := Address(first)
	if err != nil {
		return box.Span{}, 0, err
	}
	b, err := Address(last)
	if err != nil {
		return box.Span{}, 0, err
	}
	if a.Is4() != b.Is4() {
		return box.Span{}, 0, fmt.Errorf("%s and %s are not of one family", a, b)
	}
	if b.Less(a) {
		return box.Span{}, 0, fmt.Errorf("the range %s to %s is the wrong way round", a, b)
	}
	return box.Span{First: box.Addr(a), Last: box.Addr(b)}, FamilyOf(a), nil
}

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return box.IPv4
	}
	return box.IPv6
}

func address(n box.Num, family uint8) netip.Addr {
	if family == box.IPv4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.Lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.Hi)
	binary.BigEndian.PutUint64(b[8:], n.Lo)
	return netip.AddrFrom16(b)
}

// Networks returns the networks that an interval of addresses is made of, the fewest.
func Networks(s box.Span, family uint8) (out []netip.Prefix) {
	first, last := address(s.First, family), address(s.Last, family)
	for {
		at := first.BitLen()
		for at > 0 { // as large as begins here and ends in time
			p := netip.PrefixFrom(first, at-1)
			if p.Masked().Addr() != first || last.Less(address(box.Prefix(p).Last, family)) {
				break
			}
			at--
		}
		p := netip.PrefixFrom(first, at)
		out = append(out, p)
		end := address(box.Prefix(p).Last, family)
		if end == last || !end.Next().IsValid() {
			return out
		}
		first = end.Next()
	}
}

// NetworksOf returns the networks of all intervals.
func NetworksOf(l []box.Span, family uint8) (out []netip.Prefix) {
	for _, s := range l {
		out = append(out, Networks(s, family)...)
	}
	return out
}

// Not returns everything from 0 to last that is in none of the intervals.
func Not(l []box.Span, last box.Num) (out []box.Span) {
	at, done := box.Num{}, false
	for _, s := range box.Merge(l) {
		if at.Less(s.First) {
			out = append(out, box.Span{First: at, Last: before(s.First)})
		}
		if !s.Last.Less(last) {
			done = true
			break
		}
		at = after(s.Last)
	}
	if !done {
		out = append(out, box.Span{First: at, Last: last})
	}
	return out
}

func before(n box.Num) box.Num {
	if n.Lo == 0 {
		n.Hi--
	}
	n.Lo--
	return n
}

func after(n box.Num) box.Num {
	if n.Lo++; n.Lo == 0 {
		n.Hi++
	}
	return n
}
