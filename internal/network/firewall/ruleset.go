package firewall

import (
	"ringfence/internal/network/box"
)

// Rule accepts or drops sets of packets.
type Rule struct {
	Name    string // where it stands, as the firewall itself would say it
	Comment string
	Line    int  // of the text it was read from, or 0
	Fixed   bool // the device does that by itself: no line says it
	Accept  bool
	Boxes   box.List // only packets that there are
}

// Chain is what decides at one place. What it accepts, another chain at the same place may still drop.
type Chain struct {
	Name   string
	Scope  box.List // the packets that come by; others it lets alone
	Rules  []Rule   // the first that has a packet decides
	Accept bool     // what happens to a packet that no rule has
	Fixed  bool     // it says what the device does by itself: no rule can be added
}

// Unknown is something that was not understood. A proof about packets that it may be about is not worth anything.
type Unknown struct {
	Where string `json:"where"`
	What  string `json:"what"`
	Hooks uint8  `json:"-"` // where it is, as a sum of 1<<hook; 0 is everywhere
}

// Hooks returns the hooks of packets as a sum of 1<<hook.
func Hooks(l box.List) (sum uint8) {
	for _, b := range l {
		for h := box.Forward; h <= box.Output; h++ {
			if b[box.Hook].Has(box.N(h)) {
				sum |= 1 << h
			}
		}
	}
	return sum
}

// Ruleset is a whole firewall.
type Ruleset struct {
	Chains  []Chain // as the first packet of a connection sees them
	Later   []Chain // as a packet of a connection that is up sees them
	Unknown []Unknown
}

// Accepted returns the packets that a chain lets through.
func (c *Chain) Accepted() (out box.List, err error) {
	var drops box.List
	for _, r := range c.Rules {
		if !r.Accept {
			drops = append(drops, r.Boxes...)
		}
	}
	ix, before := box.NewIndex(drops), 0
	for _, r := range c.Rules {
		if !r.Accept {
			before += len(r.Boxes)
			continue
		}
		for _, b := range r.Boxes {
			rest, err := ix.Rest(b, before)
			if err != nil {
				return nil, err
			}
			out = append(out, rest...)
		}
	}
	if c.Accept {
		rest, err := c.Scope.Subtract(drops)
		if err != nil {
			return nil, err
		}
		out = append(out, rest...)
	}
	return out, nil
}

// Decide returns the rule that decides about a packet, or nil if it is the policy of the chain.
func (c *Chain) Decide(p box.Packet) (*Rule, bool) {
	for i := range c.Rules {
		if c.Rules[i].Boxes.Has(p) {
			return &c.Rules[i], c.Rules[i].Accept
		}
	}
	return nil, c.Accept
}

// Accepted returns the packets that get through all chains of their way.
func Accepted(chains []Chain) (out box.List, err error) {
	accepted := make([]box.List, len(chains))
	for i := range chains {
		if accepted[i], err = chains[i].Accepted(); err != nil {
			return nil, err
		}
	}
	for _, part := range parts() {
		left := part
		for i, c := range chains {
			scope, err := part.Intersect(c.Scope)
			if err != nil {
				return nil, err
			}
			if len(scope) == 0 {
				continue
			}
			alone, err := left.Subtract(scope)
			if err != nil {
				return nil, err
			}
			if left, err = left.Intersect(accepted[i]); err != nil {
				return nil, err
			}
			left = append(left, alone...)
		}
		out = append(out, left...)
	}
	return out, nil
}

// parts returns all packets by hook and family.
func parts() (out []box.List) {
	at := map[[2]box.Span]int{}
	for _, b := range box.Real() {
		key := [2]box.Span{b[box.Hook], b[box.Family]}
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], b)
	}
	return out
}
