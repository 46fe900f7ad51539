package sdp

import (
	"strings"
	"unicode/utf8"
)

// cut is strings.Cut at a byte that is near, where a search with set-up costs more than looking.
func cut(s string, at byte) (before, after string, found bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == at {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// is reports whether v is word in any case; words are ASCII. The length is looked at first, which strings.EqualFold cannot.
func is(v, word string) bool {
	return len(v) == len(word) && (v == word || strings.EqualFold(v, word))
}

// trim is strings.TrimSpace, which most words do not need.
func trim(s string) string {
	if s == "" || plain(s[0]) && plain(s[len(s)-1]) {
		return s
	}
	return strings.TrimSpace(s)
}

// plain reports whether c is neither white space nor part of a longer character.
func plain(c byte) bool { return c > ' ' && c < utf8.RuneSelf }

// fields appends the words of v, so that few of them need no memory. v has no control characters besides tabs.
func fields(v string, to []string) []string {
	words, start := to, 0
	for i := 0; i < len(v); i++ {
		c := v[i]
		if plain(c) {
			continue
		}
		if c >= utf8.RuneSelf { // perhaps white space too
			return append(to, strings.Fields(v)...)
		}
		if start < i {
			words = append(words, v[start:i])
		}
		start = i + 1
	}
	if start < len(v) {
		words = append(words, v[start:])
	}
	return words
}

// number reads a decimal number of digits only; limit is far below what n can hold.
func number(v string, limit uint64) (n uint64, ok bool) {
	for i := 0; i < len(v); i++ {
		d := uint64(v[i] - '0')
		if n = n*10 + d; d > 9 || n > limit {
			return 0, false
		}
	}
	return n, v != ""
}

// hasControl reports whether s, which is one line, has a control character besides tabs.
func hasControl(s string) bool {
	if !below(s, ' ') {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return true
		}
	}
	return false
}

// below reports whether s has a byte below limit, which is at most 0x80, or DEL.
func below(s string, limit uint8) bool {
	if len(s) < 8 {
		for i := 0; i < len(s); i++ {
			if c := s[i]; c < limit || c == 0x7f {
				return true
			}
		}
		return false
	}
	// Eight bytes at a time, and last the eight at the end. A borrow can only add hits to a hit.
	const ones, high = 0x0101010101010101, 0x8080808080808080
	var hits uint64
	for at, end := 0, len(s)-8; at < end+8; at += 8 {
		x := eight(s[min(at, end):])
		del := x ^ 0x7f*ones
		hits |= (x-uint64(limit)*ones)&^x | (del-ones)&^del
	}
	return hits&high != 0
}

// eight returns the first bytes of s as one number, for which the compiler makes one load.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
