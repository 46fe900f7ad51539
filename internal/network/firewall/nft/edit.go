package nft

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
)

// Edit writes the commands for `nft -f` that make changes of what `nft -j list ruleset` printed, and as the way back what `nft -j -f` takes: the rules of each chain that changes, as they were.
// The text of the patch is the ruleset with the changes, in the form in which it was read; new rules have no handles there.
func Edit(b []byte, n *box.Interfaces, edits []entry.Edit) (entry.Patch, error) {
	const op = "nft.edit"
	r, err := read(b, n)
	if err != nil {
		return entry.Patch{}, err
	}
	type key struct {
		chain  string
		handle uint64 // 0 is the end
	}
	before, remove := map[key][]written{}, map[key]bool{}
	var forth, gone, touched []string
	touch := func(chain string) {
		if !slices.Contains(touched, chain) {
			touched = append(touched, chain)
		}
	}
	first := func(c *chain) uint64 {
		if len(c.rules) > 0 {
			return c.rules[0].Handle
		}
		return 0
	}
	place := func(chain string, handle uint64, w written) {
		touch(chain)
		k := key{chain, handle}
		if slices.ContainsFunc(before[k], func(o written) bool { return o.text == w.text }) {
			return
		}
		before[k] = append(before[k], w)
		if handle == 0 {
			forth = append(forth, fmt.Sprintf("add rule %s %s", chain, w.text))
		} else {
			forth = append(forth, fmt.Sprintf("insert rule %s position %d %s", chain, handle, w.text))
		}
	}
	for _, e := range edits {
		if e.Chain == entry.State {
			for _, c := range r.chainOf {
				if slices.Contains([]string{"forward", "input", "output"}, c.Hook) {
					place(c.Family+" "+c.Table+" "+c.Name, first(c), state())
				}
			}
			continue
		}
		if e.Chain < 0 || e.Chain >= len(r.of) || e.At > len(r.of[e.Chain]) || e.Remove && e.At == len(r.of[e.Chain]) {
			return entry.Patch{}, entry.Impossible(op, "the change is of no rule")
		}
		c := r.chainOf[e.Chain]
		chain, handle := c.Family+" "+c.Table+" "+c.Name, uint64(0)
		if e.At < len(r.of[e.Chain]) {
			u := r.of[e.Chain][e.At]
			chain, handle = u.Family+" "+u.Table+" "+u.Chain, u.Handle
		}
		for _, a := range e.Add {
			w, err := write(n, a)
			if err != nil {
				return entry.Patch{}, err
			}
			place(chain, handle, w)
		}
		if k := (key{chain, handle}); e.Remove && !remove[k] {
			touch(chain)
			remove[k] = true
			gone = append(gone, fmt.Sprintf("delete rule %s handle %d", chain, handle))
		}
	}
	var now, old []map[string]any
	for _, c := range touched {
		w := strings.SplitN(c, " ", 3)
		old = append(old, map[string]any{"flush": map[string]any{"chain": map[string]any{"family": w[0], "table": w[1], "name": w[2]}}})
	}
	added := func(chain string, handle uint64) {
		w := strings.SplitN(chain, " ", 3)
		for _, x := range before[key{chain, handle}] {
			now = append(now, map[string]any{"rule": map[string]any{"family": w[0], "table": w[1], "chain": w[2], "handle": 0, "comment": x.comment, "expr": x.expr}})
		}
	}
	for _, o := range r.objects {
		body, isRule := o["rule"]
		if !isRule {
			for kind, b := range o {
				now = append(now, map[string]any{kind: b})
			}
			continue
		}
		var u map[string]any
		if err := decode(body, &u); err != nil {
			return entry.Patch{}, &ringfence.Fault{Op: op, Kind: ringfence.KindInvalid, Text: "a rule is not as nft writes it", Err: err}
		}
		chain := fmt.Sprintf("%v %v %v", u["family"], u["table"], u["chain"])
		number, _ := u["handle"].(json.Number)
		var handle uint64
		_, _ = fmt.Sscan(number.String(), &handle)
		added(chain, handle)
		if !remove[key{chain, handle}] {
			now = append(now, map[string]any{"rule": body})
		}
		if slices.Contains(touched, chain) {
			delete(u, "handle")
			old = append(old, map[string]any{"add": map[string]any{"rule": u}})
		}
	}
	for _, c := range touched {
		added(c, 0)
	}
	text, err := json.Marshal(map[string]any{"nftables": now})
	if err != nil {
		return entry.Patch{}, &ringfence.Fault{Op: op, Kind: ringfence.KindInternal, Text: "the ruleset cannot be written", Err: err}
	}
	back, err := json.MarshalIndent(map[string]any{"nftables": old}, "", " ")
	if err != nil {
		return entry.Patch{}, &ringfence.Fault{Op: op, Kind: ringfence.KindInternal, Text: "the ruleset cannot be written", Err: err}
	}
	return entry.Patch{Diff: strings.Join(append(forth, gone...), "\n") + "\n", Back: string(back) + "\n", Text: text}, nil
}

