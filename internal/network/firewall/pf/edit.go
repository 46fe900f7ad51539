package pf

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
)

// Edit writes a unified diff that makes changes of a file, and the one that takes them back. Since the last rule that matches decides unless one is quick, what comes before a rule in the order of deciding stands behind it in the file, if it is not quick.
func Edit(b []byte, n *box.Interfaces, edits []entry.Edit) (entry.Patch, error) {
	const op = "pf.edit"
	r, err := read(b, n)
	if err != nil {
		return entry.Patch{}, err
	}
	if _, err := r.ruleset(); err != nil {
		return entry.Patch{}, err
	}
	f := entry.NewFile(b)
	w := &writer{tables: map[string]string{}, taken: map[string]bool{}}
	for name := range r.tables {
		w.taken[name] = true
	}
	type change struct {
		remove        bool
		before, after []string
	}
	changes := map[int]*change{}
	at := func(i int) *change {
		if changes[i] == nil {
			changes[i] = &change{}
		}
		return changes[i]
	}
	var first []string // that decide last
	for _, e := range edits {
		if e.Chain < 0 || e.Chain > 1 {
			return entry.Patch{}, entry.Impossible(op, "the change is of no rule")
		}
		i := e.At // nothing comes before `set skip`
		for i < len(r.of[e.Chain]) && r.of[e.Chain][i] < 0 && !e.Remove {
			i++
		}
		target := -1
		if i < len(r.of[e.Chain]) {
			if target = r.of[e.Chain][i]; target < 0 {
				return entry.Patch{}, entry.Impossible(op, "`set skip` lets through by itself, and is no rule")
			}
		}
		if e.Remove {
			at(target).remove = true
		}
		for _, a := range e.Add {
			head := map[bool]string{true: "pass ", false: "block "}[a.Accept] + []string{"in", "out"}[e.Chain]
			quick := target >= 0 && r.rules[target].quick
			if quick {
				head += " quick"
			}
			face := entry.Face(n, []([]box.Span){a.Entry.In, a.Entry.Out}[e.Chain])
			line := w.match(head, face, a.Entry)
			if a.Row != "" {
				line += fmt.Sprintf(" label %q", a.Row)
			}
			switch {
			case target < 0:
				first = append(first, line)
			case quick:
				at(target).before = append(at(target).before, line)
			default:
				at(target).after = append(at(target).after, line)
			}
		}
	}
	top := len(strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")) + 1
	if len(r.rules) > 0 {
		top = r.rules[0].first
	}
	slices.Reverse(first) // the last decides
	if lines := append(slices.Clone(w.define), first...); len(lines) > 0 {
		f.Replace(top, top-1, lines...)
	}
	for i, c := range changes {
		u := r.rules[i]
		slices.Reverse(c.after)
		switch {
		case c.remove:
			f.Replace(u.first, u.last, append(slices.Clone(c.before), c.after...)...)
		default:
			if len(c.before) > 0 {
				f.Replace(u.first, u.first-1, c.before...)
			}
			if len(c.after) > 0 {
				f.Replace(u.last+1, u.last, c.after...)
			}
		}
	}
	return f.Patch("pf.conf"), nil
}
