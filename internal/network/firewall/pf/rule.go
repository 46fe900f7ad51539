package pf

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
)

// rule reads a rule that passes or blocks.
func (p *parser) rule(pass bool) error {
	u := rule{first: p.statement.first, last: p.statement.last, text: p.statement.text, pass: pass}
	if !pass {
		if p.is("drop", "return", "return-rst", "return-icmp", "return-icmp6") {
			p.parens()
		}
	}
	if err := p.body(&u); err != nil {
		return err
	}
	p.rules = append(p.rules, u)
	return nil
}

// match reads a rule that decides nothing, but may change addresses.
func (p *parser) match() error {
	u := rule{pass: true}
	for _, t := range p.tokens {
		switch t.text {
		case "rdr-to", "binat-to", "af-to", "divert-to", "divert-packet", "route-to", "reply-to", "dup-to", "tag":
			return fmt.Errorf("match with %s", t.text)
		}
	}
	i := slices.IndexFunc(p.tokens, func(t token) bool { return t.text == "nat-to" })
	if i < 0 {
		return nil
	}
	p.tokens = p.tokens[:i]
	for _, t := range p.tokens { // whose addresses are translated is all the same
		if t.text == "on" {
			for p.next() != "on" {
			}
			on, err := p.onInterfaces()
			if err != nil {
				on = nil
			}
			u.on = on
			break
		}
	}
	p.nats = append(p.nats, nat{p.statement.first, u.on})
	return nil
}

func (p *parser) body(u *rule) (err error) {
	u.in, u.out = true, true
	if p.is("in") {
		u.out = false
	} else if p.is("out") {
		u.in = false
	}
	if p.is("log") {
		p.parens()
	}
	u.quick = p.is("quick")
	if p.is("on") {
		if u.on, err = p.onInterfaces(); err != nil {
			return err
		}
	}
	family := uint8(0)
	if p.is("inet") {
		family = box.IPv4
	} else if p.is("inet6") {
		family = box.IPv6
	}
	var protocols []box.Span
	if p.is("proto") {
		if err := p.each(func() error {
			w := p.next()
			s, ok := entry.Protocol(w)
			if !ok {
				return fmt.Errorf("%.40q is no protocol that is known", w)
			}
			protocols = append(protocols, s)
			return nil
		}); err != nil {
			return err
		}
	}
	service := entry.Service{Family: family, Protocols: protocols}
	u.from, u.to = entry.Anywhere(), entry.Anywhere()
	if !p.is("all") {
		if p.is("from") {
			if u.from, service.From, err = p.hosts(protocols); err != nil {
				return err
			}
			u.restricted = !isAnywhere(u.from)
		}
		if p.is("to") {
			if u.to, service.To, err = p.hosts(protocols); err != nil {
				return err
			}
		}
	}
	u.services = []entry.Service{service}
	return p.options(u)
}

func isAnywhere(e entry.Ends) bool {
	all := entry.Anywhere()
	return slices.Contains(e.Four, all.Four[0]) && slices.Contains(e.Six, all.Six[0])
}

// onInterfaces reads which interfaces a rule is about; nil is any.
func (p *parser) onInterfaces() (out []box.Span, err error) {
	all := false
	err = p.each(func() error {
		not := p.is("!")
		name := p.next()
		switch {
		case name == "any":
			all = true
			return nil
		case name == "rdomain", !isInterface(name):
			return fmt.Errorf("%.40q is a group of interfaces, whose members only the machine knows", name)
		}
		one := []box.Span{box.One(p.number(name))}
		if not {
			one = entry.Not(one, box.N(box.MaxInterface))
		}
		out = append(out, one...)
		return nil
	})
	if all {
		out = nil
	} else if err == nil && len(out) == 0 {
		err = fmt.Errorf("no interface is named")
	}
	return out, err
}

