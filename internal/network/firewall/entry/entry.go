package entry

import (
	"fmt"
	"slices"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

// Entry is the match of one rule: a packet is in it if it is in each of the lists. Nil is everything.
type Entry struct {
	Hook      uint8 // as in [box.Hook]
	In, Out   []box.Span
	Family    uint8 // [box.IPv4] or [box.IPv6]
	Protocols []box.Span
	From, To  []box.Span
	FromPorts []box.Span // of protocols with ports; for ICMP, its types
	ToPorts   []box.Span // of protocols with ports; for ICMP, its codes
}

// MaxBoxes bounds into how many boxes one entry, and all entries of a text together, may multiply.
const MaxBoxes = 1 << 20

// TooMany is the fault of a text whose lists multiply to too much.
func TooMany(op string) error {
	return &ringfence.Fault{Op: op, Kind: ringfence.KindOverload, Text: "the rules are too many: their lists multiply to more than a million sets of packets", Hint: "prove a part of the rules at a time"}
}

func either(l []box.Span, all box.Span) []box.Span {
	if l == nil {
		return []box.Span{all}
	}
	return l
}

// lists returns the seven lists of an entry with nothing left out.
func (e Entry) lists() (dims [7]box.Dim, lists [7][]box.Span, base box.Box) {
	base = box.Everything(e.Family)
	base[box.Hook] = box.One(e.Hook)
	dims = [7]box.Dim{box.In, box.Out, box.Protocol, box.From, box.To, box.FromPort, box.ToPort}
	for i, l := range [7][]box.Span{e.In, e.Out, e.Protocols, e.From, e.To, e.FromPorts, e.ToPorts} {
		lists[i] = either(l, base[dims[i]])
	}
	return dims, lists, base
}

// Boxes returns the packets of an entry: of those that there can be, of which real has all.
func (e Entry) Boxes(real box.List) (out box.List, ok bool) {
	dims, lists, base := e.lists()
	n := 1
	for _, l := range lists {
		if n *= len(l); n > MaxBoxes {
			return nil, false
		}
	}
	if n == 0 {
		return nil, true
	}
	// What is real depends on hook and protocol alone, and bounds ports and interfaces.
	var parts box.List
	for _, p := range lists[2] {
		base[box.Protocol] = p
		for i := range real {
			if c, ok := base.Intersect(real[i]); ok {
				parts = append(parts, c)
			}
		}
	}
	out = make(box.List, 0, min(n*max(1, len(parts)/max(1, len(lists[2]))), 1<<12))
	var fill func(b box.Box, i int) bool
	fill = func(b box.Box, i int) bool {
		if i == len(dims) {
			out = append(out, b)
			return len(out) <= MaxBoxes
		}
		if dims[i] == box.Protocol {
			return fill(b, i+1)
		}
		for _, s := range lists[i] {
			d := dims[i]
			if s.Last.Less(b[d].First) || b[d].Last.Less(s.First) {
				continue
			}
			c := b
			if c[d].First.Less(s.First) {
				c[d].First = s.First
			}
			if s.Last.Less(c[d].Last) {
				c[d].Last = s.Last
			}
			if !fill(c, i+1) {
				return false
			}
		}
		return true
	}
	for _, p := range parts {
		if !fill(p, 0) {
			return nil, false
		}
	}
	return out, true
}

// Within returns what of the entry's lists any of the boxes touches, and whether anything is left. It is a part of the entry, and has all that the entry and the boxes share.
func (e Entry) Within(l box.List) (Entry, bool) {
	dims, lists, base := e.lists()
	var keep [7][]bool
	for i := range keep {
		keep[i] = make([]bool, len(lists[i]))
	}
	found := false
	for _, b := range l {
		if !touch(b[box.Hook], base[box.Hook]) || !touch(b[box.Family], base[box.Family]) {
			continue
		}
		var at [7][]int
		all := true
		for i, d := range dims {
			for j, s := range lists[i] {
				if touch(s, b[d]) {
					at[i] = append(at[i], j)
				}
			}
			all = all && len(at[i]) > 0
		}
		if !all {
			continue
		}
		found = true
		for i := range at {
			for _, j := range at[i] {
				keep[i][j] = true
			}
		}
	}
	if !found {
		return Entry{}, false
	}
	for i, to := range []*[]box.Span{&e.In, &e.Out, &e.Protocols, &e.From, &e.To, &e.FromPorts, &e.ToPorts} {
		if *to == nil {
			continue
		}
		var some []box.Span
		for j, s := range *to {
			if keep[i][j] {
				some = append(some, s)
			}
		}
		*to = some
	}
	return e, true
}

func touch(a, b box.Span) bool { return !a.Last.Less(b.First) && !b.Last.Less(a.First) }

// Of returns the entries of a row: one for each family and protocol. A row of all protocols is one entry for each family.
func Of(row site.Row, n *box.Interfaces) (out []Entry) {
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		from, to := row.Pairs(family)
		if len(from) == 0 || len(to) == 0 {
			continue
		}
		e := Entry{Hook: row.Hook, Family: family}
		for _, p := range from {
			e.From = append(e.From, box.Prefix(p))
		}
		for _, p := range to {
			e.To = append(e.To, box.Prefix(p))
		}
		e.From, e.To = anywhere(e.From, family), anywhere(e.To, family)
		if row.In != "" {
			e.In = []box.Span{box.One(n.Number(row.In))}
		}
		if row.Out != "" {
			e.Out = []box.Span{box.One(n.Number(row.Out))}
		}
		if len(row.Protocols) == 0 {
			out = append(out, e)
		}
		for _, p := range row.Protocols {
			f := e
			f.Protocols = []box.Span{box.One(p)}
			switch {
			case box.HasPorts(p):
				f.FromPorts, f.ToPorts = spans(row.FromPorts), spans(row.ToPorts)
			case (p == box.ICMP) != (family == box.IPv4):
				continue
			default:
				f.FromPorts, f.ToPorts = spans(row.Types), []box.Span{box.One(0)}
				if f.FromPorts == nil && family == box.IPv4 {
					f.FromPorts = []box.Span{box.One(EchoRequest)}
				} else if f.FromPorts == nil {
					f.FromPorts = []box.Span{box.One(EchoRequest6)}
				}
			}
			out = append(out, f)
		}
	}
	return out
}

