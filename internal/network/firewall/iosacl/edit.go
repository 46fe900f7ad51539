package iosacl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

// Edit writes the commands that make changes of a configuration, and those that take them back. A list on an interface has no state, so what comes back over UDP cannot be let through by it.
func Edit(b []byte, n *box.Interfaces, edits []entry.Edit) (entry.Patch, error) {
	const op = "iosacl.edit"
	r, err := read(b, n)
	if err != nil {
		return entry.Patch{}, err
	}
	rules, err := r.ruleset()
	if err != nil {
		return entry.Patch{}, err
	}
	w := &writer{groups: map[string]string{}, taken: map[string]bool{}, there: r.networks, has: r.networks.Has}
	changes := map[*list]*changed{}
	classes := &newClasses{}
	var order []*list
	for _, e := range edits {
		if e.Chain == entry.State {
			return entry.Patch{}, entry.Impossible(op, "an access list has no state: permit what comes back by `evaluate`, or give the interfaces zones (`ringfence network render cisco-ios`)")
		}
		if e.Chain < 0 || e.Chain >= len(r.of) || e.At > len(rules.Chains[e.Chain].Rules) {
			return entry.Patch{}, entry.Impossible(op, "the change is of no rule")
		}
		if e.Remove {
			p := r.place(e.Chain, e.At)
			if p.list == nil {
				return entry.Patch{}, entry.Impossible(op, "%s lets through by itself, and is no line of a list", rules.Chains[e.Chain].Rules[e.At].Name)
			}
			c := of(changes, p.list, &order)
			c.remove[p.at] = true
		}
		for _, a := range e.Add {
			p, ok := r.placeFor(rules.Chains[e.Chain], e, a.Entry)
			if !ok && a.Accept && classes.add(r, w, n, a) {
				continue
			}
			if !ok {
				return entry.Patch{}, entry.Impossible(op, "no class of a zone-pair takes what %s needs, and no list", a.Row)
			}
			if p.list.standard {
				return entry.Patch{}, entry.Impossible(op, "the standard list %.60s knows sources alone", p.list.name)
			}
			if (a.Entry.Family == box.IPv6) != p.list.six {
				continue
			}
			verb := "permit"
			if !a.Accept {
				verb = "deny"
			}
			c := of(changes, p.list, &order)
			for _, l := range w.aces(a.Entry, verb) {
				if !slices.Contains(c.add[p.at], l) {
					c.add[p.at] = append(c.add[p.at], l)
				}
			}
		}
	}
	var forth, back []string
	for _, a := range order {
		f, t, err := changes[a].commands(a)
		if err != nil {
			return entry.Patch{}, err
		}
		forth, back = append(forth, f...), append(t, back...)
	}
	f, t := classes.commands(r)
	forth, back = append(forth, f...), append(t, back...)
	for _, l := range w.define {
		head, _, _ := strings.Cut(l, "\n")
		back = append(back, "no "+head)
	}
	diff := strings.Join(append(w.define, forth...), "\n") + "\n"
	return entry.Patch{Diff: diff, Back: strings.Join(back, "\n") + "\n", Text: append(append(slices.Clone(b), '\n'), diff...)}, nil
}

// newClasses are classes of zone-pairs for what no class takes yet.
type newClasses struct{ all []*newClass }

type newClass struct {
	pair     *pair
	protocol string
	six      bool
	lines    []string
}

// add puts an entry into a new class, and reports whether there is a zone-pair for it.
func (c *newClasses) add(r *reader, w *writer, n *box.Interfaces, a entry.Added) bool {
	from, to := r.faces[entry.Face(n, a.Entry.In)], r.faces[entry.Face(n, a.Entry.Out)]
	if from == nil || to == nil {
		return false
	}
	for _, name := range slices.Sorted(maps.Keys(r.pairs)) {
		p := r.pairs[name]
		if p.from != from.zone || p.to != to.zone || r.policies[p.policy] == nil {
			continue
		}
		for _, e := range inspectable(a.Entry) {
			protocol := map[uint8]string{box.TCP: "tcp", box.UDP: "udp", box.ICMP: "icmp", box.ICMPv6: "icmp"}[uint8(e.Protocols[0].First.Lo)]
			i := slices.IndexFunc(c.all, func(x *newClass) bool {
				return x.pair == p && x.protocol == protocol && x.six == (e.Family == box.IPv6)
			})
			if i < 0 {
				i = len(c.all)
				c.all = append(c.all, &newClass{pair: p, protocol: protocol, six: e.Family == box.IPv6})
			}
			c.all[i].lines = append(append(c.all[i].lines, "remark "+a.Row), w.aces(e, "permit")...)
		}
		return true
	}
	return false
}

func (c *newClasses) commands(r *reader) (forth, back []string) {
	for i, x := range c.all {
		name := fmt.Sprintf("ringfence-%s-%d", x.protocol, i+1)
		for j := i + 2; r.lists[0][name] != nil || r.lists[1][name] != nil || r.classes[name] != nil; j++ {
			name = fmt.Sprintf("ringfence-%s-%d", x.protocol, 100*j+i)
		}
		open := "ip access-list extended " + name
		if x.six {
			open = "ipv6 access-list " + name
		}
		forth = append(forth, open)
		for _, l := range x.lines {
			forth = append(forth, " "+l)
		}
		forth = append(forth, "class-map type inspect match-all "+name, " match protocol "+x.protocol, " match access-group name "+name,
			"policy-map type inspect "+x.pair.policy, " class type inspect "+name, "  inspect")
		back = append(back, "policy-map type inspect "+x.pair.policy, " no class type inspect "+name, "no class-map type inspect match-all "+name, "no "+open)
	}
	return forth, back
}

