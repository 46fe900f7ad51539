package asa

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/network/site"
)

// Render writes a policy as commands, and says what it lost of it. What comes in by an interface that the site names is judged by a list of that interface; without names, by the global list.
//
// A list judges the packets that come in, so it knows not where they leave. If the policy lets packets go back by where they came, lists of the other direction say what may leave; if not, the device keeps them from it.
// The certificate is for a device whose interfaces are those that the site names: a third one, to which a list lets packets, is found by reading the whole configuration.
func Render(p *site.Policy) (string, *firewall.Certificate, error) {
	if p.Host {
		return "", nil, &ringfence.Fault{Op: "asa.render", Kind: ringfence.KindUnsupported, Text: "a network device forwards packets, and the set is about one host", Hint: "choose nftables or pf for it"}
	}
	for _, row := range p.Rows {
		if (row.In == "") != (p.Rows[0].In == "") {
			return "", nil, &ringfence.Fault{Op: "asa.render", Kind: ringfence.KindInvalid, Text: "some rows name interfaces and others do not"}
		}
	}
	w := &writer{groups: map[string]string{}, taken: map[string]bool{}}
	in, out := map[string][]string{}, map[string][]string{}
	rendered := map[string]box.List{}
	var faces []string
	hairpin, icmp := false, false
	for _, row := range p.Rows {
		hairpin = hairpin || row.In == row.Out
		for _, name := range []string{row.In, row.Out} {
			if !slices.Contains(faces, name) {
				faces = append(faces, name)
			}
		}
	}
	accept := map[string]box.List{} // by list
	for _, row := range p.Rows {
		for _, e := range entry.Of(row, p.Interfaces) {
			icmp = icmp || len(e.Protocols) > 0 && !box.HasPorts(uint8(e.Protocols[0].First.Lo))
			lines := append([]string{"remark " + row.ID}, w.aces(e, true)...)
			if text := in[row.In]; len(text) > 0 && slices.Contains(text, lines[0]) {
				lines = lines[1:]
			}
			in[row.In] = append(in[row.In], lines...)
			if hairpin && row.Out != "" {
				out[row.Out] = append(out[row.Out], lines...)
			}
			l, err := entry.Compile("asa.render", []entry.Entry{anyway(e)}, box.Real())
			if err != nil {
				return "", nil, err
			}
			rendered[row.ID] = append(rendered[row.ID], l...)
			accept["in "+row.In] = append(accept["in "+row.In], l...)
			accept["out "+row.Out] = append(accept["out "+row.Out], l...)
		}
	}
	needs := p.Boxes()
	for id, l := range rendered {
		restricted, err := restrict(l, p, id, needs, faces, accept, hairpin)
		if err != nil {
			return "", nil, err
		}
		rendered[id] = restricted
	}
	cert, err := firewall.Certify(p, rendered)
	if err != nil {
		return "", nil, err
	}
	return w.text(p, faces, in, out, hairpin, icmp), cert, nil
}

// anyway returns an entry as a list has it: without interfaces.
func anyway(e entry.Entry) entry.Entry {
	e.In, e.Out = nil, nil
	return e
}

// restrict returns what of the packets of one row gets through the device: the lists of both interfaces must have them. What gets through where another row needs it is not this row's.
func restrict(l box.List, p *site.Policy, id string, needs box.List, faces []string, accept map[string]box.List, hairpin bool) (out box.List, err error) {
	if faces[0] == "" {
		return l, nil
	}
	row := p.Rows[slices.IndexFunc(p.Rows, func(r site.Row) bool { return r.ID == id })]
	for _, x := range faces {
		for _, y := range faces {
			if x == y && !hairpin {
				continue
			}
			here := l
			if here, err = here.Intersect(accept["in "+x]); err != nil {
				return nil, err
			}
			if hairpin {
				if here, err = here.Intersect(accept["out "+y]); err != nil {
					return nil, err
				}
			}
			here = slices.Clone(here)
			for i := range here {
				here[i][box.In], here[i][box.Out] = box.One(p.Interfaces.Number(x)), box.One(p.Interfaces.Number(y))
			}
			if x != row.In || y != row.Out {
				if here, err = here.Subtract(needs); err != nil {
					return nil, err
				}
			}
			out = append(out, here...)
		}
	}
	return out, nil
}

// writer writes entries as lines of lists, and the groups that they name.
type writer struct {
	groups map[string]string // name by what is in it
	taken  map[string]bool   // names
	has    func(string) bool // names that others have
	there  *entry.Groups[entry.Ends]
	define []string
}

// name returns a name that nobody has, for something that is to be defined.
func (w *writer) name() string {
	for i := len(w.groups) + 1; ; i++ {
		name := fmt.Sprintf("ringfence-%d", i)
		if !w.taken[name] && (w.has == nil || !w.has(name)) {
			w.taken[name] = true
			return name
		}
	}
}

