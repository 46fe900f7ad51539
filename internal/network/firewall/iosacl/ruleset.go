package iosacl

import (
	"fmt"
	"maps"
	"slices"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

// ruleset makes chains of what was read: which interfaces there are, the list of each interface by family and side, and the pairs of zones.
func (r *reader) ruleset() (*firewall.Ruleset, error) {
	out := &firewall.Ruleset{}
	names := slices.Sorted(maps.Keys(r.faces))
	for _, name := range names {
		r.interfaces.Number(name)
	}
	first, err := r.routed(names)
	if err != nil {
		return nil, err
	}
	out.Chains, r.of = append(out.Chains, first), append(r.of, nil)
	r.reflected(names)
	for _, name := range names {
		f := r.faces[name]
		for fam := range 2 {
			for side := range 2 {
				l := f.bound[fam][side]
				if l == nil {
					continue
				}
				for _, n := range r.nats {
					if f.natOut && fam == 0 {
						r.strange.Add(n, "it changes addresses that the list of line %d sees after or before it", l.Number)
					}
				}
				a := r.lists[fam][l.Words[2]]
				if a == nil || len(a.aces) == 0 {
					r.strange.Add(l.Number, "there is no access-list %.60q, so everything passes", l.Words[2])
					continue
				}
				now, later, of, err := r.bound(f, a, fam, side)
				if err != nil {
					return nil, err
				}
				out.Chains, out.Later, r.of = append(out.Chains, now), append(out.Later, later), append(r.of, of)
			}
		}
	}
	if err := r.zoned(names, out); err != nil {
		return nil, err
	}
	out.Unknown = r.strange.List()
	return out, nil
}

// routed returns what is not forwarded at all.
func (r *reader) routed(names []string) (firewall.Chain, error) {
	c := firewall.Chain{Name: "the interfaces", Scope: r.real, Accept: true, Fixed: true}
	drop := func(name string, family uint8, in, out []box.Span) error {
		l, err := entry.Compile(op, []entry.Entry{{Hook: box.Forward, Family: family, In: in, Out: out}}, r.real)
		c.Rules = append(c.Rules, firewall.Rule{Name: name, Fixed: true, Boxes: l})
		return err
	}
	if !r.six {
		if err := drop("IPv6 is not routed", box.IPv6, nil, nil); err != nil {
			return c, err
		}
	}
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		var open []box.Span
		for _, name := range names {
			if f := r.faces[name]; !f.closed && (family == box.IPv6 && (f.six || !r.addressed) || family == box.IPv4 && !f.noIPv4) {
				open = append(open, box.One(r.interfaces.Number(name)))
			}
		}
		others := entry.Not(open, box.N(box.MaxInterface))
		if err := drop("no interface of that name, or one that is shut down or has no address", family, others, nil); err != nil {
			return c, err
		}
		if err := drop("no interface of that name, or one that is shut down or has no address", family, nil, others); err != nil {
			return c, err
		}
	}
	return c, nil
}

// reflected collects what reflexive lines let answers through for.
func (r *reader) reflected(names []string) {
	for _, name := range names {
		f := r.faces[name]
		for fam := range 2 {
			for side := range 2 {
				l := f.bound[fam][side]
				if l == nil || r.lists[fam][l.Words[2]] == nil {
					continue
				}
				for _, x := range r.lists[fam][l.Words[2]].aces {
					if x.line.Words[0] != "permit" {
						continue
					}
					if s, err := r.extended(x.line.Words[1:], fam == 1); err == nil && s.reflect != "" {
						r.reflect[s.reflect] = append(r.reflect[s.reflect], entry.Cross(box.Forward, nil, nil, s.services, s.from, s.to)...)
					}
				}
			}
		}
	}
}

func (r *reader) spend(boxes box.List) error {
	if r.boxes += len(boxes); r.boxes > entry.MaxBoxes {
		return entry.TooMany(op)
	}
	return nil
}

