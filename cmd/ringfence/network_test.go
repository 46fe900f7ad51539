package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

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
