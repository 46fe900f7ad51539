package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/sockets"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// link opens both sockets of a link.
func link(t *testing.T, name string) (*V4, *V6) {
	t.Helper()
	opener, err := sockets.New([]ringfence.Flow{{Name: "dhcp", Purpose: "test", Room: "desk/dhcp", Direction: ringfence.Listens, Transport: "udp", TLS: ringfence.TLSNone}})
	if err != nil {
		t.Fatal(err)
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	four, err := opener.ListenLink(t.Context(), "dhcp", name, netip.MustParseAddrPort("0.0.0.0:68"))
	if err != nil {
		t.Fatal(err)
	}
	var six net.PacketConn
	router.Until(t, "a link-local address", func() bool {
		addrs, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				six, err = opener.ListenLink(t.Context(), "dhcp", name, netip.AddrPortFrom(p.Addr().WithZone(name), 546))
				return err == nil // it is tentative for a moment
			}
		}
		return false
	})
	t.Cleanup(func() { _, _ = four.Close(), six.Close() })
	return &V4{Conn: four, Hardware: [6]byte(i.HardwareAddr), HostName: "desk", Class: "CP-8841-3PCC dslforum.org"}, &V6{Conn: six, Hardware: [6]byte(i.HardwareAddr), Zone: name, Class: "CP-8841-3PCC"}
}

// exchange goes through all that a phone does with a server of its link, which gives 10.9.0.50 and 2001:db8:9::50.
func exchange(t *testing.T, name string) (v4 *V4, four, six Answer) {
	t.Helper()
	v4, v6 := link(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	offers, err := v4.Discover(ctx)
	if err != nil || len(offers) != 1 {
		t.Fatalf("%+v %v", offers, err)
	}
	lease, err := v4.Request(ctx, offers[0])
	if err != nil || lease.Address != netip.MustParsePrefix("10.9.0.50/24") || lease.Server != netip.MustParseAddr("10.9.0.1") || lease.Lifetime != time.Hour {
		t.Fatalf("%+v %v", lease, err)
	}
	router.Run(t, "/sbin/ip", "", "address", "add", lease.Address.String(), "dev", name)
	renewed, err := v4.Renew(ctx, lease)
	if err != nil || renewed.Address != lease.Address {
		t.Errorf("%+v %v", renewed, err)
	}
	if again, err := v4.Rebind(ctx, lease); err != nil || again.Address != lease.Address {
		t.Errorf("%+v %v", again, err)
	}
	told, err := v4.Inform(ctx, lease.Address.Addr())
	if err != nil || len(told) != 1 || len(told[0].DNS) != 1 {
		t.Fatalf("%+v %v", told, err)
	}
	if err := v4.Release(lease); err != nil {
		t.Error(err)
	}
	if offers, err = v6.Solicit(ctx); err != nil || len(offers) != 1 {
		t.Fatalf("%+v %v", offers, err)
	}
	lease6, err := v6.Request(ctx, offers[0])
	if err != nil || lease6.Address.Addr() != netip.MustParseAddr("2001:db8:9::50") {
		t.Fatalf("%+v %v", lease6, err)
	}
	if again, err := v6.Renew(ctx, lease6); err != nil || again.Address != lease6.Address {
		t.Errorf("%+v %v", again, err)
	}
	if again, err := v6.Rebind(ctx, lease6); err != nil || again.Address != lease6.Address {
		t.Errorf("%+v %v", again, err)
	}
	if err := v6.Release(ctx, lease6); err != nil {
		t.Error(err)
	}
	told6, err := v6.Inform(ctx)
	if err != nil || len(told6) != 1 {
		t.Fatalf("%+v %v", told6, err)
	}
	for _, a := range append(append(told, told6...), lease, lease6) {
		for _, o := range a.Options {
			if o.Problem != "" {
				t.Errorf("%s: %+v", a.Family, o)
			}
		}
	}
	return v4, told[0], told6[0]
}

// TestDnsmasq has dnsmasq give addresses and every option that a phone understands.
func TestDnsmasq(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24", "2001:db8:9::1/64"}, testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base"), "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-dhcp", "--log-facility=-", "--user=root", "--no-ping",
		"--dhcp-leasefile="+filepath.Join(dir, "leases"), "--dhcp-authoritative", "--dhcp-range=10.9.0.50,10.9.0.50,1h", "--dhcp-range=2001:db8:9::50,2001:db8:9::50,64,1h", "--enable-ra", "--domain=desk.example",
		"--dhcp-option=2,32400", "--dhcp-option=option:router,10.9.0.1", "--dhcp-option=option:dns-server,10.9.0.53", "--dhcp-option=option:ntp-server,10.9.0.123", "--dhcp-option-force=66,prov.example.com", "--dhcp-option-force=150,10.9.0.69",
		"--dhcp-option-force=159,prov.example.com", "--dhcp-option-force=160,https://prov.example.com/$MA.xml", "--dhcp-option-force=vi-encap:3561,11,https://acs.example.com/cwmp", "--dhcp-option=option6:dns-server,[2001:db8:9::53]", "--dhcp-option=option6:ntp-server,[2001:db8:9::123]",
		"--dhcp-option=option6:domain-search,desk.example", "--dhcp-option=option6:159,prov6.example.com", "--dhcp-option=option6:160,https://prov6.example.com/$PSN/$MA.xml")
	_, four, six := exchange(t, "eth0")
	a, b := orders()
	c := Choose(a, b, []Answer{four, six})
	if c.Rule != "https://prov.example.com/$PSN.xml" || c.From != "DHCP option 66 of 10.9.0.1" || c.ACS == nil || c.ACS.URL != "https://acs.example.com/cwmp" {
		t.Errorf("%+v", c)
	}
	a, _ = ParseOrder("160,66", IPv4)
	if c := Choose(a, b, []Answer{four, six}); c.Rule != "https://prov.example.com/$MA.xml" {
		t.Errorf("%+v", c)
	}
	if c := Choose(nil, b, []Answer{four, six}); c.Rule != "https://prov6.example.com/$PSN/$MA.xml" || !strings.HasPrefix(c.From, "DHCPv6 option 160 of fe80::") {
		t.Errorf("%+v", c)
	}
	if *four.TimeOffset != 9*time.Hour || four.NTP[0] != "10.9.0.123" || four.Domains[0] != "desk.example" || four.Routers[0] != netip.MustParseAddr("10.9.0.1") || six.DNS[0] != netip.MustParseAddr("2001:db8:9::53") || six.NTP[0] != "2001:db8:9::123" || six.Domains[0] != "desk.example" {
		t.Errorf("%+v\n%+v", four, six)
	}
}

