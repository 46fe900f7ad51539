package nat

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"ringfence/internal/testkit"
)

// TestExhaustion has a kernel translate for a pool of 64 ports: what the plan says is what a service outside sees, and each binding is one entry of the kernel's table.
func TestExhaustion(t *testing.T) {
	q := Question{Devices: 100, Calls: 10, Idle: 1, Pool: pool("192.0.2.1/32"), First: 10000, Last: 10063}
	p, err := Make(q)
	if err != nil || p.OK || p.Needed != 140 {
		t.Fatalf("%+v %v", p, err)
	}
	for _, tool := range []struct{ file, of string }{{"/sbin/ip", "iproute2"}, {"/usr/sbin/nft", "nftables"}, {"/usr/bin/python3", "python3"}} {
		testkit.Need(t, tool.file, tool.of)
	}
	for asked, want := range map[int]int{p.Needed: p.Capacity, p.Capacity: p.Capacity, p.Capacity / 2: p.Capacity / 2} {
		out, err := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/unshare", "util-linux"), "-nm", "/bin/sh", "testdata/exhaust.sh", fmt.Sprint(asked), fmt.Sprint(q.First), fmt.Sprint(q.Last)).CombinedOutput()
		if err != nil || strings.Join(strings.Fields(string(out)), " ") != fmt.Sprintf("%d %d", want, want) {
			t.Errorf("%d asked for: the service saw, and the table holds, %s, want %d (%v); this test has networks of its own, and needs root", asked, out, want, err)
		}
	}
}
