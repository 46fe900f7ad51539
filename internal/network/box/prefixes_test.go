package box

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// TestPrefixes writes intervals as networks: each is its networks, and no two of them could be one.
func TestPrefixes(t *testing.T) {
	for _, c := range []struct{ first, last, want string }{
		{"10.0.0.0", "10.255.255.255", "[10.0.0.0/8]"},
		{"0.0.0.0", "255.255.255.255", "[0.0.0.0/0]"},
		{"10.0.0.1", "10.0.0.1", "[10.0.0.1/32]"},
		{"10.0.0.1", "10.0.0.6", "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32]"},
		{"255.255.255.254", "255.255.255.255", "[255.255.255.254/31]"},
		{"0.0.0.1", "0.0.0.3", "[0.0.0.1/32 0.0.0.2/31]"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[::/0]"},
		{"2001:db8::", "2001:db8:0:2:ffff:ffff:ffff:ffff", "[2001:db8::/63 2001:db8:0:2::/64]"},
		{"2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::", "[2001:db8::ffff:ffff:ffff:ffff/128 2001:db8:0:1::/128]"},
	} {
		first, last := netip.MustParseAddr(c.first), netip.MustParseAddr(c.last)
		family := IPv6
		if first.Is4() {
			family = IPv4
		}
		s := Span{Addr(first), Addr(last)}
		all := Prefixes(s, family)
		if got := fmt.Sprint(all); got != c.want {
			t.Errorf("%s-%s: %s, want %s", c.first, c.last, got, c.want)
		}
		var spans []Span
		for _, p := range all {
			spans = append(spans, Prefix(p))
		}
		if m := Merge(spans); len(m) != 1 || m[0] != s {
			t.Errorf("%s-%s: the networks are %v", c.first, c.last, m)
		}
	}
}

// TestInverse takes intervals away from all numbers.
func TestInverse(t *testing.T) {
	top := N(65535)
	for _, c := range []struct{ spans, want []Span }{
		{nil, []Span{Range(0, 65535)}},
		{[]Span{Range(0, 65535)}, nil},
		{[]Span{Range(5, 9), Range(7, 12), Range(0, 1)}, []Span{Range(2, 4), Range(13, 65535)}},
		{[]Span{Range(60000, 65535), One(0)}, []Span{Range(1, 59999)}},
		{[]Span{Range(70000, 70001)}, []Span{Range(0, 65535)}},
	} {
		if got := Inverse(c.spans, top); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.spans, got, c.want)
		}
	}
	all := Everything(IPv6)[From]
	if got := Inverse([]Span{{Num{1, 0}, all.Last}}, all.Last); !slices.Equal(got, []Span{{Num{}, Num{0, ^uint64(0)}}}) {
		t.Error(got)
	}
}
