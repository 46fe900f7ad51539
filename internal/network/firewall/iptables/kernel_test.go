package iptables

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// tools are the programs of one kind of iptables.
type tools struct{ kind, ipset string }

func newTools(t testing.TB, kind string) tools {
	testkit.Need(t, "/usr/sbin/iptables-"+kind, "iptables")
	return tools{kind, testkit.Need(t, "/usr/sbin/ipset", "ipset")}
}

func (k tools) program(family uint8, verb string) string {
	name := "iptables"
	if family == box.IPv6 {
		name = "ip6tables"
	}
	return "/usr/sbin/" + name + "-" + k.kind + "-" + verb
}

// load has the tools take files as a user would, and reads back what they then say.
func (k tools) load(t testing.TB, files []firewall.File, n *box.Interfaces) *firewall.Ruleset {
	t.Helper()
	for _, f := range files {
		switch f.Name {
		case SetsFile:
			router.Run(t, k.ipset, f.Text, "restore")
		case RulesFile:
			router.Run(t, k.program(box.IPv4, "restore"), f.Text, "--noflush")
		case Rules6File:
			router.Run(t, k.program(box.IPv6, "restore"), f.Text, "--noflush")
		}
	}
	return k.read(t, n)
}

func (k tools) dumps(t testing.TB) []Dump {
	t.Helper()
	return []Dump{
		{Family: box.IPv4, Text: []byte(router.Run(t, k.program(box.IPv4, "save"), ""))},
		{Family: box.IPv6, Text: []byte(router.Run(t, k.program(box.IPv6, "save"), ""))},
		{Text: []byte(router.Run(t, k.ipset, "", "save"))},
	}
}

