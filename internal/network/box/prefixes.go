package box

import (
	"math/bits"
	"net/netip"
)

// Prefixes returns the fewest networks that make up an interval of addresses.
func Prefixes(s Span, family uint8) (out []netip.Prefix) {
	width := 32
	if family == IPv6 {
		width = 128
	}
	for at := s.First; !s.Last.Less(at); {
		host := min(at.zeros(), width) // as large as where it begins lets it be,
		last := at.fill(host)
		for s.Last.Less(last) || last.Less(at) { // and as its end lets it be
			host--
			last = at.fill(host)
		}
		out = append(out, netip.PrefixFrom(at.addr(family), width-host))
		if last == s.Last {
			break
		}
		at = last.next()
	}
	return out
}

// zeros returns how many of the last bits are 0.
func (a Num) zeros() int {
	if a.Lo != 0 {
		return bits.TrailingZeros64(a.Lo)
	}
	return 64 + bits.TrailingZeros64(a.Hi)
}

// fill sets the last bits.
func (a Num) fill(host int) Num {
	if host >= 64 {
		return Num{a.Hi | (1<<(host-64) - 1), ^uint64(0)}
	}
	return Num{a.Hi, a.Lo | (1<<host - 1)}
}

// Inverse returns what from 0 to last is in none of the intervals.
func Inverse(spans []Span, last Num) (out []Span) {
	at := Num{}
	for _, s := range Merge(spans) {
		if last.Less(s.First) {
			break
		}
		if at.Less(s.First) {
			out = append(out, Span{at, s.First.prev()})
		}
		if !s.Last.Less(last) {
			return out
		}
		at = s.Last.next()
	}
	return append(out, Span{at, last})
}
