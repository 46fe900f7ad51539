package pf

import (
	"fmt"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/testkit/policies"
)

// forms are files as people write them, with what happens to packets by the manual, and what is not understood.
func forms() []struct{ name, text, packets, unknown string } {
	return []struct{ name, text, packets, unknown string }{
		{"nothing", "", "pass em1>em0 tcp 10.0.0.1:1 192.0.2.1:2\npass em0> udp 10.0.0.1:1 192.0.2.1:2\npass >em0 gre 10.0.0.1 192.0.2.1", ""},
		{"the last that matches", "block all\npass in on em1 from 10.0.0.0/8\npass out on em0\nblock in on em1 proto tcp from any to any port 25\n", `
			pass em1>em0 tcp 10.0.0.1:1 192.0.2.1:80
			drop em1>em0 tcp 10.0.0.1:1 192.0.2.1:25
			drop em1>em0 tcp 11.0.0.1:1 192.0.2.1:80
			drop em0>em1 tcp 10.0.0.1:1 192.0.2.1:80
			drop em1>em2 tcp 10.0.0.1:1 192.0.2.1:80
			pass em1> tcp 10.0.0.1:1 10.0.0.2:22
			pass >em0 udp 198.51.100.1:1 192.0.2.1:53
			drop >em1 udp 198.51.100.1:1 10.0.0.1:53`, ""},
		{"unless one is quick", "block in quick on em1 proto tcp to any port 25\npass quick proto tcp to any port { 20:30, 80 }\nblock all\npass proto udp", `
			drop em1>em0 tcp 10.0.0.1:1 192.0.2.1:25
			pass em1>em0 tcp 10.0.0.1:1 192.0.2.1:26
			drop em1>em0 tcp 10.0.0.1:1 192.0.2.1:81
			pass em1>em0 udp 10.0.0.1:1 192.0.2.1:81
			pass em0>em1 tcp 10.0.0.1:1 192.0.2.1:25`, ""},
		{"macros and lists", `ext_if = "em0"   # towards the provider
int_if="em1"
web = "{ 80, https, 8000:8010 }"
phones = "10.20.0.0/16 10.30.0.5"
ifs = "{" $ext_if $int_if "}"
set skip on lo
block drop log all
pass on $ifs inet proto tcp \
	from { $phones, 10.40.0.1 } to any port $web keep state
`, `
			pass em1>em0 tcp 10.20.0.1:1 192.0.2.1:443
			pass em1>em0 tcp 10.30.0.5:1 192.0.2.1:8010
			pass em1>em0 tcp 10.40.0.1:1 192.0.2.1:80
			drop em1>em0 tcp 10.40.0.2:1 192.0.2.1:80
			drop em1>em0 tcp 10.40.0.1:1 192.0.2.1:8011
			drop em1>em2 tcp 10.40.0.1:1 192.0.2.1:80
			drop em1>em0 tcp [2001:db8::1]:1 [2001:db8::2]:80
			pass lo> tcp 127.0.0.1:1 127.0.0.1:2`, ""},
		{"a list over lines, and both protocols", "block all\npass proto { tcp,\n  udp }\n from any port > 1023 to 192.0.2.0/24 port != 53", "", "line 4"},
		{"tables", `table <cloud> const { 192.0.2.0/24, !192.0.2.128/25, 192.0.2.200, 2001:db8::/32 }
table <none> persist
block
pass to <cloud>
pass from ! <cloud> to 198.51.100.1
pass from <none>
`, `
			pass em1>em0 udp 10.0.0.1:1 192.0.2.127:5
			drop em1>em0 udp 10.0.0.1:1 192.0.2.129:5
			pass em1>em0 udp 10.0.0.1:1 192.0.2.200:5
			pass em1>em0 udp [2001:db9::1]:1 [2001:db8::1]:5
			drop em1>em0 udp [2001:db9::1]:1 [2001:db9::1]:5
			pass em1>em0 udp 10.0.0.1:1 198.51.100.1:5
			drop em1>em0 udp 192.0.2.1:1 198.51.100.1:5
			pass em1>em0 udp 192.0.2.129:1 198.51.100.1:5`, ""},
		{"not an address", "block all\npass from ! 10.0.0.0/8 to 192.0.2.1\npass from { 10.1.0.0/16, !10.0.0.0/8 } to 192.0.2.2\npass on ! em2 proto sctp", `
			drop em1>em0 tcp 10.0.0.1:1 192.0.2.1:1
			pass em1>em0 tcp 11.0.0.1:1 192.0.2.1:1
			pass em1>em0 tcp 10.1.0.1:1 192.0.2.2:1
			drop em1>em0 tcp 10.2.0.1:1 192.0.2.2:1
			pass em1>em0 tcp 11.2.0.1:1 192.0.2.2:1
			pass em1>em0 sctp 10.0.0.1:1 10.0.0.2:2
			drop em2>em0 sctp 10.0.0.1:1 10.0.0.2:2`, ""},
		{"comparisons of ports", "block all\npass proto udp from any port >= 1024 to any port 100 >< 103\npass proto udp from any port < 10 to any port 200 <> 65000\npass proto tcp to port <= 5", `
			pass em1>em0 udp 10.0.0.1:1024 192.0.2.1:101
			drop em1>em0 udp 10.0.0.1:1023 192.0.2.1:101
			drop em1>em0 udp 10.0.0.1:1024 192.0.2.1:100
			drop em1>em0 udp 10.0.0.1:1024 192.0.2.1:103
			pass em1>em0 udp 10.0.0.1:9 192.0.2.1:199
			drop em1>em0 udp 10.0.0.1:9 192.0.2.1:200
			pass em1>em0 udp 10.0.0.1:9 192.0.2.1:65001
			pass em1>em0 tcp 10.0.0.1:9 192.0.2.1:5
			drop em1>em0 tcp 10.0.0.1:9 192.0.2.1:6`, ""},
		{"ICMP", "block all\npass inet proto icmp all icmp-type { echoreq, unreach code 4 }\npass inet6 proto icmp6 icmp6-type echoreq code 0\n", `
			pass em1>em0 icmp 10.0.0.1 192.0.2.1 8/0
			pass em1>em0 icmp 10.0.0.1 192.0.2.1 8/1
			pass em1>em0 icmp 10.0.0.1 192.0.2.1 3/4
			drop em1>em0 icmp 10.0.0.1 192.0.2.1 3/3
			pass em1>em0 icmp6 2001:db8::1 2001:db8::2 128/0
			drop em1>em0 icmp6 2001:db8::1 2001:db8::2 128/1
			drop em1>em0 icmp6 2001:db8::1 2001:db8::2 129/0`, ""},
		{"options", `set block-policy return
set state-policy if-bound
block return-icmp (3, 4) log (all) all
match in all scrub (no-df max-mss 1440)
pass out log quick on em0 proto tcp to any port { ssh } flags S/SA modulate state (max 100, source-track rule, max-src-conn 3) label "ssh out" queue (a, b)
pass in on em1 proto tcp to any port ssh allow-opts set prio 5
`, "pass em1>em0 tcp 10.0.0.1:1 192.0.2.1:22\ndrop em0>em1 tcp 10.0.0.1:1 192.0.2.1:22", ""},
		{"received-on", "block all\npass in on em1\npass out on em0 received-on em1", "pass em1>em0 tcp 10.0.0.1:1 192.0.2.1:22\ndrop em2>em0 tcp 10.0.0.1:1 192.0.2.1:22\ndrop >em0 tcp 10.0.0.1:1 192.0.2.1:22", ""},
		{"short networks and dashes", "block all\npass from 10/8 to 192.0.2.5 - 192.0.2.9\npass from 172.16/12 to 192.0.2.5-192.0.2.6", `
			pass em1>em0 tcp 10.255.0.1:1 192.0.2.9:22
			drop em1>em0 tcp 10.255.0.1:1 192.0.2.10:22
			pass em1>em0 tcp 172.31.0.1:1 192.0.2.6:22`, ""},
		{"sources are translated, and no rule looks", "nat on em0 from 10.0.0.0/8 to any -> (em0)\nblock all\npass in on em1\npass out on em0", "pass em1>em0 tcp 10.0.0.1:1 192.0.2.1:22", ""},
		{"sources are translated, and a rule looks", "match out on em0 inet from 10.0.0.0/8 nat-to (em0)\nblock all\npass in on em1\npass out on em0 from 10.0.0.0/8", "", "line 1: it changes source addresses before line 4 looks at them"},
		{"what only the machine knows", "int_if = em1\npass from $int_if:network\npass to (em0)\nblock from urpf-failed\npass to self\nantispoof for em1\npass on egress", "",
			"line 2: em1:network: an address that only the machine knows\nline 3: (: an address that only the machine knows\nline 4: urpf-failed: an address that only the machine knows\nline 5: self: an address that only the machine knows\nline 6: antispoof, whose addresses only the machine knows\nline 7: \"egress\" is a group"},
		{"what is elsewhere", "include \"/etc/pf.more\"\nanchor \"ftp/*\"\ntable <t> file \"/etc/t\"\npass from <t>\nrdr on em0 proto tcp to port 80 -> 10.0.0.1\npass in rdr-to 10.0.0.1", "", "line 1: include: rules that are elsewhere\nline 2: anchor: rules that are elsewhere\nline 4: the table t is in a file of its own\nline 5: a translation of destinations\nline 6: \"rdr-to\""},
		{"tables that fill", "table <bad> persist\nblock quick from <bad>\npass proto tcp keep state (max-src-conn 5, overload <bad> flush)", "", "line 3: the table bad, which fills and empties"},
		{"nothing of that name", "pass from $nobody\npass from <nobody>\npass from host.example.com", "", "line 1: there is no macro \"nobody\"\nline 2: there is no table \"nobody\"\nline 3: \"host.example.com\" is no network"},
		{"a macro of itself", "a = \"$a\"\npass from $a", "", "line 1: there is no macro \"a\""},
		{"ranges the wrong way round", "pass proto tcp to port 90:80\npass from 10.0.0.9 - 10.0.0.1\npass from 10.0.0.1 - 2001:db8::1", "", "line 1: the range 90 to 80 is the wrong way round\nline 2: the range 10.0.0.9 to 10.0.0.1 is the wrong way round\nline 3: 10.0.0.1 and 2001:db8::1 are not of one family"},
		{"without a state", "pass proto tcp no state\npass tagged x\npass proto tcp flags A/A\npass from any os \"OpenBSD\"", "", "line 1: a rule without a state\nline 2: \"tagged\"\nline 3: flags A/A, which other packets than the first have\nline 4: a fingerprint"},
		{"ports of nothing", "pass to any port 80\npass proto gre to port 80\npass proto tcp to port nonsense", "", "line 1: ports of a protocol without any\nline 2: ports of a protocol without any\nline 3: \"nonsense\" is no port"},
	}
}

