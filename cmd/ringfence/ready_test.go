package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// TestReadyGuide runs the commands of docs/guides/ready.md as they stand there, in a network of its own: the first beside the others.
func TestReadyGuide(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/guides/ready.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split(string(b), "```") {
		if rest, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			blocks = append(blocks, rest)
		}
	}
	if len(blocks) != 7 {
		t.Fatalf("the guide has %d blocks of commands", len(blocks))
	}
	squid := "printf 'http_port 192.0.2.2:3128\\npid_filename none\\ncache_log /dev/null\\naccess_log none\\ncache_store_log none\\ncache deny all\\nshutdown_lifetime 0 seconds\\npinger_enable off\\nnetdb_filename none\\nmax_filedescriptors 256\\nhttp_access allow all\\n' > squid.conf\n" +
		testkit.Need(t, "/usr/sbin/squid", "squid-openssl") + " -N -n readyguide -f squid.conf >squid.txt 2>&1 &\nsquid=$!\n" +
		"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do bash -c 'exec 3<>/dev/tcp/192.0.2.2/3128' 2>/dev/null && break; sleep 0.2; done\n"
	script := "set -e\n" + testkit.Need(t, "/sbin/ip", "iproute2") + " link set lo up\nip address add 192.0.2.2/24 dev lo\n" +
		strings.TrimSpace(blocks[0]) + " >reflector.txt 2>&1 &\ni=0; until grep -q listens reflector.txt; do i=$((i+1)); [ $i -lt 300 ]; sleep 0.1; done\n" +
		"reflector=$!\n" + squid + strings.ReplaceAll(strings.Join(blocks[1:], ""), "--calls 50", "--calls 2") + "kill $reflector\nkill -9 $squid\n"
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script) // what it starts ends with it
	cmd.Dir, cmd.WaitDelay = t.TempDir(), time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: it has a network of its own; run it as root, or with CAP_SYS_ADMIN and CAP_NET_ADMIN\n%s", err, out)
	}
	for _, want := range []string{"pass  udp/wc-p-06", "pass  sip-alg", "remembers a silent port for at least 4s", "pass  proxy/192.0.2.2:3128", "pass  proxy/wc-x-07", "capacity: How many calls fit"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output does not have %q:\n%s", want, out)
		}
	}
	for file, want := range map[string]string{"site.html": "All that was tested of what is needed works", "manager.html": "Is the network ready?", "site.xml": `failures="0"`, "duties.md": "| marks | network | partner |", "duties.html": "Duties of the site"} {
		if b, err := os.ReadFile(filepath.Join(cmd.Dir, file)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v\n%s", file, err, b)
		}
	}
}
