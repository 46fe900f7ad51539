package firewalld

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/iptables"
	"ringfence/internal/network/site"
)

// The zones of firewalld for all packets, and for the host itself.
const (
	anyZone  = "ANY"
	hostZone = "HOST"
)

// Render writes a policy as files for /etc/firewalld, and says what they lost of it. firewalld lets packets of connections that are up through by itself, and what the host says to itself.
func Render(p *site.Policy) ([]firewall.File, *firewall.Certificate, error) {
	r, err := render(p)
	if err != nil {
		return nil, nil, err
	}
	cert, err := firewall.Certify(p, r.rendered)
	return r.files(), cert, err
}

func render(p *site.Policy) (*renderer, error) {
	r := &renderer{policy: p, zones: map[string]string{"": anyZone}, sets: map[string]string{}, groups: map[[2]string]*group{}, rendered: map[string]box.List{}}
	for _, row := range p.Rows {
		for _, name := range []string{row.In, row.Out} {
			if err := r.zone(name); err != nil {
				return nil, err
			}
		}
	}
	for _, l := range firewall.Lines(p) {
		if err := r.line(l); err != nil {
			return nil, err
		}
	}
	return r, nil
}

type renderer struct {
	policy   *site.Policy
	zones    map[string]string // of interfaces
	sets     map[string]string // name: file
	groups   map[[2]string]*group
	order    []*group
	rendered map[string]box.List
}

// group is the rules from one zone to another.
type group struct {
	ingress, egress string
	rules           strings.Builder
}

// zone gives an interface of a row its zone.
func (r *renderer) zone(name string) error {
	if name == "lo" || r.zones[name] != "" {
		return nil
	}
	if strings.ContainsAny(name, ":!*/") {
		return &ringfence.Fault{Op: "firewalld.render", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("firewalld takes no interface with the name %s", name), Hint: "name the interface itself, and not an alias of one of its addresses"}
	}
	r.zones[name] = "rf-" + name
	if len(name) > 14 || strings.ContainsAny(name, ".@") { // a zone has at most 17 letters
		r.zones[name] = fmt.Sprintf("rf-zone-%d", len(r.zones))
	}
	return nil
}

// line writes a line as rich rules, and notes what they say.
func (r *renderer) line(l firewall.Line) error {
	if l.AnyProtocol { // firewalld itself lets the host talk to itself
		r.rendered[l.Row] = append(r.rendered[l.Row], l.Boxes(r.policy.Interfaces)...)
		return nil
	}
	ingress, egress := r.zones[l.In], r.zones[l.Out]
	switch l.Hook {
	case box.Input:
		egress = hostZone
	case box.Output:
		ingress = hostZone
	}
	key := [2]string{ingress, egress}
	g := r.groups[key]
	if g == nil {
		g = &group{ingress: ingress, egress: egress}
		r.groups[key] = g
		r.order = append(r.order, g)
	}
	fmt.Fprintf(&g.rules, "  <!-- %s -->\n", strings.ReplaceAll(l.Row, "--", "- -"))
	var says box.List
	if box.HasPorts(l.Protocol) {
		l.FromPorts, l.ToPorts = sayable(l.FromPorts), sayable(l.ToPorts)
		r.ports(&g.rules, &l)
		says = l.Boxes(r.policy.Interfaces)
	} else {
		says = r.icmp(&g.rules, &l)
	}
	says, err := r.gets(l.Hook, l.Family, says)
	r.rendered[l.Row] = append(r.rendered[l.Row], says...)
	return err
}

// sayable leaves port 0 out, of which firewalld has no rule, unless all ports are meant.
func sayable(spans []box.Span) (out []box.Span) {
	if firewall.AllPorts(spans) {
		return spans
	}
	for _, s := range spans {
		if s.First == (box.Num{}) {
			s.First = box.N(1)
		}
		if !s.Last.Less(s.First) {
			out = append(out, s)
		}
	}
	return out
}