func (w *writer) group(kind string, members []string) string {
	body := kind + "\n " + strings.Join(members, "\n ")
	name, ok := w.groups[body]
	if !ok {
		name = w.name()
		w.groups[body] = name
		head, tail, _ := strings.Cut(kind, " ")
		line := "object-group " + head + " " + name
		if tail != "" {
			line += " " + tail
		}
		w.define = append(append(w.define, line), prefixed(" ", members)...)
	}
	return name
}

func prefixed(with string, lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = with + l
	}
	return out
}

// end writes the addresses of one end.
func (w *writer) end(spans []box.Span, family uint8) string {
	if spans == nil {
		return map[uint8]string{box.IPv4: "any4", box.IPv6: "any6"}[family]
	}
	var members []string
	for _, n := range entry.NetworksOf(spans, family) {
		switch {
		case n.IsSingleIP():
			members = append(members, "host "+n.Addr().String())
		case family == box.IPv4:
			members = append(members, n.Addr().String()+" "+entry.Mask(n.Bits()).String())
		default:
			members = append(members, n.String())
		}
	}
	if len(members) == 1 {
		return members[0]
	}
	if w.there != nil {
		if name := entry.Named(w.there, spans, family); name != "" {
			return "object-group " + name
		}
	}
	return "object-group " + w.group("network", prefixed("network-object ", members))
}

// ports writes the ports of one side, or nothing for all.
func (w *writer) ports(spans []box.Span, protocol string) string {
	if spans == nil {
		return ""
	}
	var members []string
	for _, s := range spans {
		if s.First == s.Last {
			members = append(members, fmt.Sprintf("eq %d", s.First.Lo))
		} else {
			members = append(members, fmt.Sprintf("range %d %d", s.First.Lo, s.Last.Lo))
		}
	}
	if len(members) == 1 {
		return " " + members[0]
	}
	return " object-group " + w.group("service "+protocol, prefixed("port-object ", members))
}

// aces writes an entry as what follows the name of a list: one line, or one for each protocol or type.
func (w *writer) aces(e entry.Entry, accept bool) (out []string) {
	verb := "deny"
	if accept {
		verb = "permit"
	}
	from, to := w.end(e.From, e.Family), w.end(e.To, e.Family)
	if e.Protocols == nil {
		return []string{fmt.Sprintf("extended %s ip %s %s", verb, from, to)}
	}
	for _, s := range e.Protocols {
		for p := s.First.Lo; p <= s.Last.Lo; p++ {
			name := map[uint64]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}[p]
			switch {
			case name == "tcp" || name == "udp" || name == "sctp":
				out = append(out, fmt.Sprintf("extended %s %s %s%s %s%s", verb, name, from, w.ports(e.FromPorts, name), to, w.ports(e.ToPorts, name)))
			case name == "icmp" || name == "icmp6":
				for _, t := range e.Messages() {
					out = append(out, fmt.Sprintf("extended %s %s %s %s%s", verb, name, from, to, t))
				}
			default:
				out = append(out, fmt.Sprintf("extended %s %d %s %s", verb, p, from, to))
			}
		}
	}
	return out
}

func (w *writer) text(p *site.Policy, faces []string, in, out map[string][]string, hairpin, icmp bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "! What %s needs, and nothing else, for a Cisco ASA (release 9).\n", p.Set)
	b.WriteString("! Lists of these names must not be there before; other interfaces than those of the site file need lists of their own.\n")
	for _, l := range w.define {
		b.WriteString(l + "\n")
	}
	if hairpin {
		b.WriteString("same-security-traffic permit intra-interface\n")
		if faces[0] == "" {
			b.WriteString("same-security-traffic permit inter-interface\n")
		}
	}
	var groups []string
	for _, side := range []string{"in", "out"} {
		for _, name := range faces {
			lines, list := map[string]map[string][]string{"in": in, "out": out}[side][name], "ringfence-"+name+"-"+side
			group := fmt.Sprintf("access-group %s %s interface %s", list, side, name)
			if name == "" {
				list, group = "ringfence-global", "access-group ringfence-global global"
			}
			if side == "out" && (!hairpin || name == "") {
				continue
			}
			if len(lines) == 0 && (side == "out" || faces[0] == "") {
				lines = []string{"remark nothing"}
			}
			for _, l := range append(lines, "extended deny ip any any log") {
				fmt.Fprintf(&b, "access-list %s %s\n", list, l)
			}
			groups = append(groups, group)
		}
	}
	for _, g := range groups {
		b.WriteString(g + "\n")
	}
	if icmp {
		b.WriteString("policy-map global_policy\n class inspection_default\n  inspect icmp\n")
	}
	return b.String()
}
