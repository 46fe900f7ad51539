package firewall

import "ringfence/internal/network/box"

// FirstPackets returns the packets that begin something, by the states that conntrack gives them. Linux begins a connection with every packet but those of ICMP that are no requests, which are invalid unless they
// belong to one, and leaves the discovery of neighbours and multicast listeners of IPv6 untracked.
func FirstPackets(isNew, untracked, invalid bool) (out box.List) {
	four, six := box.Everything(box.IPv4), box.Everything(box.IPv6)
	types := func(b box.Box, protocol uint8, spans ...box.Span) (l box.List) {
		b[box.Protocol] = box.One(protocol)
		for _, b[box.FromPort] = range spans {
			l = append(l, b)
		}
		return l
	}
	loose := types(six, box.ICMPv6, box.Range(130, 136), box.One(143))
	lost := append(types(four, box.ICMP, box.Range(0, 7), box.Range(9, 12), box.One(14), box.One(16), box.Range(18, 255)),
		types(six, box.ICMPv6, box.Range(0, 127), box.One(129), box.Range(137, 138), box.Range(140, 142), box.Range(144, 255))...)
	lost = append(append(lost, types(six, box.ICMP, box.Range(0, 65535))...), types(four, box.ICMPv6, box.Range(0, 65535))...) // of the other family
	if isNew {
		rest, err := box.List{four, six}.Subtract(append(append(box.List{}, loose...), lost...))
		if err != nil { // cannot be: a dozen intervals of one dimension
			return nil
		}
		out = append(out, rest...)
	}
	if untracked {
		out = append(out, loose...)
	}
	if invalid {
		out = append(out, lost...)
	}
	return out
}