// gets returns what of packets comes to rich rules at all: firewalld first refuses addresses of IPv6 that hide ones of IPv4 (RFC 3964), and drops what belongs to nothing unless the host itself sends it.
func (r *renderer) gets(hook, family uint8, l box.List) (box.List, error) {
	var err error
	if family == box.IPv6 && hook != box.Input {
		var refused box.List
		for _, n := range []string{"::/96", "::ffff:0.0.0.0/96", "2002::/24", "2002:a00::/24", "2002:7f00::/24", "2002:a9fe::/32", "2002:ac10::/28", "2002:c0a8::/32", "2002:e000::/19"} {
			b := box.Everything(box.IPv6)
			b[box.To] = box.Prefix(netip.MustParsePrefix(n))
			refused = append(refused, b)
		}
		if l, err = l.Subtract(refused); err != nil {
			return nil, err
		}
	}
	if hook == box.Output {
		return l, nil
	}
	return l.Intersect(firewall.FirstPackets(true, true, false))
}

// ports writes the rule of a line with ports. A set of networks and ports takes the place of a list, which a rich rule does not have, and is how one rule says the ports at both ends.
func (r *renderer) ports(b *strings.Builder, l *firewall.Line) {
	if len(l.FromPorts) == 0 || len(l.ToPorts) == 0 {
		return
	}
	protocol := box.ProtocolName(l.Protocol)
	source := r.end("source", l.FromRoles, l.From, l.FromPorts, l)
	var element, destination string
	switch {
	case firewall.AllPorts(l.ToPorts):
		destination = r.end("destination", l.ToRoles, l.To, l.ToPorts, l)
		element = fmt.Sprintf("<protocol value=%q/>", protocol)
	case len(l.ToPorts) == 1:
		destination = r.end("destination", l.ToRoles, l.To, []box.Span{box.Range(0, 65535)}, l)
		element = fmt.Sprintf("<port port=%q protocol=%q/>", ports(l.ToPorts[0]), protocol)
	default:
		destination = r.end("destination", l.ToRoles, l.To, l.ToPorts, l)
	}
	rule(b, l.Family, source, destination, element)
}

func rule(b *strings.Builder, family uint8, parts ...string) {
	fmt.Fprintf(b, "  <rule family=\"ipv%d\">%s<accept/></rule>\n", family, strings.Join(parts, ""))
}

// icmp writes the rules of a line of ICMP, and returns what they say: rich rules know types by names, with all their codes, and of IPv6 not those of multicast listeners.
func (r *renderer) icmp(b *strings.Builder, l *firewall.Line) box.List {
	all := []box.Span{box.Range(0, 65535)}
	source, destination := r.end("source", l.FromRoles, l.From, all, l), r.end("destination", l.ToRoles, l.To, all, l)
	names := map[uint64]string{8: "echo-request"}
	protocol := "icmp"
	if l.Family == box.IPv6 {
		names, protocol = map[uint64]string{128: "echo-request", 133: "router-solicitation", 134: "router-advertisement", 135: "neighbour-solicitation", 136: "neighbour-advertisement", 137: "redirect"}, "ipv6-icmp"
	}
	var words []string
	for _, s := range l.FromPorts {
		for kind := s.First.Lo; kind <= s.Last.Lo; kind++ {
			if names[kind] == "" { // the whole protocol is too much, and less would cut the host off
				rule(b, l.Family, source, destination, fmt.Sprintf("<protocol value=%q/>", protocol))
				l.FromPorts, l.ToPorts = []box.Span{box.Range(0, 255)}, []box.Span{box.Range(0, 255)}
				return l.Boxes(r.policy.Interfaces)
			}
			words = append(words, names[kind])
		}
	}
	for _, w := range words {
		rule(b, l.Family, source, destination, fmt.Sprintf("<icmp-type name=%q/>", w))
	}
	l.ToPorts = []box.Span{box.Range(0, 255)}
	return l.Boxes(r.policy.Interfaces)
}

func ports(s box.Span) string {
	if s.First == s.Last {
		return fmt.Sprint(s.First.Lo)
	}
	return fmt.Sprintf("%d-%d", s.First.Lo, s.Last.Lo)
}

