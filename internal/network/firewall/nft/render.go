package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

// Table returns the name of the table that a policy is rendered to, in the family inet.
func Table(p *site.Policy) string {
	if p.Host {
		return "ringfence-host"
	}
	return "ringfence-site"
}

// Render writes a policy as a ruleset for `nft -f`, which replaces the one before in one transaction, and says what it lost of it.
func Render(p *site.Policy) (string, *firewall.Certificate, error) {
	r := &renderer{policy: p, sets: map[string]string{}, rendered: map[string]box.List{}, first: map[uint8][]string{}, chains: map[uint8][]string{}}
	for _, row := range p.Rows {
		for _, name := range []string{row.In, row.Out} {
			if len(name) > 15 || strings.Contains(name, "/") { // IFNAMSIZ
				return "", nil, &ringfence.Fault{Op: "nft.render", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.60q is no name of an interface of Linux", name), Hint: "such a name has at most 15 letters, and no slash"}
			}
		}
		for _, family := range []uint8{box.IPv4, box.IPv6} {
			r.row(row, family)
		}
	}
	cert, err := firewall.Certify(p, r.rendered)
	if err != nil {
		return "", nil, err
	}
	return r.text(), cert, nil
}

type renderer struct {
	policy   *site.Policy
	sets     map[string]string // name: definition
	names    []string          // of the sets, in order
	rendered map[string]box.List
	first    map[uint8][]string // the rules of each hook that stand before those for states,
	chains   map[uint8][]string // and those after them
}

func (r *renderer) text() string {
	var b strings.Builder
	name := Table(r.policy)
	fmt.Fprintf(&b, "# What %s needs, and nothing else. Load it with `nft -f`: it takes the place of the one before at once.\n", r.policy.Set)
	for _, m := range r.policy.Missing {
		fmt.Fprintf(&b, "# Not in it: %s lacks %s.\n", m.Row, strings.ReplaceAll(m.Missing, "\n", " "))
	}
	fmt.Fprintf(&b, "add table inet %s\ndelete table inet %s\ntable inet %s {\n", name, name, name)
	for _, n := range r.names {
		b.WriteString(r.sets[n])
	}
	hooks := []uint8{box.Forward}
	if r.policy.Host {
		hooks = []uint8{box.Input, box.Output}
	}
	for _, hook := range hooks {
		word := []string{"forward", "input", "output"}[hook]
		fmt.Fprintf(&b, "\tchain needed-%s {\n\t\ttype filter hook %s priority filter; policy drop;\n", word, word)
		for _, rule := range r.first[hook] {
			b.WriteString("\t\t" + rule + "\n")
		}
		b.WriteString("\t\tct state established,related counter accept comment \"what comes back, and the errors of ICMP that belong to it\"\n")
		b.WriteString("\t\tct state invalid counter drop comment \"belongs to nothing\"\n")
		for _, rule := range r.chains[hook] {
			b.WriteString("\t\t" + rule + "\n")
		}
		b.WriteString("\t\tcounter drop comment \"everything else\"\n\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// row adds the rules of a row in one family, one for each protocol.
func (r *renderer) row(row site.Row, family uint8) {
	from, to := row.Pairs(family)
	if len(from) == 0 || len(to) == 0 {
		return
	}
	ip, word := "ip", "ipv4"
	if family == box.IPv6 {
		ip, word = "ip6", "ipv6"
	}
	base := box.Everything(family)
	base[box.Hook] = box.One(row.Hook)
	head := []string{"meta nfproto " + word}
	switch row.Hook {
	case box.Input:
		base[box.Out] = box.One(0)
	case box.Output:
		base[box.In] = box.One(0)
	}
	if row.In != "" {
		head = append(head, fmt.Sprintf("iifname %q", row.In))
		base[box.In] = box.One(r.policy.Interfaces.Number(row.In))
	}
	if row.Out != "" {
		head = append(head, fmt.Sprintf("oifname %q", row.Out))
		base[box.Out] = box.One(r.policy.Interfaces.Number(row.Out))
	}
	fromSpans, toSpans := box.Merge(prefixes(from)), box.Merge(prefixes(to))
	head = append(head, r.addresses(ip+" saddr", row.FromRoles, fromSpans, family), r.addresses(ip+" daddr", row.ToRoles, toSpans, family))
	emit := func(protocol []string, spans [3][]box.Span, stateful bool) {
		for _, p := range spans[0] {
			for _, f := range fromSpans {
				for _, t := range toSpans {
					for _, fp := range spans[1] {
						for _, tp := range spans[2] {
							b := base
							b[box.Protocol], b[box.From], b[box.To], b[box.FromPort], b[box.ToPort] = p, f, t, fp, tp
							r.rendered[row.ID] = append(r.rendered[row.ID], b)
						}
					}
				}
			}
		}
		parts := append(slices.Clone(head), protocol...)
		if stateful { // the discovery of neighbours has no state
			parts = append(parts, "ct state new")
		}
		parts = append(parts, "counter accept", fmt.Sprintf("comment %q", row.ID))
		to := r.chains
		if len(row.Protocols) == 0 { // whatever conntrack thinks of it
			to = r.first
		}
		to[row.Hook] = append(to[row.Hook], strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " "))
	}
	if len(row.Protocols) == 0 {
		zero := []box.Span{box.Range(0, 65535)}
		emit(nil, [3][]box.Span{{box.Range(0, 255)}, zero, zero}, false)
		r.rendered[row.ID], _ = r.rendered[row.ID].Intersect(box.Real()) // a few boxes
	}
	for _, p := range row.Protocols {
		name := box.ProtocolName(p)
		switch {
		case box.HasPorts(p):
			fromPorts, toPorts := box.Merge(ports(row.FromPorts)), box.Merge(ports(row.ToPorts))
			emit([]string{"meta l4proto " + name, match(name+" sport", fromPorts), match(name+" dport", toPorts)}, [3][]box.Span{{box.One(p)}, fromPorts, toPorts}, true)
		case (p == box.ICMP) == (family == box.IPv4):
			types := []box.Span{box.One(8)}
			if family == box.IPv6 {
				types = []box.Span{box.One(128)}
			}
			if len(row.Types) > 0 {
				types = box.Merge(ports(row.Types))
			}
			zero := []box.Span{box.One(0)}
			emit([]string{match(name+" type", types), name + " code 0"}, [3][]box.Span{{box.One(p)}, types, zero}, len(row.Types) == 0)
		}
	}
}

func prefixes(list []netip.Prefix) (out []box.Span) {
	for _, p := range list {
		out = append(out, box.Prefix(p))
	}
	return out
}

func ports(list []need.Ports) (out []box.Span) {
	for _, p := range list {
		out = append(out, box.Range(p.First, p.Last))
	}
	if len(out) == 0 {
		out = []box.Span{box.Range(0, 65535)}
	}
	return out
}

// match writes a match of ports or types, or nothing if it is all of them.
func match(field string, spans []box.Span) string {
	var texts []string
	for _, s := range spans {
		switch {
		case s == box.Range(0, 65535):
			return ""
		case s.First == s.Last:
			texts = append(texts, fmt.Sprint(s.First.Lo))
		default:
			texts = append(texts, fmt.Sprintf("%d-%d", s.First.Lo, s.Last.Lo))
		}
	}
	if len(texts) == 1 {
		return field + " " + texts[0]
	}
	return field + " { " + strings.Join(texts, ", ") + " }"
}

// addresses writes a match of addresses by a set with the name of the roles, one address as it is, and all of them not at all.
func (r *renderer) addresses(field string, roles []string, spans []box.Span, family uint8) string {
	if len(spans) == 1 && spans[0] == box.Everything(family)[box.From] {
		return ""
	}
	texts := make([]string, len(spans))
	for i, s := range spans {
		texts[i] = box.Addresses(s, family)
	}
	if len(texts) == 1 {
		return field + " " + texts[0]
	}
	base := strings.Join(roles, "-and-")
	if len(base) > 60 || base == "" {
		base = fmt.Sprintf("%.40s-and-more", base)
	}
	for i := 1; ; i++ {
		name := fmt.Sprintf("%s-v%d", base, family)
		if i > 1 {
			name += fmt.Sprintf("-%d", i)
		}
		if name[0] < 'A' { // a name begins with a letter
			name = "n" + name
		}
		text := fmt.Sprintf("\tset %s {\n\t\ttype ipv%d_addr\n\t\tflags interval\n\t\telements = { %s }\n\t}\n", name, family, strings.Join(texts, ", "))
		if was, ok := r.sets[name]; ok && was != text {
			continue
		} else if !ok {
			r.sets[name] = text
			r.names = append(r.names, name)
		}
		return field + " @" + name
	}
}
