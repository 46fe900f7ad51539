package directory

import (
	"strings"
	"testing"
)

// TestMapping changes numbers as a dial plan does.
func TestMapping(t *testing.T) {
	for _, c := range []struct{ mapping, number, want string }{
		{"", "555 1212", "5551212"},
		{"(<:9>xx.)", "555-1212", "95551212"},
		{"(<:9xx.>)", "555-1212", "95551212"}, // as handbooks print it
		{"<:9xx.>", "5", "95"},
		{"(<:9xx.>)", "+49 30 1", "+49301"}, // no digit: it matches nothing
		{"(<+:00>x.)", "+49 (30) 1234", "0049301234"},
		{"(<+49:0>xx.|<+:00>xx.|xxx)", "+49 30 1234", "0301234"},
		{"(<+49:0>xx.|<+:00>xx.|xxx)", "+1 202 555", "001202555"},
		{"(<+49:0>xx.|<+:00>xx.|xxx)", "101", "101"},
		{"(1xx<:5>)", "101", "1015"},
		{"([2-4,7]x)", "25", "25"},
		{"(<[2-4]:9>x)", "25", "95"},
		{"(<[2-4]:9>x)", "55", "55"},
		{"(0900x.!|x.)", "0900 123", ""},
		{"(0900x.!|x.)", "0800 123", "0800123"},
		{"(9,xx.S0)", "912", "912"},
		{"(x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.<:1>*)", strings.Repeat("1", 40), strings.Repeat("1", 40)}, // it ends
		{"(x.)", "call me", ""},
		{"(x.)", "", ""},
		{"(x.)", "+", ""},
	} {
		m, err := ParseMapping(c.mapping)
		if got := m.Apply(Dialled(c.number)); err != nil || got != c.want {
			t.Errorf("%s of %s: %q %v, want %q", c.mapping, c.number, got, err, c.want)
		}
	}
	for _, text := range []string{"(x", "(<9x.)", "(<:a>x)", "(.)", "(<:9>.)", "([a]x)", "([2-)", "(a)", "()", "(x|)", "(<x>)", strings.Repeat("x", 65), strings.Repeat("x|", 40) + "x", strings.Repeat(" ", 600) + "x" + strings.Repeat("x", 600)} {
		if m, err := ParseMapping(text); err == nil {
			t.Errorf("%q: %+v", text, m)
		}
	}
}

func FuzzParseMapping(f *testing.F) {
	f.Add("(<+49:0>xx.|<:9xx.>|[2-4]x!|9,xS0)", "+49 30 1")
	f.Fuzz(func(t *testing.T, text, number string) {
		m, err := ParseMapping(text)
		if err != nil {
			return
		}
		if got := m.Apply(Dialled(number)); strings.Trim(got, digits+"*#+") != "" || len(got) > maxDigits+1+maxMapping {
			t.Errorf("%q of %q: %q", text, number, got)
		}
	})
}