// written is a rule for nft, and the same as nft says it in JSON.
type written struct {
	text, comment string
	expr          []any
}

func state() written {
	return written{"ct state established,related counter accept", "", []any{matched("in", map[string]any{"ct": map[string]any{"key": "state"}}, []any{"established", "related"}), map[string]any{"accept": nil}}}
}

func matched(op string, left, right any) any {
	return map[string]any{"match": map[string]any{"op": op, "left": left, "right": right}}
}

func payload(protocol, field string) any {
	return map[string]any{"payload": map[string]any{"protocol": protocol, "field": field}}
}

// write writes an entry as one rule.
func write(n *box.Interfaces, a entry.Added) (w written, err error) {
	e := a.Entry
	var parts []string
	put := func(text string, expr any) {
		parts, w.expr = append(parts, text), append(w.expr, expr)
	}
	family, ip := "ipv4", "ip"
	if e.Family == box.IPv6 {
		family, ip = "ipv6", "ip6"
	}
	put("meta nfproto "+family, matched("==", map[string]any{"meta": map[string]any{"key": "nfproto"}}, family))
	for i, l := range [][]box.Span{e.In, e.Out} {
		if l == nil {
			continue
		}
		key, name := []string{"iifname", "oifname"}[i], entry.Face(n, l)
		if name == "" {
			return w, entry.Impossible("nft.edit", "more than one interface in a rule")
		}
		put(fmt.Sprintf("%s %q", key, name), matched("==", map[string]any{"meta": map[string]any{"key": key}}, name))
	}
	for i, l := range [][]box.Span{e.From, e.To} {
		if l == nil {
			continue
		}
		var texts []string
		var set []any
		for _, p := range entry.NetworksOf(box.Merge(l), e.Family) {
			if p.IsSingleIP() {
				texts, set = append(texts, p.Addr().String()), append(set, p.Addr().String())
				continue
			}
			texts, set = append(texts, p.String()), append(set, map[string]any{"prefix": map[string]any{"addr": p.Addr().String(), "len": p.Bits()}})
		}
		field := []string{"saddr", "daddr"}[i]
		put(fmt.Sprintf("%s %s { %s }", ip, field, strings.Join(texts, ", ")), matched("==", payload(ip, field), map[string]any{"set": set}))
	}
	numbers := func(text string, left any, spans []box.Span) {
		if spans == nil {
			return
		}
		var texts []string
		var set []any
		for _, s := range spans {
			if s.First == s.Last {
				texts, set = append(texts, fmt.Sprint(s.First.Lo)), append(set, s.First.Lo)
			} else {
				texts, set = append(texts, fmt.Sprintf("%d-%d", s.First.Lo, s.Last.Lo)), append(set, map[string]any{"range": []any{s.First.Lo, s.Last.Lo}})
			}
		}
		put(text+" { "+strings.Join(texts, ", ")+" }", matched("==", left, map[string]any{"set": set}))
	}
	stateful := a.Accept
	switch {
	case e.Protocols == nil:
	case len(e.Protocols) == 1 && e.Protocols[0].First == e.Protocols[0].Last:
		p := uint8(e.Protocols[0].First.Lo)
		name := box.ProtocolName(p)
		if !box.HasPorts(p) && p != box.ICMP && p != box.ICMPv6 {
			name = fmt.Sprint(p)
		}
		put("meta l4proto "+name, matched("==", map[string]any{"meta": map[string]any{"key": "l4proto"}}, name))
		if box.HasPorts(p) {
			numbers(name+" sport", payload(name, "sport"), e.FromPorts)
			numbers(name+" dport", payload(name, "dport"), e.ToPorts)
		} else if p == box.ICMP || p == box.ICMPv6 {
			numbers(name+" type", payload(name, "type"), e.FromPorts)
			numbers(name+" code", payload(name, "code"), e.ToPorts)
		}
	default:
		return w, entry.Impossible("nft.edit", "more than one protocol in a rule")
	}
	if stateful && e.Protocols != nil {
		put("ct state new", matched("in", map[string]any{"ct": map[string]any{"key": "state"}}, "new"))
	}
	verb := "drop"
	if a.Accept {
		verb = "accept"
	}
	put("counter "+verb, map[string]any{verb: nil})
	if a.Row != "" {
		parts = append(parts, fmt.Sprintf("comment %q", a.Row))
	}
	w.text, w.comment = strings.Join(parts, " "), a.Row
	return w, nil
}
