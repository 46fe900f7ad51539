package site

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/need"
)

// Policy is what a firewall of the site must let through, and nothing else.
type Policy struct {
	Set        string
	Host       bool // of one host: what it takes in and sends out, instead of what is forwarded
	Rows       []Row
	Missing    []Unresolved
	Interfaces *box.Interfaces
	Inside     string // names of the interfaces towards the site and the service, or ""
	Outside    string
}

// Row is a row of the set with all that it needs. What comes back on the way that was opened belongs to it.
type Row struct {
	ID, Purpose string
	Hook        uint8
	In, Out     string // names of interfaces; "" is any
	Protocols   []uint8
	From, To    []netip.Prefix
	FromPorts   []need.Ports // none: any
	ToPorts     []need.Ports
	FromRoles   []string
	ToRoles     []string
	Types       []need.Ports // of ICMP and ICMPv6 instead of ports; none: any
}

// Unresolved is a row that says too little.
type Unresolved struct {
	Row     string `json:"row"`
	Missing string `json:"missing"`
}

// Fill returns the set with what a site says: the rows that it wants and its own, its networks, and the ports that it has chosen.
func Fill(set *need.Set, s *Site) *need.Set {
	out := *set
	out.Roles, out.Addresses = maps.Clone(set.Roles), maps.Clone(set.Addresses)
	if out.Roles == nil {
		out.Roles = map[string]need.Role{}
	}
	if out.Addresses == nil {
		out.Addresses = map[string]string{}
	}
	out.Groups = slices.Clone(set.Groups)
	for _, role := range slices.Sorted(maps.Keys(s.Networks)) {
		if _, known := out.Roles[role]; !known {
			out.Roles[role] = need.Role{Text: role, Side: "customer"}
		}
		g := need.NetworkGroup{Name: "site-" + role, Text: "Of the site: " + out.Roles[role].Text}
		for _, p := range s.Networks[role] {
			g.Networks = append(g.Networks, need.Network{Prefix: p})
		}
		out.Groups, out.Addresses[role] = append(out.Groups, g), g.Name
	}
	out.Needs = s.Needs(set)
	return &out
}

// Resolve makes a policy of the rows that a site wants.
func Resolve(set *need.Set, s *Site) *Policy {
	p := &Policy{Set: set.ID, Host: set.ID == "self", Interfaces: &box.Interfaces{}, Inside: s.Inside, Outside: s.Outside}
	for _, n := range s.Needs(set) {
		p.add(set, s, n)
		if p.Host && n.Direction == need.Inbound && n.Protocol == string(ringfence.MediaSRTP) { // whoever is first opens the way
			back := n
			back.ID, back.Direction = n.ID+"-out", need.Outbound
			back.From, back.To, back.FromPorts, back.ToPorts = n.To, n.From, n.ToPorts, n.FromPorts
			p.add(set, s, back)
		}
	}
	if p.Host {
		p.host(s)
	}
	return p
}

// Needs returns the rows of the set that the site wants, with the ports that it chose, and the rows of its own.
func (s *Site) Needs(set *need.Set) (out []need.Need) {
	for _, n := range set.Needs {
		if len(s.Rows) > 0 && !slices.Contains(s.Rows, n.ID) || slices.Contains(s.Without, n.ID) {
			continue
		}
		if len(n.ToPorts) == 0 {
			n.ToPorts = s.Ports[n.ID]
		}
		out = append(out, n)
	}
	for _, o := range s.Own {
		out = append(out, need.Need{ID: o.ID, Purpose: "of the site", Transport: []string{o.Transport}, Direction: need.Direction(o.Direction), From: o.From, FromPorts: o.FromPorts, To: o.To, ToPorts: o.ToPorts})
	}
	return out
}

func everywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

