package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/reflector"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
	"ringfence/internal/node/sockets"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/testkit"
)

func media() need.Need { return row("media", "udp", "19560-19660", "20000-30000") }

// V05: the kernel's own SIP helper rewrites what goes to 5060, and nothing else.
func TestSIPGateway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, rules, seen string }{
		{"NAT without a helper", "", ""},
		{"UDP", `ct helper sip-udp { type "sip" protocol udp; }
			chain helper { type filter hook prerouting priority 0; udp dport 5060 ct helper set "sip-udp"; }`, "UDP 5060: "},
		{"TCP", `ct helper sip-tcp { type "sip" protocol tcp; }
			chain helper { type filter hook prerouting priority 0; tcp dport 5060 ct helper set "sip-tcp"; }`, "TCP 5060: "},
		{"dropped", `chain f { type filter hook forward priority 0; udp dport 5060 @th,64,48 0x494e56495445 drop; }`, "UDP 5060: SIP does not arrive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.router.rules("table ip t {\n chain n { type nat hook postrouting priority 100; oifname outside masquerade; }\n" + c.rules + "\n}")
			got := check(t, l.run("sip", nil), "sip-alg")
			if c.seen == "" {
				is(t, got, verdict.Pass, "")
				return
			}
			is(t, got, verdict.Fail, verdict.Rewritten)
			if !strings.HasPrefix(got.Seen, c.seen) || strings.Contains(got.Seen, "5061:") {
				t.Errorf("%s", got.Seen)
			}
			if diff := got.Values[c.seen[:8]]; c.name != "dropped" && (!strings.Contains(diff, "- Via:") || !strings.Contains(diff, "+ Contact: <sip:prober@192.0.2.1") || !strings.Contains(diff, "+ c=IN IP4 192.0.2.1")) {
				t.Errorf("the differences are not told: %q", diff)
			}
		})
	}
}

