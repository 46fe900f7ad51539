package audit

import (
	"fmt"
	"slices"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/network/site"
)

// plan works out which rules go and which come.
//
// A rule that lets through anything that nobody needs goes as a whole, and what rows need of what it let through comes in its place: so what is left is never wider than the needs, whatever the rules were. Where several chains
// judge the same packets, the one changes that takes the fewest rules.
type plan struct {
	policy    *site.Policy
	rules     *firewall.Ruleset
	needs     box.List
	over      box.List // gets through and is not needed
	wideBoxes []box.List
	edits     []entry.Edit
}

// effective returns what a rule decides: its packets without those that earlier rules drop. A rule that accepts the same does not count, since it would go as well.
func effective(c *firewall.Chain) ([]box.List, error) {
	var drops box.List
	for _, u := range c.Rules {
		if !u.Accept {
			drops = append(drops, u.Boxes...)
		}
	}
	ix, before := box.NewIndex(drops), 0
	out := make([]box.List, len(c.Rules))
	for i, u := range c.Rules {
		if !u.Accept {
			before += len(u.Boxes)
			continue
		}
		for _, b := range u.Boxes {
			rest, err := ix.Rest(b, before)
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], rest...)
		}
	}
	return out, nil
}

// excess finds what gets through and is not needed.
func (pl *plan) excess() (err error) {
	if pl.needs, err = pl.policy.Boxes().Intersect(box.Real()); err != nil {
		return err
	}
	pl.over, err = pl.overOf(pl.rules.Chains)
	return err
}

// overOf returns what chains let through and nobody needs.
func (pl *plan) overOf(chains []firewall.Chain) (box.List, error) {
	accepted, err := firewall.Accepted(chains)
	if err != nil {
		return nil, err
	}
	var judged box.List
	for _, b := range box.Real() {
		if (b[box.Hook] == box.One(box.Forward)) != pl.policy.Host {
			judged = append(judged, b)
		}
	}
	if accepted, err = accepted.Intersect(judged); err != nil {
		return nil, err
	}
	return accepted.Subtract(pl.needs)
}

// wide returns the rules that let excess through, of each packet that of the first chain that has one.
func (pl *plan) wide() ([]WideRule, error) {
	out := []WideRule{}
	left := pl.over
	for i := range pl.rules.Chains {
		c := &pl.rules.Chains[i]
		eff, err := effective(c)
		if err != nil {
			return nil, err
		}
		var told box.List
		for j, u := range c.Rules {
			if !u.Accept || u.Fixed {
				continue
			}
			here, err := eff[j].Intersect(left)
			if err != nil {
				return nil, err
			}
			if len(here) == 0 {
				continue
			}
			out = append(out, WideRule{Rule: u.Name, Packets: here[0].Describe(pl.policy.Interfaces), Example: here[0].Packet().Describe(pl.policy.Interfaces), Count: len(here), Stale: []Stale{}})
			pl.wideBoxes, told = append(pl.wideBoxes, here), append(told, here...)
		}
		if left, err = left.Subtract(told); err != nil {
			return nil, err
		}
	}
	if len(left) > 0 { // by the policies of chains, or by no chain
		out = append(out, WideRule{Rule: "no rule", Packets: left[0].Describe(pl.policy.Interfaces), Example: left[0].Packet().Describe(pl.policy.Interfaces), Count: len(left), Stale: []Stale{}})
		pl.wideBoxes = append(pl.wideBoxes, left)
	}
	return out, nil
}

// candidate is a chain in which excess can be ended.
type candidate struct {
	chain int
	rules []int    // that go
	ends  box.List // what of the excess they let through
	cost  int
}

// make works out the edits.
func (pl *plan) make() error {
	gone := map[int]map[int]bool{}
	denied := map[int]int{} // by chain: before which rule everything is dropped
	for range maxRounds {
		chains := changed(pl.rules.Chains, gone, denied)
		left, err := pl.overOf(chains)
		if err != nil {
			return err
		}
		progress, err := pl.cut(chains, left, gone)
		if err != nil {
			return err
		}
		if progress {
			continue
		}
		if progress, err = deny(chains, left, denied); err != nil {
			return err
		}
		if !progress {
			break
		}
	}
	chains := changed(pl.rules.Chains, gone, denied)
	for i := range chains {
		if chains[i].Fixed {
			continue
		}
		if err := pl.fill(i, &chains[i], gone[i], denied); err != nil {
			return err
		}
	}
	return nil
}

