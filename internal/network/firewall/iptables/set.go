package iptables

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
)

// maxMembers bounds the members of all sets.
const maxMembers = 1 << 20

// set is a set of ipset.
type set struct {
	name, kind string   // hash:net,port
	dims       []string // ip, net, port
	family     uint8
	netmask    int // of a hash:ip; -1 if there is none
	strange    string
	members    []member
	sets       []string // of a list:set
}

type member struct {
	spans    []box.Span // of each dimension but port
	protocol box.Span   // of the port
	port     [2]box.Span
	icmp     bool // port is type and code
	not      bool // nomatch
	bits     int  // of the network
}

// setLine reads a line of `ipset save`, or of what people write for `ipset restore`.
func (r *reader) setLine(where string, words []string) error {
	switch words[0] {
	case "create", "-N", "n", "new":
		if len(words) < 3 {
			return invalid(where+": a set has a name and a type", "")
		}
		if r.sets[words[1]] == nil {
			r.sets[words[1]] = newSet(words[1], words[2], words[3:])
		}
	case "add", "-A":
		if len(words) < 3 {
			return invalid(where+": a member of a set is missing", "")
		}
		s := r.sets[words[1]]
		if s == nil {
			return invalid(fmt.Sprintf("%s: there is no set %.40q", where, words[1]), "")
		}
		if r.members++; r.members > maxMembers {
			return invalid(where+": the sets have more than a million members", "")
		}
		s.add(words[2], words[3:])
	case "flush", "-F":
		if s := r.sets[append(words, "")[1]]; s != nil {
			s.members, s.sets = nil, nil
		}
	default:
		return invalid(fmt.Sprintf("%s: %.60q is neither of iptables-save nor of ipset save", where, words[0]), "")
	}
	return nil
}

func newSet(name, kind string, options []string) *set {
	s := &set{name: name, kind: kind, family: box.IPv4, netmask: -1}
	method, data, _ := strings.Cut(kind, ":")
	switch {
	case kind == "list:set":
	case method != "hash" && kind != "bitmap:ip" && kind != "bitmap:port", slices.ContainsFunc(strings.Split(data, ","), func(d string) bool { return d != "ip" && d != "net" && d != "port" }):
		s.strange = fmt.Sprintf("a set of the type %.40s", kind)
	default:
		s.dims = strings.Split(data, ",")
	}
	for i := 0; i < len(options); i++ {
		value := ""
		if i+1 < len(options) {
			value = options[i+1]
		}
		switch options[i] {
		case "family":
			if i++; value == "inet6" {
				s.family = box.IPv6
			}
		case "netmask":
			i++
			if n, ok := number(value, 128); ok {
				s.netmask = int(n)
			}
		case "timeout":
			i++
			s.strange = "a set whose members come and go"
		case "hashsize", "maxelem", "bucketsize", "initval", "size", "range":
			i++
		case "counters", "comment", "skbinfo", "forceadd", "-exist", "-!":
		default:
			s.strange = fmt.Sprintf("a set with the option %.40s", options[i])
		}
	}
	return s
}

// add reads a member: parts with commas between them, as many as the set has dimensions.
func (s *set) add(text string, options []string) {
	if s.strange != "" {
		return
	}
	if s.kind == "list:set" {
		if s.sets = append(s.sets, text); len(options) > 0 && options[0] != "-exist" {
			s.strange = "a list of sets in an order"
		}
		return
	}
	m := member{bits: -1}
	for i := 0; i < len(options); i++ {
		switch options[i] {
		case "nomatch":
			m.not = true
		case "packets", "bytes", "comment", "skbmark", "skbprio", "skbqueue":
			i++
		case "timeout":
			if i++; i >= len(options) || options[i] != "0" {
				s.strange = "a set whose members come and go"
			}
		case "-exist", "-!":
		default:
			s.strange = fmt.Sprintf("a member with the option %.40s", options[i])
		}
	}
	parts := strings.Split(text, ",")
	if len(parts) != len(s.dims) {
		s.strange = fmt.Sprintf("the member %.60q", text)
		return
	}
	for i, part := range parts {
		ok := false
		if s.dims[i] == "port" {
			ok = m.ports(part, s.kind == "bitmap:port", s.family)
		} else {
			ok = m.network(part, s)
		}
		if !ok {
			s.strange = fmt.Sprintf("the member %.60q", text)
			return
		}
	}
	if m.not && (len(m.spans) != 1 || m.bits < 0) {
		s.strange = "members that are excepted from several networks"
	}
	s.members = append(s.members, m)
}