// bound returns a list as an interface has it: for first packets, and for those of connections that are up.
func (r *reader) bound(f *face, a *list, fam, side int) (now, later firewall.Chain, of []place, err error) {
	number := []box.Span{box.One(r.interfaces.Number(f.name))}
	in, out := number, []box.Span(nil)
	if side == 1 {
		in, out = nil, number
	}
	now.Name = fmt.Sprintf("%s %s %s", f.name, a.name, []string{"in", "out"}[side])
	for _, b := range r.real {
		if b[box.Family] == box.One(family(fam == 1)) {
			b[[]box.Dim{box.In, box.Out}[side]] = number[0]
			now.Scope = append(now.Scope, b)
		}
	}
	later = now
	for i, x := range a.aces {
		u, s, ok := r.line(a, x)
		if !ok {
			continue
		}
		if x.line.Words[0] == "evaluate" {
			for _, e := range r.reflect[x.line.Words[1]] {
				l, err := entry.Compile(op, []entry.Entry{e}, r.real)
				if err != nil {
					return now, later, nil, err
				}
				for _, b := range l {
					b = b.Reply()
					if b[box.In], b[box.Out] = box.Range(0, box.MaxInterface), box.Range(0, box.MaxInterface); side == 0 {
						b[box.In] = number[0]
					} else {
						b[box.Out] = number[0]
					}
					if b[box.Family] == box.One(family(fam == 1)) {
						u.Boxes = append(u.Boxes, b)
					}
				}
			}
			if err := r.spend(u.Boxes); err != nil {
				return now, later, nil, err
			}
			later.Rules = append(later.Rules, u)
			continue
		}
		if u.Boxes, err = entry.Compile(op, entry.Cross(box.Forward, in, out, s.services, s.from, s.to), r.real); err != nil {
			return now, later, nil, err
		}
		if err := r.spend(u.Boxes); err != nil {
			return now, later, nil, err
		}
		later.Rules = append(later.Rules, u)
		if !s.established {
			now.Rules, of = append(now.Rules, u), append(of, place{a, i})
		}
	}
	return now, later, append(of, place{a, len(a.aces)}), nil
}

// line reads a line of a list; ok is false for one that decides nothing.
func (r *reader) line(a *list, x ace) (u firewall.Rule, s said, ok bool) {
	w := x.line.Words
	u = firewall.Rule{Name: x.line.Name(), Line: x.line.Number, Accept: w[0] != "deny"}
	var err error
	switch {
	case w[0] == "remark":
		return u, s, false
	case w[0] == "evaluate" && len(w) > 1:
		return u, s, true
	case w[0] == "dynamic" || w[0] == "evaluate":
		err = fmt.Errorf("%.40s", w[0])
	case a.standard:
		s, err = r.standard(w[1:])
	default:
		s, err = r.extended(w[1:], a.six)
	}
	if err != nil {
		r.strange.Add(x.line.Number, "%s", err)
		return u, s, false
	}
	return u, s, !s.fragments
}

// zonesName is the name of the chain of all pairs of zones.
const zonesName = "the zones"