// cut takes rules away until none is left that lets through excess, and says whether it took any.
func (pl *plan) cut(chains []firewall.Chain, left box.List, gone map[int]map[int]bool) (progress bool, err error) {
	for len(left) > 0 {
		var best *candidate
		for i := range chains {
			c, err := pl.candidate(i, &chains[i], left)
			if err != nil {
				return false, err
			}
			if c != nil && (best == nil || c.cost*len(best.ends) < best.cost*len(c.ends)) {
				best = c
			}
		}
		if best == nil {
			return progress, nil
		}
		progress = true
		if gone[best.chain] == nil {
			gone[best.chain] = map[int]bool{}
		}
		for _, j := range best.rules {
			gone[best.chain][j] = true
		}
		if left, err = left.Subtract(best.ends); err != nil {
			return false, err
		}
	}
	return progress, nil
}

// deny ends chains that let excess through at their end, or by what the device does there by itself, and says whether it ended any. It ends all of them, since a chain for packets that come in may not know where they leave.
func deny(chains []firewall.Chain, left box.List, denied map[int]int) (progress bool, err error) {
	for i := range chains {
		c := &chains[i]
		if _, done := denied[i]; c.Fixed || done {
			continue
		}
		var ruled box.List
		for _, u := range c.Rules {
			if !u.Fixed || !u.Accept {
				ruled = append(ruled, u.Boxes...)
			}
		}
		here, err := left.Intersect(c.Scope)
		if err != nil {
			return false, err
		}
		if here, err = here.Subtract(ruled); err != nil {
			return false, err
		}
		if len(here) == 0 {
			continue
		}
		at := len(c.Rules)
		for at > 0 && c.Rules[at-1].Fixed && c.Rules[at-1].Accept {
			at--
		}
		denied[i], progress = at, true
	}
	return progress, nil
}

// candidate returns how excess can be ended in a chain by taking away rules, or nil.
func (pl *plan) candidate(i int, c *firewall.Chain, left box.List) (*candidate, error) {
	if c.Fixed {
		return nil, nil
	}
	eff, err := effective(c)
	if err != nil {
		return nil, err
	}
	out := &candidate{chain: i}
	var others, touched box.List
	if c.Accept { // what no rule drops passes anyway
		var drops box.List
		for _, u := range c.Rules {
			if !u.Accept {
				drops = append(drops, u.Boxes...)
			}
		}
		if others, err = left.Intersect(c.Scope); err != nil {
			return nil, err
		}
		if others, err = others.Subtract(drops); err != nil {
			return nil, err
		}
	}
	for j, u := range c.Rules {
		if !u.Accept {
			continue
		}
		here, err := eff[j].Intersect(left)
		if err != nil {
			return nil, err
		}
		if len(here) == 0 {
			continue
		}
		if u.Fixed {
			others = append(others, here...)
			continue
		}
		out.rules, out.ends, touched = append(out.rules, j), append(out.ends, here...), append(touched, eff[j]...)
	}
	if out.ends, err = out.ends.Subtract(others); err != nil || len(out.ends) == 0 {
		return nil, err
	}
	out.cost = len(out.rules)
	for _, row := range pl.policy.Rows {
		for _, e := range entry.Of(row, pl.policy.Interfaces) {
			if _, ok := e.Within(touched); ok {
				out.cost++
			}
		}
	}
	return out, nil
}

// changed returns the chains without the rules that go, and with the end that drops everything. A rule that goes stays in its place, without packets.
func changed(chains []firewall.Chain, gone map[int]map[int]bool, denied map[int]int) []firewall.Chain {
	out := slices.Clone(chains)
	for i := range out {
		out[i].Rules = slices.Clone(out[i].Rules)
		for j := range out[i].Rules {
			if gone[i][j] {
				out[i].Rules[j].Boxes = nil
			}
		}
		if at, ok := denied[i]; ok {
			out[i].Rules, out[i].Accept = out[i].Rules[:at], false
		}
	}
	return out
}

