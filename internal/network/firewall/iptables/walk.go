package iptables

import (
	"fmt"
	"slices"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
)

// scope returns the packets that come by a chain that is built in.
func scope(family uint8, name string) (out box.List) {
	for _, h := range map[string][]uint8{"PREROUTING": {box.Forward, box.Input}, "INPUT": {box.Input}, "FORWARD": {box.Forward}, "OUTPUT": {box.Output}, "POSTROUTING": {box.Forward, box.Output}}[name] {
		b := box.Everything(family)
		b[box.Hook] = box.One(h)
		out = append(out, b)
	}
	return out
}

// table reads the chains of a table at which packets come by.
func (r *reader) table(t *table) error {
	for _, c := range t.order {
		where := fmt.Sprintf("%s %s %.60s", t.tool, t.name, c.name)
		s := scope(t.family, c.name)
		if len(s) == 0 || r.later && t.name == "nat" { // which sees first packets only
			continue
		}
		real, err := s.Intersect(r.real)
		if err != nil {
			return err
		}
		w := &walk{reader: r, table: t, to: &firewall.Chain{Name: where, Scope: real, Accept: c.policy != "DROP"}}
		if err := w.walk(c, real, 0); err != nil {
			return err
		}
		if len(w.to.Rules) == 0 && w.to.Accept {
			continue // it decides nothing
		}
		if r.later {
			r.out.Later = append(r.out.Later, *w.to)
		} else {
			r.out.Chains = append(r.out.Chains, *w.to)
		}
	}
	return nil
}

type walk struct {
	*reader
	table *table
	to    *firewall.Chain
}

// unknown notes what is not understood of the packets that come by.
func (w *walk) unknown(where, what string, args ...any) {
	w.note(firewall.Unknown{Where: where, What: fmt.Sprintf(what, args...), Hooks: firewall.Hooks(w.to.Scope)})
}

// walk reads the rules of a chain for the packets that come into it.
func (w *walk) walk(c *chain, come box.List, depth int) (err error) {
	if depth > maxDepth {
		return invalid(fmt.Sprintf("%s: chains jump to each other more than %d deep", w.to.Name, maxDepth), "")
	}
	for i := range c.rules {
		if w.visits++; w.visits > maxVisits || w.boxes > maxBoxes {
			return &ringfence.Fault{Op: "iptables.parse", Kind: ringfence.KindOverload, Text: "the ruleset is too large: its chains and sets multiply to too many rules", Hint: "prove fewer rules at a time"}
		}
		if len(come) == 0 {
			return nil
		}
		if come, err = w.rule(c, &c.rules[i], come, depth); err != nil {
			return err
		}
	}
	return nil
}

// targets that leave a packet where it is, and change nothing that is looked at.
func passing() []string {
	return []string{"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TRACE", "CLASSIFY", "DSCP", "TOS", "ECN", "TTL", "HL", "CHECKSUM", "AUDIT", "TCPMSS", "TEE", "SECMARK", "CONNSECMARK", "RATEEST", "IDLETIMER", "LED"}
}

// rule reads one rule for the packets that come to it, and returns those that go on in this chain. What was decided stays among them: the first decision counts.
func (w *walk) rule(c *chain, u *rule, come box.List, depth int) (box.List, error) {
	m := w.parse(u.words)
	where := fmt.Sprintf("%s %s %.60s rule %d", w.table.tool, w.table.name, c.name, u.number)
	if m.comment != "" {
		where += fmt.Sprintf(" (%.100s)", m.comment)
	}
	if m.target == "" || slices.Contains(passing(), m.target) {
		return come, nil // it only counts or marks
	}
	have, err := come.Intersect(m.cond)
	if err != nil || len(have) == 0 {
		return come, err
	}
	if m.strange != "" {
		w.unknown(where, "%s", m.strange)
		return come, nil
	}
	decide := func(accept bool) {
		if w.table.name == "nat" { // it changes addresses, and decides about nothing
			return
		}
		w.boxes += len(have)
		w.to.Rules = append(w.to.Rules, firewall.Rule{Name: where, Comment: m.comment, Accept: accept, Boxes: have})
	}
	switch m.target {
	case "ACCEPT":
		if decide(true); w.table.name == "nat" {
			return come.Subtract(have)
		}
	case "DROP", "REJECT":
		decide(false)
	case "RETURN":
		return come.Subtract(have)
	case "MASQUERADE", "SNAT", "NETMAP":
		if w.table.name != "nat" || c.name == "PREROUTING" || c.name == "OUTPUT" {
			w.unknown(where, "the target %.40s here", m.target)
		}
		return come.Subtract(have)
	case "SET":
		w.reader.unknown(where, "a rule that changes a set")
	case "CT":
		if !m.helper {
			w.unknown(where, "the target CT, which changes what conntrack thinks")
		}
	default:
		to := w.table.chains[m.target]
		if to == nil {
			w.unknown(where, "the target %.40q", m.target)
			return come, nil
		}
		if len(scope(w.table.family, to.name)) > 0 {
			return nil, invalid(where+" jumps to a chain that is built in", "")
		}
		if !m.final && w.idle(to) {
			return come, nil
		}
		if m.broadcast && w.accepts(to) {
			w.unknown(where, "a match of broadcasts, which depend on the addresses of the host")
		}
		if err := w.walk(to, have, depth+1); err != nil {
			return nil, err
		}
		if m.final {
			return come.Subtract(have)
		}
	}
	if m.broadcast && m.target == "ACCEPT" {
		w.unknown(where, "a match of broadcasts, which depend on the addresses of the host")
	}
	return come, nil
}

// idle reports whether a chain, and all that it jumps to, only logs and returns, however often: then nothing depends on what it matches.
func (w *walk) idle(c *chain) bool {
	return !w.does(c, "decides", func(m *meaning) bool { return m.target != "RETURN" || m.final })
}

// accepts reports whether a chain, or one that it jumps to, accepts anything.
func (w *walk) accepts(c *chain) bool {
	return w.does(c, "accepts", func(m *meaning) bool { return m.target == "ACCEPT" })
}

// does reports whether a chain, or one that it jumps to, has a rule that does something; each chain is looked at once.
func (w *walk) does(c *chain, what string, is func(*meaning) bool) bool {
	if known, ok := c.does[what]; ok {
		return known
	}
	if c.does == nil {
		c.does = map[string]bool{}
	}
	c.does[what] = true // a chain that comes back to itself may do anything
	c.does[what] = slices.ContainsFunc(c.rules, func(u rule) bool {
		m := w.parse(u.words)
		if m.target == "" || slices.Contains(passing(), m.target) {
			return false
		}
		to := w.table.chains[m.target]
		return is(m) && (to == nil || m.final) || to != nil && w.does(to, what, is)
	})
	return c.does[what]
}
