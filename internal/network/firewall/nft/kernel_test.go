package nft

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit"
)

var alone = flag.Bool("nft.alone", false, "this process has a network of its own")

// ownNetwork runs the test again in a process whose network nobody else has, and reports whether this is that process.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if *alone {
		run(t, testkit.Need(t, "/sbin/ip", "iproute2"), "", "link", "set", "lo", "up")
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-nft.alone", "-test.v", "-test.run=^"+t.Name()+"$", "-test.timeout=5m")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: this test has a network namespace of its own; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

func run(t testing.TB, name, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s", name, strings.Join(args, " "), err, out, stdin)
	}
	return string(out)
}

// load gives the kernel a ruleset instead of the one that it had, and reads back what it says of it.
func load(t testing.TB, text string, n *box.Interfaces) *firewall.Ruleset {
	t.Helper()
	nft := testkit.Need(t, "/usr/sbin/nft", "nftables")
	run(t, nft, "flush ruleset\n"+text, "-f", "-")
	rules, err := Parse([]byte(run(t, nft, "", "-j", "-n", "list", "ruleset")), n)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func resolved(t testing.TB, set *need.Set, file string) *site.Policy {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := site.Parse(b, file, set)
	if err != nil {
		t.Fatal(err)
	}
	return site.Resolve(set, s)
}

// TestKernel loads the rendering of each set, and proves what the kernel says of it.
func TestKernel(t *testing.T) {
	t.Parallel()
	if !ownNetwork(t) {
		return
	}
	for file, set := range sets(t) {
		p := resolved(t, set, file)
		if len(p.Missing) > 0 {
			t.Errorf("%s: %v", file, p.Missing)
		}
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