// zoned adds what pairs of zones say of packets between interfaces that are in zones.
func (r *reader) zoned(names []string, out *firewall.Ruleset) error {
	members := map[string][]box.Span{}
	var outside []box.Span
	for _, name := range names {
		f, n := r.faces[name], box.One(r.interfaces.Number(name))
		if f.zone == "" {
			outside = append(outside, n)
			continue
		}
		if !r.zones[f.zone] {
			r.strange.Add(f.line, "there is no zone %.60q", f.zone)
		}
		members[f.zone] = append(members[f.zone], n)
	}
	if len(members) == 0 {
		return nil
	}
	now := firewall.Chain{Name: zonesName, Scope: r.real}
	later := now
	var of []place
	add := func(u firewall.Rule, p place) error {
		now.Rules, later.Rules, of = append(now.Rules, u), append(later.Rules, u), append(of, p)
		return r.spend(u.Boxes)
	}
	plain := func(name string, accept bool, in, leave []box.Span) error {
		l, err := entry.Compile(op, entry.Cross(box.Forward, in, leave, []entry.Service{{}}, entry.Anywhere(), entry.Anywhere()), r.real)
		if err != nil {
			return err
		}
		return add(firewall.Rule{Name: name, Fixed: true, Accept: accept, Boxes: l}, place{})
	}
	if len(outside) > 0 {
		if err := plain("no zone at both ends", true, outside, outside); err != nil {
			return err
		}
	}
	var replies box.List
	for _, name := range slices.Sorted(maps.Keys(r.pairs)) {
		p := r.pairs[name]
		if p.from == "self" || p.to == "self" {
			continue
		}
		if p.from == "default" || p.to == "default" {
			r.strange.Add(p.line, "the default zone")
			continue
		}
		in, leave := members[p.from], members[p.to]
		if len(in) == 0 || len(leave) == 0 {
			if !r.zones[p.from] || !r.zones[p.to] {
				r.strange.Add(p.line, "there is no zone %.60q, or none %.60q", p.from, p.to)
			}
			continue
		}
		m := r.policies[p.policy]
		if m == nil {
			if p.policy != "" {
				r.strange.Add(p.line, "there is no policy-map type inspect %.60q", p.policy)
			}
			m = &policy{}
		}
		for _, a := range m.classes {
			rules, places, err := r.classRules(a, in, leave)
			if err != nil {
				return err
			}
			for i, u := range rules {
				if u.Accept = a.do != "drop"; a.do == "inspect" {
					if u.Boxes, err = u.Boxes.Intersect(inspected()); err != nil {
						return err
					}
					for _, b := range u.Boxes {
						replies = append(replies, b.Reply())
					}
				}
				if err := add(u, places[i]); err != nil {
					return err
				}
			}
			if a.do == "inspect" { // what has no state is not let through
				for _, u := range rules {
					if err := add(firewall.Rule{Name: u.Name + " (not inspected)", Line: u.Line, Fixed: true, Boxes: u.Boxes}, place{}); err != nil {
						return err
					}
				}
			}
		}
		if err := plain("the end of zone-pair "+name, false, in, leave); err != nil {
			return err
		}
	}
	for _, zone := range slices.Sorted(maps.Keys(members)) {
		if err := plain("within the zone "+zone, true, members[zone], members[zone]); err != nil {
			return err
		}
	}
	if err := r.spend(replies); err != nil {
		return err
	}
	later.Rules = append([]firewall.Rule{{Name: "the state of the connection", Fixed: true, Accept: true, Boxes: replies}}, later.Rules...)
	out.Chains, out.Later, r.of = append(out.Chains, now), append(out.Later, later), append(r.of, of)
	return nil
}

// inspected returns the packets whose connections have a state.
func inspected() (out box.List) {
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		for _, p := range []uint8{box.TCP, box.UDP, box.ICMP, box.ICMPv6} {
			b := box.Everything(family)
			b[box.Protocol] = box.One(p)
			out = append(out, b)
		}
	}
	return out
}

