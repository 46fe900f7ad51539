package nft

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// mutant is a rendering with one mistake in it.
type mutant struct{ name, text string }

// mutants makes the mistakes that people and generators make, each in a few rules.
func mutants(t *testing.T, text string) (out []mutant) {
	lines := strings.Split(text, "\n")
	add := func(name, changed string) {
		if changed == text {
			t.Errorf("%s changes nothing", name)
		}
		out = append(out, mutant{name, changed})
	}
	rule := func(id, name string, change func(string) string) {
		at := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, `comment "`+id+`"`) })
		changed := slices.Clone(lines)
		changed[at] = change(changed[at])
		add(id+": "+name, strings.Join(changed, "\n"))
	}
	without := func(pattern string) func(string) string {
		re := regexp.MustCompile(pattern)
		return func(s string) string { return re.ReplaceAllString(s, " ") }
	}
	swapped := func(a, b string) func(string) string {
		return func(s string) string { return strings.NewReplacer(a, b, b, a).Replace(s) }
	}
	// bound adds to the first or the last number of the ports of one side.
	bound := func(side string, last bool, by int) func(string) string {
		re := regexp.MustCompile(side + ` (\{[^}]*\}|\S+)`)
		return func(s string) string {
			return re.ReplaceAllStringFunc(s, func(m string) string {
				all := regexp.MustCompile(`\d+`).FindAllStringIndex(m, -1)
				at := all[0]
				if last {
					at = all[len(all)-1]
				}
				n, _ := strconv.Atoi(m[at[0]:at[1]])
				return m[:at[0]] + fmt.Sprint(n+by) + m[at[1]:]
			})
		}
	}
	const value = ` (\{[^}]*\}|\S+) `
	for _, id := range []string{"wc-p-02", "wc-p-05", "wc-p-13"} {
		rule(id, "source ports dropped", without(` (tcp|udp) sport`+value))
	}
	for _, id := range []string{"wc-p-01", "wc-p-06", "wc-p-11", "wc-p-04"} {
		rule(id, "destination ports dropped", without(` (tcp|udp) dport`+value))
	}
	for _, id := range []string{"wc-p-06", "wc-p-12", "wc-p-15"} {
		rule(id, "source addresses dropped", without(` ip saddr`+value))
	}
	for _, id := range []string{"wc-p-07", "wc-p-13", "wc-p-14"} {
		rule(id, "destination addresses dropped", without(` ip daddr`+value))
	}
	for _, id := range []string{"wc-p-02", "wc-p-08", "wc-p-13"} {
		rule(id, "ports exchanged", swapped("sport", "dport"))
	}
	for _, id := range []string{"wc-p-06", "wc-p-11"} {
		rule(id, "addresses exchanged", swapped("saddr", "daddr"))
	}
	for _, id := range []string{"wc-p-04", "wc-p-07"} {
		rule(id, "interfaces exchanged", swapped("iifname", "oifname"))
	}
	rule("wc-p-06", "any interface in", without(` iifname \S+ `))
	rule("wc-p-13", "any interface out", without(` oifname \S+ `))
	rule("wc-p-06", "first source port one higher", bound("sport", false, 1))
	rule("wc-p-06", "first source port one lower", bound("sport", false, -1))
	rule("wc-p-07", "last source port one lower", bound("sport", true, -1))
	rule("wc-p-07", "last source port one higher", bound("sport", true, 1))
	rule("wc-p-01", "first destination port one higher", bound("dport", false, 1))
	rule("wc-p-05", "last destination port one lower", bound("dport", true, -1))
	rule("wc-p-12", "last destination port one higher", bound("dport", true, 1))
	rule("wc-p-18", "last destination port one lower", bound("dport", true, -1))
	for _, id := range []string{"wc-p-03", "wc-p-06", "wc-p-12"} {
		rule(id, "the other protocol", swapped("tcp", "udp"))
	}
	for _, id := range []string{"wc-p-01", "wc-p-08", "wc-p-10", "wc-p-13"} {
		rule(id, "left out", func(string) string { return "" })
	}
	rule("wc-p-11", "drops", func(s string) string { return strings.Replace(s, "counter accept", "counter drop", 1) })
	rule("wc-p-05", "for connections that are up", func(s string) string { return strings.Replace(s, "ct state new", "ct state established", 1) })
	rule("wc-p-06", "a drop before it", func(s string) string { return "\t\tudp dport 9000 drop\n" + s })
	rule("wc-p-02", "an accept before it", func(s string) string { return "\t\ttcp dport 8934-8935 accept\n" + s })
	rule("wc-p-01", "everything dropped before it", func(s string) string { return "\t\tcounter drop\n" + s })
	rule("wc-p-03", "a table of another chain", func(s string) string { return "\t\tmeta l4proto udp return\n" + s })
	for _, r := range [][2]string{{"163.129.0.0/16", "163.129.0.0/17"}, {"23.89.0.0/16", "23.88.0.0/15"}, {"64.68.96.0/19, ", ""}, {"10.20.0.0/16 ip daddr @wxc", "10.20.0.0/15 ip daddr @wxc"}, {"3.20.185.219", "3.20.185.218"},
		{"72.163.10.255", "72.163.10.254"}, {"policy drop", "policy accept"}, {"\t\tct state established,related counter accept", "\t\tct state related counter accept"},
		{"\t\tct state established,related counter accept", "\t\tct state established,related meta l4proto tcp counter accept"}, {"hook forward", "hook input"}, {"\t\tct state established,related", "\t\tcounter accept\n\t\tct state established,related"}} {
		changed := strings.Replace(text, r[0], r[1], 1)
		if r[1] == "policy accept" {
			changed = strings.Replace(changed, "\t\tcounter drop comment \"everything else\"\n", "", 1)
		}
		add(strings.TrimSpace(r[0])+" is "+strings.TrimSpace(r[1]), changed)
	}
	return out
}

