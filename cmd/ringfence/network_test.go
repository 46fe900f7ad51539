package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/testkit"
)

var networkAlone = flag.Bool("network.alone", false, "this process has a network of its own")

// guideSite writes the site file of the guide, with changes, and returns where.
func guideSite(t *testing.T, changes ...string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/guides/firewalls.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```text site\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("the guide has no site file")
	}
	file := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(changes...).Replace(string(m[1]))), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// kernelRules is what a kernel said of the rules for the site file of the guide.
const kernelRules = "../../internal/network/firewall/nft/testdata/webex-calling.json"

// TestNetworkGuide does what the guide says with its site file: rules, a proof of what a kernel said of them, and each verdict.
func TestNetworkGuide(t *testing.T) {
	cli := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"network"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	file := guideSite(t)
	rules, cert := cli(0, "render", "nftables", "--set", "webex-calling", "--site", file)
	if !strings.Contains(rules, "table inet ringfence-site {") || !strings.Contains(rules, `comment "wc-p-06"`) || !strings.HasPrefix(cert, "exact: 17 rows") {
		t.Errorf("%s\n%s", cert, rules)
	}
	asJSON, _ := cli(0, "render", "nftables", "--set", "webex-calling", "--site", file, "--json")
	var rendered rendering
	if err := json.Unmarshal([]byte(asJSON), &rendered); err != nil || rendered.Text != rules || !rendered.Certificate.Exact {
		t.Errorf("%v: %s", err, asJSON)
	}
	text, _ := cli(0, "prove", kernelRules, "--set", "webex-calling", "--site", file)
	if !strings.Contains(text, "exact") || strings.Contains(text, "Missing") {
		t.Error(text)
	}
	prove := func(want int, rules, file, contains string) {
		t.Helper()
		text, _ := cli(want, "prove", rules, "--set", "webex-calling", "--site", file)
		if !strings.Contains(text, contains) {
			t.Errorf("no %q in\n%s", contains, text)
		}
	}
	prove(6, kernelRules, guideSite(t, "10.20.0.0/16", "10.20.0.0/17"), "10.20.128.0")
	prove(4, kernelRules, guideSite(t, "10.53.0.2]", "10.53.0.2, 10.53.0.3]"), "10.53.0.3:53")
	prove(9, kernelRules, guideSite(t, "  wc-p-04: 5061\n", ""), "wc-p-04 lacks the ports")
	b, err := os.ReadFile(kernelRules)
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "odd.json")
	if err := os.WriteFile(odd, []byte(strings.Replace(string(b), `"key": "iifname"`, `"key": "cgroup"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	prove(9, odd, file, "Not understood: inet ringfence-site needed-forward handle")
	asJSON, _ = cli(0, "prove", kernelRules, "--set", "webex-calling", "--site", file, "--json")
	if !json.Valid([]byte(asJSON)) || !strings.Contains(asJSON, `"verdict": "exact"`) {
		t.Error(asJSON)
	}
	_, said := cli(2, "render", "nftables", "--set", "webex-calling", "--site", guideSite(t, "  wc-p-04: 5061\n", "", "  pstn-gw-or-ucm: 10.9.0.1\n", ""))
	if !strings.Contains(said, "wc-p-04 lacks the ports") || !strings.Contains(said, "wc-p-09 lacks the networks of pstn-gw-or-ucm") {
		t.Error(said)
	}
	cli(2, "render", "abacus", "--set", "webex-calling", "--site", file)
	cli(3, "render", "nftables", "--set", "nothing", "--site", file)
	cli(3, "prove", "nothing.json", "--set", "webex-calling", "--site", file)
	cli(2, "prove", file, "--set", "webex-calling", "--site", file)
	cli(2, "prove", "--set", "webex-calling", "--site", file)
}

// TestProveLive loads what render writes into a kernel that is asked afterwards, before and after somebody adds a rule.
func TestProveLive(t *testing.T) {
	if !*networkAlone {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-network.alone", "-test.v", "-test.run=^TestProveLive$", "-test.timeout=2m")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestProveLive") {
			t.Errorf("%v: this test has a network namespace of its own; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN\n%s", err, out)
		}
		return
	}
	nft := testkit.Need(t, "/usr/sbin/nft", "nftables")
	file := guideSite(t)
	rules := filepath.Join(t.TempDir(), "site.nft")
	prove := func(want int, contains string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), []string{"network", "prove", "--live", "--set", "webex-calling", "--site", file}, &out, &errs); code != want || !strings.Contains(out.String(), contains) {
			t.Errorf("exit code %d, want %d and %q\n%s%s", code, want, contains, out.String(), errs.String())
		}
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), nft, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	prove(6, "no chain judges it, so it gets through")
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"network", "render", "nftables", "--set", "webex-calling", "--site", file}, &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	if err := os.WriteFile(rules, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	run("-f", rules)
	run("-f", rules) // takes the place of the first
	prove(0, "exact")
	run("insert", "rule", "inet", "ringfence-site", "needed-forward", "tcp", "dport", "22", "accept")
	prove(6, ":22: inet ringfence-site needed-forward handle")
	run("add", "table", "ip", "other")
	run("add", "chain", "ip", "other", "f", "{ type filter hook forward priority 10; policy accept; }")
	run("add", "rule", "ip", "other", "f", "ip daddr 10.53.0.2 drop")
	run("-f", rules)
	prove(4, "10.53.0.2:53: ip other f handle 2 drops it\n")
}
