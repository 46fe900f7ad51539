package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ringfence/internal/network/ready/datagram"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

// marks finds out which marks of quality of service arrive as they were sent, both ways.
func (p *Prober) marks(ctx context.Context) (verdict.Check, error) {
	c := verdict.Check{ID: "dscp", Kind: "dscp", Title: "Marks of quality of service (DSCP)", Status: verdict.Pass, Values: map[string]string{}}
	if err := p.ways(ctx); err != nil {
		return c, err
	}
	if len(p.works) == 0 {
		return skipped(c.ID, c.Kind, c.Title, "no UDP port answers"), nil
	}
	var all []uint8
	for _, n := range p.Set.Needs {
		if n.DSCP != nil {
			all = append(all, *n.DSCP)
		}
	}
	for _, m := range p.Set.Marks {
		all, c.Rows = append(all, m.DSCP...), append(c.Rows, m.ID)
	}
	if len(all) == 0 {
		all = []uint8{46, 34, 24}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	s, err := p.free(ctx)
	if err != nil {
		return c, err
	}
	defer func() { _ = s.Close() }()
	var up, down, silent, hops []string
	for _, mark := range all {
		h, _ := p.exchange(ctx, s, netip.AddrPortFrom(p.Reflector.Addr(), p.works[0]), wire.Reach, false, mark, 0)
		name := fmt.Sprintf("%d", mark)
		if !h.by.IsValid() {
			silent = append(silent, name)
			continue
		}
		if h.SeenMark == datagram.NoMark && h.mark == datagram.NoMark {
			return skipped(c.ID, c.Kind, c.Title, "neither this host nor the reflector's can read marks"), nil
		}
		c.Values[name] = fmt.Sprintf("arrived as %d, answered as %d", h.SeenMark, h.mark)
		if h.SeenMark != datagram.NoMark && h.SeenMark != mark {
			up = append(up, fmt.Sprintf("%d arrives as %d", mark, h.SeenMark))
			if who := p.whoMarks(ctx, netip.AddrPortFrom(p.Reflector.Addr(), p.works[0]), mark); who != "" && !slices.Contains(hops, who) {
				hops = append(hops, who)
			}
		}
		if h.mark != datagram.NoMark && h.mark != mark {
			down = append(down, fmt.Sprintf("%d comes back as %d", mark, h.mark))
		}
	}
	c.Sent = "probes with DSCP " + strings.Trim(fmt.Sprint(all), "[]")
	switch {
	case len(up)+len(down)+len(silent) == 0:
		c.Seen = "all arrived and came back as they were sent"
		return c, nil
	case len(silent) > 0:
		c.Seen = "no answer to DSCP " + strings.Join(silent, ", ") + "; "
	}
	c.Status, c.Cause, c.Hop = verdict.Warn, verdict.Marks, joined(hops)
	if len(up) > 0 && len(hops) == 0 {
		c.Values["which machine"] = "not found out: it takes root or CAP_NET_RAW to read what routers give back, and routers that do"
	}
	c.Seen += joined(append(up, down...))
	c.Change = "trust the marks of voice and signalling, or set them again by port, on every router and switch up to the provider's"
	if len(up) == 0 && len(down) > 0 {
		c.Change += "; they are lost on the way from the service only, so look where the site's link ends, or mark anew there"
	}
	return c, nil
}

// pathMTU finds the longest datagrams that pass uncut, and whether the network says so when one does not (RFC 1191, 8201, 8899).
func (p *Prober) pathMTU(ctx context.Context) (verdict.Check, error) {
	c := verdict.Check{ID: "mtu", Kind: "mtu", Title: "Large packets (path MTU)", Required: true, Status: verdict.Pass, Values: map[string]string{}}
	if err := p.ways(ctx); err != nil {
		return c, err
	}
	if len(p.works) == 0 {
		return skipped(c.ID, c.Kind, c.Title, "no UDP port answers"), nil
	}
	s, err := p.free(ctx)
	if err != nil {
		return c, err
	}
	defer func() { _ = s.Close() }()
	s.Whole()
	to, headers := netip.AddrPortFrom(p.Reflector.Addr(), p.works[0]), 28
	if to.Addr().Is6() {
		headers = 48
	}
	told := false
	passes := func(size int) bool {
		h, tooLong := p.exchange(ctx, s, to, wire.Reach, false, 0, size)
		for _, r := range s.Refusals() {
			told = told || r.MTU > 0
		}
		told = told || tooLong
		return h.by.IsValid()
	}
	if !passes(wire.Size) {
		return skipped(c.ID, c.Kind, c.Title, "a port that answered before is silent now"), nil
	}
	up := longest(wire.Size, 1500-headers, passes)
	toldBack := false
	down := longest(wire.Size, up, func(size int) bool {
		h, _ := p.exchange(ctx, s, to, wire.Reach, true, 0, size)
		toldBack = toldBack || h.by.IsValid() && h.size < size // the reflector was told, and cut its answer short
		return h.size == size
	})
	c.Values["up"], c.Values["down"] = fmt.Sprint(up+headers), fmt.Sprint(down+headers)
	c.Sent = "datagrams of up to 1500 bytes that may not be cut, and as long ones back"
	c.Seen = fmt.Sprintf("%d bytes pass to the service, %d back", up+headers, down+headers)
	if down == up {
		c.Seen = fmt.Sprintf("%d bytes pass both ways", up+headers)
	}
	short := up+headers < 1500
	switch {
	case short && !told || down < up && !toldBack:
		c.Status, c.Cause = verdict.Fail, verdict.BlackHole
		way := "to the service"
		if !short || told {
			way = "from the service"
		}
		c.Seen += "; longer ones " + way + " vanish, and no router says why"
		if short && !told {
			c.Hop = p.whoSwallows(ctx, to, min(up+1, 1500-headers))
		}
		c.Change = fmt.Sprintf("let ICMP type 3 code 4 (IPv6: type 2) pass on the way, or set the MTU of the hosts to %d and clamp TCP's MSS; TLS handshakes and long SIP requests hang otherwise", min(up, down)+headers)
	case short || down < up:
		c.Seen += "; routers say so"
		if min(up, down)+headers < 1400 {
			c.Status, c.Cause = verdict.Warn, verdict.SmallMTU
			c.Change = fmt.Sprintf("find the tunnel that takes so much; a SIP request over UDP may have %d bytes at most (RFC 3261 section 18.1.1), and video packets are cut", min(up, down)+headers-200)
		}
	}
	return c, nil
}

// longest returns the largest size that passes; the smallest is known to.
func longest(smallest, largest int, passes func(int) bool) int {
	if passes(largest) {
		return largest
	}
	for largest-smallest > 1 {
		if mid := (smallest + largest) / 2; passes(mid) {
			smallest = mid
		} else {
			largest = mid
		}
	}
	return smallest
}
