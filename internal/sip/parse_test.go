package sip

import "testing"

// TestControlAt compares the eight-bytes-at-a-time check with the plain one for every byte at every place.
func TestControlAt(t *testing.T) {
	for size := range 20 {
		for at := range size {
			for c := range 256 {
				b := make([]byte, size)
				for i := range b {
					b[i] = "a\xffz~ "[i%5]
				}
				b[at] = byte(c)
				want := -1
				if c < ' ' && c != '\t' || c == 0x7f {
					want = at
				}
				if got := controlAt(b); got != want {
					t.Fatalf("byte %#x at %d of %d: %d, want %d", c, at, size, got, want)
				}
			}
		}
	}
	for text, want := range map[string]int{
		"\"a\\\x01\"": -1, "\"\\\x00\x01": 3, "a\\\x01": 2, "\"a\"\\\x01": 4, "\"\\\"\x01\"": 3, "\"\\\r": 2, "\"abc\tdefghi\"": -1,
	} {
		if got := controlAt([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
