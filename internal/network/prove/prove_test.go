package prove

import (
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

func ports(first, last uint16) box.List {
	b := box.Everything(box.IPv4)
	b[box.Hook], b[box.Protocol], b[box.ToPort] = box.One(box.Forward), box.One(box.TCP), box.Range(first, last)
	return box.List{b}
}

// world is one row, TCP to ports 100 to 199, and a chain of rules: + and - with a range of ports.
func world(t *testing.T, accept bool, rules ...any) *Result {
	t.Helper()
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	p := &site.Policy{Interfaces: &box.Interfaces{}, Rows: []site.Row{{ID: "row", Purpose: "p", Protocols: []uint8{box.TCP}, From: all, To: all, ToPorts: []need.Ports{{First: 100, Last: 199}}}}}
	var scope box.List
	for _, b := range box.Real() {
		if b[box.Hook] == box.One(box.Forward) {
			scope = append(scope, b)
		}
	}
	c := firewall.Chain{Name: "chain", Scope: scope, Accept: accept}
	for i := 0; i < len(rules); i += 3 {
		boxes := ports(uint16(rules[i+1].(int)), uint16(rules[i+2].(int)))
		c.Rules = append(c.Rules, firewall.Rule{Name: "rule " + string(rune('a'+i/3)), Accept: rules[i] == "+", Boxes: boxes})
	}
	later := firewall.Chain{Name: "later", Scope: scope, Accept: true}
	r, err := Compare(p, &firewall.Ruleset{Chains: []firewall.Chain{c}, Later: []firewall.Chain{later}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestVerdicts finds what is missing, too wide and idle.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		rules         []any
		verdict       Verdict
		missing, wide string // ports of the examples
		idle          string
		covered       string
	}{
		{[]any{"+", 100, 199}, Exact, "", "", "", "all"},
		{[]any{"+", 100, 150, "+", 151, 199}, Exact, "", "", "", "all"},
		{[]any{"+", 100, 199, "+", 120, 130}, Exact, "", "", "b shadowed", "all"},
		{[]any{"+", 120, 130, "+", 100, 199}, Exact, "", "", "a redundant", "all"},
		{[]any{"-", 120, 130, "+", 100, 199}, Missing, "120", "", "", "some"},
		{[]any{"+", 100, 199, "-", 120, 130}, Exact, "", "", "b shadowed", "all"},
		{[]any{"+", 120, 130, "-", 110, 140, "+", 100, 199}, Missing, "110 131", "", "", "some"},
		{[]any{"+", 100, 200}, Wide, "", "200", "", "all"},
		{[]any{"+", 99, 198}, Wide, "199", "99", "", "some"},
		{[]any{"-", 99, 99, "-", 200, 200, "+", 99, 200}, Exact, "", "", "", "all"},
		{nil, Missing, "100", "", "", "none"},
		{[]any{"+", 300, 400}, Wide, "100", "300", "", "none"},
	} {
		r := world(t, false, c.rules...)
		examples := func(list []Finding) string {
			var out []string
			for _, f := range list {
				out = append(out, f.Example[strings.LastIndex(f.Example, ":")+1:])
				if len(f.Why) != 1 {
					t.Errorf("%v: %v", c.rules, f.Why)
				}
			}
			return strings.Join(out, " ")
		}
		idle := ""
		for _, i := range r.Idle {
			idle += strings.TrimPrefix(i.Rule, "rule ") + " " + i.Why
		}
		if r.Verdict != c.verdict || examples(r.Missing) != c.missing || examples(r.Wide) != c.wide || idle != c.idle || r.Rows[0].Covered != c.covered {
			t.Errorf("%v: %s, missing %q, wide %q, idle %q, covered %s", c.rules, r.Verdict, examples(r.Missing), examples(r.Wide), idle, r.Rows[0].Covered)
		}
		if share := r.Share(); share < 0 || share > 1 || (share == 1) != (len(r.Wide) == 0) {
			t.Errorf("%v: %v of what gets through is needed", c.rules, share)
		}
		if p := r.Privilege; p == nil || (p.Score == 100) != (len(r.Wide) == 0) || len(p.Families) != 1 || p.Families[0].Share != r.Share() {
			t.Errorf("%v: %+v", c.rules, p)
		}
	}
	if r := world(t, true); r.Verdict != Wide || r.MissingCount != 0 || r.Privilege.Score != 0 || len(r.Privilege.Families) != 2 || r.Privilege.Families[0].Passes != r.Privilege.Families[0].All || r.Privilege.Families[1].Bits != -1 {
		t.Errorf("a firewall that accepts everything: %s", r.Verdict)
	}
}

// TestPrivilege counts packets that can be counted by hand: 100 ports of TCP are needed, of the 65,536 there are.
func TestPrivilege(t *testing.T) {
	for _, c := range []struct {
		rules []any
		share float64
		bits  float64
	}{
		{[]any{"+", 100, 199}, 1, 0},
		{[]any{"+", 100, 299}, .5, 1},
		{[]any{"+", 100, 499}, .25, 2},
		{[]any{"+", 150, 249}, .5, 1}, // half of what is needed is dropped; what gets through is twice what is good
		{[]any{"+", 0, 65535}, 100. / 65536, math.Log2(655.36)},
		{[]any{"+", 300, 399}, 0, -1},
	} {
		f := world(t, false, c.rules...).Privilege.Families[0]
		if f.Family != "IPv4" || math.Abs(f.Share-c.share) > 1e-12 || math.Abs(f.Bits-c.bits) > 1e-12 {
			t.Errorf("%v: %+v", c.rules, f)
		}
	}
	n := func(exponent uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), exponent) }
	less := func(a *big.Int) *big.Int { return new(big.Int).Sub(a, big.NewInt(1)) }
	for _, c := range []struct {
		needed, passes uint
		want           float64
	}{{20, 20, 100}, {20, 300, 0}, {20, 160, 50}, {20, 48, 90}, {0, 30, 90}, {20, 21, 99.6}} {
		if got := score(n(300), n(c.needed), new(big.Int).Sub(n(c.passes), n(c.needed)), new(big.Int)); got.Score != c.want || got.Bits != float64(c.passes-c.needed) {
			t.Errorf("2^%d of 2^%d: %+v, want %v", c.needed, c.passes, got, c.want)
		}
	}
	// One packet more than 2^200 are needed is not exact, and everything but what is needed is not nothing.
	if got := score(n(300), n(200), big.NewInt(1), new(big.Int)); got.Score != 99.9 || got.Bits <= 0 || got.Share > 1 {
		t.Errorf("%+v", got)
	}
	if got := score(n(300), n(300), new(big.Int), less(n(300))); got.Score != 100 {
		t.Errorf("%+v", got)
	}
	if got := score(n(300), less(n(300)), big.NewInt(1), new(big.Int)); got.Score != 0 {
		t.Errorf("all but one packet are needed, and that one gets through: %+v", got)
	}
}

