package cloud

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

// rule is one line of a packet filter, in the terms that all three have.
type rule struct {
	name, about string
	out         bool // about what hosts of the site send; else what they are sent
	deny        bool
	priority    int // the smallest decides first
	protocols   []protocol
	local       []netip.Prefix // the hosts of the site that it is for
	remote      []netip.Prefix
}

// protocol is a protocol with its ports, or its type and code.
type protocol struct {
	number box.Span
	from   []box.Span // source ports, as seen by the one who begins, or types
	to     []box.Span
}

func anything() []box.Span { return []box.Span{box.Range(0, 65535)} }

// allProtocols is every protocol with everything in it.
func allProtocols() []protocol { return []protocol{{box.Range(0, 255), anything(), anything()}} }

// whole is all of a protocol.
func whole(number uint8) protocol {
	p := protocol{box.One(number), anything(), anything()}
	switch {
	case number == box.ICMP || number == box.ICMPv6:
		p.from, p.to = []box.Span{box.Range(0, 255)}, []box.Span{box.Range(0, 255)}
	case !box.HasPorts(number):
		p.from, p.to = []box.Span{box.One(0)}, []box.Span{box.One(0)}
	}
	return p
}

func everywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// filter is where the rules are in force.
type filter struct {
	host            bool
	inside, outside box.Span
	loopback        box.Span
	members         []netip.Prefix // the hosts of the site
	real            box.List
}

// newFilter finds the site's own hosts in a policy.
func newFilter(p *site.Policy) (*filter, error) {
	f := &filter{host: p.Host, inside: box.Range(0, box.MaxInterface), outside: box.Range(0, box.MaxInterface), real: box.Real()}
	if p.Host {
		f.members = everywhere()
		f.loopback = box.One(p.Interfaces.Number("lo"))
		if p.Outside != "" {
			f.outside = box.One(p.Interfaces.Number(p.Outside))
		}
		return f, nil
	}
	if p.Inside == "" || p.Outside == "" || p.Inside == p.Outside {
		return nil, &ringfence.Fault{Op: "cloud", Kind: ringfence.KindInvalid, Text: "the site file does not tell inside from outside", Hint: "write `interfaces: {inside: vpc, outside: internet}`; any two words will do"}
	}
	f.inside, f.outside = box.One(p.Interfaces.Number(p.Inside)), box.One(p.Interfaces.Number(p.Outside))
	for _, r := range p.Rows {
		if r.In == p.Inside {
			f.members = append(f.members, r.From...)
		}
		if r.Out == p.Inside {
			f.members = append(f.members, r.To...)
		}
	}
	f.members = compact(f.members)
	return f, nil
}

// ways says which ends of a row are hosts of the site: the one that begins, or the one that is spoken to, or both.
func (f *filter) ways(p *site.Policy, r site.Row) (out, in bool) {
	if f.host {
		return r.Hook == box.Output, r.Hook == box.Input
	}
	return r.In == p.Inside, r.Out == p.Inside
}

// judged reports whether a row is one that these filters see at all.
func judged(r site.Row) bool {
	return len(r.Protocols) > 0 && !(len(r.Types) > 0 && strings.HasPrefix(r.ID, "host-neighbours"))
}

// boxes returns the packets that a rule is about.
func (f *filter) boxes(r rule) box.List {
	var all box.List
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		local, remote := spans(r.local, family), spans(r.remote, family)
		members := spans(f.members, family)
		add := func(from, to []box.Span, set map[box.Dim]box.Span) {
			for _, p := range r.protocols {
				if p.number == box.One(box.ICMP) && family == box.IPv6 || p.number == box.One(box.ICMPv6) && family == box.IPv4 {
					continue
				}
				b := box.Everything(family)
				b[box.Protocol] = p.number
				for d, s := range set {
					b[d] = s
				}
				for _, fp := range p.from {
					for _, tp := range p.to {
						b[box.FromPort], b[box.ToPort] = fp, tp
						for _, b[box.From] = range from {
							for _, b[box.To] = range to {
								all = append(all, b)
							}
						}
					}
				}
			}
		}
		hook := func(h uint8, in, out box.Span) map[box.Dim]box.Span {
			return map[box.Dim]box.Span{box.Hook: box.One(h), box.In: in, box.Out: out}
		}
		none := box.One(0)
		switch {
		case f.host && r.out:
			add(local, remote, hook(box.Output, none, f.outside))
		case f.host:
			add(remote, local, hook(box.Input, f.outside, none))
		case r.out:
			own := meet(local, members)
			add(own, elsewhere(remote, members), hook(box.Forward, f.inside, f.outside))
			add(own, meet(remote, members), hook(box.Forward, f.inside, f.inside))
		default:
			own := meet(local, members)
			add(elsewhere(remote, members), own, hook(box.Forward, f.outside, f.inside))
			add(meet(remote, members), own, hook(box.Forward, f.inside, f.inside))
		}
	}
	if !slices.ContainsFunc(r.protocols, func(p protocol) bool { return p.number.First != p.number.Last }) {
		return all
	}
	all, _ = all.Intersect(f.real) // a few boxes
	return all
}