// The message is one that SIP stacks take: what it announces is what it has.
func TestMessage(t *testing.T) {
	for _, at := range []string{"10.0.0.2:1", "[2001:db8::1]:1"} {
		a := netip.MustParseAddrPort(at)
		text := message("udp", a, a, wire.NewToken(1, 0xab, labKey))
		var m sip.Message
		if err := m.Parse([]byte(text), sip.DefaultLimits()); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		_, body, _ := strings.Cut(text, "\r\n\r\n")
		if _, err := sdp.Parse([]byte(body)); err != nil || strings.Contains(text, "%!") || !strings.Contains(text, fmt.Sprintf("\r\nContent-Length: %d\r\n", len(body))) {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

// A gateway that works as a proxy is told from one that only rewrites.
func TestDifferences(t *testing.T) {
	sent := "INVITE sip:a SIP/2.0\r\nVia: one\r\nMax-Forwards: 70\r\n\r\nc=IN IP4 10.0.0.2\r\n"
	d := differences(sent, "INVITE sip:a SIP/2.0\r\nVia: two\r\nVia: one\r\nMax-Forwards: 69\r\n\r\nc=IN IP4 192.0.2.1\r\n")
	if got := fields(d); got != "Max-Forwards, SDP c=, Via" {
		t.Errorf("%s: %q", got, d)
	}
	if d := differences(sent, sent); d != nil {
		t.Errorf("%q", d)
	}
}

// V06: the kinds of NAT of the kernel.
func TestNAT(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, nat, mapping, kept string }{
		{"none", "", "none", "4 of 4"},
		{"masquerade", "masquerade", independent, "4 of 4"},
		{"random", "masquerade random", dependent, "0 of 4"},
		{"fully random", "masquerade fully-random", dependent, "0 of 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			rules := "table ip t {\n chain f { type filter hook forward priority 0; policy drop; ct state established accept; iifname inside accept; }\n"
			if c.nat != "" {
				rules += "chain n { type nat hook postrouting priority 100; oifname outside " + c.nat + "; }\n"
			}
			l.router.rules(rules + "}")
			got := check(t, l.run("nat", nil, media()), "nat")
			if !strings.HasPrefix(got.Values["mapping"], c.mapping) || got.Values["ports kept"] != c.kept || !strings.HasPrefix(got.Values["filtering"], "address- and port-dependent") {
				t.Errorf("%v", got.Values)
			}
			if c.nat != "" && !strings.HasPrefix(got.Values["hairpin"], "no") {
				t.Errorf("%v", got.Values)
			}
			if (got.Values["mapping"] == dependent) != (got.Status == verdict.Warn) {
				t.Errorf("%s for %s", got.Status, got.Values["mapping"])
			}
		})
	}
	t.Run("forgetful", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; policy drop; ct state established accept; iifname inside accept; }\n chain n { type nat hook postrouting priority 100; oifname outside masquerade; }\n}")
		for _, name := range []string{"nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"} {
			if err := l.router.in(func() error { return os.WriteFile("/proc/sys/net/netfilter/"+name, []byte("3"), 0o644) }); err != nil {
				t.Fatal(err)
			}
		}
		shown := 0
		got := check(t, l.run("nat", func(c *Config) {
			c.Lifetime, c.Progress = 12*time.Second, func(_, _ int, what string) {
				if strings.HasPrefix(what, "nat: silent for ") {
					shown++
				}
			}
		}, media()), "nat")
		if v := got.Values["lifetime"]; v != "between 2s and 3s" && v != "between 3s and 4s" || got.Status != verdict.Warn {
			t.Errorf("%s: %v", got.Status, v)
		}
		if shown != 12 {
			t.Errorf("its progress is shown %d times", shown)
		}
	})
	t.Run("twice", func(t *testing.T) { // the site's NAT, and the provider's behind it
		t.Parallel()
		l, provider := newLongLab(t)
		const nat = "table ip t {\n chain f { type filter hook forward priority 0; policy drop; ct state established accept; iifname inside accept; }\n chain n { type nat hook postrouting priority 100; oifname outside masquerade; }\n}"
		l.router.rules(nat)
		provider.rules(nat)
		got := check(t, l.run("nat", nil, media()), "nat")
		if !strings.HasPrefix(got.Values["mapping"], independent) || got.Values["ports kept"] != "4 of 4" || !strings.HasPrefix(got.Values["filtering"], "address- and port-dependent") {
			t.Errorf("%v", got.Values)
		}
		provider.rules("flush ruleset\n" + strings.Replace(nat, "masquerade", "masquerade fully-random", 1))
		other := func(c *Config) { c.Seed = 2 } // other ports, since those of before are remembered
		if got := check(t, l.run("nat", other, media()), "nat"); got.Values["mapping"] != dependent {
			t.Errorf("%v", got.Values)
		}
	})
	t.Run("hairpin", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.router.rules("table ip t {\n chain n { type nat hook postrouting priority 100; oifname outside masquerade; iifname inside oifname inside masquerade; }\n chain d { type nat hook prerouting priority -100; iifname inside ip daddr 192.0.2.1 meta l4proto udp dnat to 10.0.0.2; }\n}")
		if got := check(t, l.run("nat", nil, media()), "nat"); got.Values["hairpin"] != "yes" {
			t.Errorf("%v", got.Values)
		}
	})
	t.Run("exhausted", func(t *testing.T) { // V19: 64 ports for a hundred phones
		t.Parallel()
		l := newLab(t)
		with := func(c *Config) { c.Flows = 100 }
		l.router.rules("table ip t {\n chain n { type nat hook postrouting priority 100; oifname outside ip protocol udp masquerade to :40000-40999; oifname outside masquerade; }\n}")
		got := check(t, l.run("nat", with, media()), "nat")
		is(t, got, verdict.Pass, "")
		if got.Values["flows"] != "100 opened, 100 answered, by 100 ports of 1 addresses outside" {
			t.Errorf("%v", got.Values)
		}
		l = newLab(t)
		l.router.rules("table ip t {\n chain n { type nat hook postrouting priority 100; oifname outside ip protocol udp masquerade to :40000-40063; oifname outside masquerade; }\n}")
		got = check(t, l.run("nat", with, media()), "nat")
		is(t, got, verdict.Fail, verdict.Exhausted)
		var opened, answered, ports int
		if _, err := fmt.Sscanf(got.Values["flows"], "%d opened, %d answered, by %d ports", &opened, &answered, &ports); err != nil || opened != 100 || answered > 64 || answered < 40 || ports != answered {
			t.Errorf("%v", got.Values)
		}
	})
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		l := newLab(t) // no rules: a router that lets everybody answer
		if got := check(t, l.run("nat", nil, media()), "nat"); !strings.HasPrefix(got.Values["filtering"], "endpoint-independent") {
			t.Errorf("%v", got.Values)
		}
	})
}

