package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNetworkDevices writes the rules for the site of the guide in the words of each device, and proves them.
func TestNetworkDevices(t *testing.T) {
	cli := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"network"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	for format, names := range map[string][2]string{"cisco-ios": {"GigabitEthernet0/1", "GigabitEthernet0/0"}, "cisco-asa": {"inside", "outside"}, "panos": {"trust", "untrust"}, "pf": {"em1", "em0"}} {
		file := guideSite(t, "inside: eth1", "inside: "+names[0], "outside: eth0", "outside: "+names[1])
		text, cert := cli(0, "render", format, "--set", "webex-calling", "--site", file)
		if !strings.HasPrefix(cert, "exact: 17 rows") || !strings.Contains(text, "wc-p-06") {
			t.Errorf("%s: %s\n%s", format, cert, text)
		}
		asJSON, _ := cli(0, "render", format, "--set", "webex-calling", "--site", file, "--json")
		var rendered rendering
		if err := json.Unmarshal([]byte(asJSON), &rendered); err != nil || rendered.Text != text || !rendered.Certificate.Exact {
			t.Errorf("%s: %v %s", format, err, asJSON)
		}
		config := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		said, _ := cli(0, "prove", config, "--format", format, "--set", "webex-calling", "--site", file)
		if !strings.Contains(said, "exact") {
			t.Errorf("%s: %s", format, said)
		}
		asJSON, _ = cli(0, "prove", config, "--format", format, "--set", "webex-calling", "--site", file, "--json")
		if !strings.Contains(asJSON, `"verdict": "exact"`) {
			t.Errorf("%s: %s", format, asJSON)
		}
		other := guideSite(t, "inside: eth1", "inside: "+names[0], "outside: eth0", "outside: "+names[1], "10.53.0.2]", "10.53.0.3]")
		said, _ = cli(6, "prove", config, "--format", format, "--set", "webex-calling", "--site", other)
		if !strings.Contains(said, "10.53.0.3:53") || !strings.Contains(said, "-> 10.53.0.2") {
			t.Errorf("%s: %s", format, said)
		}
	}
	_, said := cli(2, "prove", kernelRules, "--format", "abacus", "--set", "webex-calling", "--site", guideSite(t))
	if !strings.Contains(said, "no firewall that is known") {
		t.Error(said)
	}
	if _, said = cli(2, "prove", "--live", "--format", "pf", "--set", "webex-calling", "--site", guideSite(t)); !strings.Contains(said, "speaks nftables") {
		t.Error(said)
	}
	if _, said = cli(2, "render", "nftables", "--set", "webex-calling", "--site", guideSite(t, "inside: eth1", "inside: GigabitEthernet0/1")); !strings.Contains(said, "no name of an interface of Linux") {
		t.Error(said)
	}
}