// The types of ICMP (RFC 792) and of ICMPv6 (RFC 4443) that ask for an echo, and those that are one.
const (
	EchoRequest  uint8 = 8
	EchoReply    uint8 = 0
	EchoRequest6 uint8 = 128
	EchoReply6   uint8 = 129
)

// anywhere returns nil for a list that has every address.
func anywhere(l []box.Span, family uint8) []box.Span {
	if slices.Contains(l, box.Everything(family)[box.From]) {
		return nil
	}
	return l
}

func spans(list []need.Ports) (out []box.Span) {
	for _, p := range list {
		out = append(out, box.Range(p.First, p.Last))
	}
	if out = box.Merge(out); slices.Contains(out, AllPorts()) {
		return nil
	}
	return out
}

// AllPorts is every port.
func AllPorts() box.Span { return box.Range(0, 65535) }

// Messages writes the types and codes of an entry for ICMP as the lists of Cisco have them: " 8 0" each; all of them are one empty text.
func (e Entry) Messages() (out []string) {
	if e.FromPorts == nil {
		return []string{""}
	}
	for _, t := range e.FromPorts {
		for n := t.First.Lo; n <= t.Last.Lo; n++ {
			if e.ToPorts == nil {
				out = append(out, fmt.Sprintf(" %d", n))
			}
			for _, c := range e.ToPorts {
				for m := c.First.Lo; m <= c.Last.Lo; m++ {
					out = append(out, fmt.Sprintf(" %d %d", n, m))
				}
			}
		}
	}
	return out
}
