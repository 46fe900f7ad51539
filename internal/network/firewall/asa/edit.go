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
	inspect := false
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
			for _, l := range w.aces(a.Entry, a.Accept) {
				if !slices.Contains(c.add, l) {
					c.add = append(c.add, l)
				}
			}
		}
	}
	var forth, back []string
	for _, a := range order {
		var texts []string // of the list, as it becomes
		for _, x := range a.aces {
			texts = append(texts, x.text)
		}
		run := func(at int, text string, remove bool) {
			add, gone := fmt.Sprintf("access-list %s line %d %s", a.name, at+1, text), fmt.Sprintf("no access-list %s %s", a.name, text)
			if remove {
				texts = slices.Delete(texts, at, at+1)
				add, gone = gone, add
			} else {
				texts = slices.Insert(texts, at, text)
			}
			forth, back = append(forth, add), append(back, gone)
		}
		for at := len(a.aces); at >= 0; at-- { // from the end, so that numbers stay true
			c := changes[a][at]
			if c == nil {
				continue
			}
			for _, l := range slices.Backward(c.add) {
				if !slices.Contains(texts, l) { // the device takes no line twice
					run(at, l, false)
				}
			}
		}
		for i := len(a.aces) - 1; i >= 0; i-- {
			if c := changes[a][i]; c == nil || !c.remove {
				continue
			}
			if len(texts) == 1 { // a list without lines is none
				run(1, "extended deny ip any any", false)
			}
			run(slices.Index(texts, a.aces[i].text), a.aces[i].text, true)
		}
	}
	slices.Reverse(back)
	for _, l := range w.define {
		if strings.HasPrefix(l, "object-group") {
			back = append(back, "no "+strings.Join(strings.Fields(l)[:3], " "))
		}
	}
	if inspect {
		forth = append(forth, "policy-map global_policy", " class inspection_default", "  inspect icmp")
		back = append(back, "policy-map global_policy", " class inspection_default", "  no inspect icmp")
	}
	diff := strings.Join(append(w.define, forth...), "\n") + "\n"
	return entry.Patch{Diff: diff, Back: strings.Join(back, "\n") + "\n", Text: append(append(slices.Clone(b), '\n'), diff...)}, nil
}
