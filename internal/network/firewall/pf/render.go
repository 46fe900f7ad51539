package pf

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/network/site"
)

// Render writes a policy as a pf.conf, and says what it lost of it.
//
// A rule where a packet leaves does not know where it came in (OpenBSD's received-on does, FreeBSD has nothing like it), so a packet that goes back by where it came gets through if rows of both directions have it.
func Render(p *site.Policy) (string, *firewall.Certificate, error) {
	w := &writer{tables: map[string]string{}}
	rendered, needs := map[string]box.List{}, p.Boxes()
	var faces []string
	var in, out box.List
	type part struct {
		row   site.Row
		boxes box.List
	}
	var parts []part
	var lines []string
	for _, row := range p.Rows {
		for _, name := range []string{row.In, row.Out} {
			if !slices.Contains(faces, name) {
				faces = append(faces, name)
			}
		}
		for _, e := range entry.Of(row, p.Interfaces) {
			if row.Hook != box.Output {
				lines = append(lines, w.rule("in", row.In, row.ID, e))
			}
			if row.Hook != box.Input {
				lines = append(lines, w.rule("out", row.Out, row.ID, e))
			}
			l, err := entry.Compile("pf.render", []entry.Entry{e}, box.Real())
			if err != nil {
				return "", nil, err
			}
			rendered[row.ID] = append(rendered[row.ID], l...)
			if row.Hook != box.Forward {
				continue
			}
			parts = append(parts, part{row, l})
			all := box.Range(0, box.MaxInterface)
			for _, b := range l {
				i, o := b, b
				i[box.Out], o[box.In] = all, all
				in, out = append(in, i), append(out, o)
			}
		}
	}
	for _, t := range parts { // what passes where it comes in by one row, and where it leaves by another
		if len(faces) < 2 {
			break
		}
		for i := range t.boxes {
			t.boxes[i][box.Out] = box.Range(0, box.MaxInterface)
		}
		both, err := t.boxes.Intersect(out)
		if err != nil {
			return "", nil, err
		}
		if both, err = both.Subtract(needs); err != nil {
			return "", nil, err
		}
		rendered[t.row.ID] = append(rendered[t.row.ID], both...)
	}
	cert, err := firewall.Certify(p, rendered)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# What %s needs, and nothing else, for pf of OpenBSD and FreeBSD: `pfctl -nf FILE` looks at it, `pfctl -f FILE` puts it into force.\n", p.Set)
	if !p.Host {
		b.WriteString("# It judges the packets of this machine itself as well: add how you reach it, or you lock yourself out.\n")
	}
	for _, l := range w.define {
		b.WriteString(l + "\n")
	}
	b.WriteString("block log all\n")
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	return b.String(), cert, nil
}

// writer writes entries as rules, and the tables that they name.
type writer struct {
	tables map[string]string // name by members
	define []string
	taken  map[string]bool
}

// address writes the addresses of one end.
func (w *writer) address(spans []box.Span, family uint8) string {
	if spans == nil {
		return "any"
	}
	var members []string
	for _, n := range entry.NetworksOf(spans, family) {
		if n.IsSingleIP() {
			members = append(members, n.Addr().String())
		} else {
			members = append(members, n.String())
		}
	}
	if len(members) == 1 {
		return members[0]
	}
	body := strings.Join(members, ", ")
	if len(members) <= 3 {
		return "{ " + body + " }"
	}
	name, ok := w.tables[body]
	if !ok {
		for i := len(w.tables) + 1; name == "" || w.taken[name]; i++ {
			name = fmt.Sprintf("ringfence-%d", i)
		}
		w.tables[body] = name
		w.define = append(w.define, fmt.Sprintf("table <%s> const { %s }", name, body))
	}
	return "<" + name + ">"
}

func numbers(spans []box.Span) string {
	var members []string
	for _, s := range spans {
		if s.First == s.Last {
			members = append(members, fmt.Sprint(s.First.Lo))
		} else {
			members = append(members, fmt.Sprintf("%d:%d", s.First.Lo, s.Last.Lo))
		}
	}
	if len(members) == 1 {
		return members[0]
	}
	return "{ " + strings.Join(members, ", ") + " }"
}

// rule writes a rule that passes.
func (w *writer) rule(way, face, row string, e entry.Entry) string {
	return w.match("pass "+way, face, e) + fmt.Sprintf(" label %q", row)
}

func (w *writer) match(head, face string, e entry.Entry) string {
	var b strings.Builder
	b.WriteString(head)
	if face == "lo" {
		face = "lo0"
	}
	if face != "" {
		b.WriteString(" on " + face)
	}
	b.WriteString(map[uint8]string{box.IPv4: " inet", box.IPv6: " inet6"}[e.Family])
	var names []string
	ports := true
	for _, s := range e.Protocols {
		for p := s.First.Lo; p <= s.Last.Lo; p++ {
			name := map[uint64]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}[p]
			if name == "" {
				name = fmt.Sprint(p)
			}
			ports = ports && box.HasPorts(uint8(p))
			names = append(names, name)
		}
	}
	side := func(word string, spans, numbersOf []box.Span) {
		b.WriteString(" " + word + " " + w.address(spans, e.Family))
		if ports && numbersOf != nil {
			b.WriteString(" port " + numbers(numbersOf))
		}
	}
	switch len(names) {
	case 0:
		ports = false
	case 1:
		b.WriteString(" proto " + names[0])
	default:
		b.WriteString(" proto { " + strings.Join(names, ", ") + " }")
	}
	side("from", e.From, e.FromPorts)
	side("to", e.To, e.ToPorts)
	if len(names) == 1 && (names[0] == "icmp" || names[0] == "icmp6") && e.FromPorts != nil {
		var all []string
		for _, t := range e.FromPorts {
			for n := t.First.Lo; n <= t.Last.Lo; n++ {
				if e.ToPorts == nil {
					all = append(all, fmt.Sprint(n))
				}
				for _, c := range e.ToPorts {
					for m := c.First.Lo; m <= c.Last.Lo; m++ {
						all = append(all, fmt.Sprintf("%d code %d", n, m))
					}
				}
			}
		}
		if len(all) == 1 {
			b.WriteString(" " + names[0] + "-type " + all[0])
		} else {
			b.WriteString(" " + names[0] + "-type { " + strings.Join(all, ", ") + " }")
		}
	}
	return b.String()
}
