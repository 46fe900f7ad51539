package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
)

// meaning is what a rule says.
type meaning struct {
	cond      box.List // what it matches
	target    string
	final     bool   // goto
	comment   string // of -m comment
	strange   string // the first thing that is not understood
	helper    bool   // CT only names a helper
	broadcast bool   // it matches broadcasts
}

// parser goes through the words of a rule.
type parser struct {
	*walk
	m        *meaning
	words    []string
	protocol uint8 // of -p
	some     bool  // there is a -p that names one protocol
	modules  []string
}

func number(text string, last uint64) (uint64, bool) {
	n, err := strconv.ParseUint(text, 0, 64)
	return n, err == nil && n <= last
}

func (p *parser) strange(what string, args ...any) {
	if p.m.strange == "" {
		p.m.strange = fmt.Sprintf(what, args...)
	}
}

// parse reads the words of a rule after its chain.
func (w *walk) parse(words []string) *meaning {
	p := &parser{walk: w, m: &meaning{cond: box.List{box.Everything(w.table.family)}}, words: words}
	for len(p.words) > 0 {
		not := p.words[0] == "!"
		if not {
			p.words = p.words[1:]
		}
		if len(p.words) == 0 {
			p.strange("a rule that ends with !")
			break
		}
		option := p.words[0]
		p.words = p.words[1:]
		if name, value, ok := strings.Cut(option, "="); ok && strings.HasPrefix(option, "--") {
			option, p.words = name, append([]string{value}, p.words...)
		}
		if len(p.words) > 0 && p.words[0] == "!" && !not && !slices.Contains([]string{"--tcp-flags", "-m", "-f", "--syn"}, option) && len(p.words) > 1 && !strings.HasPrefix(p.words[1], "-") {
			not, p.words = true, p.words[1:] // as it was written long ago
		}
		p.option(option, not)
		if len(p.m.cond) == 0 && p.m.target != "" {
			break
		}
	}
	return p.m
}