// V11: a router rewrites one mark, or those of answers.
func TestMarks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	with := func(c *Config) {
		c.Set.Marks = []need.Mark{{ID: "q1", DSCP: []uint8{46}}, {ID: "q2", DSCP: []uint8{34, 0}}}
	}
	is(t, check(t, l.run("dscp", with, media()), "dscp"), verdict.Pass, "")
	l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; iifname inside ip dscp 46 ip dscp set 0; }\n}")
	got := check(t, l.run("dscp", with, media()), "dscp")
	is(t, got, verdict.Warn, verdict.Marks)
	if got.Seen != "46 arrives as 0" || strings.Join(got.Rows, " ") != "q1 q2" {
		t.Errorf("%s %v", got.Seen, got.Rows)
	}
	l.router.rules("flush ruleset\ntable ip t {\n chain f { type filter hook forward priority 0; iifname outside ip dscp set 8; }\n}")
	if got := check(t, l.run("dscp", with, media()), "dscp"); !strings.Contains(got.Seen, "34 comes back as 8") || strings.Contains(got.Seen, "arrives") {
		t.Errorf("%s", got.Seen)
	}
}

// V12: a link of 1400 bytes whose router says so, and one whose word is dropped, in either direction.
func TestMTU(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, up, down string // MTU of the router's way out and of its way in
		quiet          bool
		status         verdict.Status
		cause          verdict.Cause
		seen           string
	}{
		{"whole", "1500", "1500", false, verdict.Pass, "", "1500 bytes pass both ways"},
		{"told", "1420", "1420", false, verdict.Pass, "", "1420 bytes pass both ways; routers say so"},
		{"small", "1300", "1300", false, verdict.Warn, verdict.SmallMTU, "1300 bytes pass both ways; routers say so"},
		{"black hole", "1400", "1400", true, verdict.Fail, verdict.BlackHole, "1400 bytes pass both ways; longer ones to the service vanish"},
		{"black hole back", "1500", "1400", true, verdict.Fail, verdict.BlackHole, "1500 bytes pass to the service, 1400 back; longer ones from the service vanish"},
		{"told back", "1500", "1420", false, verdict.Pass, "", "1500 bytes pass to the service, 1420 back; routers say so"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.router.do("ip route replace 192.0.2.0/24 dev outside mtu lock " + c.up + "\nip route replace 10.0.0.0/24 dev inside mtu lock " + c.down)
			if c.quiet {
				l.router.rules("table ip t {\n chain o { type filter hook output priority 0; icmp type destination-unreachable drop; }\n}")
			}
			got := check(t, l.run("mtu", nil, media()), "mtu")
			is(t, got, c.status, c.cause)
			if !strings.HasPrefix(got.Seen, c.seen) {
				t.Errorf("%s", got.Seen)
			}
		})
	}
}

// V13: what nft loses is what is counted, in its direction.
func TestVoice(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	long := func(c *Config) { c.Voice = 4 * time.Second }
	is(t, check(t, l.run("voice", long, media()), "voice"), verdict.Pass, "")
	l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; iifname inside udp length 180 numgen inc mod 20 0 drop; }\n}")
	got := check(t, l.run("voice", long, media()), "voice")
	is(t, got, verdict.Warn, verdict.Quality)
	if !strings.HasPrefix(got.Values["up"], "loss 5.00 %") || !strings.HasPrefix(got.Values["down"], "loss 0.00 %") || !strings.Contains(got.Values["up"], "Bpl 25.1") {
		t.Errorf("%v", got.Values)
	}
	l.router.rules("flush ruleset\ntable ip t {\n chain f { type filter hook forward priority 0; iifname outside udp length 180 numgen inc mod 10 < 6 drop; }\n}")
	got = check(t, l.run("voice", long, media()), "voice")
	is(t, got, verdict.Fail, verdict.Quality)
	if !strings.HasPrefix(got.Values["down"], "loss 60.00 %") {
		t.Errorf("%v", got.Values)
	}
}

func TestBurstRatio(t *testing.T) {
	came := make([]bool, 100)
	for i := range came {
		came[i] = i%20 > 3 // five bursts of four
	}
	if got := burstRatio(came); got < 3.19 || got > 3.21 {
		t.Errorf("%v", got)
	}
}

