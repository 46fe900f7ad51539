package asa

import (
	"maps"
	"slices"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

// ruleset makes chains of what was read: what the interfaces let each other send, then the lists of each interface in and out.
func (r *reader) ruleset() (*firewall.Ruleset, error) {
	out := &firewall.Ruleset{}
	written := len(r.faces) > 0
	for _, groups := range []map[string]entry.Line{r.in, r.out} {
		for name, l := range groups {
			if written && r.faces[name] == nil {
				r.strange.Add(l.Number, "there is no interface %.60q", name)
			} else if !written { // a part of a configuration
				r.faces[name] = &face{name: name, level: -1, line: l.Number}
			}
		}
	}
	names := slices.Sorted(maps.Keys(r.faces))
	for _, name := range names {
		r.interfaces.Number(name)
	}
	if len(names) > 0 {
		c, err := r.between(names)
		if err != nil {
			return nil, err
		}
		out.Chains, r.of = append(out.Chains, c), append(r.of, make([]place, len(c.Rules)))
	}
	boxes := 0
	add := func(name string, in, out1 []box.Span, lines ...entry.Line) error {
		c := firewall.Chain{Name: name, Scope: r.scope(in, out1)}
		var of []place
		for _, l := range lines {
			a := r.lists[l.Words[1]]
			if a == nil || len(a.aces) == 0 {
				r.strange.Add(l.Number, "there is no access-list %.60q", l.Words[1])
				continue
			}
			for i, x := range a.aces {
				rule, ok, err := r.rule(x, in, out1)
				if err != nil {
					return err
				}
				if boxes += len(rule.Boxes); boxes > entry.MaxBoxes {
					return entry.TooMany(op)
				}
				if ok {
					c.Rules, of = append(c.Rules, rule), append(of, place{a, i})
				}
			}
		}
		if len(lines) > 0 { // the end of the last list, for what is added there
			if a := r.lists[lines[len(lines)-1].Words[1]]; a != nil {
				of = append(of, place{a, len(a.aces)})
			}
		}
		out.Chains, r.of = append(out.Chains, c), append(r.of, of)
		return nil
	}
	var global []entry.Line
	if r.global != nil {
		global = []entry.Line{*r.global}
	}
	if len(names) == 0 && r.global != nil {
		if err := add("access-group global", nil, nil, global...); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		lines := global
		if l, ok := r.in[name]; ok {
			lines = append([]entry.Line{l}, global...)
		}
		if len(lines) > 0 {
			if err := add("access-group in interface "+name, []box.Span{box.One(r.interfaces.Number(name))}, nil, lines...); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range names {
		if l, ok := r.out[name]; ok {
			if err := add("access-group out interface "+name, nil, []box.Span{box.One(r.interfaces.Number(name))}, l); err != nil {
				return nil, err
			}
		}
	}
	if !r.icmp { // each message of ICMP is judged by itself
		state := firewall.Rule{Name: "the state of the connection", Fixed: true, Accept: true}
		for _, b := range r.real {
			if p := b[box.Protocol]; p != box.One(box.ICMP) && p != box.One(box.ICMPv6) {
				state.Boxes = append(state.Boxes, b)
			}
		}
		for _, c := range out.Chains {
			c.Rules = append([]firewall.Rule{state}, c.Rules...)
			out.Later = append(out.Later, c)
		}
	}
	out.Unknown = r.strange.List()
	return out, nil
}

func (r *reader) scope(in, out []box.Span) (l box.List) {
	for _, b := range r.real {
		if in != nil {
			b[box.In] = in[0]
		}
		if out != nil {
			b[box.Out] = out[0]
		}
		l = append(l, b)
	}
	return l
}

// between is the name of the chain for what interfaces and levels forbid by themselves.
const between = "the interfaces and their levels"

// between returns what no list has to drop: packets of interfaces that are not there, between interfaces of one level, and from a lower level to a higher one where no list judges what comes in.
func (r *reader) between(names []string) (firewall.Chain, error) {
	c := firewall.Chain{Name: between, Scope: r.real, Accept: true, Fixed: true}
	drop := func(name string, in, out []box.Span) error {
		l, err := entry.Compile(op, []entry.Entry{{Hook: box.Forward, Family: box.IPv4, In: in, Out: out}, {Hook: box.Forward, Family: box.IPv6, In: in, Out: out}}, r.real)
		c.Rules = append(c.Rules, firewall.Rule{Name: name, Fixed: true, Boxes: l})
		return err
	}
	var open []box.Span
	for _, name := range names {
		if !r.faces[name].closed {
			open = append(open, box.One(r.interfaces.Number(name)))
		}
	}
	others := entry.Not(open, box.N(box.MaxInterface))
	if err := drop("no interface of that name, or one that is shut down", others, nil); err != nil {
		return c, err
	}
	if err := drop("no interface of that name, or one that is shut down", nil, others); err != nil {
		return c, err
	}
	var without []box.Span
	for _, name := range names {
		if f := r.faces[name]; f.level >= 0 && !f.six {
			without = append(without, box.One(r.interfaces.Number(name)))
		}
	}
	if len(without) > 0 {
		for _, ends := range [2][2][]box.Span{{without, nil}, {nil, without}} {
			l, err := entry.Compile(op, []entry.Entry{{Hook: box.Forward, Family: box.IPv6, In: ends[0], Out: ends[1]}}, r.real)
			if err != nil {
				return c, err
			}
			c.Rules = append(c.Rules, firewall.Rule{Name: "an interface without IPv6", Fixed: true, Boxes: l})
		}
	}
	for _, name := range names {
		x := r.faces[name]
		_, judged := r.in[name]
		judged = judged || r.global != nil
		var closed []box.Span
		for _, other := range names {
			y := r.faces[other]
			bad := false
			switch {
			case x == y:
				bad = !r.intra
			case x.level < 0 || y.level < 0:
				if bad = !judged; bad {
					r.strange.Add(x.line, "neither a security-level of %.60s nor an access-group in says what may come in there", name)
				}
			case x.level == y.level:
				bad = !r.inter
			default:
				bad = !judged && x.level < y.level
			}
			if bad {
				closed = append(closed, box.One(r.interfaces.Number(other)))
			}
		}
		if len(closed) > 0 {
			if err := drop("the level of "+name, []box.Span{box.One(r.interfaces.Number(name))}, closed); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// rule reads one line of a list; ok is false for one that decides nothing.
func (r *reader) rule(x ace, in, out []box.Span) (rule firewall.Rule, ok bool, err error) {
	w := x.line.Words
	if w[0] == "remark" {
		return rule, false, nil
	}
	if w[0] == "extended" {
		w = w[1:]
	}
	if len(w) == 0 || w[0] != "permit" && w[0] != "deny" {
		r.strange.Add(x.line.Number, "%.80s: no line of an extended list", x.text)
		return rule, false, nil
	}
	if w[len(w)-1] == "inactive" {
		return rule, false, nil
	}
	services, from, to, bad := r.extended(w[1:])
	if bad != nil {
		r.strange.Add(x.line.Number, "%s", bad)
		return rule, false, nil
	}
	rule = firewall.Rule{Name: x.line.Name(), Line: x.line.Number, Accept: w[0] == "permit"}
	rule.Boxes, err = entry.Compile(op, entry.Cross(box.Forward, in, out, services, from, to), r.real)
	return rule, true, err
}