// past returns what a chain of one direction does not judge: what comes from elsewhere, for what hosts send; what goes elsewhere, for what they are sent; and what no cloud judges.
func (f *filter) past(out bool) (all box.List) {
	for _, b := range f.real {
		family := uint8(b[box.Family].First.Lo)
		if f.host {
			if b[box.Hook] == box.One(box.Forward) {
				continue
			}
			lo := b
			if b[box.Hook] == box.One(box.Input) {
				lo[box.In] = f.loopback
			} else {
				lo[box.Out] = f.loopback
			}
			all = append(all, lo)
			if b[box.Protocol] == box.One(box.ICMPv6) {
				for _, types := range []box.Span{box.Range(130, 136), box.One(143)} {
					nd := b
					nd[box.FromPort] = types
					all = append(all, nd)
				}
			}
			if (b[box.Hook] == box.One(box.Input)) == out {
				all = append(all, b)
			}
			continue
		}
		if b[box.Hook] != box.One(box.Forward) {
			continue
		}
		for _, m := range spans(f.members, family) {
			c := b
			if out {
				c[box.In], c[box.Out], c[box.To] = f.outside, f.inside, m
			} else {
				c[box.In], c[box.Out], c[box.From] = f.inside, f.outside, m
			}
			all = append(all, c)
		}
	}
	return all
}

// ruleset makes the exact model of a filter's rules. What they are attached to is the site's business.
func (f *filter) ruleset(rules []rule, unknown []firewall.Unknown) *firewall.Ruleset {
	sorted := slices.Clone(rules)
	slices.SortStableFunc(sorted, func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), compareBool(b.deny, a.deny))
	})
	s := &firewall.Ruleset{Unknown: unknown}
	var scope box.List
	for _, b := range f.real {
		if f.host != (b[box.Hook] == box.One(box.Forward)) {
			scope = append(scope, b)
		}
	}
	for _, out := range []bool{true, false} {
		c := firewall.Chain{Name: "what hosts are sent", Scope: scope}
		if out {
			c.Name = "what hosts send"
		}
		c.Rules = append(c.Rules, firewall.Rule{Name: "what it does not judge", Accept: true, Boxes: f.past(out)})
		for _, r := range sorted {
			if r.out == out {
				c.Rules = append(c.Rules, firewall.Rule{Name: r.name, Comment: r.about, Accept: !r.deny, Boxes: f.boxes(r)})
			}
		}
		s.Chains = append(s.Chains, c)
		s.Later = append(s.Later, firewall.Chain{Name: c.Name, Scope: scope, Accept: true}) // connections are followed
	}
	return s
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// certify says what rules make of the rows that they stand for, named at the end of their names.
func (f *filter) certify(p *site.Policy, rules []rule, rows map[string][]int) (*firewall.Certificate, error) {
	passes, err := firewall.Accepted(f.ruleset(rules, nil).Chains)
	if err != nil {
		return nil, err
	}
	rendered := map[string]box.List{}
	for _, r := range p.Rows {
		if !judged(r) {
			rendered[r.ID] = append(rendered[r.ID], r.Boxes(p.Interfaces)...)
		}
	}
	for id, at := range rows {
		var all box.List
		for _, i := range at {
			all = append(all, f.boxes(rules[i])...)
		}
		all, err := all.Intersect(passes)
		if err != nil {
			return nil, err
		}
		rendered[id] = append(rendered[id], all...)
	}
	return firewall.Certify(p, rendered)
}