type changed struct {
	remove map[int]bool
	add    map[int][]string
}

func of(changes map[*list]*changed, a *list, order *[]*list) *changed {
	c := changes[a]
	if c == nil {
		c = &changed{map[int]bool{}, map[int][]string{}}
		changes[a] = c
		*order = append(*order, a)
	}
	return c
}

func (r *reader) place(chain, at int) place {
	if at < len(r.of[chain]) {
		return r.of[chain][at]
	}
	return place{}
}

// placeFor returns where a rule is added: at the rule that is meant, or, between zones, at the end of the last list before it whose class takes such packets.
func (r *reader) placeFor(c firewall.Chain, e entry.Edit, x entry.Entry) (place, bool) {
	if p := r.place(e.Chain, e.At); p.list != nil && (c.Name != zonesName || p.list.six == (x.Family == box.IPv6) && touches(c.Rules[e.At], x)) {
		if c.Name == zonesName {
			p.at = r.before(p.list, x, p.at)
		}
		return p, true
	}
	for i := min(e.At, len(c.Rules)) - 1; i >= 0; i-- {
		p := r.place(e.Chain, i)
		if p.list != nil && p.list.six == (x.Family == box.IPv6) && touches(c.Rules[i], x) {
			return place{p.list, r.before(p.list, x, p.at+1)}, true
		}
	}
	return place{}, false
}

// before returns the first line of a list that denies any of what comes, or else where it was to come.
func (r *reader) before(a *list, x entry.Entry, at int) int {
	x.In, x.Out = nil, nil
	for i, c := range a.aces {
		u, s, ok := r.line(a, c)
		if !ok || u.Accept || i >= at {
			continue
		}
		l, err := entry.Compile(op, entry.Cross(box.Forward, nil, nil, s.services, s.from, s.to), r.real)
		if err != nil {
			continue
		}
		if _, ok := x.Within(l); ok {
			return i
		}
	}
	return at
}

// touches reports whether a rule is about packets between the same zones of the same protocol.
func touches(u firewall.Rule, x entry.Entry) bool {
	for _, d := range []*[]box.Span{&x.From, &x.To, &x.FromPorts, &x.ToPorts} {
		*d = nil
	}
	_, ok := x.Within(u.Boxes)
	return ok && u.Accept
}

// commands writes the changes of one list: what comes, and then what goes, so that a list never is empty, which would let everything through.
func (c *changed) commands(a *list) (forth, back []string, err error) {
	open, prefix := "ip access-list extended "+a.name, ""
	switch {
	case a.six:
		open, prefix = "ipv6 access-list "+a.name, "sequence "
	case a.standard:
		open = "ip access-list standard " + a.name
	}
	numbers := make([]int, len(a.aces)+1)
	for i, x := range a.aces {
		numbers[i] = x.seq
	}
	last := 0
	if len(a.aces) > 0 {
		last = a.aces[len(a.aces)-1].seq
	}
	room := func() bool {
		for at, lines := range c.add {
			before := 0
			if at > 0 {
				before = numbers[at-1]
			}
			if at < len(a.aces) && numbers[at]-before-1 < len(lines) {
				return false
			}
		}
		return true
	}
	if !room() {
		if a.six {
			return nil, nil, entry.Impossible("iosacl.edit", "the lines of the IPv6 list %.60s leave no numbers for others between them", a.name)
		}
		for i := range a.aces {
			numbers[i] = 1000 * (i + 1)
		}
		if last = 1000 * len(a.aces); !room() {
			return nil, nil, entry.Impossible("iosacl.edit", "more than a thousand lines come to one place of %.60s", a.name)
		}
		forth = append(forth, "ip access-list resequence "+a.name+" 1000 1000")
	}
	forth, back = append(forth, open), append(back, open)
	left := len(a.aces)
	var gone []string
	for at := 0; at <= len(a.aces); at++ {
		lines := c.add[at]
		n, step := last+10, 10
		if at < len(a.aces) {
			before := 0
			if at > 0 {
				before = numbers[at-1]
			}
			step = max(1, (numbers[at]-before)/(len(lines)+1))
			n = before + step
		}
		for _, l := range lines {
			forth, back = append(forth, fmt.Sprintf(" %s%d %s", prefix, n, l)), append(back, fmt.Sprintf(" no %s%d", prefix, n))
			n += step
			left++
		}
		if at < len(a.aces) && c.remove[at] {
			gone = append(gone, fmt.Sprintf(" no %s%d", prefix, numbers[at]))
			back = slices.Insert(back, 1, fmt.Sprintf(" %s%d %s", prefix, numbers[at], a.aces[at].text))
			left--
		}
	}
	if left == 0 {
		whole := map[bool]string{false: "ip", true: "ipv6"}[a.six]
		forth, back = append(forth, fmt.Sprintf(" %s%d deny %s any any", prefix, last+10, whole)), append(back, fmt.Sprintf(" no %s%d", prefix, last+10))
	}
	return append(forth, gone...), back, nil
}
