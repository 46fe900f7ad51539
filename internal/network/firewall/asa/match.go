package asa

import (
	"fmt"
	"slices"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
)

func (r *reader) address(s string) string {
	if a, ok := r.names[s]; ok {
		return a
	}
	return s
}

// networkMember reads addresses in an object or a group of networks.
func (r *reader) networkMember(w []string) (out entry.Ends, err error) {
	if w[0] == "network-object" {
		w = w[1:]
	}
	if len(w) == 0 {
		return out, fmt.Errorf("an address is missing")
	}
	var s box.Span
	var family uint8
	switch {
	case w[0] == "host" && len(w) == 2:
		a, err := entry.Address(r.address(w[1]))
		if err != nil {
			return out, err
		}
		s, family = box.Span{First: box.Addr(a), Last: box.Addr(a)}, entry.FamilyOf(a)
	case w[0] == "range" && len(w) == 3:
		if s, family, err = entry.AddressRange(r.address(w[1]), r.address(w[2])); err != nil {
			return out, err
		}
	case w[0] == "fqdn":
		return out, fmt.Errorf("an address by name, which the device looks up")
	default:
		if w[0] == "subnet" {
			w = w[1:]
		}
		switch {
		case len(w) == 2:
			if s, err = r.masked(w[0], w[1]); err != nil {
				return out, err
			}
			family = box.IPv4
		case len(w) == 1:
			if s, family, err = entry.Network(w[0]); err != nil {
				return out, err
			}
		default:
			return out, fmt.Errorf("an address is missing")
		}
	}
	out.Add(family, s)
	return out, nil
}

func (r *reader) masked(address, mask string) (box.Span, error) {
	a, err := entry.Address(r.address(address))
	if err != nil {
		return box.Span{}, err
	}
	m, err := entry.Address(mask)
	if err != nil {
		return box.Span{}, err
	}
	return entry.Netmask(a, m)
}

func protocolOf(s string) (out entry.Service, err error) {
	switch s {
	case "ip":
		return out, nil
	case "icmp":
		return entry.Service{Family: box.IPv4, Protocols: []box.Span{box.One(box.ICMP)}}, nil
	case "icmp6":
		return entry.Service{Family: box.IPv6, Protocols: []box.Span{box.One(box.ICMPv6)}}, nil
	case "tcp-udp":
		return entry.Service{Protocols: []box.Span{box.One(box.TCP), box.One(box.UDP)}}, nil
	}
	p, ok := entry.Protocol(s)
	if !ok {
		return out, fmt.Errorf("%.40q is no protocol that is known", s)
	}
	out.Protocols = []box.Span{p}
	return out, nil
}

// typeOf reads a type of ICMP.
func typeOf(s string, family uint8) (out entry.Service, err error) {
	out = entry.Service{Family: family, Protocols: []box.Span{box.One(box.ICMP)}}
	if family == box.IPv6 {
		out.Protocols[0] = box.One(box.ICMPv6)
	}
	var ok bool
	if out.From, out.To, ok = entry.ICMPName(s, family); ok {
		return out, nil
	}
	n, err := entry.Number(s, 255)
	if err != nil {
		return out, fmt.Errorf("%.40q is no type of ICMP", s)
	}
	out.From = []box.Span{box.One(n)}
	return out, nil
}

