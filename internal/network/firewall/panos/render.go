package panos

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

// Render writes a policy as set commands, and says what it lost of it. Rules are for any application, since a table of needs has ports and no applications; the last one drops everything else, also within a zone.
func Render(p *site.Policy) (string, *firewall.Certificate, error) {
	if p.Host {
		return "", nil, &ringfence.Fault{Op: "panos.render", Kind: ringfence.KindUnsupported, Text: "a network device forwards packets, and the set is about one host", Hint: "choose nftables or pf for it"}
	}
	w := &writer{known: map[string]string{}, taken: map[string]bool{}}
	rendered := map[string]box.List{}
	var lines []string
	for _, row := range p.Rows {
		for _, e := range entry.Of(row, p.Interfaces) {
			text, ok := w.rule(w.name(row.ID), row.ID, row.In, row.Out, e, true)
			if !ok {
				continue
			}
			lines = append(lines, text)
			l, err := entry.Compile("panos.render", []entry.Entry{e}, box.Real())
			if err != nil {
				return "", nil, err
			}
			rendered[row.ID] = append(rendered[row.ID], l...)
		}
	}
	cert, err := firewall.Certify(p, rendered)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# What %s needs, and nothing else, for PAN-OS: enter it in configuration mode, and commit.\n", p.Set)
	if slices.ContainsFunc(p.Rows, func(r site.Row) bool { from, to := r.Pairs(box.IPv6); return len(from)*len(to) > 0 }) {
		b.WriteString("set deviceconfig setting session ipv6-firewalling yes\n")
	}
	for _, l := range w.define {
		b.WriteString(l + "\n")
	}
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	fmt.Fprintf(&b, "set rulebase security rules %s from any to any source any destination any application any service any action deny log-end yes\n", w.name("everything-else"))
	return b.String(), cert, nil
}

// writer writes entries as rules, and the objects that they name.
type writer struct {
	known  map[string]string // names by what stands behind them
	taken  map[string]bool
	define []string
	has    func(string) bool // names that others have
	prefix string            // words before what is defined
	there  *entry.Groups[entry.Ends]
	// rulebase is what stands between set and security; "" is rulebase.
	rulebase string
}

// name returns a name of a rule or an object that nobody has: at most 63 letters, digits, dashes, dots and underscores.
func (w *writer) name(want string) string {
	want = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, want)
	if len(want) > 50 {
		want = want[:50]
	}
	name := "ringfence-" + want
	for i := 2; w.taken[name] || w.has != nil && w.has(name); i++ {
		name = fmt.Sprintf("ringfence-%.45s-%d", want, i)
	}
	w.taken[name] = true
	return name
}

func (w *writer) object(body, want string, define func(name string) string) string {
	name, ok := w.known[body]
	if !ok {
		name = w.name(want)
		w.known[body] = name
		w.define = append(w.define, define(name))
	}
	return name
}

// end writes the addresses of one end. Of all addresses of a family it says the network that they are.
func (w *writer) end(spans []box.Span, family uint8) string {
	if spans == nil {
		spans = entry.Anywhere().Of(family)
	}
	if w.there != nil {
		if name := entry.Named(w.there, spans, family); name != "" {
			return quote(name)
		}
	}
	var names []string
	for _, n := range entry.NetworksOf(spans, family) {
		if w.there != nil {
			if name := entry.Named(w.there, []box.Span{box.Prefix(n)}, family); name != "" {
				names = append(names, quote(name))
				continue
			}
		}
		names = append(names, w.object("address "+n.String(), strings.ReplaceAll(n.String(), "/", "_"), func(name string) string { return fmt.Sprintf("set %saddress %s ip-netmask %s", w.prefix, name, n) }))
	}
	if len(names) == 1 {
		return names[0]
	}
	list := "[ " + strings.Join(names, " ") + " ]"
	return w.object("group "+list, fmt.Sprintf("group-%d", len(w.known)+1), func(name string) string { return fmt.Sprintf("set %saddress-group %s static %s", w.prefix, name, list) })
}

// base returns the words of the rulebase that rules come into.
func (w *writer) base() string {
	if w.rulebase != "" {
		return w.rulebase
	}
	return "rulebase"
}

func numbers(spans []box.Span) string {
	var out []string
	for _, s := range spans {
		if s.First == s.Last {
			out = append(out, fmt.Sprint(s.First.Lo))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", s.First.Lo, s.Last.Lo))
		}
	}
	return strings.Join(out, ",")
}

// rule writes an entry as a rule; ok is false if no rule can say it: of ICMP, the device only knows the application ping.
func (w *writer) rule(name, row, in, out string, e entry.Entry, accept bool) (text string, ok bool) {
	application, services := "any", []string(nil)
	for _, s := range e.Protocols {
		for p := s.First.Lo; p <= s.Last.Lo; p++ {
			protocol := map[uint64]string{6: "tcp", 17: "udp", 132: "sctp"}[p]
			switch {
			case protocol != "":
				to := e.ToPorts
				if to == nil {
					to = []box.Span{entry.AllPorts()}
				}
				body := fmt.Sprintf("protocol %s port %s", protocol, numbers(to))
				if e.FromPorts != nil {
					body += " source-port " + numbers(e.FromPorts)
				}
				services = append(services, w.object(body, row+"-"+protocol, func(name string) string { return "set " + w.prefix + "service " + name + " " + body }))
			case len(e.Protocols) == 1 && s.First == s.Last && slices.Equal(e.ToPorts, []box.Span{box.One(0)}) &&
				(p == 1 && slices.Equal(e.FromPorts, []box.Span{box.One(entry.EchoRequest)}) || p == 58 && slices.Equal(e.FromPorts, []box.Span{box.One(entry.EchoRequest6)})):
				application, services = map[uint64]string{1: "ping", 58: "ping6"}[p], []string{"application-default"}
			default:
				return "", false
			}
		}
	}
	service := "any"
	if len(services) == 1 {
		service = services[0]
	} else if len(services) > 1 {
		service = "[ " + strings.Join(services, " ") + " ]"
	}
	zone := func(s string) string {
		if s == "" {
			return "any"
		}
		return s
	}
	action := "deny"
	if accept {
		action = "allow"
	}
	return fmt.Sprintf("set "+w.base()+" security rules %s from %s to %s source %s destination %s application %s service %s action %s description %q",
		name, zone(in), zone(out), w.end(e.From, e.Family), w.end(e.To, e.Family), application, service, action, row), true
}
