package transaction

import (
	"math/rand/v2"
	"testing"
)

// The index against a map, with keys that crowd together, while pages come and go.
func TestIndexAgainstAMap(t *testing.T) {
	type at struct {
		page   uint32
		offset int
	}
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 0))
		var x index
		want := map[uint64]at{}
		var keys []uint64
		for range 3000 {
			key := random.Uint64()
			if seed%2 == 0 { // few parts, and the same few slots at the end and the beginning of each
				key = key>>32&3<<60 | key>>10&0xfff<<20 | (key&7-3)&0xfffff
			}
			keys = append(keys, key)
		}
		oldest := uint32(1<<32 - 10) // so that the numbers of pages begin anew
		newest := oldest
		for _, pages := range []int{20, 5, 40, 1, 3, 0} {
			for range 10 * pages {
				newest++
				for range 50 {
					key := keys[random.IntN(len(keys))]
					want[key] = at{newest, random.IntN(1 << 20)}
					x.put(key, newest, want[key].offset, oldest)
				}
				if newest-oldest > uint32(pages) {
					oldest = newest - uint32(pages)
				}
			}
			if pages == 0 {
				oldest = newest + 1
			}
			for key, a := range want {
				if int32(a.page-oldest) < 0 {
					delete(want, key)
				}
			}
			for range 65 { // long enough for every part
				x.trim(len(want), oldest)
			}
			slots := 0
			for i, p := range x.parts {
				if slots += len(p.slots); 4*p.used > 3*len(p.slots) || len(p.tags) != len(p.slots) {
					t.Fatalf("seed %d: part %d has %d keys in %d slots", seed, i, p.used, len(p.slots))
				}
			}
			if slots != x.slots || slots > 16*len(want)+len(x.parts)*fewestSlots || pages == 0 && slots > 0 {
				t.Fatalf("seed %d: %d slots are counted as %d, for %d keys", seed, slots, x.slots, len(want))
			}
			for _, key := range keys {
				page, offset, ok := x.get(key)
				ok = ok && int32(page-oldest) >= 0
				if a, known := want[key]; ok != known || ok && (page != a.page || offset != a.offset) {
					t.Fatalf("seed %d: %x is at %d, %d (%v), want %v", seed, key, page, offset, ok, a)
				}
			}
		}
	}
}