// serviceMember reads a line of an object or a group of services.
func (r *reader) serviceMember(w []string, kind string) ([]entry.Service, error) {
	if w[0] == "port-object" {
		base, err := protocolOf(kind)
		if err != nil || kind == "" || kind == "ip" {
			return nil, fmt.Errorf("ports in a group that names no protocol")
		}
		spans, n, err := entry.Relation(w[1:], ports(base), false)
		if err != nil || n != len(w)-1 {
			return nil, or(err, "more than a port")
		}
		base.To = spans
		return []entry.Service{base}, nil
	}
	if len(w) < 2 {
		return nil, fmt.Errorf("a protocol is missing")
	}
	s, err := protocolOf(w[1])
	if err != nil {
		return nil, err
	}
	rest := w[2:]
	if w[1] == "icmp" || w[1] == "icmp6" {
		return icmp(s, rest)
	}
	for len(rest) > 0 {
		if (rest[0] != "source" && rest[0] != "destination") || len(rest) < 2 || !hasPorts(s) {
			return nil, fmt.Errorf("%.40q", rest[0])
		}
		spans, n, err := entry.Relation(rest[1:], ports(s), false)
		if err != nil {
			return nil, err
		}
		if rest[0] == "source" {
			s.From = spans
		} else {
			s.To = spans
		}
		rest = rest[1+n:]
	}
	return []entry.Service{s}, nil
}

func or(err error, text string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%s", text)
}

// icmp reads type and code behind a protocol.
func icmp(s entry.Service, w []string) ([]entry.Service, error) {
	if len(w) == 0 {
		return []entry.Service{s}, nil
	}
	t, err := typeOf(w[0], s.Family)
	if err != nil {
		return nil, err
	}
	if len(w) > 1 {
		n, err := entry.Number(w[1], 255)
		if err != nil || len(w) > 2 {
			return nil, or(err, "more than a type and a code of ICMP")
		}
		t.To = []box.Span{box.One(n)}
	}
	return []entry.Service{t}, nil
}

func hasPorts(s entry.Service) bool {
	return len(s.Protocols) > 0 && !slices.ContainsFunc(s.Protocols, func(p box.Span) bool { return p.First != p.Last || !box.HasPorts(uint8(p.First.Lo)) })
}

// ports reads ports by the names of a service's protocol.
func ports(s entry.Service) func(string) (int, error) {
	return func(word string) (n int, err error) {
		for _, p := range s.Protocols {
			if n, err = entry.CiscoPort(word, uint8(p.First.Lo)); err == nil {
				return n, nil
			}
		}
		return n, err
	}
}

// extended reads what follows permit or deny.
func (r *reader) extended(w []string) (services []entry.Service, from, to entry.Ends, err error) {
	fail := func(err error) ([]entry.Service, entry.Ends, entry.Ends, error) { return nil, from, to, err }
	if len(w) == 0 {
		return fail(fmt.Errorf("a protocol is missing"))
	}
	var s entry.Service
	grouped := false
	switch w[0] {
	case "object-group", "object":
		if len(w) < 2 {
			return fail(fmt.Errorf("a name is missing"))
		}
		grouped = true
		if r.protocols.Has(w[1]) {
			services, err = r.protocols.All(w[1])
		} else {
			services, err = r.services.All(w[1])
		}
		if err != nil {
			return fail(err)
		}
		if grouped = !r.protocols.Has(w[1]); !grouped && len(services) == 1 {
			s = services[0]
		}
		w = w[2:]
	default:
		if s, err = protocolOf(w[0]); err != nil {
			return fail(err)
		}
		services, w = []entry.Service{s}, w[1:]
	}
	if from, w, err = r.end(w); err != nil {
		return fail(err)
	}
	side := func(source bool) error {
		ports, rest, err := r.side(w, services, source)
		if err != nil || ports == nil {
			return err
		}
		if grouped {
			return fmt.Errorf("ports beside a group of services")
		}
		w, services = rest, ports
		return nil
	}
	if err = side(true); err != nil {
		return fail(err)
	}
	if to, w, err = r.end(w); err != nil {
		return fail(err)
	}
	if len(services) == 1 && (s.Family != 0) && len(w) > 0 && w[0] != "log" && w[0] != "inactive" && w[0] != "time-range" {
		if w[0] == "object-group" && len(w) > 1 {
			types, err := r.types.All(w[1])
			if err != nil {
				return fail(err)
			}
			services, w = nil, w[2:]
			for _, t := range types {
				t.Family, t.Protocols = s.Family, s.Protocols
				services = append(services, t)
			}
		} else {
			n := 1
			if len(w) > 1 {
				if _, err := entry.Number(w[1], 255); err == nil {
					n = 2
				}
			}
			if services, err = icmp(s, w[:n]); err != nil {
				return fail(err)
			}
			w = w[n:]
		}
	} else if err = side(false); err != nil {
		return fail(err)
	}
	if len(w) > 0 && w[0] == "log" { // with a level and an interval
		for w = w[1:]; len(w) > 0 && w[0] != "inactive" && w[0] != "time-range"; w = w[1:] {
			if _, err := entry.Number(w[0], 600); err != nil && !slices.Contains([]string{"disable", "default", "interval", "emergencies", "alerts", "critical", "errors", "warnings", "notifications", "informational", "debugging"}, w[0]) {
				return fail(fmt.Errorf("%.40q behind log", w[0]))
			}
		}
	}
	if len(w) > 0 {
		return fail(fmt.Errorf("%.40q", w[0]))
	}
	return services, from, to, nil
}

