package marks

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/need"
)

// Targets returns what marks can be rendered for.
func Targets() []string { return []string{"nftables-qos", "ios-qos", "windows-qos"} }

// rule is one mark for packets that can be told apart by their ports.
type rule struct {
	id, text  string
	transport string
	from, to  []need.Ports
	dscp      uint8
}

// Render returns a set's marks in the words of a target, and what those say differently.
func Render(s *need.Set, target string) (text string, lost []need.Loss, err error) {
	rules, lost := rulesOf(s)
	head := s.Title
	if v := s.Version(); v != "" {
		head += ", version " + v
	}
	switch target {
	case "nftables-qos":
		return nft(head, rules), lost, nil
	case "ios-qos":
		return ios(head, rules), lost, nil
	case "windows-qos":
		text, more := windows(head, rules)
		return text, append(lost, more...), nil
	}
	return "", nil, &ringfence.Fault{Op: "marks.render", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.40q is no target", target), Hint: "there are " + strings.Join(Targets(), ", ")}
}

// rulesOf makes rules of the marks: media by UDP, signalling by TCP, and of the rows of a running node what it marks itself.
func rulesOf(s *need.Set) (out []rule, lost []need.Loss) {
	for _, m := range s.Marks {
		if len(m.DSCP) == 0 {
			continue
		}
		r := rule{id: m.ID, text: m.From + " " + m.Traffic, transport: "udp", from: m.FromPorts, to: m.ToPorts, dscp: slices.Max(m.DSCP)}
		if strings.Contains(m.Traffic, "signal") {
			r.transport = "tcp"
		}
		if len(m.DSCP) > 1 {
			lost = append(lost, need.Loss{Row: m.ID, Why: fmt.Sprintf("%s share their ports, so that a packet does not show which it is: all of them get %d; trust the marks of the devices if they set them", m.Traffic, r.dscp)})
		}
		out = append(out, r)
	}
	for _, n := range s.Needs {
		if n.DSCP == nil || *n.DSCP == 0 {
			continue
		}
		for _, t := range n.Transport {
			r := rule{id: n.ID, text: n.Purpose, transport: t, from: n.FromPorts, to: n.ToPorts, dscp: *n.DSCP}
			out = append(out, r)
			if n.Direction == need.Inbound { // what comes back is marked as well
				out = append(out, rule{id: n.ID, text: n.Purpose + ", the way back", transport: t, from: n.ToPorts, to: n.FromPorts, dscp: *n.DSCP})
			}
		}
	}
	// The more closely a rule says its ports, the earlier it stands: the last that fits wins nowhere, the first does everywhere.
	slices.SortStableFunc(out, func(a, b rule) int { return width(a.from)*width(a.to) - width(b.from)*width(b.to) })
	return out, lost
}

// width is how many ports a list of ranges spans, at most 65536.
func width(all []need.Ports) (n int) {
	for _, p := range all {
		n += int(p.Last) - int(p.First) + 1
	}
	if n == 0 {
		n = 1 << 16
	}
	return n
}

// comment keeps of a text what is no more than a text in every target.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" .,:+()/_-", r) {
			return r
		}
		return ' '
	}, s)
}

