package panos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
)

// Edit writes the commands that make changes of a configuration, and those that take them back.
func Edit(b []byte, n *box.Interfaces, edits []entry.Edit) (entry.Patch, error) {
	const op = "panos.edit"
	r, err := read(b, n)
	if err != nil {
		return entry.Patch{}, err
	}
	if _, err := r.ruleset(); err != nil {
		return entry.Patch{}, err
	}
	w := &writer{known: map[string]string{}, taken: map[string]bool{}, there: r.addresses, has: func(name string) bool {
		return r.byName[name] != nil || r.addresses.Has(name) || r.services.Has(name)
	}}
	if r.whole != "" {
		w.prefix = r.whole + " "
		w.rulebase = w.prefix + "rulebase"
	}
	if len(r.rules) > 0 { // beside those that there are
		w.rulebase = r.rules[0].prefix
	}
	six := false
	type removal struct{ u *rule }
	var forth, back []string
	var gone []removal
	for _, e := range edits {
		if e.Chain != 0 || e.At < 0 {
			return entry.Patch{}, entry.Impossible(op, "the change is of no rule")
		}
		var target *rule // before which the others come; nil is the end
		if e.At < len(r.of) {
			target = r.of[e.At]
		}
		if i := slices.IndexFunc(r.of, func(u *rule) bool { return u != nil }); target == nil && i > e.At && len(e.Add) > 0 { // before all rules
			target = r.of[i]
		}
		for _, a := range e.Add {
			if target != nil {
				w.rulebase = target.prefix
			}
			name := w.name(a.Row)
			text, ok := w.rule(name, a.Row, entry.Face(n, a.Entry.In), entry.Face(n, a.Entry.Out), a.Entry, a.Accept)
			if !ok {
				return entry.Patch{}, entry.Impossible(op, "%s needs messages of ICMP that are no application", a.Row)
			}
			forth = append(forth, text)
			six = six || a.Entry.Family == box.IPv6 && a.Accept
			back = append(back, fmt.Sprintf("delete %s security rules %s", w.base(), name))
			if target != nil {
				forth = append(forth, fmt.Sprintf("move %s security rules %s before %s", w.base(), name, quote(target.name)))
			}
		}
		if e.Remove {
			if target == nil {
				return entry.Patch{}, entry.Impossible(op, "what the device does by itself is no rule")
			}
			gone = append(gone, removal{target})
		}
	}
	slices.SortStableFunc(gone, func(a, b removal) int { return slices.Index(r.rules, b.u) - slices.Index(r.rules, a.u) })
	for _, g := range gone { // from the last, so that each finds its place again before the one behind it
		forth = append(forth, fmt.Sprintf("delete %s security rules %s", g.u.prefix, quote(g.u.name)))
		back = append(back, g.u.commands...)
		if at := slices.Index(r.rules, g.u); at+1 < len(r.rules) && r.rules[at+1].prefix == g.u.prefix {
			back = append(back, fmt.Sprintf("move %s security rules %s before %s", g.u.prefix, quote(g.u.name), quote(r.rules[at+1].name)))
		} else {
			back = append(back, fmt.Sprintf("move %s security rules %s bottom", g.u.prefix, quote(g.u.name)))
		}
	}
	if six && r.six != "yes" { // or it looks at none of that family
		const key = "deviceconfig setting session ipv6-firewalling"
		forth = append(forth, "set "+key+" yes")
		if r.six == "" {
			back = append(back, "delete "+key)
		} else {
			back = append(back, "set "+key+" "+r.six)
		}
	}
	for _, l := range slices.Backward(w.define) {
		words := strings.Fields(l)
		i := slices.IndexFunc(words, func(s string) bool { return s == "address" || s == "address-group" || s == "service" })
		back = append(back, "delete "+strings.Join(words[1:i+2], " "))
	}
	diff := strings.Join(append(w.define, forth...), "\n") + "\n"
	return entry.Patch{Diff: diff, Back: strings.Join(back, "\n") + "\n", Text: append(append(slices.Clone(b), '\n'), diff...)}, nil
}

// quote writes a name as the device wants it.
func quote(name string) string {
	if strings.ContainsAny(name, " \t") {
		return strconv.Quote(name)
	}
	return name
}
