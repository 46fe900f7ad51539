package audit

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit"
)

// planted are firewalls as people have them, with faults that were put in: which rows miss something, which rules are too wide, what of them is stale, and which rules do nothing. Everything else is right.
func planted() map[string]struct {
	file, format        string
	missing, wide, idle []string
	stale               map[string]string // an address, and the change that ended it
} {
	return map[string]struct {
		file, format        string
		missing, wide, idle []string
		stale               map[string]string
	}{
		"ios": {"ios.conf", "cisco-ios",
			[]string{"wc-p-02", "wc-p-06", "wc-p-13"}, // a subnet is not in a group; a deny stands before NTP
			[]string{"line 118: ", "line 120: ", "line 132: "},
			[]string{"line 128: "},
			map[string]string{"3.20.118.133": "wc-h-025", "35.172.26.181": "wc-h-056"}},
		"asa": {"asa.conf", "cisco-asa",
			[]string{"wc-p-06"}, // a range of ports is not in a group
			[]string{"line 79: ", "line 80: ", "line 84: ", "line 85: "},
			nil,
			map[string]string{"54.156.13.25": "wc-h-025"}},
		"panos": {"panos.conf", "panos",
			[]string{"wc-p-02", "wc-p-06", "wc-p-13"}, // an object is not in a group; a rule drops another
			[]string{"line 56: rule wxc config", "line 58: rule printers"},
			nil,
			map[string]string{"52.203.31.41": "wc-h-056"}},
		"pf": {"pf.conf", "pf",
			[]string{"wc-p-02", "wc-p-06", "wc-p-13"}, // half a network is not in a table
			[]string{"line 25: ", "line 28: ", "line 34: "},
			[]string{"line 25: "},
			map[string]string{"3.23.144.213": "wc-h-025"}},
		"nft": {"nft.json", "nftables",
			[]string{"wc-p-02", "wc-p-06", "wc-p-13", "wc-p-14"}, // a network is not in a set; the second name server
			[]string{"forward handle 13", "phones handle 9"},
			nil,
			map[string]string{"3.140.117.199": "wc-h-025"}},
	}
}

// needs resolves a site file of the tests.
func needs(t *testing.T, name string) (*site.Policy, *need.Set, *site.Site) {
	t.Helper()
	set, err := catalogue.Open("webex-calling")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := site.Parse(b, name+".yaml", set)
	if err != nil {
		t.Fatal(err)
	}
	return site.Resolve(set, s), set, s
}

func formatOf(name string) Format {
	if name == "nftables" {
		return Format{nft.Parse, nft.Edit}
	}
	return formats()[name].Format
}

// TestPlanted finds all the faults that were put in, and raises no false alarm; the change makes each firewall exact, and what takes it back does.
func TestPlanted(t *testing.T) {
	for name, f := range planted() {
		t.Run(name, func(t *testing.T) {
			p, set, s := needs(t, name)
			text, err := os.ReadFile(filepath.Join("testdata", f.file))
			if err != nil {
				t.Fatal(err)
			}
			r, err := Audit(formatOf(f.format), text, p, set, s)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Proof.Unknown)+len(r.Proof.Unresolved)+r.Proof.LaterCount > 0 {
				t.Errorf("unknown %v %v, later %v", r.Proof.Unknown, r.Proof.Unresolved, r.Proof.Later)
			}
			var missing []string
			for _, c := range r.Proof.Rows {
				if c.Covered != "all" {
					missing = append(missing, c.Row)
				}
			}
			if !slices.Equal(missing, f.missing) {
				t.Errorf("missing %v, want %v", missing, f.missing)
			}
			same := func(what string, got, want []string) {
				for _, g := range got {
					if !slices.ContainsFunc(want, func(w string) bool { return strings.Contains(g, w) }) {
						t.Errorf("a false alarm: %s: %s", what, g)
					}
				}
				for _, w := range want {
					if !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, w) }) {
						t.Errorf("not found: %s: %s", what, w)
					}
				}
			}
			var wide, idle, stale []string
			for _, w := range r.Wide {
				wide = append(wide, w.Rule)
				for _, x := range w.Stale {
					stale = append(stale, x.Packets+" "+x.Change+" "+x.Until)
				}
			}
			for _, i := range r.Proof.Idle {
				idle = append(idle, i.Rule)
			}
			same("too wide", wide, f.wide)
			same("does nothing", idle, f.idle)
			for address, change := range f.stale {
				if !slices.ContainsFunc(stale, func(g string) bool { return strings.Contains(g, "-> "+address+" ") && strings.Contains(g, change) }) {
					t.Errorf("not found: %s, which %s ended\n%s", address, change, strings.Join(stale, "\n"))
				}
			}
			if r.After != prove.Exact || r.Left != "" || r.Verdict != prove.Wide {
				t.Fatalf("%s, and after it %s: %s\n%s", r.Verdict, r.After, r.Left, r.Diff)
			}
			if strings.HasSuffix(f.file, ".conf") && name != "pf" { // commands, which are given one after the other
				before := accepted(t, formatOf(f.format), text, p.Interfaces)
				all := string(text) + "\n" + r.Diff
				rules, err := formatOf(f.format).Parse([]byte(all), p.Interfaces)
				if err != nil {
					t.Fatal(err)
				}
				if proof, err := prove.Compare(p, rules); err != nil || proof.Verdict != prove.Exact {
					t.Errorf("%v %v", err, proof)
				}
				if !slices.Equal(before, accepted(t, formatOf(f.format), []byte(all+r.Back), p.Interfaces)) {
					t.Errorf("not as before\n%s", r.Back)
				}
			}
		})
	}
}

