package sip

import (
	"bytes"
	"testing"
)

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

// TestPlainEnd compares the quick way to the end of a field with the one that knows of folding: every byte at every place, what may follow
// the line, and limits around its length.
func TestPlainEnd(t *testing.T) {
	for _, tail := range []string{"\r\n", "\r\n\r\n", "\r\n a\r\n", "\r\n\tb\r\n", "\r\nVia: x\r\n", "\n", "\r", "\r\rabcdefgh", ""} {
		for size := range 19 {
			for at := range size {
				for c := range 256 {
					text := append(bytes.Repeat([]byte{'a'}, size), tail...)
					text[at] = byte(c)
					for _, limit := range [...]int{size - 1, size, size + 1} {
						end, plain := plainEnd(text, 0, limit)
						if !plain {
							continue
						}
						want, err := fieldEnd(bytes.Clone(text), 0, limit)
						if err != nil || want != end || bytes.ContainsAny(text[:end], "\t\r\n\x00\x7f") || controlAt(text[:end]) >= 0 {
							t.Fatalf("%q within %d: %d, want %d, %v", text, limit, end, want, err)
						}
					}
				}
			}
		}
	}
	line := []byte("Subject: all is well\r\nVia: x\r\n\r\n")
	if end, plain := plainEnd(line, 0, 20); !plain || end != 20 {
		t.Errorf("plainEnd = %d, %v: nothing is wrong with this line", end, plain)
	}
	if _, plain := plainEnd(line, 0, 19); plain {
		t.Error("the line is longer than its limit")
	}
}
