package probe

import (
	"context"
	"encoding/xml"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/node/sockets"
	"ringfence/internal/testkit"
)

// nmap is what the program of that name says of ports.
type nmap struct {
	Ports []struct {
		Protocol string `xml:"protocol,attr"`
		Port     uint16 `xml:"portid,attr"`
		State    struct {
			State  string `xml:"state,attr"`
			Reason string `xml:"reason,attr"`
		} `xml:"state"`
	} `xml:"host>ports>port"`
}

// What nmap and hping3 say of ports behind a firewall of the kernel, the prober says too.
func TestPortsAsScanners(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if err := l.router.in(func() error { return os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0) }); err != nil { // else three programs that ask for the same share what the kernel says
		t.Fatal(err)
	}
	l.router.rules(`table ip t { chain f { type filter hook forward priority 0; policy accept;
		tcp dport 6971 drop
		tcp dport 6970 reject with tcp reset
		tcp dport 6972 reject with icmp admin-prohibited
		tcp dport 6973 reject with icmp port-unreachable
		tcp dport 7000 tcp sport 5070 drop
		udp dport 20001 drop
		udp dport 20002 reject with icmp admin-prohibited
		udp dport 20003 reject with icmp port-unreachable
		udp dport 20004 udp sport 5070 drop
		iifname outside udp sport 20005 drop
	}
}`)
	type port struct {
		transport   string
		from, to    uint16
		status      verdict.Status
		cause       verdict.Cause
		nmap, hping string
	}
	const silence = "100% packet loss"
	ports := []port{
		{"tcp", 40001, 443, verdict.Pass, "", "open syn-ack", "flags=SA"},
		{"tcp", 40001, 6970, verdict.Fail, verdict.Rejected, "closed reset", "flags=RA"},
		{"tcp", 40001, 6971, verdict.Fail, verdict.Dropped, "filtered no-response", silence},
		{"tcp", 40001, 6972, verdict.Fail, verdict.Rejected, "filtered admin-prohibited", "Packet filtered from ip=10.0.0.1"},
		{"tcp", 40001, 6973, verdict.Fail, verdict.Rejected, "filtered port-unreach", "Port Unreachable from ip=10.0.0.1"},
		{"tcp", 5060, 7000, verdict.Pass, "", "", "flags=SA"},
		{"tcp", 5070, 7000, verdict.Fail, verdict.Dropped, "", silence},
		{"udp", 40001, 20000, verdict.Pass, "", "open udp-response", "len=29 ip=192.0.2.2"},
		{"udp", 40001, 20001, verdict.Fail, verdict.Dropped, "open|filtered no-response", silence},
		{"udp", 40001, 20002, verdict.Fail, verdict.Rejected, "filtered admin-prohibited", "Packet filtered from ip=10.0.0.1"},
		{"udp", 40001, 20003, verdict.Fail, verdict.Rejected, "filtered port-unreach", "Port Unreachable from ip=10.0.0.1"},
		{"udp", 5060, 20004, verdict.Pass, "", "", "len=29 ip=192.0.2.2"},
		{"udp", 5070, 20004, verdict.Fail, verdict.Dropped, "", silence},
		{"udp", 40001, 20005, verdict.Fail, verdict.Dropped, "open|filtered no-response", silence},
	}
	var rows []need.Need
	for n, p := range ports {
		rows = append(rows, row(fmt.Sprintf("p%d", n), p.transport, fmt.Sprint(p.from), fmt.Sprint(p.to)))
	}
	r := l.run("tcp udp", nil, rows...)
	for n, p := range ports {
		c := check(t, r, fmt.Sprintf("%s/p%d", p.transport, n))
		if c.Status != p.status || c.Cause != p.cause {
			t.Errorf("%+v: we say %s, %q", p, c.Status, c.Cause)
		}
		if p.hping == "flags=RA" && c.Hop != "" {
			t.Errorf("a reset has no sender to tell, but %q is told", c.Hop)
		}
		if by, ok := strings.CutSuffix(p.hping, " from ip=10.0.0.1"); ok && c.Hop != "10.0.0.1" {
			t.Errorf("%+v: %q, and the machine is not told: %q", p, by, c.Hop)
		}
	}

	// Now the same ports are open to everybody.
	l.stop()
	o, err := sockets.New([]ringfence.Flow{{Name: "tcp", Purpose: "test", Room: "test", Direction: ringfence.Listens, Transport: "tcp"}, {Name: "udp", Purpose: "test", Room: "test", Direction: ringfence.Listens, Transport: "udp"}})
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	var list []string
	for _, p := range ports {
		at, key := netip.AddrPortFrom(l.at.Addr(), p.to), fmt.Sprintf("%s %d", p.transport, p.to)
		if asked[key] {
			continue
		}
		asked[key] = true
		if p.nmap != "" {
			list = append(list, fmt.Sprintf("%s:%d", map[string]string{"tcp": "T", "udp": "U"}[p.transport], p.to))
		}
		if p.transport == "tcp" {
			ln, err := (hand{l.cloud, o}).Listen(t.Context(), "tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			continue
		}
		pc, err := (hand{l.cloud, o}).ListenUDP(t.Context(), "udp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		go echo(pc)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	outside := func(name string, args ...string) string {
		t.Helper()
		var out []byte
		_ = l.site.in(func() error {
			out, _ = exec.CommandContext(ctx, name, args...).CombinedOutput() // hping3 fails where nothing answers
			return nil
		})
		return string(out)
	}
	text := outside(testkit.Need(t, "/usr/bin/nmap", "nmap"), "-n", "-Pn", "-sS", "-sU", "--max-retries", "3", "--max-scan-delay", "200ms", "-oX", "-", "-p", strings.Join(list, ","), l.at.Addr().String())
	var found nmap
	if err := xml.Unmarshal([]byte(text), &found); err != nil || len(found.Ports) != len(list) {
		t.Fatalf("nmap: %v\n%s", err, text)
	}
	for _, f := range found.Ports {
		for _, p := range ports {
			if p.nmap != "" && p.transport == f.Protocol && p.to == f.Port && p.nmap != f.State.State+" "+f.State.Reason {
				t.Errorf("%+v: nmap says %s %s", p, f.State.State, f.State.Reason)
			}
		}
	}
	for _, p := range ports {
		mode := map[string]string{"tcp": "-S", "udp": "-2"}[p.transport]
		args := []string{"-n", mode, "-c", "3", "-i", "u100000", "-s", fmt.Sprint(p.from), "-k", "-p", fmt.Sprint(p.to), l.at.Addr().String()}
		if text := outside(testkit.Need(t, "/usr/sbin/hping3", "hping3"), args...); !strings.Contains(text, p.hping) {
			t.Errorf("%+v: hping3 says\n%s", p, text)
		}
	}
}

// echo answers whoever asks.
func echo(pc net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = pc.WriteTo(append(b[:n:n], '!'), from)
	}
}
