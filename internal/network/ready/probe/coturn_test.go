package probe

import (
	"os/exec"
	"strings"
	"testing"

	"ringfence/internal/testkit"
)

// V06: coturn says the same of each kind of NAT of the kernel. It cannot tell whether there is one, since it does not know its own address.
func TestNATAsCoturn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ rules, mapping, filtering, ours string }{
		"none":         {"chain f { type filter hook forward priority 0; policy drop; ct state established accept; iifname inside accept; }", "Endpoint Independent Mapping", "Address and Port Dependent Filtering", "none"},
		"masquerade":   {"chain f { type filter hook forward priority 0; policy drop; ct state established accept; iifname inside accept; }\n chain n { type nat hook postrouting priority 100; oifname outside masquerade; }", "Endpoint Independent Mapping", "Address and Port Dependent Filtering", independent},
		"fully random": {"chain n { type nat hook postrouting priority 100; oifname outside masquerade fully-random; }", "Address and Port Dependent Mapping", "Address and Port Dependent Filtering", dependent},
		"open":         {"", "Endpoint Independent Mapping", "Endpoint Independent Filtering", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if c.rules != "" {
				l.router.rules("table ip t {\n " + c.rules + "\n}")
			}
			l.cloud.serve("192.0.2.2:3478", testkit.Need(t, "/usr/bin/turnserver", "coturn"), "-n", "--stun-only", "-L", "192.0.2.2", "-L", "192.0.2.3", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout", "--pidfile", t.TempDir()+"/pid")
			var out []byte
			if err := l.site.in(func() (err error) {
				out, err = exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/turnutils_natdiscovery", "coturn"), "-m", "-f", "192.0.2.2").CombinedOutput()
				return err
			}); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			says := string(out)
			if !strings.Contains(says, c.mapping) || !strings.Contains(says, c.filtering) {
				t.Errorf("coturn does not say %q and %q:\n%s", c.mapping, c.filtering, says)
			}
			got := check(t, l.run("nat", nil, media()), "nat").Values
			filtering := map[string]string{"Address and Port Dependent Filtering": "address- and port-dependent", "Endpoint Independent Filtering": "endpoint-independent"}[c.filtering]
			if !strings.HasPrefix(got["mapping"], c.ours) || !strings.HasPrefix(got["filtering"], filtering) {
				t.Errorf("%v; coturn says %s, %s", got, c.mapping, c.filtering)
			}
		})
	}
}
