package nft

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/testkit/router"
)

// form is a way in which people write rules, and what of it is not understood.
type form struct {
	name, text, unknown string
}

// chain writes a table with one chain at forward that drops all that the rules do not accept.
func oneChain(rules ...string) string {
	return "table inet t {\n chain f {\n type filter hook forward priority 0; policy drop;\n" + strings.Join(rules, "\n") + "\n }\n}\n"
}

func forms() []form {
	return []form{
		{"nothing", "", ""},
		{"policy accept", "table ip t { chain f { type filter hook forward priority 0; policy accept; ip saddr 10.0.0.0/8 drop; } }", ""},
		{"ports", oneChain("tcp dport { 80, 443, 8000-8010 } accept", "udp sport 53 udp dport > 1023 accept", "tcp sport != 20-25 tcp dport 7 accept", "udp dport <= 9 accept", "udp dport < 30 udp sport >= 65000 accept"), ""},
		{"th", oneChain("meta l4proto { tcp, udp } th dport 53 accept"), ""},
		{"addresses", oneChain("ip saddr 10.0.0.0/8 ip daddr { 192.0.2.1, 198.51.100.0/24, 203.0.113.5-203.0.113.9 } accept", "ip saddr != 172.16.0.0/12 tcp dport 9 accept", "ip6 saddr 2001:db8::/32 ip6 daddr != { 2001:db8:1::/48, 2001:db8:2::7 } udp dport 5 accept"), ""},
		{"masks", oneChain("ip saddr & 255.255.0.0 == 10.7.0.0 accept", "ip6 daddr & ffff:ffff:: == 2001:db8:: accept"), ""},
		{"a mask with holes", oneChain("ip saddr & 255.0.0.255 == 10.0.0.1 accept"), "a mask with holes"},
		{"interfaces", oneChain(`iifname "eth1" oifname { "eth0", "ppp0" } accept`, `iifname != "eth1" tcp dport 5 accept`, `iif "eth0" oif "eth1" udp dport 5 accept`), ""},
		{"all interfaces like", oneChain(`iifname "eth*" accept`), "all interfaces whose name begins"},
		{"protocols", oneChain("ip protocol { tcp, 50 } ip saddr 10.0.0.0/9 accept", "ip6 nexthdr udp accept", "meta nfproto ipv4 udp dport 77 accept"), ""},
		{"icmp", oneChain("icmp type { echo-request, timestamp-request } accept", "icmpv6 type echo-request icmpv6 code 0 accept", "icmp type != 8 icmp code 3 accept"), ""},
		{"states", oneChain("ct state established,related accept", "ct state invalid drop", "ct state new tcp dport 80 accept", "ct state != new drop", "meta l4proto icmp accept"), ""},
		{"untracked", oneChain("ct state new,untracked icmpv6 type { nd-neighbor-solicit, 137 } accept", "ct state invalid icmp type echo-reply accept"), ""},
		{"a map of states", "table inet t { chain n { tcp dport 22 accept; } }\n" + oneChain("ct state vmap { established : accept, related : accept, invalid : drop, new : jump n }"), ""},
		{"order", oneChain("tcp dport 1-100 drop", "tcp dport 50-150 accept", "ip daddr 198.51.100.1 reject", "udp dport 1-200 accept", "reject with tcp reset"), ""},
		{"reject by kind", oneChain("tcp dport 80 reject with tcp reset", "meta nfproto ipv4 reject with icmp port-unreachable", "accept"), ""},
		{"jump, return, goto", "table inet t { chain a { tcp dport 5 return; tcp dport 6 goto b; tcp dport 1-10 accept; }\n chain b { ip saddr 10.0.0.0/8 accept; }\n" +
			"chain f { type filter hook forward priority 0; policy drop; meta l4proto tcp jump a; tcp dport 5-7 ip daddr 192.0.2.0/24 accept; udp dport 9 goto b; udp dport 9 accept; } }", ""},
		{"maps of verdicts", "table inet t { map m { type inet_service : verdict; flags interval; elements = { 22 : accept, 30-40 : drop, 50 : goto n }; }\n chain n { ip saddr 10.0.0.0/8 accept; }\n" +
			"chain f { type filter hook forward priority 0; policy drop; tcp dport vmap @m; ip daddr . udp dport vmap { 192.0.2.1 . 5 : accept, 192.0.2.2 . 6 : drop }; tcp dport 20-60 accept; } }", ""},
		{"sets", "table inet t { set s { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.9, 192.0.2.10 }; }\n set c { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90, 192.0.2.4 . 443 }; }\n" +
			"chain f { type filter hook forward priority 0; policy drop; ip saddr @s udp dport 5 accept; ip daddr . tcp dport @c accept; ip saddr . ip daddr { 10.1.0.0/16 . 10.2.0.0/16 } accept; ip saddr . udp dport != @c ip daddr 203.0.113.1 accept; } }", ""},
		{"elements with counters", "table inet t { set s { type ipv4_addr; counter; elements = { 192.0.2.1 counter packets 0 bytes 0, 192.0.2.2 }; } chain f { type filter hook forward priority 0; policy drop; ip daddr @s accept; } }", ""},
		{"several chains", "table ip a { chain p { type filter hook prerouting priority -300; policy accept; ip saddr 10.9.0.0/16 drop; } }\n" + oneChain("tcp dport 1-20 accept") +
			"table ip6 b { chain f { type filter hook forward priority 5; policy drop; tcp dport 10-30 accept; } chain q { type filter hook postrouting priority 0; policy accept; tcp dport 12 drop; } }", ""},
		{"flags", oneChain("tcp flags & (fin|syn|rst|ack) == syn tcp dport 1 accept", "tcp flags syn tcp dport 2 accept", "tcp flags ack tcp dport 3 accept", "tcp flags & (syn|ack) == ack tcp dport 4 accept", "tcp flags == syn tcp dport 6 accept"), "flags that some packets"},
		{"source addresses are changed behind it", oneChain("tcp dport 80 accept") + "table ip n { chain p { type nat hook postrouting priority 100; oifname \"ppp9\" masquerade; } }", ""},
		{"marks and logs", oneChain("log prefix \"x \" counter", "meta mark set 5 ct mark set 5", "tcp dport 5 counter log accept"), ""},
		{"a rate of the log", oneChain("limit rate 5/minute log prefix \"x \"", "meta mark 1 counter", "udp dport 5-6 accept"), ""},
		{"a mark", oneChain("meta mark 1 accept"), "meta mark"},
		{"a rate", oneChain("icmp type echo-request limit rate 5/second accept"), "limit"},
		{"where an address is", oneChain("fib daddr type local accept"), "fib"},
		{"a destination is changed", "table ip n { chain p { type nat hook prerouting priority -100; tcp dport 80 dnat to 192.0.2.1; } }", "dnat"},
		{"a set that fills", "table inet t { set s { type ipv4_addr; flags dynamic,timeout; timeout 1m; } chain f { type filter hook forward priority 0; policy drop; ip saddr @s accept; } }", "come and go"},
		{"a bridge", "table bridge t { chain f { type filter hook forward priority 0; policy drop; } }", "bridge"},
		{"iptables", oneChain("ct status assured accept"), "ct status"},
	}
}

