package iosacl

import (
	"fmt"
	"slices"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
)

func family(six bool) uint8 {
	if six {
		return box.IPv6
	}
	return box.IPv4
}

// protocol reads the protocol of a line in a family.
func protocol(s string, six bool) (out entry.Service, err error) {
	out.Family = family(six)
	switch s {
	case "ip", "ipv6":
		if (s == "ipv6") != six {
			return out, fmt.Errorf("%s in a list of the other family", s)
		}
		return out, nil
	case "icmp":
		out.Protocols = []box.Span{box.One(box.ICMP)}
		if six {
			out.Protocols[0] = box.One(box.ICMPv6)
		}
		return out, nil
	case "tcp-udp":
		out.Protocols = []box.Span{box.One(box.TCP), box.One(box.UDP)}
		return out, nil
	}
	p, ok := entry.Protocol(s)
	if !ok {
		return out, fmt.Errorf("%.40q is no protocol that is known", s)
	}
	out.Protocols = []box.Span{p}
	return out, nil
}

func hasPorts(s entry.Service) bool {
	return len(s.Protocols) > 0 && !slices.ContainsFunc(s.Protocols, func(p box.Span) bool { return p.First != p.Last || !box.HasPorts(uint8(p.First.Lo)) })
}

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

// icmp reads type and code behind an address, if there are any, and says how many words it took.
func icmp(s *entry.Service, w []string) (int, error) {
	if len(w) == 0 {
		return 0, nil
	}
	var ok bool
	if s.From, s.To, ok = entry.ICMPName(w[0], s.Family); ok {
		return 1, nil
	}
	n, err := entry.Number(w[0], 255)
	if err != nil {
		return 0, nil // an option
	}
	s.From = []box.Span{box.One(n)}
	if len(w) > 1 {
		if n, err := entry.Number(w[1], 255); err == nil {
			s.To = []box.Span{box.One(n)}
			return 2, nil
		}
	}
	return 1, nil
}

// groupService reads a line of a group of services.
func groupService(w []string) (s entry.Service, err error) {
	if s, err = protocol(w[0], false); err != nil {
		return s, err
	}
	rest := w[1:]
	if w[0] == "icmp" {
		n, err := icmp(&s, rest)
		if err == nil && n != len(rest) {
			err = fmt.Errorf("%.40q is no type of ICMP", rest[n])
		}
		return s, err
	}
	for len(rest) > 0 {
		source := rest[0] == "source"
		if source {
			rest = rest[1:]
		}
		if len(rest) == 1 { // a port as it is
			rest = []string{"eq", rest[0]}
		}
		if !hasPorts(s) {
			return s, fmt.Errorf("ports of a protocol without any")
		}
		spans, n, err := entry.Relation(rest, ports(s), false)
		if err != nil {
			return s, err
		}
		if rest = rest[n:]; source {
			s.From = spans
		} else {
			s.To = spans
		}
	}
	return s, nil
}

// read is what a line of a list says.
type said struct {
	services    []entry.Service
	from, to    entry.Ends
	established bool   // only of connections that are up
	fragments   bool   // only of later fragments
	reflect     string // what answers passes by a list of this name
}

// extended reads what follows permit or deny in an extended list.
func (r *reader) extended(w []string, six bool) (out said, err error) {
	if len(w) == 0 {
		return out, fmt.Errorf("a protocol is missing")
	}
	grouped := false
	if w[0] == "object-group" && len(w) > 1 {
		if out.services, err = r.services.All(w[1]); err != nil {
			return out, err
		}
		grouped, w = true, w[2:]
	} else {
		s, err := protocol(w[0], six)
		if err != nil {
			return out, err
		}
		out.services, w = []entry.Service{s}, w[1:]
	}
	side := func(source bool) error {
		if len(w) == 0 || !entry.IsRelation(w[0]) {
			return nil
		}
		if grouped || !hasPorts(out.services[0]) {
			return fmt.Errorf("ports of a protocol without any")
		}
		spans, n, err := entry.Relation(w, ports(out.services[0]), !six)
		if err != nil {
			return err
		}
		if w = w[n:]; source {
			out.services[0].From = spans
		} else {
			out.services[0].To = spans
		}
		return nil
	}
	if out.from, w, err = r.end(w, six); err != nil {
		return out, err
	}
	if err = side(true); err != nil {
		return out, err
	}
	if out.to, w, err = r.end(w, six); err != nil {
		return out, err
	}
	if s := &out.services[0]; !grouped && len(s.Protocols) == 1 && (s.Protocols[0] == box.One(box.ICMP) && !six || s.Protocols[0] == box.One(box.ICMPv6) && six) {
		n, err := icmp(s, w)
		if err != nil {
			return out, err
		}
		w = w[n:]
	} else if err = side(false); err != nil {
		return out, err
	}
	for len(w) > 0 {
		switch w[0] {
		case "log", "log-input":
		case "established":
			if s := out.services[0]; grouped || len(s.Protocols) != 1 || s.Protocols[0] != box.One(box.TCP) {
				return out, fmt.Errorf("established of another protocol than TCP")
			}
			out.established = true
		case "fragments":
			out.fragments = true
		case "reflect":
			if len(w) < 2 {
				return out, fmt.Errorf("reflect without a name")
			}
			out.reflect, w = w[1], w[1:]
			if len(w) > 2 && w[1] == "timeout" {
				w = w[2:]
			}
		default:
			return out, fmt.Errorf("%.40q", w[0])
		}
		w = w[1:]
	}
	return out, nil
}

// standard reads what follows permit or deny in a standard list: a source.
func (r *reader) standard(w []string) (out said, err error) {
	out.services, out.to.Four = []entry.Service{{Family: box.IPv4}}, entry.Anywhere().Four
	if len(w) == 1 && w[0] != "any" || len(w) == 2 && w[1] == "log" && w[0] != "any" {
		w = append([]string{"host"}, w...)
	}
	if out.from, w, err = r.end(w, false); err == nil && len(w) > 0 && w[0] != "log" {
		err = fmt.Errorf("%.40q", w[0])
	}
	return out, err
}

// end reads the addresses of one end, and returns what is left.
func (r *reader) end(w []string, six bool) (out entry.Ends, rest []string, err error) {
	if len(w) == 0 {
		return out, nil, fmt.Errorf("an address is missing")
	}
	add := func(s box.Span, f uint8, err error) (entry.Ends, error) {
		if err == nil && f != family(six) {
			err = fmt.Errorf("an address of the other family")
		}
		out.Add(f, s)
		return out, err
	}
	switch {
	case w[0] == "any":
		all := entry.Anywhere()
		if six {
			out.Six = all.Six
		} else {
			out.Four = all.Four
		}
		return out, w[1:], nil
	case w[0] == "host" && len(w) > 1:
		s, f, err := entry.Network(w[1])
		out, err = add(s, f, err)
		return out, w[2:], err
	case w[0] == "object-group" && len(w) > 1:
		all, err := r.networks.All(w[1])
		for _, e := range all {
			out.Join(e)
		}
		if six && err == nil {
			err = fmt.Errorf("an object-group in a list of IPv6")
		}
		return out, w[2:], err
	case six:
		s, f, err := entry.Network(w[0])
		out, err = add(s, f, err)
		return out, w[1:], err
	case len(w) < 2:
		return out, nil, fmt.Errorf("a wildcard mask is missing")
	}
	a, err := entry.Address(w[0])
	if err != nil {
		return out, nil, err
	}
	m, err := entry.Address(w[1])
	if err != nil {
		return out, nil, err
	}
	out.Four, err = entry.Wildcard(a, m)
	return out, w[2:], err
}
