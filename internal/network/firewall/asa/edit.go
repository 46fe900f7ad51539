package asa

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
)

// Edit writes the commands that make changes of a configuration, and those that take them back.
func Edit(b []byte, n *box.Interfaces, edits []entry.Edit) (entry.Patch, error) {
	const op = "asa.edit"
	r, err := read(b, n)
	if err != nil {
		return entry.Patch{}, err
	}
	if _, err := r.ruleset(); err != nil {
		return entry.Patch{}, err
	}
	w := &writer{groups: map[string]string{}, taken: map[string]bool{}, there: r.networks, has: func(name string) bool { return r.networks.Has(name) || r.services.Has(name) }}
	type change struct {
		remove bool
		add    []string
	}
	changes := map[*list]map[int]*change{}
	var order []*list
	inspect, hairpin := false, false
	for _, e := range edits {
		if e.Chain == entry.State {
			inspect = true
			continue
		}
		if e.Chain < 0 || e.Chain >= len(r.of) || e.At >= len(r.of[e.Chain]) || r.of[e.Chain][e.At].list == nil {
			return entry.Patch{}, entry.Impossible(op, "what interfaces let through by themselves is no rule; bind an access list to them")
		}
		p := r.of[e.Chain][e.At]
		if changes[p.list] == nil {
			changes[p.list] = map[int]*change{}
			order = append(order, p.list)
		}
		c := changes[p.list][p.at]
		if c == nil {
			c = &change{}
			changes[p.list][p.at] = c
		}
		c.remove = c.remove || e.Remove
		for _, a := range e.Add {
			if in := entry.Face(n, a.Entry.In); in != "" && in == entry.Face(n, a.Entry.Out) && a.Accept {
				hairpin = true
			}
			for _, l := range w.aces(a.Entry, a.Accept) {
				if !slices.Contains(c.add, l) {
					c.add = append(c.add, l)
				}
			}
		}
	}
	var forth, back []string
	for _, a := range order {
		there := map[string]bool{}
		for _, x := range a.aces {
			there[x.text] = true
		}
		come := make([]int, len(a.aces)+1) // how many lines come before a line
		n := 0
		var lines [][2]string // a command, and the one that takes it back
		for at := range come {
			c := changes[a][at]
			if c != nil {
				c.add = slices.DeleteFunc(c.add, func(l string) bool { return there[l] }) // the device takes no line twice
				for _, l := range c.add {
					there[l] = true
				}
				n += len(c.add)
			}
			come[at] = n
		}
		left := len(a.aces) + n
		for at := len(a.aces); at >= 0; at-- { // from the end, so that numbers stay true
			if c := changes[a][at]; c != nil {
				for _, l := range slices.Backward(c.add) {
					lines = append(lines, [2]string{fmt.Sprintf("access-list %s line %d %s", a.name, at+1, l), fmt.Sprintf("no access-list %s %s", a.name, l)})
				}
			}
		}
		for i := len(a.aces) - 1; i >= 0; i-- {
			if c := changes[a][i]; c == nil || !c.remove {
				continue
			}
			if left == 1 { // a list without lines is none
				lines = append(lines, [2]string{fmt.Sprintf("access-list %s line 2 extended deny ip any any", a.name), fmt.Sprintf("no access-list %s extended deny ip any any", a.name)})
			}
			left--
			text := a.aces[i].text
			lines = append(lines, [2]string{fmt.Sprintf("no access-list %s %s", a.name, text), fmt.Sprintf("access-list %s line %d %s", a.name, i+come[i]+1, text)})
		}
		for _, l := range lines {
			forth, back = append(forth, l[0]), append(back, l[1])
		}
	}
	slices.Reverse(back)
	for _, l := range w.define {
		if strings.HasPrefix(l, "object-group") {
			back = append(back, "no "+strings.Join(strings.Fields(l)[:3], " "))
		}
	}
	if hairpin && !r.intra { // or no list is asked
		forth = append(forth, "same-security-traffic permit intra-interface")
		back = append(back, "no same-security-traffic permit intra-interface")
	}
	if inspect {
		forth = append(forth, "policy-map global_policy", " class inspection_default", "  inspect icmp")
		back = append(back, "policy-map global_policy", " class inspection_default", "  no inspect icmp")
	}
	diff := strings.Join(append(w.define, forth...), "\n") + "\n"
	return entry.Patch{Diff: diff, Back: strings.Join(back, "\n") + "\n", Text: append(append(slices.Clone(b), '\n'), diff...)}, nil
}