func (m *member) network(part string, s *set) bool {
	if first, last, ranged := strings.Cut(part, "-"); ranged {
		a, err1 := network(first, s.family)
		b, err2 := network(last, s.family)
		if err1 != nil || err2 != nil || b.Last.Less(a.First) || s.netmask >= 0 {
			return false
		}
		m.spans = append(m.spans, box.Span{First: a.First, Last: b.Last})
		return true
	}
	if s.netmask >= 0 && !strings.Contains(part, "/") {
		part += fmt.Sprintf("/%d", s.netmask)
	}
	a, err := network(part, s.family)
	if err != nil {
		return false
	}
	m.bits = 128
	if _, text, ok := strings.Cut(part, "/"); ok {
		n, _ := number(text, 128)
		m.bits = int(n)
	}
	m.spans = append(m.spans, a)
	return true
}

func (m *member) ports(part string, bitmap bool, family uint8) bool {
	protocol, port, both := strings.Cut(part, ":")
	if !both {
		protocol, port = "tcp", part
	}
	n, ok := number(protocol, 255)
	if known, is := protocols()[strings.ToLower(protocol)]; is {
		n, ok = uint64(known), true
	}
	if !ok {
		return false
	}
	m.protocol = box.One(n)
	switch {
	case bitmap && both:
		return false
	case n == uint64(box.ICMP) && family == box.IPv4, n == uint64(box.ICMPv6) && family == box.IPv6:
		m.icmp = true
		kind, code, ok := icmpType(port, family)
		if !strings.Contains(port, "/") && code == box.Range(0, 255) {
			code = box.One(0) // ipset takes a name or a number of a type for its first code
		}
		m.port = [2]box.Span{kind, code}
		return ok
	case !box.HasPorts(uint8(n)):
		m.port[0] = box.One(0)
		return port == "0"
	}
	m.port[0], ok = portRange(port, "-")
	return ok
}

// matchSet narrows to the packets that a set has, or has not.
func (p *parser) matchSet(name, ways string, not bool) {
	list, strange := p.setBoxes(name, strings.Split(ways, ","), 0)
	if strange != "" {
		p.strange("%s", strange)
		return
	}
	if not {
		var err error
		if list, err = (box.List{box.Everything(p.table.family)}).Subtract(list); err != nil {
			p.strange("a set that falls into too many pieces")
			return
		}
	}
	p.and(list)
}

// setBoxes returns the packets of a set, looked at in the ways that a rule names for its dimensions.
func (p *parser) setBoxes(name string, ways []string, depth int) (out box.List, strange string) {
	s := p.sets[name]
	switch {
	case s == nil:
		return nil, fmt.Sprintf("the set %.40q is not there; add what `ipset save` prints", name)
	case s.strange != "":
		return nil, fmt.Sprintf("%s (%.40s)", s.strange, name)
	case s.kind == "list:set":
		if depth > 0 {
			return nil, "a list of lists of sets"
		}
		for _, n := range s.sets {
			more, strange := p.setBoxes(n, ways, depth+1)
			if strange != "" {
				return nil, strange
			}
			out = append(out, more...)
		}
		return out, ""
	case s.kind != "bitmap:port" && s.family != p.table.family, len(ways) < len(s.dims): // then it has no packet
		return nil, ""
	}
	var except box.List
	members := s.members
	if slices.ContainsFunc(members, func(m member) bool { return m.not }) { // the closest network decides
		members = slices.Clone(members)
		slices.SortStableFunc(members, func(a, b member) int { return b.bits - a.bits })
	}
	for i := range members {
		list := s.boxes(&members[i], ways, p.table.family)
		if members[i].not {
			except = append(except, list...)
			continue
		}
		if len(except) > 0 {
			var err error
			if list, err = list.Subtract(except); err != nil {
				return nil, "a set that falls into too many pieces"
			}
		}
		out = append(out, list...)
	}
	return out, ""
}

// boxes returns the packets of a member.
func (s *set) boxes(m *member, ways []string, family uint8) (out box.List) {
	b := box.Everything(family)
	at := 0
	for i, d := range s.dims {
		address, port := box.From, box.FromPort
		if ways[i] == "dst" {
			address, port = box.To, box.ToPort
		}
		var meet, ok = b, true
		switch {
		case d != "port":
			meet[address] = m.spans[at]
			at++
		case m.icmp:
			meet[box.Protocol], meet[box.FromPort], meet[box.ToPort] = m.protocol, m.port[0], m.port[1]
		default:
			meet[box.Protocol], meet[port] = m.protocol, m.port[0]
		}
		if b, ok = b.Intersect(meet); !ok {
			return nil
		}
	}
	out = box.List{b}
	if s.kind == "bitmap:port" {
		b[box.Protocol] = box.One(box.UDP)
		out = append(out, b)
	}
	return out
}
