//go:build !race

package rtp

import "testing"

// The race detector adds allocations of its own, so this is checked without it.
func TestNoAllocations(t *testing.T) {
	for _, s := range Suites() {
		sealer, opener := pair(t, s)
		var seq uint16
		clear := packet(0, 1)
		buf, out := make([]byte, 0, 300), make([]byte, 0, 300)
		step := func() {
			seq++
			clear[2], clear[3] = byte(seq>>8), byte(seq)
			b, err := sealer.RTP(buf, clear)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = opener.RTP(out, b); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(1000, step); n != 0 {
			t.Errorf("%s: %v allocations a packet", s, n)
		}
	}
}