// TestKea has Kea do the same, which also writes option 43 of a class and option 17 of an enterprise.
func TestKea(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	dir := t.TempDir()
	const place = "https://prov6.example.com/$MA.xml"
	maker := fmt.Sprintf("0000000900a0%04x%x", len(place), place)
	conf4, conf6 := filepath.Join(dir, "4.json"), filepath.Join(dir, "6.json")
	for file, text := range map[string]string{
		conf4: `{"Dhcp4": {"interfaces-config": {"interfaces": ["eth0far"]}, "lease-database": {"type": "memfile", "persist": false}, "valid-lifetime": 3600, "renew-timer": 2, "match-client-id": true,
"option-def": [{"name": "provisioning-url", "code": 160, "type": "string"}, {"name": "acs", "code": 1, "space": "vendor-encapsulated-options-space", "type": "string"}],
"client-classes": [{"name": "forum", "test": "substring(option[60].hex,13,12) == 'dslforum.org'", "option-def": [{"name": "vendor-encapsulated-options", "code": 43, "type": "empty", "encapsulate": "vendor-encapsulated-options-space"}],
"option-data": [{"name": "acs", "space": "vendor-encapsulated-options-space", "data": "https://acs.example.com/cwmp"}, {"name": "vendor-encapsulated-options"}, {"name": "vendor-class-identifier", "data": "dslforum.org"}]}],
"subnet4": [{"id": 1, "subnet": "10.9.0.0/24", "pools": [{"pool": "10.9.0.50-10.9.0.50"}], "option-data": [{"name": "domain-name-servers", "data": "10.9.0.53"}, {"name": "tftp-server-name", "data": "tftp://old.example.com"}, {"name": "provisioning-url", "data": "https://prov.example.com/$MA.xml"},
{"name": "time-offset", "data": "-18000"}]}]}}`,
		conf6: `{"Dhcp6": {"interfaces-config": {"interfaces": ["eth0far"]}, "lease-database": {"type": "memfile", "persist": false}, "valid-lifetime": 3600, "preferred-lifetime": 1800, "server-id": {"type": "EN", "enterprise-id": 32473, "identifier": "0102", "persist": false},
"subnet6": [{"id": 1, "subnet": "2001:db8:9::/64", "interface": "eth0far", "pools": [{"pool": "2001:db8:9::50-2001:db8:9::50"}], "option-data": [{"name": "dns-servers", "data": "2001:db8:9::53"}, {"name": "vendor-opts", "csv-format": false, "data": "` + maker + `"}]}]}}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kea4, kea6 := testkit.Need(t, "/usr/sbin/kea-dhcp4", "kea-dhcp4-server"), testkit.Need(t, "/usr/sbin/kea-dhcp6", "kea-dhcp6-server")
	router.Neighbour(t, "eth0", "02:00:00:00:09:50", []string{"10.9.0.1/24", "2001:db8:9::1/64"}, "/usr/bin/env", "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR=none", "/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do ip -6 address show dev eth0far tentative | grep -q inet6 || break; sleep 0.3; done; "+kea4+" -c "+conf4+" & exec "+kea6+" -c "+conf6)
	v4, four, six := exchange(t, "eth0")
	a, b := orders()
	c := Choose(a, b, []Answer{four, six})
	if c.Rule != "https://prov.example.com/$MA.xml" || c.From != "DHCP option 160 of 10.9.0.1" || c.Sources[0].Option != 66 || !strings.Contains(c.Sources[0].Why, "in the clear") || c.ACS == nil || c.ACS.Option != 43 || c.ACS.URL != "https://acs.example.com/cwmp" {
		t.Errorf("%+v", c)
	}
	if c := Choose(nil, b, []Answer{four, six}); c.Rule != place || !strings.HasPrefix(c.From, "DHCPv6 option 17 of fe80::") {
		t.Errorf("%+v", c)
	}
	if *four.TimeOffset != -5*time.Hour {
		t.Errorf("%+v", four)
	}
	// It is told something else while the phone has its address.
	offers, err := v4.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lease, err := v4.Request(t.Context(), offers[0])
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(conf4)
	if err == nil {
		err = os.WriteFile(conf4, []byte(strings.NewReplacer("https://prov.example.com", "https://new.example.com", `, {"name": "time-offset", "data": "-18000"}`, "", "{\"name\": \"time-offset\", \"data\": \"-18000\"}", `{"name": "domain-name", "data": "new.example"}`, "10.9.0.53", "10.9.0.54").Replace(string(text))), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	number, err := os.ReadFile(filepath.Join(dir, "4.kea-dhcp4.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(number)))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGHUP)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	all := []Answer{lease}
	var changes []Change
	var kept []string
	if err := v4.Keep(ctx, lease, func(renewed Answer) {
		var more []Change
		if all, more, kept = Replace(all, renewed); len(more) > 0 {
			changes = more
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if c := Choose(a, b, all); c.Rule != "https://new.example.com/$MA.xml" || len(changes) != 3 || changes[0].Matter != Place || changes[1].Matter != Names || len(kept) != 0 || *all[0].TimeOffset != -5*time.Hour {
		t.Errorf("%+v %+v %q", c, changes, kept)
	}
}

// TestNobodyAnswers is a link with nobody behind it.
func TestNobodyAnswers(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	router.Neighbour(t, "eth0", "02:00:00:00:09:50", nil, "/bin/sleep", "60")
	v4, v6 := link(t, "eth0")
	for name, ask := range map[string]func(context.Context) error{"discover": func(ctx context.Context) error { _, err := v4.Discover(ctx); return err }, "solicit": func(ctx context.Context) error { _, err := v6.Solicit(ctx); return err }} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := ask(ctx)
		cancel()
		if ringfence.KindOf(err) != ringfence.KindTimeout || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRogue has two servers on one link: the site's, and one that somebody plugged in, which is faster to offer a profile of its own.
func TestRogue(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	ip, dnsmasq := testkit.Need(t, "/sbin/ip", "iproute2"), testkit.Need(t, "/usr/sbin/dnsmasq", "dnsmasq-base")
	router.Run(t, ip, "", "link", "add", "switch", "type", "bridge")
	router.Run(t, ip, "", "link", "set", "switch", "up")
	router.Run(t, ip, "", "link", "add", "phone", "address", "02:00:00:00:09:50", "type", "veth", "peer", "name", "port")
	for _, l := range []string{"phone", "port"} {
		router.Run(t, ip, "", "link", "set", l, "up")
	}
	router.Run(t, ip, "", "link", "set", "port", "master", "switch")
	for i, option := range map[int]string{1: "--dhcp-option-force=160,https://prov.example.com/$MA.xml", 2: "--dhcp-option-force=160,https://evil.example.com/$(GPP_SA)?$SA"} {
		link := fmt.Sprintf("server%d", i)
		router.Neighbour(t, link, fmt.Sprintf("02:00:00:00:09:0%d", i), []string{fmt.Sprintf("10.9.0.%d/24", i)}, dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--log-dhcp", "--log-facility=-", "--user=root", "--no-ping", "--dhcp-authoritative", "--pid-file",
			"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), fmt.Sprintf("--dhcp-range=10.9.0.%d0,10.9.0.%d9,1h", i+4, i+4), option)
		router.Run(t, ip, "", "link", "set", link, "master", "switch")
	}
	v4, _ := link(t, "phone")
	var offers []Answer
	router.Until(t, "both servers offer an address", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		var err error
		offers, err = v4.Discover(ctx)
		return err == nil && len(offers) == 2
	})
	if o := Others(offers); len(o) != 1 || !strings.Contains(o[0], "10.9.0.1") || !strings.Contains(o[0], "10.9.0.2") {
		t.Errorf("%v", o)
	}
	four, six := orders()
	c := Choose(four, six, offers)
	if c.Rule != "https://prov.example.com/$MA.xml" || c.From != "DHCP option 160 of 10.9.0.1" { // what reads the phone's parameters is no place, whoever was first
		t.Errorf("%+v", c)
	}
	for _, s := range c.Sources {
		if s.Option == 160 && s.Server == netip.MustParseAddr("10.9.0.2") && !strings.Contains(s.Why, "macro that no server may use") {
			t.Errorf("%+v", s)
		}
	}
}