// side reads ports behind an address, if there are any: services with them, and what is left.
func (r *reader) side(w []string, services []entry.Service, source bool) ([]entry.Service, []string, error) {
	if len(w) == 0 {
		return nil, w, nil
	}
	var with []entry.Service
	rest := w
	switch {
	case entry.IsRelation(w[0]):
		for _, s := range services {
			if !hasPorts(s) {
				return nil, w, fmt.Errorf("ports of a protocol without any")
			}
			spans, n, err := entry.Relation(w, ports(s), false)
			if err != nil {
				return nil, w, err
			}
			rest = w[n:]
			if source {
				s.From = spans
			} else {
				s.To = spans
			}
			with = append(with, s)
		}
	case w[0] == "object-group" && len(w) > 1 && r.services.Has(w[1]) && (!source || !r.networks.Has(w[1])):
		group, err := r.services.All(w[1])
		if err != nil {
			return nil, w, err
		}
		rest = w[2:]
		for _, s := range services {
			if !hasPorts(s) {
				return nil, w, fmt.Errorf("ports of a protocol without any")
			}
			for _, g := range group {
				if g.From != nil || !slices.ContainsFunc(g.Protocols, func(p box.Span) bool { return slices.Contains(s.Protocols, p) }) {
					continue
				}
				c := s
				if source {
					c.From = g.To
				} else {
					c.To = g.To
				}
				with = append(with, c)
			}
		}
		if with == nil {
			return nil, w, fmt.Errorf("the group %.60q has no ports of that protocol", w[1])
		}
	default:
		return nil, w, nil
	}
	return with, rest, nil
}

// end reads the addresses of one end, and returns what is left.
func (r *reader) end(w []string) (out entry.Ends, rest []string, err error) {
	if len(w) == 0 {
		return out, nil, fmt.Errorf("an address is missing")
	}
	switch w[0] {
	case "any":
		return entry.Anywhere(), w[1:], nil
	case "any4":
		out.Four = entry.Anywhere().Four
		return out, w[1:], nil
	case "any6":
		out.Six = entry.Anywhere().Six
		return out, w[1:], nil
	}
	if len(w) > 1 {
		switch w[0] {
		case "host":
			out, err = r.networkMember(w[:2])
			return out, w[2:], err
		case "object", "object-group":
			all, err := r.networks.All(w[1])
			for _, e := range all {
				out.Join(e)
			}
			return out, w[2:], err
		case "interface", "object-group-user", "user", "user-group", "security-group", "object-group-security", "object-group-network-service":
			return out, nil, fmt.Errorf("%.40s, which the device alone knows", w[0])
		}
	}
	if s, family, err := entry.Network(w[0]); err == nil && (family == box.IPv6 || len(w) == 1) {
		out.Add(family, s)
		return out, w[1:], nil
	}
	if len(w) < 2 {
		return out, nil, fmt.Errorf("a mask is missing")
	}
	s, err := r.masked(w[0], w[1])
	out.Four = []box.Span{s}
	return out, w[2:], err
}