// TestForms judges packets by files that were written by hand.
func TestForms(t *testing.T) {
	for _, f := range forms() {
		for _, w := range policies.Judge(Parse, f.text, f.packets, f.unknown) {
			t.Errorf("%s: %s", f.name, w)
		}
	}
}

// TestLarge reads a hundred thousand rules in bounded time, and refuses what multiplies.
func TestLarge(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "pass in quick on em1 inet proto tcp from 10.%d.%d.%d to any port %d\n", i>>16, i>>8&255, i&255, 1+i%60000)
	}
	rules, err := Parse([]byte(b.String()), &box.Interfaces{})
	if err != nil || len(rules.Chains[0].Rules) != 100_000 {
		t.Errorf("%v", err)
	}
	b.Reset()
	for i := range 2000 {
		fmt.Fprintf(&b, " 10.0.%d.%d", i>>8, i&255)
	}
	if _, err := Parse([]byte("pass from {"+b.String()+"} to {"+b.String()+"}"), &box.Interfaces{}); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
	if _, err := Parse([]byte("pass from {"+strings.Repeat(" 10.0.0.1", maxTokens+5)+"}"), &box.Interfaces{}); err == nil || !strings.Contains(err.Error(), "words") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"a\x00b", "a\xffb", `a = "b`} {
		if _, err := Parse([]byte(bad), &box.Interfaces{}); err == nil {
			t.Errorf("%.5q is read", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, form := range forms() {
		f.Add([]byte(form.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rules, err := Parse(b, &box.Interfaces{})
		if err != nil {
			return
		}
		if wrong := policies.Sound(rules, 4*entry.MaxBoxes); wrong != "" {
			t.Error(wrong)
		}
	})
}