// fill adds what rows need and a chain does not let through any more, or never did, and makes the edits of the chain.
func (pl *plan) fill(i int, c *firewall.Chain, gone map[int]bool, denied map[int]int) error {
	accepted, err := c.Accepted()
	if err != nil {
		return err
	}
	judged, err := pl.needs.Intersect(c.Scope)
	if err != nil {
		return err
	}
	missing, err := judged.Subtract(accepted)
	if err != nil {
		return err
	}
	edits := map[int]*entry.Edit{}
	at := func(j int) *entry.Edit {
		if edits[j] == nil {
			edits[j] = &entry.Edit{Chain: i, At: j}
		}
		return edits[j]
	}
	for j := range gone {
		at(j).Remove = true
	}
	end, deny := len(pl.rules.Chains[i].Rules), false
	if j, ok := denied[i]; ok {
		end, deny = j, true
	}
	ix := box.NewIndex(missing)
	for _, row := range pl.policy.Rows {
		for _, e := range entry.Of(row, pl.policy.Interfaces) {
			need, err := entry.Compile("audit.fill", []entry.Entry{e}, box.Real())
			if err != nil {
				return err
			}
			var here box.List
			for _, b := range need {
				ix.Overlapping(b, func(k int) bool {
					if m, ok := b.Intersect(missing[k]); ok {
						here = append(here, m)
					}
					return true
				})
			}
			if len(here) == 0 {
				continue
			}
			part, ok := e.Within(here)
			if !ok {
				continue
			}
			x := at(pl.place(i, here, gone, end))
			x.Add = append(x.Add, entry.Added{Row: row.ID, Entry: part, Accept: true})
		}
	}
	if deny {
		x := at(end)
		for _, family := range []uint8{box.IPv4, box.IPv6} {
			e := entry.Entry{Hook: box.Forward, Family: family}
			x.Add = append(x.Add, entry.Added{Entry: e})
		}
	}
	var order []int
	for j := range edits {
		order = append(order, j)
	}
	slices.Sort(order)
	for _, j := range order {
		pl.edits = append(pl.edits, *edits[j])
	}
	return nil
}

// place returns before which rule something comes: before the first that would drop it, and where a rule went that let it through.
func (pl *plan) place(i int, here box.List, gone map[int]bool, end int) int {
	for j, u := range pl.rules.Chains[i].Rules[:end] {
		if u.Accept && !gone[j] {
			continue
		}
		if overlap(u.Boxes, here) {
			return j
		}
	}
	return end
}

func overlap(a, b box.List) bool {
	ix := box.NewIndex(a)
	found := false
	for _, x := range b {
		ix.Overlapping(x, func(int) bool { found = true; return false })
		if found {
			return true
		}
	}
	return false
}

// changes words the edits.
func (pl *plan) changes() (out []Change) {
	for _, e := range pl.edits {
		if e.Chain == entry.State {
			out = append(out, Change{Kind: "state", Place: "what comes back on connections"})
			continue
		}
		c := &pl.rules.Chains[e.Chain]
		ch := Change{Kind: "add", Place: "the end of " + c.Name}
		if e.At < len(c.Rules) {
			ch.Place = c.Rules[e.At].Name
		}
		denies := false
		for _, a := range e.Add {
			if denies = denies || !a.Accept; a.Row != "" && !slices.Contains(ch.Rows, a.Row) {
				ch.Rows = append(ch.Rows, a.Row)
			}
			l, ok := a.Entry.Boxes(box.Real())
			if ok && len(l) > 0 && a.Accept {
				more := ""
				if len(l) > 1 {
					more = fmt.Sprintf(", and %d more like it", len(l)-1)
				}
				ch.Rules = append(ch.Rules, l[0].Describe(pl.policy.Interfaces)+more)
			}
		}
		switch {
		case e.Remove && len(e.Add) > 0:
			ch.Kind = "narrow"
		case e.Remove:
			ch.Kind = "remove"
		case denies:
			ch.Kind = "deny"
		}
		out = append(out, ch)
	}
	return out
}