func (p *Policy) add(set *need.Set, s *Site, n need.Need) {
	row := Row{ID: n.ID, Purpose: n.Purpose, FromPorts: n.FromPorts, ToPorts: n.ToPorts, FromRoles: n.From, ToRoles: n.To}
	switch {
	case p.Host && n.Direction == need.Inbound:
		row.Hook, row.In = box.Input, s.Outside
	case p.Host:
		row.Hook, row.Out = box.Output, s.Outside
	case n.Direction == need.Outbound:
		row.In, row.Out = s.Inside, s.Outside
	case n.Direction == need.Inbound:
		row.In, row.Out = s.Outside, s.Inside
	default:
		row.In, row.Out = s.Inside, s.Inside
	}
	var missing []string
	addresses := func(roles []string) (out []netip.Prefix) {
		for _, role := range roles {
			nets := append(set.NetworksOf(role), s.Networks[role]...)
			if len(nets) == 0 && p.Host && role == "node" {
				nets = everywhere() // of itself: the hook says it
			}
			if len(nets) == 0 {
				missing = append(missing, fmt.Sprintf("the networks of %s (%s); write `networks: {%s: [192.0.2.0/24]}`", role, set.Roles[role].Text, role))
			}
			for _, a := range nets {
				if (s.IPv6 || a.Addr().Is4()) && !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
		return out
	}
	row.From, row.To = addresses(n.From), addresses(n.To)
	for _, t := range n.Transport {
		switch t {
		case "tcp":
			row.Protocols = append(row.Protocols, box.TCP)
		case "udp":
			row.Protocols = append(row.Protocols, box.UDP)
		case "icmp":
			row.Protocols = append(row.Protocols, box.ICMP, box.ICMPv6)
		}
	}
	if len(n.ToPorts) == 0 && !slices.Contains(n.Transport, "icmp") {
		text := "the ports (" + n.Chosen + "); write `ports: {" + n.ID + ": [5061]}`"
		if len(n.Typical) > 0 {
			var all []string
			for _, t := range n.Typical {
				all = append(all, t.String())
			}
			text += ", typical are " + strings.Join(all, ", ")
		}
		missing = append(missing, text)
	}
	families := func(list []netip.Prefix) (four, six bool) {
		for _, a := range list {
			four, six = four || a.Addr().Is4(), six || a.Addr().Is6()
		}
		return four, six
	}
	f4, f6 := families(row.From)
	t4, t6 := families(row.To)
	if len(missing) == 0 && !(f4 && t4 || f6 && t6) {
		missing = append(missing, "addresses of the same family at both ends")
	}
	if len(missing) > 0 {
		p.Missing = append(p.Missing, Unresolved{n.ID, strings.Join(missing, "; ")})
		return
	}
	p.Rows = append(p.Rows, row)
}

// host adds what no host can be without: its loopback interface, and for IPv6 the discovery of neighbours and of multicast listeners (RFC 4890 section 4.4).
func (p *Policy) host(s *Site) {
	for _, hook := range []uint8{box.Input, box.Output} {
		way := []string{"", "in", "out"}[hook]
		row := Row{ID: "host-loopback-" + way, Purpose: "the host talks to itself", Hook: hook, From: everywhere(), To: everywhere()}
		if hook == box.Input {
			row.In = "lo"
		} else {
			row.Out = "lo"
		}
		p.Rows = append(p.Rows, row)
		if s.IPv6 {
			six := everywhere()[1:]
			p.Rows = append(p.Rows, Row{ID: "host-neighbours-" + way, Purpose: "neighbours and multicast listeners", Hook: hook, Protocols: []uint8{box.ICMPv6}, From: six, To: six, Types: []need.Ports{{First: 130, Last: 136}, {First: 143, Last: 143}}})
		}
	}
}

// Pairs returns the ends of a row in one family.
func (r Row) Pairs(family uint8) (from, to []netip.Prefix) {
	of := func(list []netip.Prefix) (out []netip.Prefix) {
		for _, a := range list {
			if a.Addr().Is4() == (family == box.IPv4) {
				out = append(out, a)
			}
		}
		return out
	}
	return of(r.From), of(r.To)
}

// Boxes returns the packets that a row needs, as those that begin a connection.
func (r Row) Boxes(n *box.Interfaces) (out box.List) {
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		from, to := r.Pairs(family)
		b := box.Everything(family)
		b[box.Hook] = box.One(r.Hook)
		if r.In != "" {
			b[box.In] = box.One(n.Number(r.In))
		}
		if r.Out != "" {
			b[box.Out] = box.One(n.Number(r.Out))
		}
		switch r.Hook {
		case box.Input:
			b[box.Out] = box.One(0)
		case box.Output:
			b[box.In] = box.One(0)
		}
		for _, parts := range r.transports(family) {
			b[box.Protocol], b[box.FromPort], b[box.ToPort] = parts[0], parts[1], parts[2]
			for _, f := range from {
				for _, t := range to {
					c := b
					c[box.From], c[box.To] = box.Prefix(f), box.Prefix(t)
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// transports returns protocol, source port and destination port of each part.
func (r Row) transports(family uint8) (out [][3]box.Span) {
	if len(r.Protocols) == 0 {
		for _, b := range box.Real() {
			if b[box.Hook] == box.One(r.Hook) && b[box.Family] == box.One(family) {
				out = append(out, [3]box.Span{b[box.Protocol], b[box.FromPort], b[box.ToPort]})
			}
		}
		return out
	}
	span := func(p need.Ports) box.Span { return box.Range(p.First, p.Last) }
	for _, p := range r.Protocols {
		if box.HasPorts(p) {
			from := r.FromPorts
			if len(from) == 0 {
				from = []need.Ports{{First: 0, Last: 65535}}
			}
			for _, f := range from {
				for _, t := range r.ToPorts {
					out = append(out, [3]box.Span{box.One(p), span(f), span(t)})
				}
			}
			continue
		}
		if (p == box.ICMP) != (family == box.IPv4) {
			continue
		}
		types := r.Types
		if len(types) == 0 { // what people call ICMP in a table of ports is the request of ping; its answer comes back by itself
			echo := uint16(8)
			if family == box.IPv6 {
				echo = 128
			}
			out = append(out, [3]box.Span{box.One(p), box.One(echo), box.One(0)})
		}
		for _, t := range types {
			out = append(out, [3]box.Span{box.One(p), span(t), box.One(0)})
		}
	}
	return out
}

// Boxes returns the packets of all rows.
func (p *Policy) Boxes() (out box.List) {
	for _, r := range p.Rows {
		out = append(out, r.Boxes(p.Interfaces)...)
	}
	return out
}
