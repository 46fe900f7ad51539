package probe

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/verdict"
)

// newLongLab has two routers: the site's, and the provider's.
func newLongLab(t *testing.T) (l *lab, provider *space) {
	t.Helper()
	l = &lab{T: t, site: newSpace(t), router: newSpace(t), cloud: newSpace(t)}
	provider = newSpace(t)
	l.router.do(`ip link set lo up
		ip link add inside type veth peer name eth0 netns ` + l.site.path() + `
		ip link add outside type veth peer name inside netns ` + provider.path() + `
		ip address add 10.0.0.1/24 dev inside
		ip address add 10.1.0.1/24 dev outside
		ip link set inside up
		ip link set outside up`)
	provider.do(`ip link set lo up
		ip link add outside type veth peer name eth0 netns ` + l.cloud.path() + `
		ip address add 10.1.0.2/24 dev inside
		ip address add 192.0.2.1/24 dev outside
		ip link set inside up
		ip link set outside up
		ip route add 10.0.0.0/24 via 10.1.0.1`)
	l.router.do("ip route add default via 10.1.0.2")
	l.site.do(`ip link set lo up
		ip address add 10.0.0.2/24 dev eth0
		ip link set eth0 up
		ip route add default via 10.0.0.1`)
	l.cloud.do(`ip link set lo up
		ip address add 192.0.2.2/24 dev eth0
		ip address add 192.0.2.3/24 dev eth0
		ip link set eth0 up
		ip route add default via 192.0.2.1`)
	for _, s := range []*space{l.router, provider} {
		if err := s.in(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }); err != nil {
			t.Fatal(err)
		}
	}
	l.reflect(nil)
	return l, provider
}

// V11: a mark is rewritten at the site's router, at the provider's, and one of two only; the machine is named.
func TestWhoMarks(t *testing.T) {
	t.Parallel()
	l, provider := newLongLab(t)
	with := func(c *Config) { c.Set.Marks = []need.Mark{{ID: "q", DSCP: []uint8{46, 34}}} }
	const rewrite = "table ip t {\n chain f { type filter hook forward priority 0; iifname inside ip dscp 46 ip dscp set 0; }\n}"
	is(t, check(t, l.run("dscp", with, media()), "dscp"), verdict.Pass, "")
	l.router.rules(rewrite)
	c := check(t, l.run("dscp", with, media()), "dscp")
	is(t, c, verdict.Warn, verdict.Marks)
	if c.Seen != "46 arrives as 0" || c.Hop != "between 10.0.0.1 and 10.1.0.2, where it came as 0" {
		t.Errorf("%+v", c)
	}
	l.router.rules("flush ruleset")
	provider.rules(rewrite)
	if c := check(t, l.run("dscp", with, media()), "dscp"); c.Hop != "after 10.1.0.2, where it came as it was sent" {
		t.Errorf("%+v", c)
	}
	// Who may not hear what routers say finds out the same marks, and no machine.
	quiet := func(c *Config) {
		with(c)
		c.Opener = deaf{c.Opener}
	}
	if c := check(t, l.run("dscp", quiet, media()), "dscp"); c.Hop != "" || !strings.Contains(c.Values["which machine"], "CAP_NET_RAW") || c.Seen != "46 arrives as 0" {
		t.Errorf("%+v", c)
	}
}

// deaf is an opener without the right to hear what routers say.
type deaf struct{ Opener }

func (deaf) ListenICMP(context.Context, string, netip.Addr) (net.PacketConn, error) {
	return nil, &ringfence.Fault{Kind: ringfence.KindDenied, Text: "no"}
}

// Who refuses a connection by ICMP is told to whoever may hear it, also behind a NAT; who may not is told that it was refused.
func TestWhoRefuses(t *testing.T) {
	t.Parallel()
	l, provider := newLongLab(t)
	l.router.rules("table ip t {\n chain n { type nat hook postrouting priority 100; oifname outside masquerade; }\n}")
	provider.rules("table ip t {\n chain f { type filter hook forward priority 0; tcp dport 443 reject with icmp host-prohibited; }\n}")
	web := row("web", "tcp", "1024-65535", "443")
	c := check(t, l.run("tcp", nil, web), "tcp/web")
	is(t, c, verdict.Fail, verdict.Rejected, "443")
	if c.Hop != "10.1.0.2" || !strings.Contains(c.Seen, "refused by 10.1.0.2 (ICMP)") {
		t.Errorf("%+v", c)
	}
	c = check(t, l.run("tcp", func(c *Config) { c.Opener = deaf{c.Opener} }, web), "tcp/web")
	is(t, c, verdict.Fail, verdict.Rejected, "443")
	if c.Hop != "" || strings.Contains(c.Seen, "10.1.0.2") {
		t.Errorf("%+v", c)
	}
}

// V12: the black hole is behind the site's router, or behind the provider's.
func TestWhoSwallows(t *testing.T) {
	t.Parallel()
	l, provider := newLongLab(t)
	const silent = "table ip t {\n chain o { type filter hook output priority 0; icmp type destination-unreachable drop; }\n}"
	l.router.rules(silent)
	provider.rules(silent)
	provider.do("ip route replace 192.0.2.0/24 dev outside mtu lock 1400")
	c := check(t, l.run("mtu", nil, media()), "mtu")
	is(t, c, verdict.Fail, verdict.BlackHole)
	if c.Hop != "between 10.1.0.2 and the reflector" {
		t.Errorf("%+v", c)
	}
	provider.do("ip route replace 192.0.2.0/24 dev outside")
	l.router.do("ip route replace default via 10.1.0.2 mtu lock 1300")
	c = check(t, l.run("mtu", nil, media()), "mtu")
	is(t, c, verdict.Fail, verdict.BlackHole)
	if c.Hop != "between 10.0.0.1 and 10.1.0.2" {
		t.Errorf("%+v", c)
	}
}
