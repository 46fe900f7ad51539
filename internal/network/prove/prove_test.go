package prove

import (
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
	}
	if r := world(t, true); r.Verdict != Wide || r.MissingCount != 0 {
		t.Errorf("a firewall that accepts everything: %s", r.Verdict)
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
