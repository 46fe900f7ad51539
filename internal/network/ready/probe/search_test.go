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
