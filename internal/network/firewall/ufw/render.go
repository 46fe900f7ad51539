package ufw

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/iptables"
	"ringfence/internal/network/site"
)

// Render writes a policy as files for /etc/ufw, and says what they lost of it. Its verdict counts on it that the default of what is not allowed is to deny.
func Render(p *site.Policy) ([]firewall.File, *firewall.Certificate, error) {
	for _, row := range p.Rows {
		for _, name := range []string{row.In, row.Out} {
			if strings.ContainsAny(name, ":!") {
				return nil, nil, &ringfence.Fault{Op: "ufw.render", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("ufw takes no interface with the name %s", name), Hint: "name the interface itself, and not an alias of one of its addresses"}
			}
		}
	}
	r := &renderer{policy: p, rendered: map[string]box.List{}, lines: firewall.Lines(p)}
	files := []firewall.File{
		{Name: "before.rules", Text: r.before(box.IPv4)},
		{Name: "before6.rules", Text: r.before(box.IPv6)},
		{Name: "user.rules", Text: r.user(box.IPv4)},
		{Name: "user6.rules", Text: r.user(box.IPv6)},
	}
	cert, err := firewall.Certify(p, r.rendered)
	return files, cert, err
}

type renderer struct {
	policy   *site.Policy
	lines    []firewall.Line
	rendered map[string]box.List
}

// prefix is what the names of ufw's chains begin with.
func prefix(family uint8) string {
	if family == box.IPv6 {
		return "ufw6"
	}
	return "ufw"
}

func word(hook uint8) string { return []string{"forward", "input", "output"}[hook] }