func (k tools) read(t testing.TB, n *box.Interfaces) *firewall.Ruleset {
	t.Helper()
	rules, err := Parse(k.dumps(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// clear takes all rules and sets out.
func (k tools) clear(t testing.TB) {
	t.Helper()
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		empty := ""
		for _, name := range []string{"filter", "mangle", "raw", "nat"} {
			empty += "*" + name + "\n:OUTPUT ACCEPT\n"
			if name == "filter" { // of the older iptables, policies outlive rules
				empty += ":INPUT ACCEPT\n:FORWARD ACCEPT\n"
			}
			empty += "COMMIT\n"
		}
		router.Run(t, k.program(family, "restore"), empty)
	}
	router.Run(t, k.ipset, "", "flush") // a list lets go of its sets
	var err error
	for range 100 { // the kernel lets go of the sets of its rules a little later
		if err = exec.CommandContext(t.Context(), k.ipset, "destroy").Run(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func kinds() []string { return []string{"nft", "legacy"} }

// TestKernel loads the rendering of each set into both kinds of iptables, twice, and proves what they then say, and what was written.
func TestKernel(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	for _, kind := range kinds() {
		k := newTools(t, kind)
		for _, name := range branch.Names() {
			p := branch.Policy(t, name)
			files, cert, err := Render(p)
			if err != nil || !cert.Exact {
				t.Fatalf("%s: %v %+v", name, err, cert)
			}
			k.load(t, files, p.Interfaces)
			var written []Dump
			for _, f := range files {
				written = append(written, Dump{Name: f.Name, Text: []byte(f.Text)})
			}
			own, err := Parse(written, p.Interfaces)
			if err != nil {
				t.Fatal(err)
			}
			for from, rules := range map[string]*firewall.Ruleset{"the kernel": k.load(t, files, p.Interfaces), "the files": own} {
				r, err := prove.Compare(p, rules)
				if err != nil {
					t.Fatal(err)
				}
				if r.Verdict != prove.Exact {
					t.Errorf("%s, %s, %s: %s: unknown %v, missing %v %v, wide %v", kind, name, from, r.Verdict, r.Unknown, r.Missing, r.Later, r.Wide)
				}
				for _, c := range r.Rows {
					if c.Covered != "all" || len(c.Rules) == 0 {
						t.Errorf("%s, %s, %s: %+v", kind, name, from, c)
					}
				}
				t.Logf("%s, %s, %s: %d rules, %s packets needed", kind, name, from, r.Rules, r.Needed)
			}
			k.clear(t)
		}
	}
}

// TestPackets sends boundary packets of every row through the rendering: the kernel, what was read back and the needs agree.
func TestPackets(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	for _, kind := range []string{"legacy", "nft"} { // in this order the second warns of the first
		names := map[string][]string{"nft": {"webex-calling", "self"}, "legacy": {"dedicated-instance", "self"}}[kind] // TestKernel has all of both
		k := newTools(t, kind)
		for _, name := range names {
			p := branch.Policy(t, name)
			files, _, err := Render(p)
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := firewall.Accepted(k.load(t, files, p.Interfaces).Chains)
			if err != nil {
				t.Fatal(err)
			}
			needs, lo := p.Boxes(), p.Interfaces.Number("lo")
			for _, hook := range []uint8{box.Forward, box.Input, box.Output} {
				packets := slices.DeleteFunc(router.Around(needs, p.Interfaces), func(q box.Packet) bool { return q.Hook != hook || q.In == lo || q.Out == lo })
				pass := 0
				for _, q := range packets {
					if needs.Has(q) {
						pass++
					}
					if needs.Has(q) != accepted.Has(q) {
						t.Errorf("%s, %s: %s: needed %v, read back %v", kind, name, q.Describe(p.Interfaces), needs.Has(q), accepted.Has(q))
					}
				}
				if len(packets) == 0 {
					continue
				}
				if pass < 20 || len(packets)-pass < 20 {
					t.Errorf("%s, %s: %d of %d packets should pass", kind, name, pass, len(packets))
				}
				wrong := w.Disagreements(packets, p.Interfaces, needs.Has)
				for _, q := range wrong[:min(len(wrong), 10)] {
					t.Errorf("%s, %s: %s: needed %v, and the kernel does not think so", kind, name, q.Describe(p.Interfaces), needs.Has(q))
				}
				t.Logf("%s, %s, hook %d: %d packets, %d of which pass, %d disagreements", kind, name, hook, len(packets), pass, len(wrong))
			}
			if !p.Host {
				if lost := w.Replies(p); lost > 0 {
					t.Errorf("%s, %s: %d connections do not come up", kind, name, lost)
				}
			}
			k.clear(t)
		}
	}
}

// TestRandom sends 100,000 random packets through the renderings of both sets, near enough to the needs that many get through: what passes is what the certificate says, which is exact.
func TestRandom(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	for i, name := range []string{"webex-calling", "dedicated-instance"} {
		k := newTools(t, kinds()[i])
		p := branch.Policy(t, name)
		files, cert, err := Render(p)
		if err != nil || !cert.Exact {
			t.Fatal(err, cert)
		}
		k.load(t, files, p.Interfaces)
		needs := p.Boxes()
		packets := router.Random(needs, p.Interfaces, 50_000, 7)
		passing, six, wrong := 0, 0, 0
		for _, q := range packets {
			if needs.Has(q) {
				passing++
			}
			if q.From.Is6() {
				six++
			}
		}
		for part := range slices.Chunk(packets, 10_000) {
			for _, q := range w.Disagreements(part, p.Interfaces, needs.Has) {
				if wrong++; wrong < 10 {
					t.Errorf("%s: %s: needed %v, and the kernel does not think so", name, q.Describe(p.Interfaces), needs.Has(q))
				}
			}
		}
		if passing < 10_000 || passing > 45_000 {
			t.Errorf("%s: %d packets should get through", name, passing)
		}
		if name == "dedicated-instance" && six < 2000 {
			t.Errorf("%s: %d packets of IPv6", name, six)
		}
		t.Logf("%s: %d packets, %d of IPv6, %d of which get through, %d disagreements", name, len(packets), six, passing, wrong)
		k.clear(t)
	}
}

// TestReload replaces one policy by another, whose sets have other names, and never lets go of rules in between.
func TestReload(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	k := newTools(t, "legacy")
	p := branch.Policy(t, "webex-calling")
	before, _, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	router.Run(t, k.program(box.IPv4, "restore"), "*filter\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n")
	k.load(t, before, p.Interfaces)
	for i := range p.Rows {
		p.Rows[i].To = p.Rows[i].To[:max(1, len(p.Rows[i].To)-1)] // a network less
	}
	after, _, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	router.Run(t, k.ipset, after[0].Text, "restore") // with it alone nothing has changed:
	if r, err := prove.Compare(branch.Policy(t, "webex-calling"), k.read(t, p.Interfaces)); err != nil || r.Verdict != prove.Exact {
		t.Errorf("%v %+v", err, r)
	}
	if r, err := prove.Compare(p, k.load(t, after, p.Interfaces)); err != nil || r.Verdict != prove.Exact {
		t.Errorf("%v %+v", err, r)
	}
	if said := router.Run(t, k.program(box.IPv4, "save"), ""); !strings.Contains(said, "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT") || strings.Count(said, "belongs to nothing") != 1 {
		t.Error(said)
	}
	names := strings.Fields(router.Run(t, k.ipset, "", "list", "-n"))
	if len(names) != len(slices.Compact(slices.Sorted(slices.Values(names)))) || len(names) < 2 || slices.ContainsFunc(names, func(n string) bool { return len(n) > 31 }) {
		t.Error(fmt.Sprint(names))
	}
}