// TLS is that of the reflector, until somebody with another key answers in its place.
func TestInterception(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.withTLS()
	with := func(c *Config) { c.TLS, c.Name = &tls.Config{InsecureSkipVerify: true}, "calls.example.com" }
	signalling := row("signalling", "tcp", "1024-65535", "443 8934")
	is(t, check(t, l.run("tcp tls", with, signalling), "tls"), verdict.Pass, "")

	other := testkit.NewAuthority("Example Inspector").Issue("calls.example.com")
	o, err := sockets.New([]ringfence.Flow{{Name: "in", Purpose: "test", Room: "test", Direction: ringfence.Listens, Transport: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (hand{l.router, o}).Listen(t.Context(), "in", netip.MustParseAddrPort("10.0.0.1:4443"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{other}}).HandshakeContext(context.Background())
			}()
		}
	}()
	l.router.rules("table ip t {\n chain p { type nat hook prerouting priority -100; iifname inside tcp dport 443 redirect to :4443; }\n}")
	r := l.run("tcp tls", with, signalling)
	is(t, check(t, r, "tcp/signalling"), verdict.Fail, verdict.Replaced, "to 443")
	r = l.run("tls", with)
	got := check(t, r, "tls")
	is(t, got, verdict.Fail, verdict.Intercepted)
	if !strings.Contains(got.Seen, "Example Inspector") {
		t.Errorf("%s", got.Seen)
	}
}

// V07: a limit of rate is no blocked range.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; iifname inside meta l4proto udp limit rate over 8/second burst 5 packets drop; }\n}")
	is(t, check(t, l.run("udp", nil, media()), "udp/media"), verdict.Fail, verdict.Limited)
}

// IPv6 is tested as IPv4 is.
func TestIPv6(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.router.do("ip address add 2001:db8:1::1/64 dev inside nodad\nip address add 2001:db8:2::1/64 dev outside nodad\nip route replace 2001:db8:2::/64 dev outside metric 256 mtu lock 1400")
	l.site.do("ip address add 2001:db8:1::2/64 dev eth0 nodad\nip route add default via 2001:db8:1::1")
	l.cloud.do("ip address add 2001:db8:2::2/64 dev eth0 nodad\nip address add 2001:db8:2::3/64 dev eth0 nodad\nip route add default via 2001:db8:2::1")
	if err := l.router.in(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644) }); err != nil {
		t.Fatal(err)
	}
	l.reflect(func(c *reflector.Config) {
		c.Listen, c.Second = netip.MustParseAddrPort("[2001:db8:2::2]:8470"), netip.MustParseAddr("2001:db8:2::3")
	})
	l.router.rules("table ip6 t {\n chain f { type filter hook forward priority 0; iifname inside ip6 dscp 46 ip6 dscp set 0; udp dport 29000-65535 reject with icmpv6 admin-prohibited; }\n}")
	r := l.run("tcp udp sip nat dscp mtu voice", nil, row("signalling", "tcp", "1024-65535", "443"), media())
	is(t, check(t, r, "tcp/signalling"), verdict.Pass, "")
	c := check(t, r, "udp/media")
	is(t, c, verdict.Fail, verdict.Rejected, "to 29000-30000")
	if !strings.Contains(c.Seen, "refused by 2001:db8:1::1") {
		t.Errorf("%s", c.Seen)
	}
	is(t, check(t, r, "sip-alg"), verdict.Pass, "")
	if c := check(t, r, "nat"); !strings.HasPrefix(c.Values["mapping"], "none") {
		t.Errorf("%v", c.Values)
	}
	if c := check(t, r, "dscp"); c.Seen != "46 arrives as 0" {
		t.Errorf("%s", c.Seen)
	}
	if c := check(t, r, "mtu"); c.Status != verdict.Pass || !strings.HasPrefix(c.Seen, "1400 bytes pass") {
		t.Errorf("%s", c.Seen)
	}
	is(t, check(t, r, "voice"), verdict.Pass, "")
}

