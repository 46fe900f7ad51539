package iosacl

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

// Render writes a policy as a configuration, and says what it lost of it. Each interface that the site names gets a zone; each pair of zones, also of one with itself, has a policy that inspects what rows need there and drops everything else.
// A policy of a zone with itself is known since IOS 15.0(1)M; interfaces that are in no zone exchange nothing with those that are.
func Render(p *site.Policy) (string, *firewall.Certificate, error) {
	fault := func(kind ringfence.Kind, text, hint string) error {
		return &ringfence.Fault{Op: "iosacl.render", Kind: kind, Text: text, Hint: hint}
	}
	if p.Host {
		return "", nil, fault(ringfence.KindUnsupported, "a network device forwards packets, and the set is about one host", "choose nftables or pf for it")
	}
	w := &writer{groups: map[string]string{}, taken: map[string]bool{}}
	rendered := map[string]box.List{}
	var faces []string
	pairs := map[[2]string]*body{}
	for _, row := range p.Rows {
		if row.In == "" || row.Out == "" {
			return "", nil, fault(ringfence.KindInvalid, "a router judges by interfaces, and the site file names none", "write `interfaces: {inside: GigabitEthernet0/1, outside: GigabitEthernet0/0}` into it")
		}
		for _, name := range []string{row.In, row.Out} {
			if !slices.Contains(faces, name) {
				faces = append(faces, name)
			}
		}
		pair := pairs[[2]string{row.In, row.Out}]
		if pair == nil {
			pair = &body{lines: map[string][]string{}}
			pairs[[2]string{row.In, row.Out}] = pair
		}
		for _, e := range entry.Of(row, p.Interfaces) {
			for _, f := range inspectable(e) {
				pair.add(w, f, row.ID)
				l, err := entry.Compile("iosacl.render", []entry.Entry{f}, box.Real())
				if err != nil {
					return "", nil, err
				}
				rendered[row.ID] = append(rendered[row.ID], l...)
			}
		}
	}
	cert, err := firewall.Certify(p, rendered)
	if err != nil {
		return "", nil, err
	}
	return w.text(p, faces, pairs), cert, nil
}

// inspectable returns the parts of an entry whose connections have a state, by protocol.
func inspectable(e entry.Entry) (out []entry.Entry) {
	icmp := box.ICMP
	if e.Family == box.IPv6 {
		icmp = box.ICMPv6
	}
	for _, p := range []uint8{box.TCP, box.UDP, icmp} {
		if e.Protocols == nil || slices.ContainsFunc(e.Protocols, func(s box.Span) bool { return s.Has(box.N(p)) }) {
			f := e
			f.Protocols = []box.Span{box.One(p)}
			out = append(out, f)
		}
	}
	return out
}

// body is what a pair of zones lets through: lines of lists by class, such as "tcp" and "tcp6".
type body struct {
	lines map[string][]string
}

func (b *body) add(w *writer, e entry.Entry, row string) {
	class := map[uint8]string{box.TCP: "tcp", box.UDP: "udp", box.ICMP: "icmp", box.ICMPv6: "icmp"}[uint8(e.Protocols[0].First.Lo)]
	if e.Family == box.IPv6 {
		class += "6"
	}
	b.lines[class] = append(append(b.lines[class], "remark "+row), w.aces(e, "permit")...)
}

// writer writes entries as lines of lists, and the groups that they name.
type writer struct {
	groups map[string]string // names by what is in them
	taken  map[string]bool
	has    func(string) bool // names that others have
	there  *entry.Groups[entry.Ends]
	define []string
}

// ends writes the addresses of one end: one text, or several where no group can be named.
func (w *writer) ends(spans []box.Span, family uint8) (out []string) {
	if spans == nil {
		return []string{"any"}
	}
	var members []string
	for _, n := range entry.NetworksOf(spans, family) {
		switch {
		case n.IsSingleIP():
			out, members = append(out, "host "+n.Addr().String()), append(members, "host "+n.Addr().String())
		case family == box.IPv6:
			out = append(out, n.String())
		default:
			mask := entry.Mask(n.Bits()).As4()
			out = append(out, fmt.Sprintf("%s %d.%d.%d.%d", n.Addr(), 255-mask[0], 255-mask[1], 255-mask[2], 255-mask[3]))
			members = append(members, n.Addr().String()+" "+entry.Mask(n.Bits()).String())
		}
	}
	if len(out) == 1 || family == box.IPv6 {
		return out
	}
	if w.there != nil {
		if name := entry.Named(w.there, spans, family); name != "" {
			return []string{"object-group " + name}
		}
	}
	body := strings.Join(members, "\n ")
	name, ok := w.groups[body]
	if !ok {
		for i := len(w.groups) + 1; name == "" || w.taken[name] || w.has != nil && w.has(name); i++ {
			name = fmt.Sprintf("ringfence-%d", i)
		}
		w.groups[body], w.taken[name] = name, true
		w.define = append(w.define, "object-group network "+name+"\n "+body)
	}
	return []string{"object-group " + name}
}

