package pf

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

const op = "pf.parse"

// Parse reads a pf.conf. Names of interfaces get numbers of n.
func Parse(b []byte, n *box.Interfaces) (*firewall.Ruleset, error) {
	r, err := read(b, n)
	if err != nil {
		return nil, err
	}
	return r.ruleset()
}

type reader struct {
	interfaces *box.Interfaces
	strange    entry.Strange
	macros     map[string][]token
	tables     map[string]*table
	skip       []int
	nats       []nat
	rules      []rule
	real       box.List
	fills      map[string]int // tables that rules fill, with the line
	boxes      int
	of         [2][]int // for each chain, which of rules its rules are
}

type table struct {
	ends entry.Ends
	err  error
}

type nat struct {
	line int
	on   []box.Span
}

// rule is one statement that passes or blocks.
type rule struct {
	first, last int // lines
	text        string
	pass, quick bool
	in, out     bool
	on          []box.Span // nil: any
	received    []box.Span // where a packet that leaves came in
	services    []entry.Service
	from, to    entry.Ends
	restricted  bool // it looks at the source
}

func read(b []byte, n *box.Interfaces) (*reader, error) {
	r := &reader{interfaces: n, macros: map[string][]token{}, tables: map[string]*table{}, fills: map[string]int{}, real: box.Real()}
	statements, err := scan(b)
	if err != nil {
		return nil, err
	}
	for _, s := range statements {
		if err := r.statement(s); err != nil {
			r.strange.Add(s.first, "%s", err)
		}
	}
	return r, nil
}

func (r *reader) statement(s statement) error {
	t := s.tokens
	if len(t) > 2 && t[1].text == "=" && !t[0].quoted {
		var value []token
		for _, u := range t[2:] {
			w, err := words(u)
			if err != nil {
				return err
			}
			value = append(value, w...)
		}
		if value, err := r.expand(value, 0); err != nil {
			return err
		} else if r.macros[t[0].text] = value; len(value) == 0 {
			return fmt.Errorf("the macro %.40q has nothing", t[0].text)
		}
		return nil
	}
	t, err := r.expand(t, 0)
	if err != nil {
		return err
	}
	p := &parser{reader: r, tokens: t, statement: s}
	switch word := p.next(); word {
	case "set":
		return p.set()
	case "table":
		return p.table()
	case "pass", "block":
		return p.rule(word == "pass")
	case "match":
		return p.match()
	case "nat":
		return p.nat()
	case "scrub", "altq", "queue":
		return nil
	case "no":
		if p.peek() == "scrub" {
			return nil
		}
		return fmt.Errorf("an exception from translation")
	case "rdr", "binat":
		return fmt.Errorf("a translation of destinations")
	case "antispoof":
		return fmt.Errorf("antispoof, whose addresses only the machine knows")
	case "anchor", "nat-anchor", "rdr-anchor", "load", "include":
		return fmt.Errorf("%s: rules that are elsewhere", word)
	default:
		return fmt.Errorf("%.80s", s.text)
	}
}

// ruleset puts the rules in the order in which they decide: the quick ones as they stand, then the others from the last to the first, and then everything passes.
func (r *reader) ruleset() (*firewall.Ruleset, error) {
	out := &firewall.Ruleset{}
	for side, name := range []string{"pf in", "pf out"} {
		c := firewall.Chain{Name: name, Accept: true}
		for _, b := range r.real {
			if b[box.Hook] == box.One(box.Forward) || b[box.Hook] == box.One([]uint8{box.Input, box.Output}[side]) {
				c.Scope = append(c.Scope, b)
			}
		}
		if len(r.skip) > 0 {
			var on []box.Span
			for _, i := range r.skip {
				on = append(on, box.One(i))
			}
			u, err := r.compile(rule{services: []entry.Service{{}}, from: entry.Anywhere(), to: entry.Anywhere(), on: on}, side)
			if err != nil {
				return nil, err
			}
			if slices.Contains(r.skip, r.number("lo0")) { // by which nothing is forwarded
				lo := box.One(r.number("lo0"))
				u = slices.DeleteFunc(u, func(b box.Box) bool {
					return b[box.Hook] == box.One(box.Forward) && (b[box.In] == lo || b[box.Out] == lo)
				})
			}
			c.Rules, r.of[side] = append(c.Rules, firewall.Rule{Name: "set skip", Fixed: true, Accept: true, Boxes: u}), append(r.of[side], -1)
		}
		var order []int
		for i, u := range r.rules {
			if u.quick {
				order = append(order, i)
			}
		}
		for i := range r.rules {
			if j := len(r.rules) - 1 - i; !r.rules[j].quick {
				order = append(order, j)
			}
		}
		for _, i := range order {
			u := r.rules[i]
			if side == 0 && !u.in || side == 1 && !u.out {
				continue
			}
			boxes, err := r.compile(u, side)
			if err != nil {
				return nil, err
			}
			c.Rules = append(c.Rules, firewall.Rule{Name: fmt.Sprintf("line %d: %.200s", u.first, u.text), Line: u.first, Accept: u.pass, Boxes: boxes})
			r.of[side] = append(r.of[side], i)
			if side == 1 && u.restricted {
				for _, t := range r.nats {
					if meet(t.on, u.on) {
						r.strange.Add(t.line, "it changes source addresses before line %d looks at them", u.first)
					}
				}
			}
		}
		out.Chains = append(out.Chains, c)
	}
	for name, line := range r.fills {
		r.strange.Add(line, "the table %.40s, which fills and empties", name)
	}
	out.Unknown = r.strange.List()
	return out, nil
}