// before writes what stands before the rules of users: states, loopback, and ICMP, for which ufw has no commands. Where the rules are for what is forwarded, the host itself keeps what ufw lets through for it.
func (r *renderer) before(family uint8) string {
	var b strings.Builder
	u := prefix(family)
	fmt.Fprintf(&b, "# What %s needs of ICMP, and the states of connections; the ports are in the user rules. These files are for /etc/ufw, where the defaults deny:\n", r.policy.Set)
	if r.policy.Host {
		b.WriteString("# `ufw default deny incoming` and `ufw default deny outgoing`.\n")
	} else {
		b.WriteString("# `ufw default deny routed`. What is for the host itself, and from it, is as ufw has it.\n")
	}
	for _, m := range r.policy.Missing {
		fmt.Fprintf(&b, "# Not in it: %s lacks %s.\n", m.Row, strings.ReplaceAll(m.Missing, "\n", " "))
	}
	fmt.Fprintf(&b, "*filter\n:%s-before-input - [0:0]\n:%s-before-output - [0:0]\n:%s-before-forward - [0:0]\n", u, u, u)
	for _, hook := range []uint8{box.Input, box.Output, box.Forward} {
		chain := u + "-before-" + word(hook)
		own := r.policy.Host == (hook != box.Forward)
		if own {
			for i := range r.lines {
				if l := &r.lines[i]; l.Hook == hook && l.Family == family && l.AnyProtocol { // whatever conntrack thinks of it
					r.rule(&b, chain, l)
				}
			}
		} else if hook != box.Forward {
			fmt.Fprintf(&b, "-A %s -%s lo -j ACCEPT\n", chain, map[uint8]string{box.Input: "i", box.Output: "o"}[hook])
		}
		if hook != box.Output || own {
			fmt.Fprintf(&b, "-A %s -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"what comes back, and the errors of ICMP that belong to it\" -j ACCEPT\n", chain)
			fmt.Fprintf(&b, "-A %s -m conntrack --ctstate INVALID -j %s-logging-deny\n-A %s -m conntrack --ctstate INVALID -m comment --comment \"belongs to nothing\" -j DROP\n", chain, u, chain)
		} else {
			fmt.Fprintf(&b, "-A %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", chain)
		}
		for i := range r.lines {
			if l := &r.lines[i]; own && l.Hook == hook && l.Family == family && !l.AnyProtocol && !box.HasPorts(l.Protocol) {
				r.rule(&b, chain, l)
			}
		}
		if !own && hook == box.Input {
			b.WriteString(host(chain, family))
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// host is what a host that only forwards for others is still asked: pings, an address by DHCP, and for IPv6 who its neighbours are (RFC 4890 section 4.4).
func host(chain string, family uint8) string {
	var b strings.Builder
	if family == box.IPv4 {
		fmt.Fprintf(&b, "-A %s -p icmp -m icmp --icmp-type 8 -j ACCEPT\n-A %s -p udp -m udp --sport 67 --dport 68 -j ACCEPT\n", chain, chain)
		return b.String()
	}
	for _, kind := range []int{133, 134, 135, 136} {
		fmt.Fprintf(&b, "-A %s -p ipv6-icmp -m icmp6 --icmpv6-type %d -m hl --hl-eq 255 -j ACCEPT\n", chain, kind)
	}
	for _, kind := range []int{130, 131, 132, 143} {
		fmt.Fprintf(&b, "-A %s -s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type %d -j ACCEPT\n", chain, kind)
	}
	fmt.Fprintf(&b, "-A %s -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT\n-A %s -s fe80::/10 -d fe80::/10 -p udp -m udp --sport 547 --dport 546 -j ACCEPT\n", chain, chain)
	return b.String()
}

// rule writes a line as rules of iptables, one for each pair of networks.
func (r *renderer) rule(b *strings.Builder, chain string, l *firewall.Line) {
	for _, from := range networks(l.From, l.Family) {
		for _, to := range networks(l.To, l.Family) {
			head := ""
			if from.Bits() > 0 {
				head += " -s " + from.String()
			}
			if to.Bits() > 0 {
				head += " -d " + to.String()
			}
			part := *l
			part.From, part.To = []box.Span{box.Prefix(from)}, []box.Span{box.Prefix(to)}
			for _, m := range iptables.Matches(&part, head) {
				fmt.Fprintf(b, "-A %s%s -m comment --comment %s -j ACCEPT\n", chain, m.Text, l.Row)
				r.rendered[l.Row] = append(r.rendered[l.Row], m.Line.Boxes(r.policy.Interfaces)...)
			}
		}
	}
}

func networks(spans []box.Span, family uint8) (out []netip.Prefix) {
	for _, s := range spans {
		out = append(out, box.Prefixes(s, family)...)
	}
	return out
}

// user writes the file of the rules that users make with commands, in the words in which ufw keeps them: it shows, numbers and deletes them as its own.
func (r *renderer) user(family uint8) string {
	u := prefix(family)
	var b strings.Builder
	b.WriteString("*filter\n")
	for _, chain := range []string{"user-input", "user-output", "user-forward", "before-logging-input", "before-logging-output", "before-logging-forward", "user-logging-input", "user-logging-output", "user-logging-forward",
		"after-logging-input", "after-logging-output", "after-logging-forward", "logging-deny", "logging-allow", "user-limit", "user-limit-accept"} {
		fmt.Fprintf(&b, ":%s-%s - [0:0]\n", u, chain)
	}
	b.WriteString("### RULES ###\n")
	for i := range r.lines {
		l := &r.lines[i]
		if l.Family != family || l.AnyProtocol || !box.HasPorts(l.Protocol) {
			continue
		}
		for _, from := range networks(l.From, family) {
			for _, to := range networks(l.To, family) {
				part := *l
				part.From, part.To = []box.Span{box.Prefix(from)}, []box.Span{box.Prefix(to)}
				for _, part.FromPorts = range iptables.PortChunks(sayable(l.FromPorts)) {
					for _, part.ToPorts = range iptables.PortChunks(sayable(l.ToPorts)) {
						b.WriteString(tuple(&part, u, from, to))
						r.rendered[l.Row] = append(r.rendered[l.Row], part.Boxes(r.policy.Interfaces)...)
					}
				}
			}
		}
	}
	b.WriteString("\n### END RULES ###\n\n### LOGGING ###\n")
	const rate = "-m limit --limit 3/min --limit-burst 10"
	logged := []string{"input", "forward"}
	if r.policy.Host {
		logged = []string{"input", "output", "forward"}
	}
	for _, hook := range logged {
		fmt.Fprintf(&b, "-A %s-after-logging-%s -j LOG --log-prefix \"[UFW BLOCK] \" %s\n", u, hook, rate)
	}
	fmt.Fprintf(&b, "-I %s-logging-deny -m conntrack --ctstate INVALID -j RETURN %s\n", u, rate)
	fmt.Fprintf(&b, "-A %s-logging-deny -j LOG --log-prefix \"[UFW BLOCK] \" %s\n", u, rate)
	fmt.Fprintf(&b, "-A %s-logging-allow -j LOG --log-prefix \"[UFW ALLOW] \" %s\n", u, rate)
	b.WriteString("### END LOGGING ###\n\n### RATE LIMITING ###\n")
	fmt.Fprintf(&b, "-A %s-user-limit -m limit --limit 3/minute -j LOG --log-prefix \"[UFW LIMIT BLOCK] \"\n-A %s-user-limit -j REJECT\n-A %s-user-limit-accept -j ACCEPT\n", u, u, u)
	b.WriteString("### END RATE LIMITING ###\nCOMMIT\n")
	return b.String()
}

// sayable leaves port 0 out, of which ufw has no rule, unless all ports are meant.
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

// tuple writes a rule, with the line before it by which ufw knows it again.
func tuple(l *firewall.Line, u string, from, to netip.Prefix) string {
	ports := func(s []box.Span) string {
		if firewall.AllPorts(s) {
			return "any"
		}
		return iptables.PortList(s)
	}
	address := func(p netip.Prefix) string {
		if p.IsSingleIP() {
			return p.Addr().String()
		}
		return p.String()
	}
	action, where := "allow", "in"
	switch l.Hook {
	case box.Forward:
		action = "route:allow"
	case box.Output:
		where = "out"
	}
	var match string
	if l.In != "" {
		match += " -i " + l.In
	}
	if l.Out != "" {
		match += " -o " + l.Out
	}
	switch {
	case l.In != "" && l.Out != "":
		where = "in_" + l.In + "!out_" + l.Out
	case l.In+l.Out != "":
		where += "_" + l.In + l.Out
	}
	protocol := box.ProtocolName(l.Protocol)
	match += " -p " + protocol
	dport, sport := ports(l.ToPorts), ports(l.FromPorts)
	several := strings.ContainsAny(dport+sport, ",:")
	option := func(name, value string) string {
		if value == "any" {
			return ""
		}
		if several {
			return " -m multiport --" + name + "s " + value
		}
		return " --" + name + " " + value
	}
	net := func(name string, p netip.Prefix) string {
		if p.Bits() == 0 {
			return ""
		}
		return " " + name + " " + address(p)
	}
	if several {
		match += option("dport", dport) + option("sport", sport) + net("-d", to) + net("-s", from)
	} else {
		match += net("-d", to) + option("dport", dport) + net("-s", from) + option("sport", sport)
	}
	return fmt.Sprintf("\n### tuple ### %s %s %s %s %s %s %s comment=%s\n-A %s-user-%s%s -j ACCEPT\n", action, protocol, dport, address(to), sport, address(from), where, hex.EncodeToString([]byte(l.Row)), u, word(l.Hook), match)
}