// V15: a time server that knows the time, one that does not, one that refuses, and ports that are blocked.
func TestClock(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	chrony := testkit.Need(t, "/usr/sbin/chronyd", "chrony")
	for at, local := range map[string]string{"192.0.2.2": "local stratum 8\n", "192.0.2.3": ""} {
		dir := t.TempDir()
		conf := filepath.Join(dir, "chrony.conf")
		if err := os.WriteFile(conf, []byte(local+"allow\nbindaddress "+at+"\ncmdport 0\nbindcmdaddress /\npidfile "+filepath.Join(dir, "pid")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(chrony, "-d", "-x", "-u", "root", "-f", conf) // -x: it leaves the clock alone
		if err := l.cloud.in(cmd.Start); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	}
	o, err := sockets.New([]ringfence.Flow{{Name: "in", Purpose: "test", Room: "test", Direction: ringfence.Listens, Transport: "udp"}})
	if err != nil {
		t.Fatal(err)
	}
	refuses, err := (hand{l.cloud, o}).ListenUDP(t.Context(), "in", netip.MustParseAddrPort("192.0.2.2:1123"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { refuses.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := refuses.ReadFrom(b)
			if err != nil {
				return
			}
			out := make([]byte, 48)
			out[0] = 3<<6 | 4<<3 | 4
			copy(out[12:], "RATE")
			copy(out[24:32], b[40:48])
			_, _ = refuses.WriteTo(out, from)
		}
	}()
	run := func(at string) verdict.Check {
		t.Helper()
		return check(t, l.run("ntp", func(c *Config) { c.Clocks = []netip.AddrPort{netip.MustParseAddrPort(at)} }, row("time", "udp", "51494", "123")), "ntp/"+at)
	}
	var c verdict.Check
	for range 50 { // until it has begun
		if c = run("192.0.2.2:123"); c.Status == verdict.Pass {
			break
		}
	}
	is(t, c, verdict.Pass, "")
	if c.Values["stratum"] != "8" || strings.Join(c.Rows, " ") != "time" {
		t.Errorf("%+v", c)
	}
	is(t, run("192.0.2.3:123"), verdict.Fail, verdict.Clock)
	is(t, run("192.0.2.2:1123"), verdict.Fail, verdict.Rejected)
	is(t, run("192.0.2.2:2123"), verdict.Fail, verdict.Dropped)
	l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; udp dport 123 udp sport 51494 drop; }\n}")
	is(t, run("192.0.2.2:123"), verdict.Fail, verdict.Dropped, "from 51494")
	l.router.rules("flush ruleset\ntable ip t {\n chain f { type filter hook forward priority 0; udp dport 123 udp sport != 51494 drop; }\n}")
	is(t, run("192.0.2.2:123"), verdict.Pass, "")
}

// What the reflector may not open is no pass.
func TestUntested(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.reflect(func(c *reflector.Config) {
		c.Listen, c.Second, c.Allow = netip.MustParseAddrPort("192.0.2.2:8471"), netip.Addr{}, []need.Ports{{First: 8000, Last: 9000}}
	})
	r := l.run("tcp", nil, row("some", "tcp", "1024-65535", "443 8443"), row("none", "tcp", "1024-65535", "80"))
	is(t, check(t, r, "tcp/some"), verdict.Warn, verdict.Untested)
	is(t, check(t, r, "tcp/none"), verdict.Skip, verdict.Untested)
}

// A wrong key, no reflector, and one that goes away in the middle are told apart; what was found until then stays.
func TestBroken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o, err := sockets.New(Flows())
	if err != nil {
		t.Fatal(err)
	}
	base := Config{Set: &need.Set{ID: "test", Roles: map[string]need.Role{"service": {}}, Needs: []need.Need{row("a", "tcp", "1024-65535", "443"), row("b", "tcp", "1024-65535", "444"), row("c", "tcp", "1024-65535", "445")}},
		Direction: need.Outbound, Kinds: []string{"tcp", "sip"}, Reflector: l.at, Key: labKey, Opener: hand{l.site, o}}
	for name, c := range map[string]struct {
		change func(*Config)
		kind   ringfence.Kind
		checks int
	}{
		"key":  {func(c *Config) { c.Key = []byte("another key for tests") }, ringfence.KindUnauthenticated, 0},
		"port": {func(c *Config) { c.Reflector = netip.MustParseAddrPort("192.0.2.2:9") }, ringfence.KindUnavailable, 0},
	} {
		conf := base
		c.change(&conf)
		r, err := Run(t.Context(), conf)
		if ringfence.KindOf(err) != c.kind || len(r.Checks) != c.checks || r.Broken == "" || ringfence.HintOf(err) == "" {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
	conf := base
	conf.Progress = func(done, total int, what string) {
		if done == 3 { // the rows are done
			l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; reject with tcp reset; }\n}") // the next packet of the control channel ends it
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 40*time.Second)
	defer stop()
	r, err := Run(ctx, conf)
	if ringfence.KindOf(err) != ringfence.KindUnavailable || len(r.Checks) != 3 || r.Count(verdict.Pass) != 3 || r.Broken == "" {
		t.Errorf("%v, %+v", err, r)
	}
}