// TestPatchTool lets patch make the change of a pf.conf, and take it back.
func TestPatchTool(t *testing.T) {
	patch := testkit.Need(t, "/usr/bin/patch", "patch")
	p, set, s := needs(t, "pf")
	text, err := os.ReadFile("testdata/pf.conf")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Audit(formatOf("pf"), text, p, set, s)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pf.conf")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(diff string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), patch, "--fuzz=0", file)
		cmd.Stdin = strings.NewReader(diff)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v %s\n%s", err, out, diff)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rules, err := formatOf("pf").Parse(run(r.Diff), p.Interfaces)
	if err != nil {
		t.Fatal(err)
	}
	if proof, err := prove.Compare(p, rules); err != nil || proof.Verdict != prove.Exact {
		t.Errorf("%v %v", err, proof)
	}
	if back := run(r.Back); !bytes.Equal(back, text) {
		t.Errorf("not as before:\n%s", back)
	}
}

var alone = flag.Bool("audit.alone", false, "this process has a network of its own")

// TestKernel lets nft make the change of a ruleset, and take it back, and proves what the kernel says then.
func TestKernel(t *testing.T) {
	if !*alone {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-audit.alone", "-test.v", "-test.run=^TestKernel$", "-test.timeout=2m")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestKernel") {
			t.Errorf("%v: this test has a network namespace of its own; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN\n%s", err, out)
		}
		return
	}
	tool := testkit.Need(t, "/usr/sbin/nft", "nftables")
	run := func(stdin string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("nft %v: %v %s\n%s", args, err, out, stdin)
		}
		return out
	}
	for _, without := range []string{"", "\t\tct state established,related accept\n"} { // what comes back does not, either
		p, set, s := needs(t, "nft")
		rules, err := os.ReadFile("testdata/nft.nft")
		if err != nil {
			t.Fatal(err)
		}
		run("flush ruleset\n"+strings.Replace(string(rules), without, "", 1), "-f", "-")
		f := formatOf("nftables")
		list := func() []byte { return run("", "-j", "-n", "list", "ruleset") }
		text := list()
		before := accepted(t, f, text, p.Interfaces)
		r, err := Audit(f, text, p, set, s)
		if err != nil {
			t.Fatal(err)
		}
		if r.After != prove.Exact {
			t.Fatalf("%s %s\n%s", r.After, r.Left, r.Diff)
		}
		run(r.Diff, "-f", "-")
		again, err := Audit(f, list(), p, set, s)
		if err != nil {
			t.Fatal(err)
		}
		if again.Verdict != prove.Exact {
			t.Errorf("%s: missing %v later %v wide %v", again.Verdict, again.Proof.Missing, again.Proof.Later, again.Proof.Wide)
		}
		run(r.Back, "-j", "-f", "-")
		if !slices.Equal(before, accepted(t, f, list(), p.Interfaces)) {
			t.Errorf("not as before\n%s", r.Back)
		}
	}
}

// TestNothingToDo leaves an exact firewall alone, and proves nothing of one that was not understood.
func TestNothingToDo(t *testing.T) {
	p, set, s := needs(t, "panos")
	f := formats()["panos"]
	text, _, err := f.render(p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Audit(f.Format, []byte(text), p, set, s)
	if err != nil || r.Verdict != prove.Exact || len(r.Wide)+len(r.Changes) > 0 || r.Diff != "" || r.After != "" || r.Left != "" {
		t.Errorf("%v %+v", err, r)
	}
	r, err = Audit(f.Format, []byte(text+"set rulebase security rules x from trust to untrust source any destination any application ssl service any action allow\nmove rulebase security rules x top\n"), p, set, s)
	if err != nil || r.Verdict != prove.Unknown || r.Diff != "" || !strings.Contains(r.Left, "no change can be proved") {
		t.Errorf("%v %+v", err, r)
	}
}

// TestWhatDevicesDoByThemselves has the end of what the device lets through without a rule.
func TestWhatDevicesDoByThemselves(t *testing.T) {
	p, set, s := needs(t, "panos")
	f := formats()["panos"]
	text, _, err := f.render(p)
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(text, "set rulebase security rules ringfence-everything-else")
	r, err := Audit(f.Format, []byte(text[:i]), p, set, s)
	if err != nil || r.Verdict != prove.Wide || r.After != prove.Exact || len(r.Wide) != 1 || r.Wide[0].Rule != "no rule" || len(r.Changes) != 1 || r.Changes[0].Kind != "deny" {
		t.Errorf("%v %+v", err, r)
	}
	p, set, s = needs(t, "pf") // a file without a rule lets everything through
	r, err = Audit(formatOf("pf"), []byte("set skip on lo\n"), p, set, s)
	if err != nil || r.After != prove.Exact {
		t.Errorf("%v %+v", err, r)
	}
	p, set, s = needs(t, "asa") // no list at all: levels decide
	r, err = Audit(formatOf("cisco-asa"), []byte("interface a\n nameif inside\n security-level 100\ninterface b\n nameif outside\n security-level 0\n"), p, set, s)
	if err != nil || r.Verdict != prove.Wide || r.After == prove.Exact || r.Left == "" {
		t.Errorf("%v %+v", err, r)
	}
}
