package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/network/audit"
)

// TestNetworkAudit does what the guide says: the findings, the change, its proof, and the way back.
func TestNetworkAudit(t *testing.T) {
	const dir = "../../internal/network/audit/testdata/"
	cli := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"network"}, args...), &out, &errs); code != want {
			t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	for file, format := range map[string]string{"ios.conf": "cisco-ios", "asa.conf": "cisco-asa", "panos.conf": "panos", "pf.conf": "pf", "nft.json": "nftables"} {
		name, _, _ := strings.Cut(file, ".")
		args := []string{"audit", dir + file, "--format", format, "--set", "webex-calling", "--site", dir + name + ".yaml"}
		text, _ := cli(6, args...)
		for _, want := range []string{"\nMissing\n", "\nToo wide\n", "stale: wc-p-11 needed", "(wc-h-0", "\nThe change\n", "\nThe way back\n", "After the change the firewall is exact."} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", file, want, text)
			}
		}
		asJSON, _ := cli(6, append(args, "--json")...)
		var r audit.Report
		if err := json.Unmarshal([]byte(asJSON), &r); err != nil || r.After != "exact" || r.Format != format {
			t.Errorf("%s: %v %s", file, err, asJSON)
		}
		diff, _ := cli(0, append(args, "--diff")...)
		back, _ := cli(0, append(args, "--back")...)
		if diff != r.Diff || back != r.Back || diff == "" || back == "" {
			t.Errorf("%s: %s\n%s", file, diff, back)
		}
		if format == "pf" || format == "nftables" { // the tools of which are asked where the change is worked out
			continue
		}
		config, err := os.ReadFile(dir + file)
		if err != nil {
			t.Fatal(err)
		}
		changed := filepath.Join(t.TempDir(), "changed")
		if err := os.WriteFile(changed, append(config, "\n"+diff...), 0o600); err != nil {
			t.Fatal(err)
		}
		cli(0, "prove", changed, "--format", format, "--set", "webex-calling", "--site", dir+name+".yaml")
		text, _ = cli(0, "audit", changed, "--format", format, "--set", "webex-calling", "--site", dir+name+".yaml")
		if strings.Contains(text, "The change") {
			t.Errorf("%s: %s", file, text)
		}
	}
	// Where no change can be written the findings are told all the same.
	home := t.TempDir()
	four, six := filepath.Join(home, "rules.v4"), filepath.Join(home, "rules.v6")
	for name, text := range map[string]string{four: "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n", six: "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := cli(6, "audit", four, six, "--format", "iptables", "--set", "webex-calling", "--site", dir+"ios.yaml")
	for _, want := range []string{"\nMissing\n", "\nToo wide\n  iptables filter FORWARD rule 1\n", "Left: changes are not written in the words of this firewall"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	cli(9, "audit", four, six, "--format", "iptables", "--set", "webex-calling", "--site", dir+"ios.yaml", "--diff")
	_, said := cli(2, "audit", dir+"ios.conf", "--diff", "--back", "--set", "webex-calling", "--site", dir+"ios.yaml")
	if !strings.Contains(said, "only one of") {
		t.Error(said)
	}
	cli(2, "audit", dir+"ios.conf", "--format", "abacus", "--set", "webex-calling", "--site", dir+"ios.yaml")
	cli(3, "audit", "nothing", "--format", "pf", "--set", "webex-calling", "--site", dir+"pf.yaml")
	cli(9, "audit", dir+"asa.conf", "--format", "pf", "--set", "webex-calling", "--site", dir+"pf.yaml")
}
