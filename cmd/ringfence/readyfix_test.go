package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/target"
)

// TestRules has each failure of a row show that row's rule in each firewall's words, and nothing of other rows; a row that the site file leaves open says what is missing.
func TestRules(t *testing.T) {
	set, err := catalogue.Open("webex-calling")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "site.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("set: webex-calling\ninterfaces: {inside: eth1, outside: eth0}\nnetworks: {device: [10.20.0.0/16], webex-device: [10.20.0.0/16], webex-app: [10.30.0.0/16], calling-application: [10.30.0.0/16]}\nwithout: [wc-p-13]\n")
	for _, name := range target.Names() {
		r, err := newRuler(set, file, name)
		if err != nil {
			t.Fatal(err)
		}
		report := &verdict.Report{Checks: []verdict.Check{{Kind: "udp", Status: verdict.Fail, Rows: []string{"wc-p-06"}}, {Kind: "tcp", Status: verdict.Pass, Rows: []string{"wc-p-02"}}, {Kind: "udp", Status: verdict.Fail, Rows: []string{"wc-p-13"}},
			{Kind: "udp", Status: verdict.Fail, Rows: []string{"wc-p-05"}}, {Kind: "nat", Status: verdict.Fail}}}
		r.fill(report)
		rule := report.Checks[0].Rule
		named := strings.Contains(rule, "wc-p-06") || strings.Contains(rule, hex.EncodeToString([]byte("wc-p-06"))) // as ufw keeps comments
		if report.Firewall != name || !named || strings.Contains(rule, "wc-p-02") || !strings.Contains(rule, "19560") || !strings.Contains(rule, "10.20.0.0") {
			t.Errorf("%s: %s", name, rule)
		}
		if report.Checks[1].Rule != "" || report.Checks[4].Rule != "" || !strings.Contains(report.Checks[2].Rule, "leaves this row out") || !strings.Contains(report.Checks[3].Rule, "the networks of lgw-external-nic") {
			t.Errorf("%s: %+v", name, report.Checks)
		}
	}
	for _, c := range [][2]string{{file, ""}, {"", "nftables"}, {file, "abacus"}, {file + "x", "nftables"}} {
		if _, err := newRuler(set, c[0], c[1]); err == nil {
			t.Errorf("%q", c)
		}
	}
	write("set: webex-calling\nnetworks: {devise: 10.0.0.0/8, device: 10.0.0.0/40}\n")
	if _, err := newRuler(set, file, "nftables"); ringfence.KindOf(err) != ringfence.KindInvalid || strings.Count(err.Error(), "site.yaml:2") < 2 {
		t.Errorf("all mistakes are told at once: %v", err)
	}
	if r, err := newRuler(set, "", ""); r != nil || err != nil {
		t.Error(err)
	}
}