// exact returns what a row says of a protocol in one family, or nothing if the protocol is of the other.
func exact(r site.Row, number, family uint8) (protocol, bool) {
	switch {
	case box.HasPorts(number):
		return protocol{box.One(number), ports(r.FromPorts), ports(r.ToPorts)}, true
	case (number == box.ICMP) == (family == box.IPv4):
		types := []box.Span{box.One(8)}
		if family == box.IPv6 {
			types = []box.Span{box.One(128)}
		}
		if len(r.Types) > 0 {
			types = ports(r.Types)
		}
		return protocol{box.One(number), types, []box.Span{box.One(0)}}, true
	}
	return protocol{}, false
}

func ports(list []need.Ports) (out []box.Span) {
	for _, p := range list {
		out = append(out, box.Range(p.First, p.Last))
	}
	if len(out) == 0 {
		return anything()
	}
	return box.Merge(out)
}

// word writes ports as clouds do: 5061, or 8000-48199.
func word(s box.Span) string {
	if s.First == s.Last {
		return fmt.Sprint(s.First.Lo)
	}
	return fmt.Sprintf("%d-%d", s.First.Lo, s.Last.Lo)
}

// span reads ports as clouds write them: 5061, 8000-48199, 0-65535 or *.
func span(text string) (box.Span, error) {
	if text == "*" {
		return box.Range(0, 65535), nil
	}
	first, last, two := strings.Cut(text, "-")
	if !two {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a > b {
		return box.Span{}, refused(fmt.Sprintf("%.40q is neither a port nor a range of ports", text))
	}
	return box.Range(a, b), nil
}

func spans(list []netip.Prefix, family uint8) (out []box.Span) {
	for _, p := range list {
		if p.Addr().Is4() == (family == box.IPv4) {
			out = append(out, box.Prefix(p))
		}
	}
	return box.Merge(out)
}

// meet returns the addresses that are in both.
func meet(a, b []box.Span) (out []box.Span) {
	for _, x := range a {
		for _, y := range b {
			first, last := x.First, x.Last
			if first.Less(y.First) {
				first = y.First
			}
			if y.Last.Less(last) {
				last = y.Last
			}
			if !last.Less(first) {
				out = append(out, box.Span{First: first, Last: last})
			}
		}
	}
	return out
}

// elsewhere returns networks without those of the site's own hosts, which are never outside.
func elsewhere(a, own []box.Span) []box.Span {
	return slices.DeleteFunc(slices.Clone(a), func(s box.Span) bool {
		return slices.ContainsFunc(own, func(o box.Span) bool { return o.Has(s.First) && o.Has(s.Last) })
	})
}

// compact returns networks without those that lie in others, in order.
func compact(list []netip.Prefix) (out []netip.Prefix) {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, p := range sorted {
		p = p.Masked()
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue
		}
		out = append(out, p)
	}
	return out
}

// of returns the networks of a family.
func of(list []netip.Prefix, family uint8) (out []netip.Prefix) {
	for _, p := range list {
		if p.Addr().Is4() == (family == box.IPv4) {
			out = append(out, p)
		}
	}
	return compact(out)
}

// all reports whether networks are all addresses of their family.
func all(list []netip.Prefix) bool { return len(list) == 1 && list[0].Bits() == 0 }

func texts(list []netip.Prefix) []string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return out
}

// network reads an address or a network.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, &ringfence.Fault{Op: "cloud.read", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.60q is no network", text)}
	}
	return p.Masked(), nil
}

// maxFile bounds what is read, in bytes, and maxRules how many rules there are.
const (
	maxFile  = 64 << 20
	maxRules = 100_000
)

func decode(b []byte, v any) error {
	if len(b) > maxFile {
		return refused("it is larger than 64 MiB")
	}
	if err := json.Unmarshal(b, v); err != nil {
		return refused(err.Error())
	}
	return nil
}

func refused(why string) error {
	return &ringfence.Fault{Op: "cloud.read", Kind: ringfence.KindInvalid, Text: "this is not what was expected: " + why, Hint: "docs/guides/firewalls.md says which command prints it"}
}

// written ends a rendering.
func written(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.String(), err
}
