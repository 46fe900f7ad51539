package audit

import (
	"errors"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
)

// Format reads a firewall, and edits it. Without Edit changes are not worked out.
type Format struct {
	Parse func([]byte, *box.Interfaces) (*firewall.Ruleset, error)
	Edit  func([]byte, *box.Interfaces, []entry.Edit) (entry.Patch, error)
}

// WideRule is a rule that lets through what nobody needs.
type WideRule struct {
	Rule    string  `json:"rule"`
	Packets string  `json:"packets"` // the first set of packets, in words
	Example string  `json:"example"` // one of them
	Count   int     `json:"count"`   // how many sets there are
	Stale   []Stale `json:"stale"`   // what of it was needed once
}

// Stale is a part of what is too wide that an earlier version of the set needed.
type Stale struct {
	Row     string `json:"row"`     // that needed it
	Until   string `json:"until"`   // the day of the change after which it does not
	Change  string `json:"change"`  // the id of that change,
	Subject string `json:"subject"` // and what it says
	Packets string `json:"packets"`
	Example string `json:"example"`
}

// Change is one change of the rules.
type Change struct {
	Kind  string   `json:"kind"`            // add, remove, narrow, deny, or state
	Place string   `json:"place"`           // the rule that goes, or before which others come, or the end of a chain
	Rows  []string `json:"rows,omitempty"`  // what comes is for these
	Rules []string `json:"rules,omitempty"` // what comes, in words
}

// Report is what an audit found.
type Report struct {
	Set     string        `json:"set"`
	Version string        `json:"version,omitempty"`
	Format  string        `json:"format"`
	Verdict prove.Verdict `json:"verdict"`
	Missing int           `json:"missing_count"`
	// WideCount is how many rules let through what nobody needs; Wide has the first thousand.
	WideCount int        `json:"wide_count"`
	Wide      []WideRule `json:"wide"`
	Changes   []Change   `json:"changes"`
	Diff      string     `json:"diff"` // what makes the changes, in the words of the firewall
	Back      string     `json:"back"` // what takes them back
	// After is the verdict on the firewall with the changes; "" if there are none. Left says why there are none, or not enough.
	After prove.Verdict `json:"after,omitempty"`
	Left  string        `json:"left,omitempty"`
	Proof *prove.Result `json:"proof"`
}

// maxRounds bounds how often changes are looked at again: a rule that comes may let through more than is needed where a chain cannot say which interfaces are meant.
const maxRounds = 4

// Audit looks at a firewall. The set is for its history; without one, nothing is stale.
func Audit(f Format, text []byte, p *site.Policy, set *need.Set, s *site.Site) (*Report, error) {
	p.Boxes() // gives the interfaces of the policy their numbers
	rules, err := f.Parse(text, p.Interfaces)
	if err != nil {
		return nil, err
	}
	r := &Report{Set: p.Set, Wide: []WideRule{}, Changes: []Change{}}
	if set != nil {
		r.Version = set.Version()
	}
	if r.Proof, err = prove.Compare(p, rules); err != nil {
		return nil, err
	}
	r.Verdict, r.Missing = r.Proof.Verdict, r.Proof.MissingCount+r.Proof.LaterCount
	pl := &plan{policy: p, rules: rules}
	if err := pl.excess(); err != nil {
		return nil, err
	}
	if r.Wide, err = pl.wide(); err != nil {
		return nil, err
	}
	r.WideCount = pl.wideCount
	if set != nil {
		if err := pl.stale(r.Wide, set, s); err != nil {
			return nil, err
		}
	}
	switch r.Verdict {
	case prove.Exact:
		return r, nil
	case prove.Unknown:
		r.Left = "what was not understood may let through or drop anything, so no change can be proved"
		return r, nil
	}
	if f.Edit == nil {
		r.Left = "changes are not written in the words of this firewall: `ringfence network render` writes the rules anew"
		return r, nil
	}
	return r, r.change(f, text, pl)
}