func relations(spans []box.Span) (out []string) {
	if spans == nil {
		return []string{""}
	}
	for _, s := range spans {
		if s.First == s.Last {
			out = append(out, fmt.Sprintf(" eq %d", s.First.Lo))
		} else {
			out = append(out, fmt.Sprintf(" range %d %d", s.First.Lo, s.Last.Lo))
		}
	}
	return out
}

// aces writes an entry as lines of a list.
func (w *writer) aces(e entry.Entry, verb string) (out []string) {
	whole := map[uint8]string{box.IPv4: "ip", box.IPv6: "ipv6"}[e.Family]
	protocols := e.Protocols
	if protocols == nil {
		protocols = []box.Span{box.Range(256, 256)}
	}
	for _, f := range w.ends(e.From, e.Family) {
		for _, t := range w.ends(e.To, e.Family) {
			for _, s := range protocols {
				for p := s.First.Lo; p <= s.Last.Lo; p++ {
					name := map[uint64]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 132: "sctp", 256: whole}[p]
					switch {
					case p == 6 || p == 17 || p == 132:
						for _, from := range relations(e.FromPorts) {
							for _, to := range relations(e.ToPorts) {
								out = append(out, fmt.Sprintf("%s %s %s%s %s%s", verb, name, f, from, t, to))
							}
						}
					case p == 1 && e.Family == box.IPv4 || p == 58 && e.Family == box.IPv6:
						for _, m := range e.Messages() {
							out = append(out, fmt.Sprintf("%s %s %s %s%s", verb, name, f, t, m))
						}
					case p == 256:
						out = append(out, fmt.Sprintf("%s %s %s %s", verb, name, f, t))
					default:
						out = append(out, fmt.Sprintf("%s %d %s %s", verb, p, f, t))
					}
				}
			}
		}
	}
	return out
}

// label makes a word of the name of an interface.
func label(face string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, face)
}

func (w *writer) text(p *site.Policy, faces []string, pairs map[[2]string]*body) string {
	var b strings.Builder
	fmt.Fprintf(&b, "! What %s needs, and nothing else, for a router that speaks IOS: zones with policies of their own.\n", p.Set)
	b.WriteString("! Access lists on these interfaces judge as well; what comes by another interface gets to these only if that one has a zone and a pair.\n")
	for _, l := range w.define {
		b.WriteString(l + "\n")
	}
	four, six := false, false
	for _, row := range p.Rows {
		for _, family := range []uint8{box.IPv4, box.IPv6} {
			from, to := row.Pairs(family)
			four = four || len(from)*len(to) > 0 && family == box.IPv4
			six = six || len(from)*len(to) > 0 && family == box.IPv6
		}
	}
	if six {
		b.WriteString("ipv6 unicast-routing\n")
	}
	var end strings.Builder
	for i, in := range faces {
		fmt.Fprintf(&end, "zone security ringfence-%s\n", label(in))
		for j, out := range faces {
			name := fmt.Sprintf("ringfence-%d-%d", i+1, j+1)
			pair := pairs[[2]string{in, out}]
			var classes []string
			if pair != nil {
				for _, class := range []string{"tcp", "tcp6", "udp", "udp6", "icmp", "icmp6"} {
					lines := pair.lines[class]
					if len(lines) == 0 {
						continue
					}
					list, whole := "ip access-list extended ", "ip"
					if strings.HasSuffix(class, "6") {
						list, whole = "ipv6 access-list ", "ipv6"
					}
					fmt.Fprintf(&b, "%s%s-%s\n %s\n deny %s any any\n", list, name, class, strings.Join(lines, "\n "), whole)
					fmt.Fprintf(&b, "class-map type inspect match-all %s-%s\n match protocol %s\n match access-group name %s-%s\n", name, class, strings.TrimSuffix(class, "6"), name, class)
					classes = append(classes, fmt.Sprintf(" class type inspect %s-%s\n  inspect\n", name, class))
				}
			}
			fmt.Fprintf(&b, "policy-map type inspect %s\n%s class class-default\n  drop log\n", name, strings.Join(classes, ""))
		}
	}
	for i, in := range faces {
		for j, out := range faces {
			fmt.Fprintf(&end, "zone-pair security ringfence-%d-%d source ringfence-%s destination ringfence-%s\n service-policy type inspect ringfence-%d-%d\n", i+1, j+1, label(in), label(out), i+1, j+1)
		}
	}
	for _, in := range faces {
		fmt.Fprintf(&end, "interface %s\n zone-member security ringfence-%s\n", in, label(in))
	}
	return b.String() + end.String()
}