// hosts reads addresses and ports of one end.
func (p *parser) hosts(protocols []box.Span) (out entry.Ends, ports []box.Span, err error) {
	if p.peek() == "port" { // without addresses
		out = entry.Anywhere()
	} else if err := p.each(func() error {
		not := p.is("!")
		if p.is("any") {
			out.Join(entry.Anywhere())
			return nil
		}
		var one entry.Ends
		if p.is("<") {
			name := p.next()
			t := p.tables[name]
			p.is(">")
			switch {
			case t == nil:
				return fmt.Errorf("there is no table %.40q", name)
			case t.err != nil:
				return t.err
			}
			one.Join(t.ends)
		} else {
			s, family, err := p.address()
			if err != nil {
				return err
			}
			one.Add(family, s)
			if not { // of its own family
				one = one.Not()
				if family == box.IPv4 {
					one.Six = nil
				} else {
					one.Four = nil
				}
				not = false
			}
		}
		if not {
			one = one.Not()
		}
		out.Join(one)
		return nil
	}); err != nil {
		return out, nil, err
	}
	if p.is("port") {
		if len(protocols) == 0 || slices.ContainsFunc(protocols, func(s box.Span) bool { return s.First != s.Last || !box.HasPorts(uint8(s.First.Lo)) }) {
			return out, nil, fmt.Errorf("ports of a protocol without any")
		}
		if err := p.each(func() error {
			s, err := p.port()
			ports = append(ports, s...)
			return err
		}); err != nil {
			return out, nil, err
		}
	}
	if p.peek() == "os" {
		return out, nil, fmt.Errorf("a fingerprint of an operating system")
	}
	return out, ports, nil
}

// address reads an address, a network, or two addresses with a dash between.
func (p *parser) address() (s box.Span, family uint8, err error) {
	if p.at >= len(p.tokens) {
		return s, 0, fmt.Errorf("an address is missing")
	}
	w := p.next()
	if w == "(" || w == "self" || w == "no-route" || w == "urpf-failed" || strings.Contains(w, ":network") || strings.HasSuffix(w, ":0") && isInterface(strings.TrimSuffix(w, ":0")) || isInterface(w) && !strings.ContainsAny(w, ".:") {
		return s, 0, fmt.Errorf("%.40s: an address that only the machine knows", w)
	}
	if p.is("-") {
		return entry.AddressRange(w, p.next())
	}
	if first, last, ok := strings.Cut(w, "-"); ok && strings.Trim(first, "0123456789.:abcdefABCDEF") == "" {
		return entry.AddressRange(first, last)
	}
	if a, bits, ok := strings.Cut(w, "/"); ok && strings.Count(a, ".") < 3 && !strings.Contains(a, ":") { // 10/8
		w = a + strings.Repeat(".0", 3-strings.Count(a, ".")) + "/" + bits
	}
	return entry.Network(w)
}

func port(s string) (int, error) {
	known := map[string]int{"ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37, "whois": 43, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "www": 80, "http": 80, "kerberos": 88, "pop3": 110, "sunrpc": 111,
		"auth": 113, "ntp": 123, "imap": 143, "snmp": 161, "snmptrap": 162, "bgp": 179, "ldap": 389, "https": 443, "isakmp": 500, "syslog": 514, "submission": 587, "ldaps": 636, "domain-s": 853, "imaps": 993, "pop3s": 995,
		"radius": 1812, "radius-acct": 1813, "ipsec-nat-t": 4500, "sip": 5060, "sips": 5061, "sip-tls": 5061}
	if n, ok := known[s]; ok {
		return n, nil
	}
	n, err := entry.Number(s, 65535)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no port that is known", s)
	}
	return n, nil
}

// port reads a port, a comparison, or a range with its ends in (:), with its ends out (><), or all but a range (<>).
func (p *parser) port() ([]box.Span, error) {
	relation := ""
	for _, r := range []string{"=", "!=", "<=", ">=", "<", ">"} {
		if p.is(r) {
			relation = r
			break
		}
	}
	w := p.next()
	if first, last, ok := strings.Cut(w, ":"); ok && relation == "" {
		a, err := port(first)
		if err != nil {
			return nil, err
		}
		b, err := port(last)
		if err != nil {
			return nil, err
		}
		s, err := entry.NumberRange(a, b)
		return []box.Span{s}, err
	}
	n, err := port(w)
	if err != nil {
		return nil, err
	}
	switch {
	case relation == "" && p.is("><", "<>"):
		what := p.tokens[p.at-1].text
		m, err := port(p.next())
		if err != nil {
			return nil, err
		}
		if what == "<>" {
			s, err := entry.NumberRange(n, m)
			return entry.Not([]box.Span{s}, box.N(65535)), err
		}
		s, err := entry.NumberRange(n+1, m-1)
		return []box.Span{s}, err
	case relation == "" || relation == "=":
		return []box.Span{box.One(n)}, nil
	case relation == "!=":
		return entry.Not([]box.Span{box.One(n)}, box.N(65535)), nil
	}
	first, last := 0, 65535
	switch relation {
	case "<":
		last = n - 1
	case "<=":
		last = n
	case ">":
		first = n + 1
	case ">=":
		first = n
	}
	s, err := entry.NumberRange(first, last)
	return []box.Span{s}, err
}