// few returns the boxes of a policy that its mistakes can be seen by: of each row all ports for one pair of networks, and all networks for one pair of ports.
func few(p *site.Policy) (out box.List) {
	for _, r := range p.Rows {
		all := r.Boxes(p.Interfaces)
		first := all[0]
		networks := r.ID == "wc-p-13" || r.ID == "wc-p-11" || r.ID == "wc-p-14" || r.ID == "wc-p-06"
		for _, b := range all {
			if r.ID == "wc-p-12" || b[box.From] == first[box.From] && b[box.To] == first[box.To] || networks && b[box.FromPort] == first[box.FromPort] && b[box.ToPort] == first[box.ToPort] && b[box.Protocol] == first[box.Protocol] {
				out = append(out, b)
			}
		}
	}
	return out
}

// TestMutants has every mistake found by the proof, and by packets that know nothing of the proof (V03); and what the proof shows as an example is what the kernel does.
func TestMutants(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	p := branch.Policy(t, "webex-calling")
	text, _, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	needs := p.Boxes()
	packets := router.Around(few(p), p.Interfaces)
	all := mutants(t, text)
	if len(all) < 50 {
		t.Errorf("only %d mutants", len(all))
	}
	load(t, text, p.Interfaces)
	if wrong, lost := w.Disagreements(packets, p.Interfaces, needs.Has), w.Replies(p); len(wrong)+lost > 0 {
		t.Fatalf("without a mistake there are %d disagreements, %d connections lost", len(wrong), lost)
	}
	examples := 0
	for _, m := range all {
		rules := load(t, m.text, p.Interfaces)
		r := proof(t, p, rules)
		if r.Verdict != prove.Missing && r.Verdict != prove.Wide {
			t.Errorf("%s: the proof says %s %v", m.name, r.Verdict, r.Unknown)
		}
		wrong := w.Disagreements(packets, p.Interfaces, needs.Has)
		if len(wrong) == 0 && w.Replies(p) == 0 {
			t.Errorf("%s: no packet finds it; the proof says %s: %+v %+v", m.name, r.Verdict, r.Missing, r.Wide)
		}
		var shown []box.Packet
		passes := map[box.Packet]bool{}
		for i, list := range [][]prove.Finding{r.Missing, r.Wide} {
			for _, f := range list[:min(len(list), 20)] {
				if q := f.Packet(); q.In != 0 && q.Out != 0 && router.Travels(q) {
					shown = append(shown, q)
					passes[q] = i == 1
				}
			}
		}
		examples += len(shown)
		if len(shown) > 0 {
			for _, q := range w.Disagreements(shown, p.Interfaces, func(q box.Packet) bool { return passes[q] }) {
				t.Errorf("%s: the example %s should get through: %v", m.name, q.Describe(p.Interfaces), passes[q])
			}
		}
	}
	if examples < 100 {
		t.Errorf("only %d examples", examples)
	}
	t.Logf("%d mutants, %d packets for each, %d examples", len(all), len(packets), examples)
}
