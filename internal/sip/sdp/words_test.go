package sdp

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The whole words that hasControl looks at must find what a look at each byte finds, wherever in a line of whatever length it is.
func TestControlCharactersAreFoundEverywhere(t *testing.T) {
	for _, fill := range []byte{' ', '\t', 'a', '~', 0x80, 0xff} {
		for length := 1; length <= 20; length++ {
			line := []byte(strings.Repeat(string([]byte{fill}), length))
			for at := range line {
				for c := range 256 {
					line[at] = byte(c)
					want := c < ' ' && c != '\t' || c == 0x7f
					if got := hasControl(string(line)); got != want {
						t.Fatalf("hasControl(%q) = %v", line, got)
					}
				}
				line[at] = fill
			}
		}
	}
}

func TestWords(t *testing.T) {
	for _, v := range []string{"", " ", "a", " a", "a ", "IN IP4 192.0.2.1", "a\t \tb  c", "a\u00a0b \u2003 c", "é ü", "a \xa0 b", "\xff"} {
		if got, want := fields(v, []string{"kept"}), append([]string{"kept"}, strings.Fields(v)...); !slices.Equal(got, want) {
			t.Errorf("fields(%q) = %q, want %q", v, got, want)
		}
		if got, want := trim(v), strings.TrimSpace(v); got != want {
			t.Errorf("trim(%q) = %q, want %q", v, got, want)
		}
		b, a, ok := cut(v, ' ')
		if before, after, found := strings.Cut(v, " "); b != before || a != after || ok != found {
			t.Errorf("cut(%q) = %q, %q, %v", v, b, a, ok)
		}
	}
	for _, v := range []string{"", "0", "9", "007", "127", "128", "1270", "-1", "+1", " 1", "1 ", "1_0", "0x1", "/", ":", "１", "18446744073709551617", strings.Repeat("0", 50) + "5"} {
		want, err := strconv.ParseUint(v, 10, 7)
		if got, ok := number(v, 127); ok != (err == nil) || ok && got != want {
			t.Errorf("number(%q) = %d, %v", v, got, ok)
		}
	}
	for pt := range 256 {
		if got := formatOf(uint8(pt)); got != strconv.Itoa(pt) {
			t.Errorf("formatOf(%d) = %q", pt, got)
		}
	}
}