// TestForms loads rules as people write them, and compares what is read back with what the kernel does with packets around every bound.
func TestForms(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	for _, f := range forms() {
		n := &box.Interfaces{}
		n.Number("eth1")
		n.Number("eth0")
		rules := load(t, strings.ReplaceAll(f.text, "; }", ";\n}\n"), n) // this nft wants a line for each end
		said := ""
		for _, u := range rules.Unknown {
			said += u.Where + ": " + u.What + "\n"
		}
		if (said == "") != (f.unknown == "") || !strings.Contains(said, f.unknown) {
			t.Errorf("%s: unknown %q, want %q", f.name, said, f.unknown)
		}
		accepted, err := firewall.Accepted(rules.Chains)
		if err != nil {
			t.Fatal(err)
		}
		if f.unknown != "" && !strings.Contains(f.unknown, "flags that") {
			continue
		}
		boxes := accepted
		for _, c := range rules.Chains {
			for _, u := range c.Rules {
				boxes = append(boxes[:len(boxes):len(boxes)], u.Boxes...)
			}
		}
		var forwarded box.List
		for _, b := range boxes {
			if b[box.Hook].Has(box.N(box.Forward)) {
				b[box.Hook] = box.One(box.Forward)
				forwarded = append(forwarded, b)
			}
		}
		packets := router.Around(forwarded, n)
		wrong := w.Disagreements(packets, n, accepted.Has)
		for _, q := range wrong[:min(len(wrong), 5)] {
			t.Errorf("%s: %s: read back as %v, and the kernel does not think so", f.name, q.Describe(n), accepted.Has(q))
		}
		if len(packets) < 10 {
			t.Errorf("%s: only %d packets", f.name, len(packets))
		}
	}
}

