package entry

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ringfence/internal/network/box"
)

// TestWildcard compares a mask with what it says of single addresses (IOS: a bit that is set may differ).
func TestWildcard(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		a, mask := uint32(10<<24)|r.Uint32N(1<<24), r.Uint32N(16)|r.Uint32N(2)<<9|r.Uint32N(2)<<17
		of := func(v uint32) netip.Addr {
			return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
		}
		spans, err := Wildcard(of(a), of(mask))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			b := a ^ (r.Uint32N(32) | r.Uint32N(2)<<9 | r.Uint32N(2)<<17)
			in := slices.ContainsFunc(spans, func(s box.Span) bool { return s.Has(box.N(b)) })
			if want := (a^b)&^mask == 0; in != want {
				t.Fatalf("%s with %s has %s: %v", of(a), of(mask), of(b), in)
			}
		}
	}
	if _, err := Wildcard(netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("85.85.85.85")); err == nil {
		t.Error("a mask with sixteen holes")
	}
	if s, err := Wildcard(netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("255.255.255.255")); err != nil || len(s) != 1 || s[0] != box.Everything(box.IPv4)[box.From] {
		t.Error(s, err)
	}
}

// TestNetworks takes intervals apart and puts them together again.
func TestNetworks(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		family := []uint8{box.IPv4, box.IPv6}[r.IntN(2)]
		a, b := box.Num{Lo: uint64(r.Uint32())}, box.Num{Lo: uint64(r.Uint32())}
		if family == box.IPv6 {
			a.Hi, b.Hi = r.Uint64(), r.Uint64()
		}
		if b.Less(a) {
			a, b = b, a
		}
		var back []box.Span
		for _, p := range Networks(box.Span{First: a, Last: b}, family) {
			if p != p.Masked() {
				t.Fatalf("%s has bits of a host", p)
			}
			back = append(back, box.Prefix(p))
		}
		if got := box.Merge(back); len(got) != 1 || got[0] != (box.Span{First: a, Last: b}) {
			t.Fatalf("%v became %v", box.Span{First: a, Last: b}, got)
		}
	}
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		if l := Networks(box.Everything(family)[box.From], family); len(l) != 1 || l[0].Bits() != 0 {
			t.Error(l)
		}
	}
}

// TestNot has every number either in a list or not.
func TestNot(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		var l []box.Span
		for range r.IntN(4) {
			a := r.IntN(256)
			l = append(l, box.Range(a, a+r.IntN(256-a)))
		}
		not := Not(l, box.N(255))
		for v := range 256 {
			has := func(l []box.Span) bool {
				return slices.ContainsFunc(l, func(s box.Span) bool { return s.Has(box.N(v)) })
			}
			if has(l) == has(not) {
				t.Fatalf("%d is in %v and in %v, or in neither", v, l, not)
			}
		}
	}
	if all := Anywhere().Not(); len(all.Four)+len(all.Six) > 0 {
		t.Error(all)
	}
}

// TestWithin takes the parts of an entry that boxes touch: no others, and all that they share.
func TestWithin(t *testing.T) {
	e := Entry{Family: box.IPv4, Protocols: []box.Span{box.One(box.TCP), box.One(box.UDP)}, From: []box.Span{box.Range(1, 9), box.Range(20, 29)}, ToPorts: []box.Span{box.One(80), box.One(443)}}
	b := box.Everything(box.IPv4)
	b[box.Protocol], b[box.From], b[box.ToPort] = box.One(box.UDP), box.Range(5, 20), box.One(443)
	got, ok := e.Within(box.List{b})
	if !ok || len(got.Protocols) != 1 || len(got.From) != 2 || len(got.ToPorts) != 1 || got.To != nil || got.FromPorts != nil {
		t.Errorf("%+v", got)
	}
	b[box.ToPort] = box.One(8080)
	if _, ok := e.Within(box.List{b}); ok {
		t.Error("an entry within what it does not touch")
	}
}

// TestBoxes has only packets that there are.
func TestBoxes(t *testing.T) {
	real := box.Real()
	all, ok := Entry{Hook: box.Forward, Family: box.IPv6}.Boxes(real)
	if !ok {
		t.Fatal("too many")
	}
	covered, err := box.List(real).Covers(all)
	if err != nil || !covered {
		t.Error("more than there is", err)
	}
	rest, err := real.Subtract(all)
	if err != nil || slices.ContainsFunc(rest, func(b box.Box) bool {
		return b[box.Hook] == box.One(box.Forward) && b[box.Family] == box.One(box.IPv6)
	}) {
		t.Error("less than there is", err)
	}
	many := make([]box.Span, 2000)
	if _, ok := (Entry{Family: box.IPv4, From: many, To: many}).Boxes(real); ok {
		t.Error("four million")
	}
}

// TestGroups finds groups that contain themselves, are not there, or multiply.
func TestGroups(t *testing.T) {
	g := NewGroups[int]("group")
	g.Add("a", 1, "1", 1)
	g.Nest("a", 2, "b")
	g.Add("b", 3, "2", 2)
	if got, err := g.All("a"); err != nil || !slices.Equal(got, []int{1, 2}) {
		t.Error(got, err)
	}
	g = NewGroups[int]("group")
	g.Nest("a", 1, "b")
	g.Nest("b", 2, "a")
	if _, err := g.All("a"); err == nil || !strings.Contains(err.Error(), "contains itself") {
		t.Error(err)
	}
	g = NewGroups[int]("group")
	for i := range 40 {
		g.Nest(fmt.Sprint(i), 1, fmt.Sprint(i+1))
		g.Nest(fmt.Sprint(i), 1, fmt.Sprint(i+1))
	}
	g.Add("40", 1, "", 1)
	if _, err := g.All("0"); err == nil || !strings.Contains(err.Error(), "members") {
		t.Error(err)
	}
	if !g.Remove("40", "") || g.Remove("40", "") || g.Remove("41", "") {
		t.Error("a member is taken out twice")
	}
}

// TestStrange keeps a thousand complaints in the order of lines.
func TestStrange(t *testing.T) {
	var s Strange
	for i := range 2000 {
		s.Add(5000-i, "odd")
		s.Add(5000-i, "odd")
	}
	l := s.List()
	if len(l) != 1001 || l[0].Where != "line 4001" || l[1000].What != "and more" {
		t.Errorf("%d %+v %+v", len(l), l[0], l[len(l)-1])
	}
}
