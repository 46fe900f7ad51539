package probe

import (
	"math/rand/v2"
	"slices"

	"ringfence/internal/network/need"
)

// sample chooses ports of some ranges: both ends of each, and so many in between, the same distance apart from a random start and one to the side in turn by chance, so that a rule for even or for
// odd ports is met too. Every block of at least [surely] adjacent ports has one of them, whatever the chance.
func sample(ranges []need.Ports, between int, r *rand.Rand) (out []uint16) {
	for _, p := range ranges {
		out = append(out, p.First, p.Last)
		inner := int(p.Last) - int(p.First) - 1
		n := min(between, max(inner, 0))
		if n == 0 {
			continue
		}
		start := r.IntN(max(inner/n, 1))
		for i := range n {
			at := min(start+inner*i/n+r.IntN(2), inner-1)
			out = append(out, p.First+1+uint16(at))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// surely is how many adjacent ports of a range have a sample among them for certain.
func surely(p need.Ports, between int) int {
	inner := max(int(p.Last)-int(p.First)-1, 0)
	n := min(between, inner)
	if n == 0 {
		return inner + 1
	}
	return min((inner+n-1)/n+1, inner+1)
}

// fan is how many ports between two that differ are tried at once.
const fan = 7

// edges makes the borders exact between ports that pass and ports that do not. Passes has what is known of samples; try finds out about more, or leaves out what it could not test.
// The result is the ranges that do not pass, as far as samples can tell.
func edges(ranges []need.Ports, passes map[uint16]bool, try func([]uint16) map[uint16]bool) (blocked []need.Ports) {
	for range 16 { // 65,536 ports need six rounds
		var ask []uint16
		for _, p := range ranges {
			known := within(passes, p)
			for i := 1; i < len(known); i++ {
				a, b := known[i-1], known[i]
				if passes[a] == passes[b] || b-a < 2 {
					continue
				}
				for k := 1; k <= fan; k++ {
					if q := a + uint16(int(b-a)*k/(fan+1)); q > a && q < b {
						ask = append(ask, q)
					}
				}
			}
		}
		slices.Sort(ask)
		ask = slices.Compact(ask)
		if len(ask) == 0 {
			break
		}
		got := try(ask)
		if len(got) == 0 {
			break
		}
		for q, ok := range got {
			passes[q] = ok
		}
	}
	for _, p := range ranges {
		known := within(passes, p)
		for i := 0; i < len(known); i++ {
			if passes[known[i]] {
				continue
			}
			j := i
			for j+1 < len(known) && !passes[known[j+1]] {
				j++
			}
			blocked = append(blocked, need.Ports{First: known[i], Last: known[j]})
			i = j
		}
	}
	return blocked
}

func within(passes map[uint16]bool, p need.Ports) (out []uint16) {
	for q := range passes {
		if q >= p.First && q <= p.Last {
			out = append(out, q)
		}
	}
	slices.Sort(out)
	return out
}
