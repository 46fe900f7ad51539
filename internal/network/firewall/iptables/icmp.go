package iptables

import (
	"strings"

	"ringfence/internal/network/box"
)

// icmpNames are the names of iptables for types of ICMP, and for types with a code as type<<8|code|1<<16.
func icmpNames(family uint8) map[string]int {
	code := func(kind, code int) int { return 1<<16 | kind<<8 | code }
	if family == box.IPv6 {
		return map[string]int{"destination-unreachable": 1, "no-route": code(1, 0), "communication-prohibited": code(1, 1), "beyond-scope": code(1, 2), "address-unreachable": code(1, 3), "port-unreachable": code(1, 4),
			"failed-policy": code(1, 5), "reject-route": code(1, 6), "packet-too-big": 2, "time-exceeded": 3, "ttl-exceeded": 3, "ttl-zero-during-transit": code(3, 0), "ttl-zero-during-reassembly": code(3, 1),
			"parameter-problem": 4, "bad-header": code(4, 0), "unknown-header-type": code(4, 1), "unknown-option": code(4, 2), "echo-request": 128, "ping": 128, "echo-reply": 129, "pong": 129,
			"router-solicitation": 133, "router-advertisement": 134, "neighbour-solicitation": 135, "neighbor-solicitation": 135, "neighbour-advertisement": 136, "neighbor-advertisement": 136, "redirect": 137}
	}
	return map[string]int{"echo-reply": 0, "pong": 0, "destination-unreachable": 3, "network-unreachable": code(3, 0), "host-unreachable": code(3, 1), "protocol-unreachable": code(3, 2), "port-unreachable": code(3, 3),
		"fragmentation-needed": code(3, 4), "source-route-failed": code(3, 5), "network-prohibited": code(3, 9), "host-prohibited": code(3, 10), "communication-prohibited": code(3, 13), "source-quench": 4, "redirect": 5,
		"network-redirect": code(5, 0), "host-redirect": code(5, 1), "echo-request": 8, "ping": 8, "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "ttl-exceeded": 11, "ttl-zero-during-transit": code(11, 0),
		"ttl-zero-during-reassembly": code(11, 1), "parameter-problem": 12, "ip-header-bad": code(12, 0), "required-option-missing": code(12, 1), "timestamp-request": 13, "timestamp-reply": 14, "address-mask-request": 17, "address-mask-reply": 18}
}

// icmpType reads a type, with its code where there is one.
func icmpType(text string, family uint8) (kind, code box.Span, ok bool) {
	all := box.Range(0, 255)
	if n, known := icmpNames(family)[strings.ToLower(text)]; known {
		if n < 1<<16 {
			return box.One(n), all, true
		}
		return box.One(n >> 8 & 255), box.One(n & 255), true
	}
	first, second, both := strings.Cut(text, "/")
	n, ok := number(first, 255)
	switch {
	case !ok:
		return kind, code, strings.EqualFold(text, "any") && family == box.IPv4
	case !both:
		return box.One(n), all, true
	}
	c, ok := number(second, 255)
	return box.One(n), box.One(c), ok
}

// icmp narrows to a type. Type 255 of IPv4, or any, is every type.
func (p *parser) icmp(text string, not bool) {
	if protocol := map[uint8]uint8{box.IPv4: box.ICMP, box.IPv6: box.ICMPv6}[p.table.family]; !p.some || p.protocol != protocol {
		p.strange("a type of ICMP without the protocol")
		return
	}
	kind, code, ok := icmpType(text, p.table.family)
	switch {
	case !ok:
		p.strange("the type of ICMP %.40q", text)
		return
	case p.table.family == box.IPv4 && (strings.EqualFold(text, "any") || kind == box.One(255)):
		if not {
			p.m.cond = nil
		}
		return
	}
	b := box.Everything(p.table.family)
	b[box.FromPort], b[box.ToPort] = kind, code
	list := box.List{b}
	if not {
		var err error
		if list, err = (box.List{box.Everything(p.table.family)}).Subtract(list); err != nil {
			p.strange("matches that fall into too many pieces")
			return
		}
	}
	p.and(list)
}

// addressType reads a match of what kind of destination a packet has. What comes to this host is for one of its addresses, for a group or for everybody; the broadcast address of a network counts as one of the host's.
func (p *parser) addressType(list string, not bool) {
	if not || p.table.family != box.IPv4 {
		p.strange("a match of the type of an address that is negated, or of IPv6")
		return
	}
	groups := []box.Span{{First: box.N(uint64(224 << 24)), Last: box.N(uint64(240<<24 - 1))}}
	everybody := []box.Span{box.Range[uint64](0, 1<<24-1), box.One[uint64](1<<32 - 1)}
	top := box.N[uint64](1<<32 - 1)
	var spans []box.Span
	for _, kind := range strings.Split(strings.ToUpper(list), ",") {
		switch kind {
		case "MULTICAST":
			spans = append(spans, groups...)
		case "BROADCAST":
			p.m.broadcast = true
			spans = append(spans, everybody...)
		case "LOCAL":
			p.local()
			spans = append(spans, box.Inverse(append(everybody, groups...), top)...)
		default:
			p.strange("the type of address %.40q", kind)
			return
		}
	}
	p.only(box.To, spans, false)
}

// local notes that LOCAL says something only of what comes to the host itself.
func (p *parser) local() {
	if len(p.to.Scope) == 0 || p.to.Scope[0][box.Hook] != box.One(box.Input) {
		p.strange("a match of this host's own addresses elsewhere than at INPUT")
	}
}
