package firewall

import (
	"net/netip"

	"ringfence/internal/network/box"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

// Line is a row in one family and of one protocol, as a rule of most firewalls would say it.
type Line struct {
	Row                string
	Hook, Family       uint8
	In, Out            string     // names of interfaces; "" is any
	From, To           []box.Span // addresses, merged
	FromRoles, ToRoles []string
	AnyProtocol        bool
	Protocol           uint8
	FromPorts, ToPorts []box.Span // merged; of ICMP types and codes
	Stateless          bool       // conntrack does not follow it, or must not be asked
}

// Lines writes a policy line by line, in the order of its rows.
func Lines(p *site.Policy) (out []Line) {
	for _, row := range p.Rows {
		for _, family := range []uint8{box.IPv4, box.IPv6} {
			from, to := row.Pairs(family)
			if len(from) == 0 || len(to) == 0 {
				continue
			}
			l := Line{Row: row.ID, Hook: row.Hook, Family: family, In: row.In, Out: row.Out, From: spans(from), To: spans(to), FromRoles: row.FromRoles, ToRoles: row.ToRoles}
			if len(row.Protocols) == 0 {
				l.AnyProtocol, l.Stateless = true, true
				l.FromPorts, l.ToPorts = ports(nil), ports(nil)
				out = append(out, l)
			}
			for _, l.Protocol = range row.Protocols {
				switch {
				case box.HasPorts(l.Protocol):
					l.FromPorts, l.ToPorts = ports(row.FromPorts), ports(row.ToPorts)
				case (l.Protocol == box.ICMP) != (family == box.IPv4):
					continue
				default:
					echo := uint16(8)
					if family == box.IPv6 {
						echo = 128
					}
					l.FromPorts, l.ToPorts = []box.Span{box.One(echo)}, []box.Span{box.One(0)}
					if len(row.Types) > 0 {
						l.FromPorts, l.Stateless = ports(row.Types), true
					}
				}
				out = append(out, l)
			}
		}
	}
	return out
}

func spans(list []netip.Prefix) (out []box.Span) {
	for _, p := range list {
		out = append(out, box.Prefix(p))
	}
	return box.Merge(out)
}

func ports(list []need.Ports) (out []box.Span) {
	for _, p := range list {
		out = append(out, box.Range(p.First, p.Last))
	}
	if len(out) == 0 {
		out = []box.Span{box.Range(0, 65535)}
	}
	return box.Merge(out)
}

// AllPorts reports whether ports are no restriction.
func AllPorts(s []box.Span) bool { return len(s) == 1 && s[0] == box.Range(0, 65535) }

// AllAddresses reports whether addresses are no restriction.
func AllAddresses(s []box.Span, family uint8) bool {
	return len(s) == 1 && s[0] == box.Everything(family)[box.From]
}

// Boxes returns the packets of a line.
func (l *Line) Boxes(n *box.Interfaces) (out box.List) {
	b := box.Everything(l.Family)
	b[box.Hook] = box.One(l.Hook)
	if l.In != "" {
		b[box.In] = box.One(n.Number(l.In))
	}
	if l.Out != "" {
		b[box.Out] = box.One(n.Number(l.Out))
	}
	switch l.Hook {
	case box.Input:
		b[box.Out] = box.One(0)
	case box.Output:
		b[box.In] = box.One(0)
	}
	protocols := []box.Box{b}
	if l.AnyProtocol {
		protocols, _ = box.List{b}.Intersect(box.Real()) // a few boxes
	} else {
		protocols[0][box.Protocol] = box.One(l.Protocol)
	}
	for _, b := range protocols {
		for _, b[box.From] = range l.From {
			for _, b[box.To] = range l.To {
				if l.AnyProtocol {
					out = append(out, b)
					continue
				}
				for _, b[box.FromPort] = range l.FromPorts {
					for _, b[box.ToPort] = range l.ToPorts {
						out = append(out, b)
					}
				}
			}
		}
	}
	return out
}

// File is a text that a tool takes, under the name by which its service finds it.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}
