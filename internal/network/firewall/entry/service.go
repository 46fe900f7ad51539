package entry

import (
	"fmt"
	"slices"

	"ringfence/internal/network/box"
)

// Ends are addresses of both families at one end.
type Ends struct{ Four, Six []box.Span }

// Anywhere returns all addresses of both families.
func Anywhere() Ends {
	return Ends{[]box.Span{box.Everything(box.IPv4)[box.From]}, []box.Span{box.Everything(box.IPv6)[box.From]}}
}

// Of returns the addresses of a family.
func (e Ends) Of(family uint8) []box.Span {
	if family == box.IPv4 {
		return e.Four
	}
	return e.Six
}

// Add puts addresses of a family in.
func (e *Ends) Add(family uint8, s ...box.Span) {
	if family == box.IPv4 {
		e.Four = append(e.Four, s...)
	} else {
		e.Six = append(e.Six, s...)
	}
}

// Join puts others in.
func (e *Ends) Join(o Ends) {
	e.Four, e.Six = append(e.Four, o.Four...), append(e.Six, o.Six...)
}

// Not returns all others.
func (e Ends) Not() Ends {
	all := Anywhere()
	return Ends{Not(e.Four, all.Four[0].Last), Not(e.Six, all.Six[0].Last)}
}

// Named returns the name of a group that has just these addresses of a family, or "".
func Named(g *Groups[Ends], spans []box.Span, family uint8) string {
	want := box.Merge(spans)
	for _, name := range g.Names() {
		all, err := g.All(name)
		if err != nil {
			continue
		}
		var ends Ends
		for _, e := range all {
			ends.Join(e)
		}
		have, other := ends.Four, ends.Six
		if family == box.IPv6 {
			have, other = other, have
		}
		if len(other) == 0 && slices.Equal(box.Merge(have), want) {
			return name
		}
	}
	return ""
}

// Service is what a rule says beside addresses. Nil is everything.
type Service struct {
	Family    uint8 // 0: both
	Protocols []box.Span
	From, To  []box.Span // ports, or types and codes
}

// Cross returns the entries of services between addresses, in both families. In and out are interfaces.
func Cross(hook uint8, in, out []box.Span, services []Service, from, to Ends) (all []Entry) {
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		f, t := from.Of(family), to.Of(family)
		if len(f) == 0 || len(t) == 0 {
			continue
		}
		for _, s := range services {
			if s.Family == 0 || s.Family == family {
				all = append(all, Entry{Hook: hook, In: in, Out: out, Family: family, Protocols: s.Protocols, From: f, To: t, FromPorts: s.From, ToPorts: s.To})
			}
		}
	}
	return all
}

// Compile returns the packets of all entries.
func Compile(op string, entries []Entry, real box.List) (out box.List, err error) {
	for _, e := range entries {
		l, ok := e.Boxes(real)
		if out = append(out, l...); !ok || len(out) > MaxBoxes {
			return nil, TooMany(op)
		}
	}
	return out, nil
}

// Relation reads a relation of ports as IOS and ASA write it, and says how many words it took. With several, eq and neq may have more than one port.
func Relation(words []string, port func(string) (int, error), several bool) (out []box.Span, taken int, err error) {
	if len(words) < 2 {
		return nil, 0, fmt.Errorf("a port is missing")
	}
	n, err := port(words[1])
	if err != nil {
		return nil, 0, err
	}
	switch words[0] {
	case "eq", "neq":
		out = []box.Span{box.One(n)}
		for taken = 2; several && taken < len(words); taken++ {
			more, err := port(words[taken])
			if err != nil {
				break
			}
			out = append(out, box.One(more))
		}
		if words[0] == "neq" {
			out = Not(out, box.N(65535))
		}
		return out, taken, nil
	case "lt":
		if n == 0 {
			return nil, 0, fmt.Errorf("no port is below 0")
		}
		return []box.Span{box.Range(0, n-1)}, 2, nil
	case "gt":
		if n == 65535 {
			return nil, 0, fmt.Errorf("no port is above 65535")
		}
		return []box.Span{box.Range(n+1, 65535)}, 2, nil
	case "range":
		if len(words) < 3 {
			return nil, 0, fmt.Errorf("the end of the range is missing")
		}
		last, err := port(words[2])
		if err != nil {
			return nil, 0, err
		}
		s, err := NumberRange(n, last)
		return []box.Span{s}, 3, err
	}
	return nil, 0, fmt.Errorf("%.40q is no relation of ports", words[0])
}

// IsRelation reports whether a word begins a relation of ports.
func IsRelation(s string) bool {
	switch s {
	case "eq", "neq", "lt", "gt", "range":
		return true
	}
	return false
}
