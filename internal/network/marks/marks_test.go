package marks

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/testkit"
)

func sets(t testing.TB) []*need.Set {
	t.Helper()
	w, err := catalogue.Open("webex-calling")
	if err != nil {
		t.Fatal(err)
	}
	self := catalogue.Self("node-1", []ringfence.Flow{
		{Name: "sip-tls", Purpose: "signalling \"in\" {quotes}", Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: 5061, Last: 5061}, Peers: "any phone", DSCP: 24},
		{Name: "media", Purpose: "voice", Direction: ringfence.Listens, Transport: "udp", Ports: ringfence.PortRange{First: 16384, Last: 32767}, Peers: "any phone", DSCP: 46},
		{Name: "https", Purpose: "no mark", Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: 8443, Last: 8443}, Peers: "any phone"},
	})
	return []*need.Set{w, self}
}

// TestNFT has the kernel take the rules, in a network of its own, and say what they are.
func TestNFT(t *testing.T) {
	for _, s := range sets(t) {
		text, _, err := Render(s, "nftables-qos")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "rules.nft")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// Twice: the second replaces the first.
		out, err := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/unshare", "util-linux"), "-rn", "/bin/sh", "-c", `nft -f "$0" && nft -f "$0" && nft list ruleset`, path).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v %s\n%s", s.ID, err, out, text)
		}
		if want := strings.Count(text, " accept comment"); strings.Count(string(out), "accept comment") != want || want == 0 {
			t.Errorf("%s: %d rules, want %d\n%s", s.ID, strings.Count(string(out), "accept comment"), want, out)
		}
		if !strings.Contains(string(out), "ip dscp set ef") || !strings.Contains(string(out), "ip6 dscp set cs3") {
			t.Errorf("%s\n%s", s.ID, out)
		}
	}
}

// TestSharedPorts says what cannot be told apart.
func TestSharedPorts(t *testing.T) {
	for _, target := range Targets() {
		text, lost, err := Render(sets(t)[0], target)
		if err != nil || !strings.Contains(lost[0].Row+lost[0].Why, "wc-q-04") || !strings.Contains(lost[0].Why, "share their ports") || !strings.Contains(text, "46") {
			t.Errorf("%s: %v %v\n%s", target, err, lost, text)
		}
	}
	if _, _, err := Render(&need.Set{}, "juniper"); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
}

// TestWords is what the targets say that cannot be tried here.
func TestWords(t *testing.T) {
	self := sets(t)[1]
	for target, want := range map[string][]string{
		"ios-qos":     {"permit udp any range 1024 65535 any range 16384 32767\n", "permit tcp any range 1024 65535 any eq 5061\n", "permit tcp any eq 5061 any range 1024 65535\n", "set dscp 46\n", "policy-map RINGFENCE\n"},
		"windows-qos": {"-IPProtocolMatchCondition UDP -IPDstPortStartMatchCondition 16384 -IPDstPortEndMatchCondition 32767 -DSCPAction 46", "-IPSrcPortStartMatchCondition 5061 -IPSrcPortEndMatchCondition 5061 -DSCPAction 24"},
	} {
		text, _, err := Render(self, target)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s lacks %q:\n%s", target, w, text)
			}
		}
	}
	hostile := &need.Set{Title: "a\nb", Marks: []need.Mark{{ID: "x'; Remove-Item C:\\", From: "r\nreload\n", Traffic: "\" } flush ruleset", FromPorts: []need.Ports{{First: 1, Last: 2}}, DSCP: []uint8{1}}}}
	for _, target := range Targets() {
		text, _, err := Render(hostile, target)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "reload") || strings.Contains(line, "'; Remove") || strings.HasPrefix(line, "b") {
				t.Errorf("%s: %s", target, line)
			}
		}
	}
}