// classRules returns what is in a class, line by line of its lists if it has no more than one that must match.
func (r *reader) classRules(a action, in, out []box.Span) (rules []firewall.Rule, places []place, err error) {
	whole := func() (box.List, error) {
		return entry.Compile(op, entry.Cross(box.Forward, in, out, []entry.Service{{}}, entry.Anywhere(), entry.Anywhere()), r.real)
	}
	if a.class == "" {
		l, err := whole()
		return []firewall.Rule{{Name: fmt.Sprintf("line %d: class class-default %s", a.line, a.do), Line: a.line, Boxes: l}}, []place{{}}, err
	}
	c := r.classes[a.class]
	if c == nil || len(c.matches) == 0 {
		r.strange.Add(a.line, "there is no class-map type inspect %.60q", a.class)
		return nil, nil, nil
	}
	var lists [][]firewall.Rule
	var listPlaces [][]place
	var protocols []box.Span
	restricted := false
	for _, m := range c.matches {
		switch {
		case m.list != "":
			rules, places, err := r.listed(m, in, out)
			if err != nil {
				return nil, nil, err
			}
			lists, listPlaces = append(lists, rules), append(listPlaces, places)
		case slices.Contains([]string{"tcp", "udp", "icmp"}, m.protocol):
			restricted = true
			protocols = append(protocols, map[string][]box.Span{"tcp": {box.One(box.TCP)}, "udp": {box.One(box.UDP)}, "icmp": {box.One(box.ICMP), box.One(box.ICMPv6)}}[m.protocol]...)
		case m.another != "":
			r.strange.Add(m.line, "a class within a class")
			return nil, nil, nil
		default:
			r.strange.Add(m.line, "packets of the protocol %.40q, which the router finds out by itself", m.protocol)
			return nil, nil, nil
		}
	}
	var only box.List
	for _, p := range protocols {
		for _, f := range []uint8{box.IPv4, box.IPv6} {
			b := box.Everything(f)
			b[box.Protocol] = p
			only = append(only, b)
		}
	}
	switch {
	case c.all && (len(lists) > 1 || len(protocols) > 2):
		r.strange.Add(c.line, "a class that several lists or protocols must match")
		return nil, nil, nil
	case c.all && len(lists) == 1:
		for _, u := range lists[0] {
			if restricted {
				if u.Boxes, err = u.Boxes.Intersect(only); err != nil {
					return nil, nil, err
				}
			}
			rules = append(rules, u)
		}
		return rules, listPlaces[0], nil
	}
	for i := range lists {
		rules, places = append(rules, lists[i]...), append(places, listPlaces[i]...)
	}
	if restricted {
		l, err := whole()
		if err != nil {
			return nil, nil, err
		}
		if l, err = l.Intersect(only); err != nil {
			return nil, nil, err
		}
		rules, places = append(rules, firewall.Rule{Name: fmt.Sprintf("line %d: class-map type inspect %s", c.line, a.class), Line: c.line, Boxes: l}), append(places, place{})
	}
	return rules, places, nil
}

// listed returns what the lines of a list permit, without what lines before them deny.
func (r *reader) listed(m match, in, out []box.Span) (rules []firewall.Rule, places []place, err error) {
	found := false
	for fam := range 2 {
		a := r.lists[fam][m.list]
		if a == nil {
			continue
		}
		found = true
		type one struct {
			rule firewall.Rule
			at   int
		}
		var all []one
		var denied box.List
		before := map[int]int{} // denied boxes before a line
		for i, x := range a.aces {
			u, s, ok := r.line(a, x)
			if !ok || s.established || x.line.Words[0] == "evaluate" {
				continue
			}
			if u.Boxes, err = entry.Compile(op, entry.Cross(box.Forward, in, out, s.services, s.from, s.to), r.real); err != nil {
				return nil, nil, err
			}
			if err := r.spend(u.Boxes); err != nil {
				return nil, nil, err
			}
			if before[i] = len(denied); !u.Accept {
				denied = append(denied, u.Boxes...)
				continue
			}
			all = append(all, one{u, i})
		}
		ix := box.NewIndex(denied)
		for _, o := range all {
			var left box.List
			for _, b := range o.rule.Boxes {
				rest, err := ix.Rest(b, before[o.at])
				if err != nil {
					return nil, nil, err
				}
				left = append(left, rest...)
			}
			o.rule.Boxes = left
			rules, places = append(rules, o.rule), append(places, place{a, o.at})
		}
	}
	if !found {
		r.strange.Add(m.line, "there is no access-list %.60q", m.list)
	}
	return rules, places, nil
}
