package iptables

import (
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
	name, four, six, sets, unknown string
}

// filter writes a table whose FORWARD drops all that the rules do not accept.
func filter(rules ...string) string {
	return "*filter\n:FORWARD DROP [0:0]\n" + strings.Join(rules, "\n") + "\nCOMMIT\n"
}

func forms() []form {
	return []form{
		{name: "nothing"},
		{name: "policy accept", four: "*filter\n-A FORWARD -s 10.0.0.0/8 -j DROP\nCOMMIT\n"},
		{name: "addresses", four: filter("-A FORWARD -s 10.0.0.0/8 -d 192.0.2.1 -j ACCEPT", "-A FORWARD ! -s 172.16.0.0/12 -p tcp --dport 9 -j ACCEPT", "-A FORWARD -s 10.7.0.0/255.255.0.0 -p udp --dport 7 -j ACCEPT"),
			six: filter("-A FORWARD -s 2001:db8::/32 ! -d 2001:db8:1::/48 -p udp -m udp --dport 5 -j ACCEPT")},
		{name: "a mask with holes", four: filter("-A FORWARD -s 10.0.0.1/255.0.0.255 -j ACCEPT"), unknown: "a mask with holes"},
		{name: "ports", four: filter("-A FORWARD -p tcp --dport 80:90 -j ACCEPT", "-A FORWARD -p udp --sport :53 ! --dport 1000: -j ACCEPT", "-A FORWARD -p tcp ! --sport 20:25 --dport 7 -j ACCEPT"), six: filter("-A FORWARD -p udp --dport sip -j ACCEPT")},
		{name: "multiport", four: filter("-A FORWARD -p tcp -m multiport --dports 80,443,8000:8010 -j ACCEPT", "-A FORWARD -p udp -m multiport ! --sports 53,60:70 -m multiport --dports 5,9 -j ACCEPT", "-A FORWARD -p tcp -m multiport --ports 22,25:30 -j ACCEPT"),
			six: filter("-A FORWARD -p udp -m multiport ! --ports 22,25:30 -j ACCEPT")},
		{name: "ranges of addresses", four: filter("-A FORWARD -m iprange --src-range 10.0.0.5-10.0.1.9 -j ACCEPT", "-A FORWARD -p tcp -m iprange ! --dst-range 192.0.2.5-192.0.2.9 -j ACCEPT"), six: filter("-A FORWARD -m iprange --dst-range 2001:db8::5-2001:db8::9 -j ACCEPT")},
		{name: "interfaces", four: filter("-A FORWARD -i eth1 -o eth0 -j ACCEPT", "-A FORWARD ! -i eth1 -p tcp --dport 5 -j ACCEPT", "-A FORWARD -i + -o eth1 -p udp --dport 6 -j ACCEPT")},
		{name: "all interfaces like", four: filter("-A FORWARD -i eth+ -j ACCEPT"), unknown: "all interfaces whose name begins"},
		{name: "protocols", four: filter("-A FORWARD -p esp -j ACCEPT", "-A FORWARD ! -p tcp -s 10.0.0.0/8 -j ACCEPT", "-A FORWARD -p all -d 192.0.2.1 -j ACCEPT"), six: filter("-A FORWARD -p 50 -j ACCEPT")},
		{name: "icmp", four: filter("-A FORWARD -p icmp --icmp-type echo-request -j ACCEPT", "-A FORWARD -p icmp -s 10.0.0.0/8 --icmp-type 13/0 -j ACCEPT", "-A FORWARD -p icmp -d 192.0.2.1 --icmp-type any -j ACCEPT", "-A FORWARD -p icmp -d 192.0.2.2 ! --icmp-type destination-unreachable -j ACCEPT"),
			six: filter("-A FORWARD -p icmpv6 --icmpv6-type ping -j ACCEPT", "-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 1/4 -j ACCEPT")},
		{name: "states", four: filter("-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -m conntrack --ctstate INVALID -j DROP", "-A FORWARD -m conntrack --ctstate NEW -p tcp --dport 80 -j ACCEPT", "-A FORWARD -m conntrack ! --ctstate NEW -j DROP", "-A FORWARD -p icmp -j ACCEPT"),
			six: filter("-A FORWARD -m conntrack --ctstate NEW,UNTRACKED -p icmpv6 --icmpv6-type neighbour-solicitation -j ACCEPT", "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT")},
		{name: "order", four: filter("-A FORWARD -p tcp --dport 1:100 -j DROP", "-A FORWARD -p tcp --dport 50:150 -j ACCEPT", "-A FORWARD -d 198.51.100.1 -j REJECT", "-A FORWARD -p udp --dport 1:200 -j ACCEPT", "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset"),
			six: filter("-A FORWARD -p tcp --dport 5 -j ACCEPT", "-I FORWARD -p tcp --dport 4:5 -s 2001:db8::/64 -j DROP", "-I FORWARD 2 -p tcp --dport 9 -j ACCEPT")},
		{name: "jump, return, goto", four: "*filter\n:FORWARD DROP [0:0]\n:a - [0:0]\n:b - [0:0]\n-A FORWARD -p tcp -j a\n-A FORWARD -p tcp --dport 5:7 -d 192.0.2.0/24 -j ACCEPT\n-A FORWARD -p udp --dport 9 -g b\n-A FORWARD -p udp --dport 9 -j ACCEPT\n-A FORWARD -p udp --dport 10 -j RETURN\n-A FORWARD -p udp --dport 8:11 -j ACCEPT\n" +
			"-A a -p tcp --dport 5 -j RETURN\n-A a -p tcp --dport 6 -g b\n-A a -p tcp --dport 1:10 -j ACCEPT\n-A b -s 10.0.0.0/8 -j ACCEPT\nCOMMIT\n"},
		{name: "several tables", four: "*raw\n-A PREROUTING -s 10.9.0.0/16 -j DROP\nCOMMIT\n*mangle\n:FORWARD ACCEPT\n-A FORWARD -p tcp --dport 12 -j DROP\n-A POSTROUTING -p tcp -j MARK --set-mark 5\nCOMMIT\n*nat\n-A POSTROUTING -o ppp9 -j MASQUERADE\nCOMMIT\n" + filter("-A FORWARD -p tcp --dport 1:20 -j ACCEPT")},
		{name: "logs and comments", four: filter("-A FORWARD -m limit --limit 5/min -j LOG --log-prefix \"x y \"", "-A FORWARD -p tcp", "[5:200] -A FORWARD -p tcp --dport 5 -j ACCEPT -m comment --comment \"a \\\"b\\\" -j DROP\"")},
		{name: "a chain that logs", four: "*filter\n:FORWARD DROP [0:0]\n:log - [0:0]\n-A FORWARD -m conntrack --ctstate INVALID -j log\n-A FORWARD -p tcp --dport 5 -j log\n-A FORWARD -p tcp --dport 5:6 -j ACCEPT\n-A log -p tcp -m limit --limit 3/min -j RETURN\n-A log -j LOG\nCOMMIT\n"},
		{name: "flags", four: filter("-A FORWARD -p tcp --syn --dport 1 -j ACCEPT", "-A FORWARD -p tcp ! --syn -j ACCEPT", "-A FORWARD -p tcp --tcp-flags SYN,ACK SYN --dport 3 -j ACCEPT", "-A FORWARD -p tcp --tcp-flags ALL NONE --dport 4 -j ACCEPT")},
		{name: "some flags", four: filter("-A FORWARD -p tcp --tcp-flags SYN SYN --dport 1 -j ACCEPT"), unknown: "flags that some packets"},
		{name: "fragments and headers", four: filter("-A FORWARD -f -j ACCEPT", "-A FORWARD ! -f -p tcp --dport 5 -j ACCEPT"), six: filter("-A FORWARD -m rt --rt-type 0 -j ACCEPT", "-A FORWARD -p udp --dport 5 -j ACCEPT")},
		{name: "groups", four: filter("-A FORWARD -p udp -m addrtype --dst-type MULTICAST -j ACCEPT", "-A FORWARD -p udp --dport 7 -j ACCEPT")},
		{name: "own addresses at INPUT", four: "*filter\n:not-local - [0:0]\n-A INPUT -j not-local\n-A not-local -m addrtype --dst-type LOCAL -j RETURN\n-A not-local -m addrtype --dst-type MULTICAST -j RETURN\n-A not-local -m addrtype --dst-type BROADCAST -j RETURN\n-A not-local -j DROP\nCOMMIT\n"},
		{name: "own addresses elsewhere", four: filter("-A FORWARD -m addrtype --dst-type LOCAL -j ACCEPT"), unknown: "own addresses elsewhere"},
		{name: "everybody accepted", four: "*filter\n:INPUT DROP [0:0]\n-A INPUT -m addrtype --dst-type BROADCAST -j ACCEPT\nCOMMIT\n", unknown: "a match of broadcasts"},
		{name: "a mark", four: filter("-A FORWARD -m mark --mark 1 -j ACCEPT"), unknown: "the match mark"},
		{name: "a mark of what never comes", four: filter("-A FORWARD -p icmp --icmp-type 0 -m conntrack --ctstate NEW -m mark --mark 1 -j ACCEPT", "-A FORWARD -p tcp --dport 5 -j ACCEPT")},
		{name: "a rate", four: filter("-A FORWARD -p icmp -m limit --limit 5/sec -j ACCEPT"), unknown: "the match limit"},
		{name: "a destination is changed", four: "*nat\n-A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 192.0.2.1\nCOMMIT\n", unknown: `the target "DNAT"`},
		{name: "no tracking", four: "*raw\n-A PREROUTING -p udp -j CT --notrack\nCOMMIT\n", unknown: "the target CT"},
		{name: "networks in a set", sets: "create s hash:net\nadd s 10.0.0.0/8\nadd s 10.1.0.0/16 nomatch\nadd s 10.1.2.0/24\nadd s 192.0.2.1\ncreate t hash:net family inet6\nadd t 2001:db8::/32\n",
			four: filter("-A FORWARD -m set --match-set s src -p udp --dport 5 -j ACCEPT", "-A FORWARD -m set ! --match-set s dst -p tcp --dport 5 -j ACCEPT"), six: filter("-A FORWARD -m set --match-set t dst -j ACCEPT", "-A FORWARD -m set ! --match-set t src -p udp --dport 9 -j ACCEPT")},
		{name: "addresses in a set", sets: "create s hash:ip comment\nadd s 10.0.0.4/30 comment \"x y\"\nadd s 192.0.2.1-192.0.2.5\ncreate t hash:ip netmask 24\nadd t 10.5.6.0\ncreate b bitmap:ip range 10.8.0.0/16\nadd b 10.8.1.0/28\n",
			four: filter("-A FORWARD -m set --match-set s src -j ACCEPT", "-A FORWARD -m set --match-set t dst -j ACCEPT", "-A FORWARD -m set --match-set b src -j ACCEPT")},
		{name: "ports in a set", sets: "create s hash:ip,port\nadd s 10.0.0.1,80\nadd s 10.0.0.1,udp:5-9\nadd s 10.0.0.2,icmp:8/0\nadd s 10.0.0.3,esp:0\ncreate t hash:net,port\nadd t 192.0.2.0/24,tcp:443\ncreate b bitmap:port range 0-1000\nadd b 20-30\n",
			four: filter("-A FORWARD -m set --match-set s src,dst -j ACCEPT", "-A FORWARD -m set --match-set t dst,dst -j ACCEPT", "-A FORWARD -m set --match-set b src -s 10.9.0.0/16 -j ACCEPT", "-A FORWARD -m set --match-set s dst -j ACCEPT")},
		{name: "three dimensions", sets: "create s hash:ip,port,net\nadd s 10.0.0.1,tcp:80,192.0.2.0/24\ncreate t hash:ip,port,ip\nadd t 10.0.0.2,udp:80,192.0.2.1\n", four: filter("-A FORWARD -m set --match-set s src,dst,dst -j ACCEPT", "-A FORWARD -m set --match-set t dst,src,src -j ACCEPT")},
		{name: "a list of sets", sets: "create a hash:net\nadd a 10.0.0.0/8\ncreate b hash:ip\nadd b 192.0.2.1\ncreate s list:set\nadd s a\nadd s b\n", four: filter("-A FORWARD -m set --match-set s src -j ACCEPT")},
		{name: "members come and go", sets: "create s hash:ip timeout 60\nadd s 10.0.0.1\n", four: filter("-A FORWARD -m set --match-set s src -j ACCEPT"), unknown: "come and go"},
		{name: "a set of interfaces", sets: "create s hash:net,iface\nadd s 10.0.0.0/8,eth0\n", four: filter("-A FORWARD -m set --match-set s src,src -j ACCEPT"), unknown: "hash:net,iface"},
	}
}

