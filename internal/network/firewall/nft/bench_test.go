package nft

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
)

// many makes a policy of n rows, with a rule in JSON for each, and drops between them that have nothing to do with it.
func many(t testing.TB, n int) (*site.Policy, []byte) {
	t.Helper()
	type object map[string]any
	match := func(protocol, name string, right any) object {
		return object{"match": object{"op": "==", "left": object{"payload": object{"protocol": protocol, "field": name}}, "right": right}}
	}
	p := &site.Policy{Set: "many", Interfaces: &box.Interfaces{}}
	all := []object{{"chain": object{"family": "inet", "table": "t", "name": "f", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
		{"rule": object{"family": "inet", "table": "t", "chain": "f", "expr": []object{{"match": object{"op": "in", "left": object{"ct": object{"key": "state"}}, "right": []int{2, 4}}}, {"accept": nil}}}}}
	for i := range n {
		from := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 7 % 200), 0, 0}), 16)
		to := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i%100), byte(i / 100), 0, 0}), 16)
		first, last := uint16(1024+i%50*100), uint16(1024+i%50*100+150)
		p.Rows = append(p.Rows, site.Row{ID: fmt.Sprint("r", i), Purpose: "x", Protocols: []uint8{box.UDP}, From: []netip.Prefix{from}, To: []netip.Prefix{to}, ToPorts: []need.Ports{{First: first, Last: last}}})
		network := func(p netip.Prefix) object {
			return object{"prefix": object{"addr": p.Addr().String(), "len": p.Bits()}}
		}
		all = append(all, object{"rule": object{"family": "inet", "table": "t", "chain": "f", "handle": i, "expr": []object{match("ip", "saddr", network(from)), match("ip", "daddr", network(to)),
			match("udp", "dport", object{"range": []uint16{first, last}}), {"accept": nil}}}})
		if i%10 == 0 {
			all = append(all, object{"rule": object{"family": "inet", "table": "t", "chain": "f", "handle": n + i, "expr": []object{match("ip", "daddr", network(to)), match("tcp", "dport", i+1), {"drop": nil}}}})
		}
	}
	b, err := json.Marshal(object{"nftables": all})
	if err != nil {
		t.Fatal(err)
	}
	return p, b
}

// TestMany proves many rules, all of which are needed.
func TestMany(t *testing.T) {
	p, b := many(t, 1000)
	rules, err := Parse(b, p.Interfaces)
	if err != nil {
		t.Fatal(err)
	}
	if r := proof(t, p, rules); r.Verdict != prove.Exact || r.Rules != 1100 {
		t.Errorf("%s, %d rules: %v %v %v", r.Verdict, r.Rules, r.Missing, r.Wide, r.Later)
	}
}

// BenchmarkProof reads and proves 5,000 rules.
func BenchmarkProof(b *testing.B) {
	p, text := many(b, 5000)
	for b.Loop() {
		rules, err := Parse(text, p.Interfaces)
		if err != nil {
			b.Fatal(err)
		}
		if r := proof(b, p, rules); r.Verdict != prove.Exact {
			b.Fatal(r.Verdict)
		}
	}
}