// change works out the changes, and proves the firewall with them.
func (r *Report) change(f Format, text []byte, pl *plan) error {
	patch, proof, err := entry.Patch{}, (*prove.Result)(nil), pl.make()
	if err == nil {
		patch, proof, err = pl.try(f, text)
	}
	if err == nil && proof.LaterCount > 0 { // what comes back has to be let through as well
		without := pl.edits
		pl.edits = append(slices.Clone(without), entry.Edit{Chain: entry.State})
		whole, better, err := pl.try(f, text)
		switch reason := impossible(err); {
		case err == nil:
			patch, proof = whole, better
		case reason != "" && len(without) == 0:
			r.Left = reason
			return nil
		case reason != "":
			pl.edits, r.Left = without, reason
		default:
			return err
		}
	}
	if err != nil {
		if r.Left = impossible(err); r.Left != "" {
			return nil
		}
		return err
	}
	r.Changes, r.Diff, r.Back, r.After = pl.changes(), patch.Diff, patch.Back, proof.Verdict
	if proof.Verdict == prove.Exact {
		return nil
	}
	if r.Left != "" {
		r.Left = "; " + r.Left
	}
	r.Left = "the changes are not enough: audit the result again" + r.Left
	switch {
	case len(proof.Unknown) > 0:
		r.Left += "; not understood: " + proof.Unknown[0].Where + ": " + proof.Unknown[0].What
	case len(proof.Missing) > 0:
		r.Left += "; still missing: " + proof.Missing[0].Example
	case len(proof.Wide) > 0:
		r.Left += "; still too wide: " + proof.Wide[0].Example
	case len(proof.Later) > 0:
		r.Left += "; still missing when the connection is up: " + proof.Later[0].Example
	}
	return nil
}

// impossible returns why a format cannot say a change, or "" for another error.
func impossible(err error) string {
	if fault, ok := errors.AsType[*ringfence.Fault](err); ok && fault.Kind == ringfence.KindUnsupported {
		return fault.Text + "; " + fault.Hint
	}
	return ""
}

// try makes the changes, and proves what comes of them.
func (pl *plan) try(f Format, text []byte) (patch entry.Patch, proof *prove.Result, err error) {
	if patch, err = f.Edit(text, pl.policy.Interfaces, pl.edits); err != nil {
		return patch, nil, err
	}
	after, err := f.Parse(patch.Text, pl.policy.Interfaces)
	if err != nil {
		return patch, nil, err
	}
	proof, err = prove.Compare(pl.policy, after)
	return patch, proof, err
}

// stale finds what of the excess earlier versions of the set needed. What changed twice is told by the later change.
func (pl *plan) stale(wide []WideRule, set *need.Set, s *site.Site) error {
	var all box.List
	var of []int // the rules
	for j, l := range pl.wideBoxes {
		for _, b := range l {
			all, of = append(all, b), append(of, j)
		}
	}
	index := box.NewIndex(all)
	needs := pl.needs
	undone := 0
	for i, c := range set.Changes {
		if i > 0 && set.Changes[i-1].Date == c.Date {
			continue
		}
		day, err := time.Parse(time.DateOnly, c.Date)
		if err != nil {
			continue
		}
		past := catalogue.At(set, day.AddDate(0, 0, -1))
		if len(past.Undone) == undone {
			continue
		}
		undone = len(past.Undone)
		old := site.Resolve(past.Set, s)
		old.Interfaces = pl.policy.Interfaces
		for _, row := range old.Rows {
			boxes, err := row.Boxes(old.Interfaces).Intersect(box.Real())
			if err != nil {
				return err
			}
			if boxes, err = boxes.Subtract(needs); err != nil {
				return err
			}
			if len(boxes) == 0 {
				continue
			}
			first := map[int]box.Box{} // by rule
			for _, b := range boxes {
				index.Overlapping(b, func(i int) bool {
					if _, told := first[of[i]]; !told {
						first[of[i]], _ = b.Intersect(all[i])
					}
					return true
				})
			}
			for j, b := range first {
				if len(wide[j].Stale) < maxStale {
					change := changeOf(past.Undone, c.Date, b)
					wide[j].Stale = append(wide[j].Stale, Stale{Row: row.ID, Until: change.Date, Change: change.ID, Subject: change.Subject, Packets: b.Describe(pl.policy.Interfaces), Example: b.Packet().Describe(pl.policy.Interfaces)})
				}
			}
			needs = append(slices.Clone(needs), boxes...)
		}
	}
	return nil
}

// maxStale bounds how many stale parts of a rule are told.
const maxStale = 20

// changeOf returns which of the changes of a day took an address away.
func changeOf(undone []need.Change, date string, b box.Box) (out need.Change) {
	for _, c := range undone {
		if c.Date != date {
			continue
		}
		if out.ID == "" {
			out = c
		}
		for _, item := range append(slices.Clone(c.Items), c.Was) {
			s, _, err := entry.Network(item)
			if err == nil && (s.Has(b[box.From].First) || s.Has(b[box.To].First)) {
				return c
			}
		}
	}
	return out
}