// TestForms has both kinds of iptables load rules as people write them, and compares what is read back, and what is read of the text itself, with what the kernel does with packets around every bound.
func TestForms(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	for odd, kind := range kinds() {
		k := newTools(t, kind)
		for i, f := range forms() {
			n := &box.Interfaces{}
			n.Number("eth1")
			n.Number("eth0")
			if kind == "legacy" && strings.Contains(f.four, "[5:200]") {
				continue // counters are of the dumps of both kinds; with them one is enough
			}
			back := k.load(t, []firewall.File{{Name: SetsFile, Text: f.sets}, {Name: RulesFile, Text: f.four}, {Name: Rules6File, Text: f.six}}, n)
			written, err := Parse([]Dump{{Text: []byte(f.sets)}, {Family: box.IPv4, Text: []byte(f.four)}, {Family: box.IPv6, Text: []byte(f.six)}}, n)
			if err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
			for from, rules := range map[string]*firewall.Ruleset{"read back": back, "as written": written} {
				said := ""
				for _, u := range rules.Unknown {
					said += u.Where + ": " + u.What + "\n"
				}
				if (said == "") != (f.unknown == "") || !strings.Contains(said, f.unknown) {
					t.Errorf("%s, %s, %s: unknown %q, want %q", kind, f.name, from, said, f.unknown)
				}
			}
			if i%2 == odd && f.unknown == "" { // the kernel has one set of matches for both

				compare(t, w, kind+", "+f.name, back, written, n)
			}
			k.clear(t)
		}
	}
}