// next takes the argument of an option.
func (p *parser) next() string {
	if len(p.words) == 0 {
		p.strange("an option without its value")
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// only narrows what the rule matches to intervals of a dimension, or to what is in none of them.
func (p *parser) only(d box.Dim, spans []box.Span, not bool) {
	all := box.Everything(p.table.family)
	if not {
		spans = box.Inverse(spans, all[d].Last)
	}
	var list box.List
	for _, all[d] = range box.Merge(spans) {
		list = append(list, all)
	}
	p.and(list)
}

func (p *parser) and(list box.List) {
	var err error
	if p.m.cond, err = p.m.cond.Intersect(list); err != nil {
		p.strange("matches that fall into too many pieces")
	}
}

func (p *parser) option(option string, not bool) {
	switch option {
	case "-s", "--source", "--src":
		p.address(box.From, not)
	case "-d", "--destination", "--dst":
		p.address(box.To, not)
	case "-i", "--in-interface":
		p.device(box.In, not)
	case "-o", "--out-interface":
		p.device(box.Out, not)
	case "-p", "--protocol", "--proto":
		p.proto(not)
	case "-f", "--fragment":
		if !not { // none is
			p.m.cond = nil
		}
	case "-j", "--jump", "-g", "--goto":
		p.m.target, p.m.final = p.next(), strings.HasPrefix(strings.TrimLeft(option, "-"), "g")
		p.targetOptions()
	case "-c", "--set-counters":
		p.next()
		p.next()
	case "-m", "--match":
		p.module(p.next())
	case "--comment":
		p.m.comment = p.next()
	default:
		p.matchOption(option, not)
	}
}

// module notes a match. What has options of its own is read with them.
func (p *parser) module(name string) {
	p.modules = append(p.modules, name)
	switch name {
	case "comment", "tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmp6", "icmpv6", "multiport", "iprange", "set", "conntrack", "state", "addrtype", "standard":
	case "rt", "frag": // no packet has such a header
		for len(p.words) > 0 && !strings.HasPrefix(p.words[0], "-j") && p.words[0] != "-m" && p.words[0] != "-g" && p.words[0] != "-p" {
			if p.words[0] == "!" {
				p.strange("the match %s, negated", name)
			}
			p.words = p.words[1:]
		}
		p.m.cond = nil
	default:
		p.strange("the match %.40s", name)
	}
}

// targetOptions reads what stands behind a target.
func (p *parser) targetOptions() {
	rest := strings.Join(p.words, " ")
	p.m.helper = p.m.target == "CT" && strings.HasPrefix(rest, "--helper ") && !strings.Contains(rest, "--notrack")
	if p.m.target == "REJECT" && strings.Contains(rest, "tcp-reset") {
		p.only(box.Protocol, []box.Span{box.One(box.TCP)}, false)
	}
	for len(p.words) > 0 && p.words[0] != "-m" && p.words[0] != "-c" { // people write a comment behind it
		p.words = p.words[1:]
	}
}

func (p *parser) address(d box.Dim, not bool) {
	var spans []box.Span
	for _, text := range strings.Split(p.next(), ",") {
		s, err := network(text, p.table.family)
		if err != nil {
			p.strange("%s", err)
			return
		}
		spans = append(spans, s)
	}
	p.only(d, spans, not)
}

// network reads an address, with a length or a mask.
func network(text string, family uint8) (s box.Span, err error) {
	addr, mask, masked := strings.Cut(text, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4() != (family == box.IPv4) {
		return s, fmt.Errorf("the address %.60q", text)
	}
	bits := a.BitLen()
	if n, ok := number(mask, uint64(bits)); masked && ok && !strings.ContainsAny(mask, "x_") {
		bits = int(n)
	} else if masked {
		m, err := netip.ParseAddr(mask)
		if err != nil || m.Is4() != a.Is4() {
			return s, fmt.Errorf("the address %.60q", text)
		}
		bits = 0
		for _, b := range m.AsSlice() {
			for ; b&0x80 != 0; b <<= 1 {
				bits++
			}
		}
		if !contiguous(m, bits) {
			return s, fmt.Errorf("a mask with holes")
		}
	}
	return box.Prefix(netip.PrefixFrom(a, bits).Masked()), nil
}

// contiguous reports whether a mask is its first bits and nothing else.
func contiguous(m netip.Addr, bits int) bool {
	for i, b := range m.AsSlice() {
		for j := range 8 {
			if (b>>(7-j)&1 == 1) != (i*8+j < bits) {
				return false
			}
		}
	}
	return true
}

func (p *parser) device(d box.Dim, not bool) {
	name := p.next()
	if name == "+" {
		if not {
			p.m.cond = nil
		}
		return
	}
	if strings.HasSuffix(name, "+") {
		p.strange("all interfaces whose name begins with %.15q", strings.TrimSuffix(name, "+"))
		return
	}
	p.only(d, []box.Span{box.One(p.interfaces.Number(name))}, not)
}

// protocols are names that iptables and people write, beside numbers.
func protocols() map[string]uint8 {
	return map[string]uint8{"icmp": 1, "igmp": 2, "ipencap": 4, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "icmp6": 58,
		"eigrp": 88, "ospf": 89, "ospfigp": 89, "pim": 103, "ipcomp": 108, "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136, "mh": 135, "ipv6-mh": 135, "mobility-header": 135, "mobile": 55, "etherip": 97}
}

func (p *parser) proto(not bool) {
	name := strings.ToLower(p.next())
	n, ok := number(name, 255)
	if known, is := protocols()[name]; is {
		n, ok = uint64(known), true
	}
	switch {
	case name == "all" || ok && n == 0:
		if not {
			p.m.cond = nil
		}
	case !ok:
		p.strange("the protocol %.40q", name)
	default:
		p.protocol, p.some = uint8(n), !not
		p.only(box.Protocol, []box.Span{box.One(n)}, not)
	}
}

// ports reads numbers and ranges with commas between them.
func (p *parser) ports(list string) (out []box.Span, ok bool) {
	if !p.some || !box.HasPorts(p.protocol) {
		p.strange("ports of no protocol that has them")
		return nil, false
	}
	for _, text := range strings.Split(list, ",") {
		s, ok := portRange(text, ":")
		if !ok {
			p.strange("the port %.40q", text)
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// services are names of ports that people write.
func services() map[string]uint64 {
	return map[string]uint64{"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "http": 80, "kerberos": 88, "pop3": 110, "ntp": 123, "imap2": 143, "snmp": 161, "ldap": 389, "https": 443, "submission": 587, "ldaps": 636, "imaps": 993, "pop3s": 995,
		"h323hostcall": 1720, "radius": 1812, "sip": 5060, "sip-tls": 5061, "sips": 5061, "mdns": 5353}
}

func portRange(text, between string) (box.Span, bool) {
	one := func(text string) (uint64, bool) {
		if n, ok := services()[text]; ok {
			return n, true
		}
		return number(text, 65535)
	}
	first, last, ranged := strings.Cut(text, between)
	if ranged && first == "" {
		first = "0"
	}
	if ranged && last == "" {
		last = "65535"
	}
	a, ok := one(first)
	b := a
	if ok && ranged {
		b, ok = one(last)
	}
	return box.Range(a, b), ok && a <= b
}

func (p *parser) matchOption(option string, not bool) {
	switch option {
	case "--sport", "--source-port", "--sports", "--source-ports":
		if list, ok := p.ports(p.next()); ok {
			p.only(box.FromPort, list, not)
		}
	case "--dport", "--destination-port", "--dports", "--destination-ports":
		if list, ok := p.ports(p.next()); ok {
			p.only(box.ToPort, list, not)
		}
	case "--ports", "--port":
		if list, ok := p.ports(p.next()); ok {
			p.eitherPort(list, not)
		}
	case "--syn":
		p.flags("FIN,SYN,RST,ACK", "SYN", not)
	case "--tcp-flags":
		mask := p.next()
		p.flags(mask, p.next(), not)
	case "--icmp-type", "--icmpv6-type":
		p.icmp(p.next(), not)
	case "--src-range":
		p.addressRange(box.From, p.next(), not)
	case "--dst-range":
		p.addressRange(box.To, p.next(), not)
	case "--match-set":
		name := p.next()
		p.matchSet(name, p.next(), not)
	case "--ctstate", "--state":
		p.state(p.next(), not)
	case "--ctdir":
		reply := strings.EqualFold(p.next(), "REPLY")
		switch {
		case p.later:
			p.strange("a match of the direction of a connection that is up")
		case reply != not:
			p.m.cond = nil
		}
	case "--dst-type":
		p.addressType(p.next(), not)
	default:
		p.strange("the option %.40s", option)
		for len(p.words) > 0 && !strings.HasPrefix(p.words[0], "-") && p.words[0] != "!" {
			p.words = p.words[1:]
		}
	}
}

// eitherPort narrows to packets with one of the ports at one of the ends.
func (p *parser) eitherPort(spans []box.Span, not bool) {
	if not {
		p.only(box.FromPort, spans, true)
		p.only(box.ToPort, spans, true)
		return
	}
	var list box.List
	for _, s := range spans {
		a, b := box.Everything(p.table.family), box.Everything(p.table.family)
		a[box.FromPort], b[box.ToPort] = s, s
		list = append(list, a, b)
	}
	p.and(list)
}

func (p *parser) addressRange(d box.Dim, text string, not bool) {
	first, last, _ := strings.Cut(text, "-")
	a, err1 := network(first, p.table.family)
	b, err2 := network(last, p.table.family)
	if err1 != nil || err2 != nil || a.First != a.Last || b.First != b.Last || b.First.Less(a.First) {
		p.strange("the range %.90q", text)
		return
	}
	p.only(d, []box.Span{{First: a.First, Last: b.Last}}, not)
}

// state reads the states of conntrack. Packets of connections that are up have only one of them.
func (p *parser) state(list string, not bool) {
	has := map[string]bool{}
	for _, s := range strings.Split(strings.ToUpper(list), ",") {
		if !slices.Contains([]string{"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT"}, s) {
			p.strange("the state %.40q", s)
			return
		}
		has[s] = true
	}
	if has["SNAT"] && p.later { // before, it is behind these rules; and what changes destinations is not understood anyway
		p.strange("the state of a connection whose source is changed")
		return
	}
	switch {
	case p.later && has["ESTABLISHED"] == not:
		p.m.cond = nil
	case p.later:
	default:
		p.and(firewall.FirstPackets(has["NEW"] != not, has["UNTRACKED"] != not, has["INVALID"] != not))
	}
}

// flags reads a match of flags of TCP, which all packets must have that are looked at, or none.
func (p *parser) flags(mask, want string, not bool) {
	bits := func(list string) (sum uint8) {
		for _, f := range strings.Split(strings.ToUpper(list), ",") {
			switch i := slices.Index([]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"}, f); {
			case i >= 0:
				sum |= 1 << i
			case f == "ALL":
				sum |= 0x3f
			case f != "NONE":
				p.strange("the flag %.40q", f)
			}
		}
		return sum
	}
	m, v := bits(mask), bits(want)
	seen := []uint8{2} // SYN
	if p.later {
		seen = []uint8{2 | 16, 16, 8 | 16, 1 | 16} // and ACK, with PSH or FIN
	}
	matched := 0
	for _, f := range seen {
		if (f&m == v) != not {
			matched++
		}
	}
	switch matched {
	case 0:
		p.m.cond = nil
	case len(seen):
	default:
		p.strange("a match of flags that some packets of a connection have and others have not")
	}
}
