package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// guideCommands returns the commands of a block of the guide of firewalls.
func guideCommands(t *testing.T, block string) []string {
	t.Helper()
	b, err := os.ReadFile("../../docs/guides/firewalls.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```sh " + block + "\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatalf("the guide has no block %s", block)
	}
	return strings.Split(strings.TrimSpace(string(m[1])), "\n")
}

// guided does what a block of the guide says, in an empty folder: commands of ringfence here, and others by a shell, as root.
func guided(t *testing.T, block, site string) {
	t.Helper()
	commands := guideCommands(t, block)
	t.Chdir(t.TempDir())
	for _, line := range commands {
		line = strings.TrimPrefix(line, "sudo ")
		if words := strings.Fields(line); words[0] == "ringfence" {
			for i, w := range words {
				if w == "site.yaml" {
					words[i] = site
				}
			}
			var out, errs bytes.Buffer
			if code := execute(t.Context(), words[1:], &out, &errs); code != 0 {
				t.Fatalf("%s: exit code %d\n%s%s", line, code, out.String(), errs.String())
			}
			continue
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

// networkCLI runs a verb of network, and returns what it says.
func networkCLI(t *testing.T, want int, args ...string) (string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), append([]string{"network"}, args...), &out, &errs); code != want {
		t.Errorf("%s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// TestIPTablesFiles renders files for iptables and ipset, and proves them as they are.
func TestIPTablesFiles(t *testing.T) {
	file, dir := guideSite(t), t.TempDir()
	needs := []string{"--set", "webex-calling", "--site", file}
	said, cert := networkCLI(t, 0, append([]string{"render", "iptables", "--out", filepath.Join(dir, "site")}, needs...)...)
	names := strings.Fields(said)
	if len(names) != 3 || !strings.HasPrefix(cert, "exact: 17 rows") {
		t.Fatal(said, cert)
	}
	asJSON, _ := networkCLI(t, 0, append([]string{"render", "iptables", "--json"}, needs...)...)
	var r rendering
	if err := json.Unmarshal([]byte(asJSON), &r); err != nil || len(r.Files) != 3 || r.Text != "" || !r.Certificate.Exact {
		t.Errorf("%v: %s", err, asJSON)
	}
	for i, f := range r.Files {
		if b, err := os.ReadFile(names[i]); err != nil || string(b) != f.Text || filepath.Base(names[i]) != f.Name {
			t.Errorf("%v: %s is not %s", err, names[i], f.Name)
		}
	}
	prove := append([]string{"prove", "--format", "iptables"}, needs...)
	if text, _ := networkCLI(t, 0, append(prove, names...)...); !strings.Contains(text, "exact") {
		t.Error(text)
	}
	if text, _ := networkCLI(t, 9, append(prove, names[0], names[1])...); !strings.Contains(text, "nothing is said of IPv6; add what ip6tables-save prints") {
		t.Error(text)
	}
	if text, _ := networkCLI(t, 9, append(prove, names[1], names[2])...); !strings.Contains(text, "is not there; add what `ipset save` prints") {
		t.Error(text)
	}
	networkCLI(t, 2, append([]string{"render", "iptables"}, needs...)...)
	networkCLI(t, 2, append([]string{"render", "nftables", "--out", dir}, needs...)...)
	networkCLI(t, 2, append(prove, "--live", names[0])...)
	networkCLI(t, 2, append([]string{"prove", "--format", "abacus", names[0]}, needs...)...)
	networkCLI(t, 2, append([]string{"prove", kernelRules, kernelRules}, needs...)...)
	networkCLI(t, 3, append(prove, filepath.Join(dir, "nothing"))...)
}

// TestProveLiveIPTables does what the guide says of iptables, in a network of its own, and then adds what iptables does not see.
func TestProveLiveIPTables(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	testkit.Need(t, "/usr/sbin/ipset", "ipset")
	legacy, nft := testkit.Need(t, "/usr/sbin/iptables-legacy", "iptables"), testkit.Need(t, "/usr/sbin/nft", "nftables")
	file := guideSite(t)
	prove := func(want int, contains string) {
		t.Helper()
		if text, _ := networkCLI(t, want, "prove", "--live", "--format", "iptables", "--set", "webex-calling", "--site", file); !strings.Contains(text, contains) {
			t.Errorf("no %q in\n%s", contains, text)
		}
	}
	prove(6, "no chain judges it, so it gets through")
	guided(t, "iptables", file)
	prove(0, "exact")
	router.Run(t, legacy, "", "-A", "FORWARD", "-d", "10.53.0.2", "-j", "DROP")
	prove(4, "10.53.0.2:53: iptables filter FORWARD rule 1 drops it")
	router.Run(t, legacy, "", "-F")
	router.Run(t, nft, "", "add", "table", "ip", "other")
	router.Run(t, nft, "", "add", "chain", "ip", "other", "f", "{ type filter hook forward priority 10; policy accept; }")
	router.Run(t, nft, "", "add", "rule", "ip", "other", "f", "ip daddr 10.53.0.2 drop")
	prove(4, "10.53.0.2:53: ip other f handle 2 drops it")
	router.Run(t, nft, "", "delete", "table", "ip", "other")
	prove(0, "exact")
	router.Run(t, "iptables-nft", "", "-I", "FORWARD", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
	prove(6, ":22: iptables filter FORWARD rule 1 accepts it")
}

// TestProveLiveUFW does what the guide says of ufw, with files of ufw that nobody else sees.
func TestProveLiveUFW(t *testing.T) {
	if !router.Alone(t, syscall.CLONE_NEWNS) {
		return
	}
	program := testkit.Need(t, "/usr/sbin/ufw", "ufw")
	testkit.Need(t, "/usr/sbin/iptables", "iptables")
	file := guideSite(t)
	router.Private(t, "/etc/ufw", "/etc/default/ufw")
	guided(t, "ufw", file)
	if said := router.Run(t, program, "", "status"); !strings.Contains(said, "# wc-p-06") {
		t.Error(said)
	}
	router.Run(t, program, "", "route", "allow", "proto", "tcp", "from", "10.20.0.0/16", "to", "any", "port", "22")
	if text, _ := networkCLI(t, 6, "prove", "--live", "--format", "ufw", "--set", "webex-calling", "--site", file); !strings.Contains(text, ":22: iptables filter ufw-user-forward rule") {
		t.Error(text)
	}
}