// compare sends packets around every bound through the kernel, and compares them with what was read.
func compare(t *testing.T, w *router.Router, name string, back, written *firewall.Ruleset, n *box.Interfaces) {
	accepted, err := firewall.Accepted(back.Chains)
	if err != nil {
		t.Fatal(err)
	}
	again, err := firewall.Accepted(written.Chains)
	if err != nil {
		t.Fatal(err)
	}
	boxes := accepted
	for _, c := range back.Chains {
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
	for _, q := range packets {
		if accepted.Has(q) != again.Has(q) {
			t.Errorf("%s: %s: read back as %v, and as written %v", name, q.Describe(n), accepted.Has(q), again.Has(q))
			break
		}
	}
	wrong := w.Disagreements(packets, n, accepted.Has)
	for _, q := range wrong[:min(len(wrong), 5)] {
		t.Errorf("%s: %s: read back as %v, and the kernel does not think so", name, q.Describe(n), accepted.Has(q))
	}
	if len(packets) < 10 {
		t.Errorf("%s: only %d packets", name, len(packets))
	}
}

// TestDumps says whose a dump is, and what is missing.
func TestDumps(t *testing.T) {
	four := "# Generated by iptables-save v1.8.9 (nf_tables)\n*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
	six := "# Generated by ip6tables-save v1.8.9\n*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
	for _, c := range []struct {
		dumps   []Dump
		unknown string
	}{
		{[]Dump{{Text: []byte(four + six)}}, ""},
		{[]Dump{{Text: []byte(four)}}, "nothing is said of IPv6"},
		{[]Dump{{Text: []byte(six)}}, "nothing is said of IPv4"},
		{[]Dump{{Text: []byte(four)}, {Name: "x/rules.v6"}}, ""},
		{[]Dump{{Name: "rules.v4", Text: []byte("*filter\nCOMMIT\n")}, {Name: "before6.rules", Text: []byte("*filter\nCOMMIT\n")}}, ""},
		{[]Dump{{Text: []byte("# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n" + four + six)}}, "iptables-legacy-save"},
		{[]Dump{{Text: []byte("# Table `x' is incompatible, use 'nft' tool.\n" + four + six)}}, "nft list ruleset"},
		{[]Dump{{Text: []byte(six + strings.Replace(four, "COMMIT", "-A FORWARD -m set --match-set gone src -j DROP\nCOMMIT", 1))}}, "`ipset save`"},
		{[]Dump{{Text: []byte(six + strings.Replace(four, "COMMIT", "-D FORWARD -j DROP\nCOMMIT", 1))}}, "the command"},
	} {
		rules, err := Parse(c.dumps, &box.Interfaces{})
		if err != nil {
			t.Fatalf("%+v: %v", c.dumps, err)
		}
		said := ""
		for _, u := range rules.Unknown {
			said += u.Where + ": " + u.What + "\n"
		}
		if (said == "") != (c.unknown == "") || !strings.Contains(said, c.unknown) {
			t.Errorf("unknown %q, want %q: %+v", said, c.unknown, c.dumps)
		}
	}
}

// TestRefused says what is no dump, and does not follow chains without end.
func TestRefused(t *testing.T) {
	head := "# Generated by iptables-save\n*filter\n"
	for _, text := range []string{"hello", "*filter\nCOMMIT\n", head + "*\n", head + "*abacus\n", head + "-A\n", head + "-A FORWARD \"x\n", head + "-A FORWARD -j FORWARD\n", head + "-P FORWARD maybe\n", "add x 1.2.3.4\n", "create x\n", head + strings.Repeat("x", maxLine+1),
		head + ":a - [0:0]\n-A FORWARD -j a\n-A a -j a\n"} {
		if _, err := Parse([]Dump{{Text: []byte(text)}}, &box.Interfaces{}); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	var b strings.Builder // chains that jump to each other twenty times at each of 14 levels
	b.WriteString(head)
	name := "FORWARD"
	for i := range 14 {
		next := "c" + string(rune('a'+i))
		b.WriteString(":" + next + " -\n" + strings.Repeat("-A "+name+" -j "+next+"\n", 20))
		name = next
	}
	b.WriteString("-A " + name + " -p tcp --dport 5 -j ACCEPT\n")
	if _, err := Parse([]Dump{{Text: []byte(b.String())}}, &box.Interfaces{}); ringfence.KindOf(err) != ringfence.KindOverload {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range forms() {
		f.Add([]byte(c.sets), []byte(c.four), []byte(c.six))
	}
	b, err := os.ReadFile("testdata/dedicated-instance.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, []byte(nil), []byte("-A"))
	f.Fuzz(func(t *testing.T, sets, four, six []byte) {
		rules, err := Parse([]Dump{{Text: sets}, {Family: box.IPv4, Text: four}, {Family: box.IPv6, Text: six}}, &box.Interfaces{})
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
