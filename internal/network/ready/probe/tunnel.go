package probe

import (
	"fmt"

	"ringfence/internal/network/ready/verdict"
)

// watchTunnel begins to count what this host sends, if our packets go into a tunnel of this host, such as a VPN. What comes back says of packets that were sent meanwhile what carried the tunnel: for each of
// them the host has sent another datagram (DTLS, or a tunnel of datagrams of another kind) or a segment of TCP.
func (p *Prober) watchTunnel() func(*flight) verdict.Check {
	if p.Carrier == nil {
		return nil
	}
	name, ok := p.Carrier.Tunnel(p.local)
	datagrams, segments, counted := p.Carrier.Counters()
	if !ok || !counted {
		return nil
	}
	return func(f *flight) verdict.Check {
		c := verdict.Check{ID: "tunnel", Kind: "voice", Title: "What carries media through the VPN of this host (" + name + ")", Status: verdict.Pass, Values: map[string]string{"interface": name}}
		d, s, _ := p.Carrier.Counters()
		n := uint64(len(f.sent))
		more, segs := max(d-datagrams, n)-n, s-segments
		c.Sent = fmt.Sprintf("%d datagrams into %s", n, name)
		c.Seen = fmt.Sprintf("meanwhile this host sent %d datagrams more, and %d segments of TCP", more, segs)
		switch {
		case more >= n*8/10:
			c.Seen = "datagrams carry it: " + c.Seen
		case segs >= n/2:
			c.Status, c.Cause = verdict.Warn, verdict.Doubled
			c.Seen = "a TCP connection carries it: " + c.Seen
			c.Change = "let the datagrams of the VPN pass to its gateway: DTLS, mostly at the UDP port of the same number as its TLS (443); or let media go beside the VPN (split tunnel). In a TCP connection one lost packet holds up all that come after it"
		default:
			c.Status, c.Cause = verdict.Skip, verdict.Untested
			c.Seen = "what carries it is not known: " + c.Seen
		}
		return c
	}
}