// end writes one end of a rule: an address, a set of networks, or a set of networks and ports.
func (r *renderer) end(word string, roles []string, spans, portSpans []box.Span, l *firewall.Line) string {
	anyPort := firewall.AllPorts(portSpans)
	if anyPort && firewall.AllAddresses(spans, l.Family) {
		return ""
	}
	var nets []string
	for _, s := range spans {
		if s == box.Everything(l.Family)[box.From] { // a set has no network of all addresses, but one of each half
			last := box.Prefixes(s, l.Family)[0].Addr()
			half := box.Prefix(netip.PrefixFrom(last, 1))
			nets = append(nets, box.Addresses(half, l.Family), box.Addresses(box.Inverse([]box.Span{half}, s.Last)[0], l.Family))
			continue
		}
		for _, p := range box.Prefixes(s, l.Family) {
			if p.IsSingleIP() {
				nets = append(nets, p.Addr().String())
				continue
			}
			nets = append(nets, p.String())
		}
	}
	if anyPort && len(nets) == 1 {
		return fmt.Sprintf("<%s address=%q/>", word, nets[0])
	}
	kind, entries := "hash:net", nets
	if !anyPort {
		kind, entries = "hash:net,port", nil
		for _, n := range nets {
			for _, s := range portSpans {
				entries = append(entries, fmt.Sprintf("%s,%s:%s", n, box.ProtocolName(l.Protocol), ports(s)))
			}
		}
	}
	slices.Sort(entries)
	name := iptables.SetName(roles, entries, l.Family)
	inet := "inet"
	if l.Family == box.IPv6 {
		inet = "inet6"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s<ipset type=%q>\n  <option name=\"family\" value=%q/>\n  <option name=\"maxelem\" value=\"%d\"/>\n", head, kind, inet, max(65536, len(entries)))
	for _, e := range entries {
		fmt.Fprintf(&b, "  <entry>%s</entry>\n", e)
	}
	b.WriteString("</ipset>\n")
	r.sets[name] = b.String()
	return fmt.Sprintf("<%s ipset=%q/>", word, name)
}

const head = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"

// files writes zones, sets and policies. The rows come before all zones, and after them everything else of their kind is dropped.
func (r *renderer) files() (out []firewall.File) {
	for _, name := range slices.Sorted(maps.Keys(r.zones)) {
		if name != "" {
			text := head + fmt.Sprintf("<zone>\n  <short>%s</short>\n  <description>The interface %s. What the host itself takes in by it is as in the zone public of firewalld.</description>\n  <interface name=%q/>\n  <service name=\"ssh\"/>\n  <service name=\"dhcpv6-client\"/>\n</zone>\n", r.zones[name], name, name)
			out = append(out, firewall.File{Name: "zones/" + r.zones[name] + ".xml", Text: text})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		out = append(out, firewall.File{Name: "ipsets/" + name + ".xml", Text: r.sets[name]})
	}
	add := func(name, about, target, ingress, egress, rules string, priority int) {
		text := head + fmt.Sprintf("<policy target=%q priority=\"%d\">\n  <short>%s</short>\n  <description>%s</description>\n  <ingress-zone name=%q/>\n  <egress-zone name=%q/>\n%s</policy>\n", target, priority, name, about, ingress, egress, rules)
		out = append(out, firewall.File{Name: "policies/" + name + ".xml", Text: text})
	}
	for i, g := range r.order {
		add(fmt.Sprintf("rf-needs-%d", i+1), fmt.Sprintf("What %s needs from %s to %s.", escape(r.policy.Set), g.ingress, g.egress), "CONTINUE", g.ingress, g.egress, g.rules.String(), -200)
	}
	if !r.policy.Host {
		add("rf-rest", "Everything else that is forwarded.", "DROP", anyZone, anyZone, "", -100)
		return out
	}
	add("rf-rest-in", "Everything else that the host takes in.", "DROP", anyZone, hostZone, "", -100)
	add("rf-rest-out", "Everything else that the host sends out.", "DROP", hostZone, anyZone, "", -100)
	// firewalld's own policy of this name lets the discovery of neighbours in before all others; the rows say what of it is needed.
	add("allow-host-ipv6", "The rows of the site say what of IPv6 the host takes in.", "CONTINUE", anyZone, hostZone, "", -15000)
	return out
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\"", "&quot;").Replace(text)
}
