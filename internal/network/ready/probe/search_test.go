package probe

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ringfence/internal/network/need"
)

// However a block lies, if a sample is in it its borders are found to the port, with few questions.
func TestEdges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		first := 1 + r.IntN(60000)
		whole := need.Ports{First: uint16(first), Last: uint16(first + r.IntN(65536-first))}
		size := int(whole.Last-whole.First) + 1
		a := int(whole.First) + r.IntN(size)
		block := need.Ports{First: uint16(a), Last: uint16(a + r.IntN(int(whole.Last)-a+1))}
		asked := 0
		try := func(ports []uint16) map[uint16]bool {
			out := map[uint16]bool{}
			for _, q := range ports {
				if q < whole.First || q > whole.Last {
					t.Fatalf("%d is asked for, outside of %s", q, whole)
				}
				out[q] = q < block.First || q > block.Last
			}
			asked += len(ports)
			return out
		}
		samples := sample([]need.Ports{whole}, 8, r)
		if len(samples) > 10 || samples[0] != whole.First || samples[len(samples)-1] != whole.Last {
			t.Fatalf("%s: samples %v", whole, samples)
		}
		hit := slices.ContainsFunc(samples, func(q uint16) bool { return q >= block.First && q <= block.Last })
		got := edges([]need.Ports{whole}, try(samples), try)
		if hit && !slices.Equal(got, []need.Ports{block}) || !hit && len(got) != 0 {
			t.Errorf("%s with %s blocked: %v", whole, block, got)
		}
		if asked > 10+2*6*fan {
			t.Errorf("%d questions", asked)
		}
	}
	// What cannot be tried ends the search and not the program.
	if got := edges([]need.Ports{{First: 1, Last: 100}}, map[uint16]bool{1: true, 100: false}, func([]uint16) map[uint16]bool { return nil }); !slices.Equal(got, []need.Ports{{First: 100, Last: 100}}) {
		t.Errorf("%v", got)
	}
}

// Chance decides which ports are tried and not whether a wide block is found: the same firewall fails the test today and tomorrow.
func TestSurely(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range []need.Ports{{First: 42000, Last: 42099}, {First: 19560, Last: 65535}, {First: 8500, Last: 8599}, {First: 1, Last: 65535}, {First: 5060, Last: 5061}, {First: 80, Last: 80}, {First: 100, Last: 102}, {First: 65520, Last: 65535}} {
		for _, between := range []int{0, 1, 2, 8, 9, 64, 200} {
			wide := surely(p, between)
			parity := map[uint16]bool{}
			for range 300 {
				samples := sample([]need.Ports{p}, between, r)
				if !slices.IsSorted(samples) || samples[0] != p.First || samples[len(samples)-1] != p.Last || len(samples) > between+2 {
					t.Fatalf("%s: %v", p, samples)
				}
				for i := 1; i < len(samples); i++ {
					if free := int(samples[i]) - int(samples[i-1]) - 1; free >= wide {
						t.Fatalf("%s with %d between: none of the %d ports from %d is tried, and %d shall be found", p, between, free, samples[i-1]+1, wide)
					}
				}
				for _, q := range samples[1:max(len(samples)-1, 1)] {
					parity[q%2] = true
				}
			}
			if p.Last-p.First > 10 && between > 0 && len(parity) != 2 {
				t.Errorf("%s with %d between: %v", p, between, parity)
			}
		}
	}
	if n := surely(need.Ports{First: 42000, Last: 42099}, 8); n > 20 {
		t.Errorf("8 ports between 42000 and 42099 find only blocks of %d", n)
	}
}