// TestWays says of a rule to which several ways lead that it does nothing only if it does nothing on each, leaves rules about other packets alone, and takes it that nothing is forwarded by the loopback interface.
func TestWays(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	p := &site.Policy{Interfaces: &box.Interfaces{}, Rows: []site.Row{{ID: "row", Protocols: []uint8{box.TCP}, From: all, To: all, ToPorts: []need.Ports{{First: 100, Last: 199}}}}}
	var forward, input box.List
	for _, b := range box.Real() {
		switch b[box.Hook] {
		case box.One(box.Forward):
			forward = append(forward, b)
		case box.One(box.Input):
			input = append(input, b)
		}
	}
	lo := box.Everything(box.IPv4)
	lo[box.Hook], lo[box.In] = box.One(box.Forward), box.One(p.Interfaces.Number("lo"))
	c := firewall.Chain{Name: "c", Scope: forward, Rules: []firewall.Rule{
		{Name: "lo", Accept: true, Boxes: box.List{lo}},
		{Name: "a", Accept: true, Boxes: ports(100, 150)}, {Name: "b", Accept: true, Boxes: ports(110, 120)}, {Name: "a", Accept: true, Boxes: ports(120, 130)}, {Name: "b", Accept: true, Boxes: ports(100, 199)}, {Name: "c", Accept: true, Boxes: ports(140, 150)}}}
	other := firewall.Chain{Name: "other", Scope: input, Rules: []firewall.Rule{{Name: "d", Accept: true, Boxes: input}, {Name: "e", Accept: true, Boxes: input}}}
	later := firewall.Chain{Name: "later", Scope: forward, Accept: true}
	r, err := Compare(p, &firewall.Ruleset{Chains: []firewall.Chain{c, other}, Later: []firewall.Chain{later}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != Exact || r.Rules != 4 || len(r.Idle) != 2 || r.Idle[0] != (Idle{"a", "redundant"}) || r.Idle[1] != (Idle{"c", "shadowed"}) || len(r.Rows[0].Rules) != 3 {
		t.Errorf("%+v", r)
	}
}

// TestUnknown has what was not understood or resolved stand above everything else.
func TestUnknown(t *testing.T) {
	p := &site.Policy{Interfaces: &box.Interfaces{}}
	closed := firewall.Chain{Name: "c", Scope: box.Real()}
	r, err := Compare(p, &firewall.Ruleset{Chains: []firewall.Chain{closed}})
	if err != nil || r.Verdict != Exact {
		t.Errorf("%v %+v", err, r)
	}
	r, err = Compare(p, &firewall.Ruleset{Chains: []firewall.Chain{closed}, Unknown: []firewall.Unknown{{Where: "a", What: "b"}}})
	if err != nil || r.Verdict != Unknown {
		t.Errorf("%v %+v", err, r)
	}
	p.Missing = []site.Unresolved{{Row: "r", Missing: "m"}}
	for hooks, want := range map[uint8]int{1 << box.Forward: 1, 1<<box.Input | 1<<box.Output: 0, 1<<box.Forward | 1<<box.Input: 1} { // of packets that are not judged, nothing need be known
		if r, err = Compare(p, &firewall.Ruleset{Chains: []firewall.Chain{closed}, Unknown: []firewall.Unknown{{Where: "a", What: "b", Hooks: hooks}}}); err != nil || len(r.Unknown) != want {
			t.Errorf("hooks %b: %v %+v", hooks, err, r)
		}
	}
	if r, err = Compare(p, &firewall.Ruleset{Chains: []firewall.Chain{closed}}); err != nil || r.Verdict != Unknown || len(r.Unresolved) != 1 {
		t.Errorf("%v %+v", err, r)
	}
	if r, err = Compare(&site.Policy{Interfaces: &box.Interfaces{}}, &firewall.Ruleset{}); err != nil || r.Verdict != Wide || r.Wide[0].Why[0] != "no chain judges it, so it gets through" {
		t.Errorf("%v %+v", err, r)
	}
}