// TestElsewhere reads what this kernel and this nft do not say: tables that are asleep, and rules of iptables.
func TestElsewhere(t *testing.T) {
	const head = `{"nftables":[{"table":{"family":"ip","name":"t"FLAGS}},{"chain":{"family":"ip","table":"t","name":"f","hook":"forward","type":"filter","prio":0,"policy":"drop"}},`
	rule := func(expr string) string {
		return strings.Replace(head, "FLAGS", "", 1) + `{"rule":{"family":"ip","table":"t","chain":"f","handle":7,"expr":[` + expr + `]}}]}`
	}
	for _, c := range []struct {
		text, unknown string
		accepts       bool
	}{
		{strings.Replace(head, "FLAGS", `,"flags":["dormant"]`, 1) + `{"metainfo":{}}]}`, "", true},
		{strings.Replace(head, "FLAGS", "", 1) + `{"metainfo":{}}]}`, "", false},
		{rule(`{"xt":{"type":"match","name":"comment"}},{"xt":{"type":"target","name":"LOG"}},{"accept":null}`), "", true},
		{rule(`{"xt":{"type":"target","name":"REJECT"}}`), "", false},
		{rule(`{"xt":{"type":"match","name":"multiport"}},{"accept":null}`), "the match multiport of iptables", false},
		{rule(`{"xt":null},{"accept":null}`), "of iptables", false},
		{rule(`{"accept":null,"drop":null}`), "2 members", false},
		{rule(`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"range":["10.0.0.9","10.0.0.1"]}}},{"accept":null}`), "wrong way round", false},
		{rule(`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"2001:db8::1"}},{"accept":null}`), "a value", false},
		{rule(`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.0.0.0","len":33}}}},{"accept":null}`), "a network", false},
		{rule(`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"@gone"}},{"accept":null}`), "not there", false},
		{rule(`{"match":{"op":"~","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":5}},{"accept":null}`), "the comparison", false},
	} {
		rules, err := Parse([]byte(c.text), &box.Interfaces{})
		if err != nil {
			t.Fatalf("%v: %s", err, c.text)
		}
		said := ""
		for _, u := range rules.Unknown {
			said += u.What + "\n"
		}
		if (said == "") != (c.unknown == "") || !strings.Contains(said, c.unknown) {
			t.Errorf("unknown %q, want %q: %s", said, c.unknown, c.text)
		}
		accepted, err := firewall.Accepted(rules.Chains)
		p := box.Packet{Protocol: box.TCP, From: netip.MustParseAddr("10.0.0.5"), To: netip.MustParseAddr("192.0.2.1"), FromPort: 5, ToPort: 5}
		if err != nil || accepted.Has(p) != c.accepts {
			t.Errorf("%v: accepted %v: %s", err, accepted.Has(p), c.text)
		}
	}
}

// TestRefused says what is no ruleset.
func TestRefused(t *testing.T) {
	loop := `{"nftables":[{"chain":{"family":"ip","table":"t","name":"f","hook":"forward","type":"filter","prio":0,"policy":"drop"}},{"rule":{"family":"ip","table":"t","chain":"f","handle":1,"expr":[{"jump":{"target":"f"}}]}}]}`
	for _, b := range []string{"", "[]", "{}", `{"nftables":[{"rule":{"chain":"x"}}]}`, `{"nftables":[{"chain":[]}]}`, strings.Replace(loop, `"target":"f"`, `"target":"g"`, 1), loop} {
		if _, err := Parse([]byte(b), &box.Interfaces{}); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%.60s: %v", b, err)
		}
	}
	// Chains that jump to each other twice at each of 15 levels, 200 times: a small file with more rules than anybody could look at.
	type object map[string]any
	var all []object
	add := func(chain string, hook bool) {
		c := object{"family": "ip", "table": "t", "name": chain}
		if hook {
			c["hook"], c["type"], c["prio"], c["policy"] = "forward", "filter", 0, "drop"
		}
		all = append(all, object{"chain": c})
	}
	for i := range 15 {
		add(string(rune('a'+i)), i == 0)
	}
	for i := range 14 {
		for range 20 {
			all = append(all, object{"rule": object{"family": "ip", "table": "t", "chain": string(rune('a' + i)), "expr": []object{{"jump": object{"target": string(rune('b' + i))}}}}})
		}
	}
	b, err := json.Marshal(object{"nftables": all})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(b, &box.Interfaces{}); ringfence.KindOf(err) != ringfence.KindOverload {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"testdata/forms.json", "testdata/webex-calling.json"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"nftables":[{"chain":{"family":"inet","table":"t","name":"f","hook":"forward","prio":0}},{"rule":{"family":"inet","table":"t","chain":"f","expr":[{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"range":["1.1.1.1","2.2.2.2"]}}},{"drop":null}]}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rules, err := Parse(b, &box.Interfaces{})
		if err != nil {
			return
		}
		accepted, err := firewall.Accepted(rules.Chains)
		if err != nil {
			return
		}
		for _, b := range accepted[:min(len(accepted), 50)] {
			p := b.Packet()
			for i := range rules.Chains {
				if c := &rules.Chains[i]; c.Scope.Has(p) {
					if _, ok := c.Decide(p); !ok {
						t.Errorf("%s is accepted, and %s drops it", p.Describe(nil), c.Name)
					}
				}
			}
		}
	})
}
