package nft

import (
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// load gives the kernel a ruleset instead of the one that it had, and reads back what it says of it.
func load(t testing.TB, text string, n *box.Interfaces) *firewall.Ruleset {
	t.Helper()
	nft := testkit.Need(t, "/usr/sbin/nft", "nftables")
	router.Run(t, nft, "flush ruleset\n"+text, "-f", "-")
	rules, err := Parse([]byte(router.Run(t, nft, "", "-j", "-n", "list", "ruleset")), n)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// TestKernel loads the rendering of each set, and proves what the kernel says of it.
func TestKernel(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	for _, file := range branch.Names() {
		p := branch.Policy(t, file)
		text, cert, err := Render(p)
		if err != nil || !cert.Exact {
			t.Fatalf("%s: %v %+v", file, err, cert)
		}
		load(t, text, p.Interfaces)
		rules := load(t, text, p.Interfaces)
		r, err := prove.Compare(p, rules)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != prove.Exact {
			t.Errorf("%s: %s: unknown %v, missing %v %v, wide %v\n%s", file, r.Verdict, r.Unknown, r.Missing, r.Later, r.Wide, text)
		}
		for _, c := range r.Rows {
			if c.Covered != "all" || len(c.Rules) == 0 {
				t.Errorf("%s: %+v", file, c)
			}
		}
		t.Logf("%s: %d rules, %d idle, %s packets needed", file, r.Rules, len(r.Idle), r.Needed)
	}
}