func nft(head string, rules []rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\ntable inet ringfence_qos\ndelete table inet ringfence_qos\ntable inet ringfence_qos {\n\tchain by_port {\n", comment(head))
	for _, r := range rules {
		match := "meta l4proto " + r.transport
		for _, side := range []struct {
			name string
			all  []need.Ports
		}{{"sport", r.from}, {"dport", r.to}} {
			if len(side.all) > 0 {
				match += " " + r.transport + " " + side.name + " { " + ranges(side.all, "-", ", ") + " }"
			}
		}
		for _, family := range []string{"ip", "ip6"} {
			fmt.Fprintf(&b, "\t\tmeta nfproto %s %s %s dscp set %d accept comment \"%s\"\n", map[string]string{"ip": "ipv4", "ip6": "ipv6"}[family], match, family, r.dscp, clip(comment(r.id+": "+r.text), 120))
		}
	}
	b.WriteString("\t}\n\tchain forward {\n\t\ttype filter hook forward priority mangle; policy accept;\n\t\tjump by_port\n\t}\n\tchain output {\n\t\ttype route hook output priority mangle; policy accept;\n\t\tjump by_port\n\t}\n}\n")
	return b.String()
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

func ranges(all []need.Ports, dash, between string) string {
	parts := make([]string, len(all))
	for i, p := range merge(all) {
		parts[i] = p.String()
		if p.First != p.Last {
			parts[i] = fmt.Sprintf("%d%s%d", p.First, dash, p.Last)
		}
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), between)
}

// merge joins ranges that overlap or touch, in order.
func merge(all []need.Ports) (out []need.Ports) {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b need.Ports) int { return int(a.First) - int(b.First) })
	for _, p := range sorted {
		if n := len(out); n > 0 && int(p.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}

func ios(head string, rules []rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "! %s\n", comment(head))
	side := func(p need.Ports) string {
		switch {
		case p == need.Ports{}:
			return ""
		case p.First == p.Last:
			return fmt.Sprintf(" eq %d", p.First)
		}
		return fmt.Sprintf(" range %d %d", p.First, p.Last)
	}
	for i, r := range rules {
		name := fmt.Sprintf("RINGFENCE-%02d", i+1)
		fmt.Fprintf(&b, "ip access-list extended %s\n remark %s\n", name, clip(comment(r.id+" "+r.text), 100))
		from, to := merge(r.from), merge(r.to)
		if len(from) == 0 {
			from = []need.Ports{{}}
		}
		if len(to) == 0 {
			to = []need.Ports{{}}
		}
		for _, f := range from {
			for _, t := range to {
				fmt.Fprintf(&b, " permit %s any%s any%s\n", r.transport, side(f), side(t))
			}
		}
		fmt.Fprintf(&b, "class-map match-any %s\n match access-group name %s\n", name, name)
	}
	b.WriteString("policy-map RINGFENCE\n")
	for i, r := range rules {
		fmt.Fprintf(&b, " class RINGFENCE-%02d\n  set dscp %d\n", i+1, r.dscp)
	}
	b.WriteString("! put it on the interface towards the phones: service-policy input RINGFENCE\n")
	return b.String()
}

func windows(head string, rules []rule) (text string, lost []need.Loss) {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", comment(head))
	for i, r := range rules {
		from := merge(r.from)
		if len(from) == 1 && from[0] == need.Ephemeral() {
			from = nil
		}
		to := merge(r.to)
		if len(from) == 0 && len(to) == 0 {
			lost = append(lost, need.Loss{Row: r.id, Why: "a policy of Windows for every port would mark everything: left out"})
			continue
		}
		n := 0
		add := func(match string) {
			n++
			fmt.Fprintf(&b, "New-NetQosPolicy -Name 'Ringfence %02d.%d %s' -IPProtocolMatchCondition %s%s -DSCPAction %d -NetworkProfile All\n", i+1, n, clip(comment(r.id), 60), strings.ToUpper(r.transport), match, r.dscp)
		}
		switch {
		case len(from) > 0: // a policy has one range at one side; what we send from is ours
			for _, p := range from {
				add(fmt.Sprintf(" -IPSrcPortStartMatchCondition %d -IPSrcPortEndMatchCondition %d", p.First, p.Last))
			}
			if len(to) > 0 {
				lost = append(lost, need.Loss{Row: r.id, Why: "wider: a policy of Windows has a range at one side, so that the ports of the other side (" + ranges(to, "-", " ") + ") are not looked at"})
			}
		default:
			for _, p := range to {
				add(fmt.Sprintf(" -IPDstPortStartMatchCondition %d -IPDstPortEndMatchCondition %d", p.First, p.Last))
			}
		}
	}
	return b.String(), lost
}
