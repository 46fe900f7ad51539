package probe

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/testkit"
)

// dnsmasq starts a name server on the router.
func (l *lab) dnsmasq(at string, args ...string) netip.AddrPort {
	l.Helper()
	to := netip.MustParseAddrPort(at)
	l.router.serve(at, testkit.Need(l, "/usr/sbin/dnsmasq", "dnsmasq-base"), append([]string{"-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--listen-address=" + to.Addr().String(), "--bind-interfaces", "--user=root", "--port", strings.Split(at, ":")[1]}, args...)...)
	return to
}

// V14: name servers that are good, that lie, that take no TCP, that know nothing; SRV records in the wrong order, to aliases, to nowhere, and too long for a datagram.
func TestNames(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	zone := []string{"--local=/example.com/", "--host-record=a.example.com,192.0.2.10", "--host-record=b.example.com,192.0.2.11", "--host-record=www.example.com,192.0.2.12", "--cname=alias.example.com,a.example.com",
		"--srv-host=_sips._tcp.example.com,a.example.com,5061,10,5", "--srv-host=_sips._tcp.example.com,b.example.com,5061,20,5", "--srv-host=_alias._tcp.example.com,alias.example.com,5061,10", "--srv-host=_none._tcp.example.com,gone.example.com,5061,10",
		"--local=/invalid/"}
	for _, letter := range "abcdefghijklmnopqrstuvwxyz" {
		zone = append(zone, "--srv-host=_long._tcp.example.com,"+string(letter)+"-with-a-name-that-takes-room-in-a-datagram.example.com,5061,10")
	}
	good := l.dnsmasq("10.0.0.1:53", zone...)
	lies := l.dnsmasq("10.0.0.1:54", "--address=/#/10.0.0.99")
	noTCP := l.dnsmasq("10.0.0.1:55", zone...)
	l.router.rules("table ip t {\n chain i { type filter hook input priority 0; policy accept\n iifname inside tcp dport 55 reject with tcp reset\n udp dport 56 drop\n}\n}")
	with := func(n Names, domains ...string) func(*Config) {
		return func(c *Config) {
			c.Names = &n
			for _, d := range domains {
				c.Set.Domains = append(c.Set.Domains, need.Domain{ID: d, Pattern: d})
			}
		}
	}
	dns := row("dns", "udp", "1024-65535", "53")
	r := l.run("dns", with(Names{Servers: []netip.AddrPort{good, lies, noTCP, netip.MustParseAddrPort("10.0.0.1:56")}, Services: []Service{{"_sips._tcp.example.com", []string{"a.example.com", "b.example.com"}}, {"_alias._tcp.example.com", nil}, {"_none._tcp.example.com", nil},
		{"_missing._tcp.example.com", nil}, {"_long._tcp.example.com", nil}}}, "*.www.example.com"), dns)
	says := func(id string, status verdict.Status, cause verdict.Cause, texts ...string) {
		t.Helper()
		c := check(t, r, id)
		is(t, c, status, cause)
		for _, text := range texts {
			if !strings.Contains(c.Seen+c.Change, text) {
				t.Errorf("%s does not say %q", id, text)
			}
		}
	}
	says("dns/10.0.0.1:53", verdict.Pass, "")
	says("dns/10.0.0.1:54", verdict.Fail, verdict.Lies, ".invalid has the address 10.0.0.99")
	says("dns/10.0.0.1:55", verdict.Fail, verdict.Dropped, "let TCP pass")
	says("dns/10.0.0.1:56", verdict.Fail, verdict.Dropped, "does not answer")
	says("dns/_sips._tcp.example.com", verdict.Pass, "", "in order: a.example.com, b.example.com")
	says("dns/_alias._tcp.example.com", verdict.Fail, verdict.Unknown, "is an alias of a.example.com")
	says("dns/_none._tcp.example.com", verdict.Fail, verdict.Unknown, "gone.example.com has no address")
	says("dns/_missing._tcp.example.com", verdict.Fail, verdict.Unknown, "NXDOMAIN")
	says("dns/_long._tcp.example.com", verdict.Fail, verdict.Unknown, "has no address") // it came whole, over TCP
	if rows := check(t, r, "dns/10.0.0.1:53").Rows; len(rows) != 1 || rows[0] != "dns" {
		t.Error(rows)
	}
	r = l.run("dns", with(Names{Servers: []netip.AddrPort{noTCP}, Services: []Service{{"_long._tcp.example.com", nil}, {"_sips._tcp.example.com", []string{"b.example.com", "a.example.com"}}}}, "gone.example.com", "intern.example.com"), dns)
	says("dns/_long._tcp.example.com", verdict.Fail, verdict.Dropped, "TCP does not come about")
	says("dns/_sips._tcp.example.com", verdict.Fail, verdict.Unknown, "in the order a.example.com, b.example.com, not")
	says("dns/10.0.0.1:55", verdict.Fail, verdict.Unknown, "gone.example.com (NXDOMAIN)")
}

// V14: the zone that only the service's servers know is forwarded by unbound, or not.
func TestForwarders(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.cloud.serve("192.0.2.2:53", testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base"), "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--listen-address=192.0.2.2", "--bind-interfaces", "--user=root",
		"--auth-server=ns.service.example,eth0", "--auth-zone=acme.emea.service.example", "--host-record=x.acme.emea.service.example,192.0.2.50")
	unbound := func(at, lines string) netip.AddrPort {
		conf := filepath.Join(folder(t, "root"), "unbound.conf")
		to := netip.MustParseAddrPort(at)
		text := "server:\n chroot: \"\"\n username: \"\"\n directory: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n interface: 10.0.0.1@" + strings.Split(at, ":")[1] + "\n access-control: 0.0.0.0/0 allow\n module-config: iterator\n do-not-query-localhost: no\n local-zone: invalid. static\n" + lines + "remote-control:\n control-enable: no\n"
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		l.router.serve(at, testkit.Need(t, "/usr/sbin/unbound", "unbound"), "-d", "-c", conf)
		return to
	}
	with := unbound("10.0.0.1:53", "forward-zone:\n name: \"acme.emea.service.example.\"\n forward-addr: 192.0.2.2\n")
	without := unbound("10.0.0.1:54", " local-zone: example. static\n")
	change := func(servers ...netip.AddrPort) func(*Config) {
		return func(c *Config) {
			c.Names = &Names{Servers: servers, Customer: "acme", Region: "EMEA"}
			c.Set.Forwarders = []need.Forwarder{{ID: "f1", Region: "EMEA", Address: netip.MustParseAddr("192.0.2.2"), Zone: "<customer>.emea.service.example"}, {ID: "f2", Region: "AMER", Address: netip.MustParseAddr("192.0.2.9"), Zone: "<customer>.amer.service.example"}}
		}
	}
	dns := row("dns", "udp", "1024-65535", "53")
	is(t, check(t, l.run("dns", change(with), dns), "dns/acme.emea.service.example"), verdict.Pass, "")
	c := check(t, l.run("dns", change(with, without), dns), "dns/acme.emea.service.example")
	is(t, c, verdict.Fail, verdict.Unknown)
	if !strings.Contains(c.Seen, "10.0.0.1:54 (NXDOMAIN)") || !strings.Contains(c.Change, "--customer acme") || len(c.Rows) != 1 {
		t.Errorf("%+v", c)
	}
	l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; policy accept\n udp dport 53 drop\n}\n}")
	is(t, check(t, l.run("dns", change(without), dns), "dns/acme.emea.service.example"), verdict.Fail, verdict.Dropped)
}
