package phonewall

import (
	"net/netip"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
)

// Behind says of each door whom the site's firewall lets in from outside.
func (c *Comparison) Behind(set *need.Set, s *site.Site, p *site.Policy, rules *firewall.Ruleset) error {
	if p.Host {
		return fault("the set "+set.ID+" is about one host, and a phone is behind a firewall that forwards", "take the set of the service that the phone uses")
	}
	var phones, own []netip.Prefix
	for _, role := range c.Phone {
		phones = append(phones, s.Networks[role]...)
	}
	if len(phones) == 0 {
		return fault("the site file does not say where the phones are", "write `networks: {"+c.Phone[0]+": [192.0.2.0/24]}`")
	}
	for role, nets := range s.Networks { // by the outer interface nobody comes who is inside, whatever address they say
		if r, ok := set.Roles[role]; ok && s.Outside == "" && strings.HasPrefix(r.Side, "customer") && !slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Bits() == 0 }) {
			own = append(own, nets...)
		}
	}
	asked := make([]box.List, len(c.Doors))
	for i, d := range c.Doors {
		packets, err := outside(d, s, p, phones, own)
		if err != nil {
			return err
		}
		asked[i] = packets
	}
	passages, unknown, err := prove.Passages(p, rules, asked...)
	if err != nil {
		return err
	}
	for i, x := range passages {
		e := &Entrance{Open: Closed}
		switch {
		case x.Count > 0:
			e.Open, e.Through = Exposed, &x.Excess[0]
			c.Exposed++
		case x.Some:
			e.Open = ByRows
		}
		c.Doors[i].Site = e
	}
	for _, u := range unknown {
		c.Unknown = append(c.Unknown, u.Where+": "+u.What)
	}
	for _, u := range p.Missing {
		c.Unknown = append(c.Unknown, u.Row+" lacks "+u.Missing)
	}
	return nil
}

// outside returns the packets that come from outside the site to a door. Where the site file names interfaces, they come by the outer one; else whoever is not in the site's own networks is outside.
func outside(d Door, s *site.Site, p *site.Policy, phones, own []netip.Prefix) (out box.List, err error) {
	var inside box.List
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		b := box.Everything(family)
		b[box.Hook] = box.One(box.Forward)
		if s.Outside != "" {
			b[box.In], b[box.Out] = box.One(p.Interfaces.Number(s.Outside)), box.One(p.Interfaces.Number(s.Inside))
		}
		switch d.Transport {
		case "udp":
			b[box.Protocol] = box.One(box.UDP)
		case "tcp":
			b[box.Protocol] = box.One(box.TCP)
		default: // the request of ping (RFC 792, RFC 4443)
			b[box.Protocol], b[box.FromPort], b[box.ToPort] = box.One(box.ICMP), box.One(uint16(8)), box.One(0)
			if family == box.IPv6 {
				b[box.Protocol], b[box.FromPort] = box.One(box.ICMPv6), box.One(uint16(128))
			}
		}
		if d.Transport != "icmp" {
			b[box.ToPort] = box.Range(d.Ports.First, d.Ports.Last)
		}
		for _, a := range phones {
			if a.Addr().Is4() == (family == box.IPv4) {
				b[box.To] = box.Prefix(a)
				out = append(out, b)
			}
		}
		for _, a := range own {
			if a.Addr().Is4() == (family == box.IPv4) {
				i := box.Everything(family)
				i[box.From] = box.Prefix(a)
				inside = append(inside, i)
			}
		}
	}
	return out.Subtract(inside)
}