func meet(a, b []box.Span) bool {
	if a == nil || b == nil {
		return true
	}
	return slices.ContainsFunc(a, func(s box.Span) bool {
		return slices.ContainsFunc(b, func(t box.Span) bool { return !s.Last.Less(t.First) && !t.Last.Less(s.First) })
	})
}

// compile returns the packets of a rule on one side.
func (r *reader) compile(u rule, side int) (out box.List, err error) {
	for _, hook := range []uint8{box.Forward, []uint8{box.Input, box.Output}[side]} {
		in, leave := u.on, []box.Span(nil)
		if side == 1 {
			in, leave = u.received, u.on
		}
		l, err := entry.Compile(op, entry.Cross(hook, in, leave, u.services, u.from, u.to), r.real)
		if err != nil {
			return nil, err
		}
		out = append(out, l...)
	}
	if r.boxes += len(out); r.boxes > entry.MaxBoxes {
		return nil, entry.TooMany(op)
	}
	return out, nil
}

// parser reads the words of one statement.
type parser struct {
	*reader
	statement statement
	tokens    []token
	at        int
	list      bool // within braces
}

func (p *parser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at].text
	}
	return ""
}

func (p *parser) next() string {
	w := p.peek()
	p.at++
	return w
}

// is takes a word if it is the next one.
func (p *parser) is(words ...string) bool {
	if p.at < len(p.tokens) && !p.tokens[p.at].quoted && slices.Contains(words, p.tokens[p.at].text) {
		p.at++
		return true
	}
	return false
}

// each calls f for each member of a list in braces, or once; lists in lists, as macros make them, are one list.
func (p *parser) each(f func() error) error {
	if !p.is("{") {
		return f()
	}
	for depth := 1; depth > 0; {
		switch {
		case p.at >= len(p.tokens):
			return fmt.Errorf("a brace is not closed")
		case p.is("}"):
			depth--
		case p.is("{"):
			depth++
		case p.is(","):
		default:
			if err := f(); err != nil {
				return err
			}
		}
	}
	return nil
}

// parens skips what is in parentheses.
func (p *parser) parens() {
	if !p.is("(") {
		return
	}
	for p.at < len(p.tokens) && p.next() != ")" {
	}
}

func (p *parser) set() error {
	switch p.next() {
	case "skip":
		if !p.is("on") {
			return fmt.Errorf("%.80s", p.statement.text)
		}
		return p.each(func() error {
			name := p.next()
			if name != "lo" && !isInterface(name) {
				return fmt.Errorf("%.40q is a group of interfaces, whose members only the machine knows", name)
			}
			p.skip = append(p.skip, p.number(name))
			return nil
		})
	case "state-defaults":
		if strings.Contains(p.statement.text, "no state") {
			return fmt.Errorf("%.80s", p.statement.text)
		}
	}
	return nil
}

// number returns the number of an interface. Site files call the loopback interface as Linux does.
func (r *reader) number(name string) int {
	if name == "lo0" {
		name = "lo"
	}
	return r.interfaces.Number(name)
}

// isInterface reports whether a name is one of an interface: those end in a number, and groups do not.
func isInterface(name string) bool {
	return name != "" && name[len(name)-1] >= '0' && name[len(name)-1] <= '9' && (name[0] < '0' || name[0] > '9')
}

// table reads the members of a table. The most specific one decides about an address, so that one may be an exception from another.
func (p *parser) table() error {
	if !p.is("<") {
		return fmt.Errorf("%.80s", p.statement.text)
	}
	name := p.next()
	t := &table{}
	p.tables[name] = t
	p.is(">")
	type member struct {
		not    bool
		span   box.Span
		family uint8
		bits   int
	}
	var members []member
	for p.at < len(p.tokens) {
		switch {
		case p.is("persist", "const", "counters"):
		case p.is("file"):
			p.next()
			t.err = fmt.Errorf("the table %.40s is in a file of its own", name)
		case p.peek() == "{":
			if err := p.each(func() error {
				not := p.is("!")
				s, family, err := p.address()
				if err != nil {
					t.err = fmt.Errorf("the table %.40s: %w", name, err)
					return t.err
				}
				nets := entry.Networks(s, family)
				members = append(members, member{not, s, family, nets[0].Bits()})
				return nil
			}); err != nil {
				return err
			}
		default:
			t.err = fmt.Errorf("the table %.40s: %.40q", name, p.peek())
			return t.err
		}
	}
	slices.SortStableFunc(members, func(a, b member) int { return a.bits - b.bits })
	for _, m := range members {
		if !m.not {
			t.ends.Add(m.family, m.span)
			continue
		}
		list := &t.ends.Four
		if m.family == box.IPv6 {
			list = &t.ends.Six
		}
		var left []box.Span
		for _, s := range *list {
			left = append(left, without(s, m.span)...)
		}
		*list = left
	}
	return nil
}

// without returns what of an interval is not in another.
func without(s, t box.Span) (out []box.Span) {
	for _, part := range entry.Not([]box.Span{t}, box.Num{Hi: ^uint64(0), Lo: ^uint64(0)}) {
		if part.First.Less(s.First) {
			part.First = s.First
		}
		if s.Last.Less(part.Last) {
			part.Last = s.Last
		}
		if !part.Last.Less(part.First) {
			out = append(out, part)
		}
	}
	return out
}

// nat is a translation of sources of FreeBSD, which happens before what leaves is judged.
func (p *parser) nat() error {
	t := nat{line: p.statement.first}
	p.is("pass", "log")
	if p.is("on") {
		var err error
		if t.on, err = p.onInterfaces(); err != nil {
			return err
		}
	}
	if strings.HasPrefix(p.statement.text, "nat pass") {
		return fmt.Errorf("a translation that lets through what it changes")
	}
	p.nats = append(p.nats, t)
	return nil
}