// options reads what stands behind the addresses.
func (p *parser) options(u *rule) error {
	stateless := false
	for p.at < len(p.tokens) {
		switch w := p.next(); w {
		case "keep", "modulate", "synproxy":
			p.is("state")
			if err := p.stateOptions(); err != nil {
				return err
			}
		case "no":
			if !p.is("state") {
				return fmt.Errorf("no %.40s", p.peek())
			}
			stateless = true
		case "flags":
			f := p.next()
			if f == "any" {
				break
			}
			set, of, ok := strings.Cut(f, "/")
			if !ok || !strings.Contains(set, "S") || strings.ContainsAny(set, "AFR") || strings.Trim(of, "SAFRPUEW") != "" {
				return fmt.Errorf("flags %.40s, which other packets than the first have", f)
			}
		case "icmp-type", "icmp6-type":
			if err := p.types(u, map[string]uint8{"icmp-type": box.IPv4, "icmp6-type": box.IPv6}[w]); err != nil {
				return err
			}
		case "received-on":
			on, err := p.onInterfaces()
			if err != nil {
				return err
			}
			if u.received = on; u.in {
				return fmt.Errorf("received-on of a rule that is not about packets that leave")
			}
		case "label", "queue", "tag", "prio", "tos", "set", "allow-opts", "scrub", "once", "ridentifier", ",":
			switch w {
			case "label", "tag", "ridentifier":
				p.next()
			case "prio", "tos", "once":
				return fmt.Errorf("%s", w)
			case "queue":
				if p.peek() == "(" {
					p.parens()
				} else {
					p.next()
				}
			case "set", "scrub":
				if p.peek() == "(" {
					p.parens()
				} else {
					p.next()
					p.next()
				}
			}
		case "nat-to":
			if u.in {
				return fmt.Errorf("nat-to of packets that come in")
			}
			for p.at < len(p.tokens) && p.peek() != "keep" {
				p.at++
			}
			// The rule itself is matched before it changes anything.
		default:
			return fmt.Errorf("%.40q", w)
		}
	}
	if stateless && u.pass {
		return fmt.Errorf("a rule without a state")
	}
	return nil
}

// stateOptions reads the options of a state. Limits of how many there may be are none of packets.
func (p *parser) stateOptions() error {
	if p.peek() != "(" {
		return nil
	}
	p.next()
	for p.at < len(p.tokens) {
		switch p.next() {
		case ")":
			return nil
		case "overload":
			p.is("<")
			p.fills[p.next()] = p.statement.first
		case "sloppy", "pflow":
		}
	}
	return fmt.Errorf("a parenthesis is not closed")
}

// types reads types and codes of ICMP.
func (p *parser) types(u *rule, family uint8) error {
	protocol := box.ICMP
	if family == box.IPv6 {
		protocol = box.ICMPv6
	}
	base := u.services[0]
	if len(base.Protocols) != 1 || base.Protocols[0] != box.One(protocol) {
		return fmt.Errorf("types of another protocol than ICMP")
	}
	if base.Family != 0 && base.Family != family {
		return fmt.Errorf("types of another family")
	}
	u.services = nil
	return p.each(func() error {
		s := base
		s.Family = family
		w := p.next()
		var ok bool
		if s.From, s.To, ok = entry.ICMPName(w, family); !ok {
			n, err := entry.Number(w, 255)
			if err != nil {
				return fmt.Errorf("%.40q is no type of ICMP", w)
			}
			s.From = []box.Span{box.One(n)}
		}
		if p.is("code") {
			n, err := entry.Number(p.next(), 255)
			if err != nil {
				return err
			}
			s.To = []box.Span{box.One(n)}
		}
		u.services = append(u.services, s)
		return nil
	})
}
