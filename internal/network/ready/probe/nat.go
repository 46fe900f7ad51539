package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/datagram"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

func addrPort(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		p = a.AddrPort()
	case *net.UDPAddr:
		p = a.AddrPort()
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// ways finds UDP ports of the reflector that answer, at least two if there are, and the ports of ours from which they do.
func (p *Prober) ways(ctx context.Context) error {
	if len(p.works) >= 2 || p.looked {
		return nil
	}
	p.looked = true
	try := func(from []need.Ports, to []need.Ports) error {
		open, err := p.need(ctx, "udp", choose(sample(to, 4, p.rand), 12, p.rand))
		if err != nil {
			return err
		}
		var pairs []pair
		for _, q := range open {
			pairs = append(pairs, pair{p.port(from), q})
		}
		for q, o := range p.udp(ctx, pairs) {
			if o.ok && !slices.Contains(p.works, q.to) {
				p.works, p.worksFrom = append(p.works, q.to), from
			}
		}
		slices.Sort(p.works)
		return nil
	}
	for _, i := range plan(p.Set, p.Direction, p.Roles, p.Rows) {
		if i.transport == "udp" && i.skip == "" && len(p.works) < 2 {
			if err := try(i.from, i.to); err != nil {
				return err
			}
		}
	}
	if len(p.works) < 2 {
		return try([]need.Ports{{First: 20000, Last: 60000}}, []need.Ports{{First: 3478, Last: 3478}, {First: 20000, Last: 60000}})
	}
	return nil
}

// port is a random port of some ranges.
func (p *Prober) port(ranges []need.Ports) uint16 {
	r := ranges[p.rand.IntN(len(ranges))]
	return r.First + uint16(p.rand.IntN(int(r.Last-r.First)+1))
}

// free opens a socket at a port of ours from which probes pass.
func (p *Prober) free(ctx context.Context) (c *datagram.Conn, err error) {
	for range 20 {
		if c, err = p.listen(ctx, p.port(p.worksFrom)); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// heard is an answer and how it came.
type heard struct {
	wire.Probe
	by   netip.AddrPort
	mark uint8
	size int
}

// exchange sends a probe until it is answered. Write errors other than those about its length are left to silence.
func (p *Prober) exchange(ctx context.Context, c *datagram.Conn, to netip.AddrPort, kind wire.Kind, whole bool, mark uint8, size int) (h heard, tooLong bool) {
	b := make([]byte, wire.MaxSize+1)
	sent := map[uint32]bool{}
	for range tries - 1 {
		q := p.next(kind)
		q.Whole, q.Mark = whole, mark
		sent[q.Seq] = true
		if err := c.Write(q.Append(nil, p.ch.Key, size), to, mark); errors.Is(err, syscall.EMSGSIZE) {
			return h, true
		}
		_ = c.SetReadDeadline(time.Now().Add(p.patience))
		for ctx.Err() == nil {
			n, by, got, err := c.Read(b)
			if err != nil {
				break
			}
			if a, ok := p.genuine(b[:n]); ok && sent[a.Seq] {
				return heard{a, by, got, n}, false
			}
		}
	}
	return h, false
}

// nat finds out how the NAT maps and filters (RFC 4787 section 4 and 5, with the tests of RFC 5780 in other words).
func (p *Prober) nat(ctx context.Context) (verdict.Check, error) {
	c := verdict.Check{ID: "nat", Kind: "nat", Title: "Address translation (NAT)", Status: verdict.Pass, Values: map[string]string{}}
	if err := p.ways(ctx); err != nil {
		return c, err
	}
	if len(p.works) < 2 {
		return skipped("nat", "nat", c.Title, "it takes two UDP ports that answer, and there are fewer"), nil
	}
	s, err := p.free(ctx)
	if err != nil {
		return c, err
	}
	defer func() { _ = s.Close() }()
	local, to := addrPort(s.LocalAddr()), netip.AddrPortFrom(p.Reflector.Addr(), p.works[0])
	where := []netip.AddrPort{to, netip.AddrPortFrom(to.Addr(), p.works[len(p.works)-1])}
	if p.second.IsValid() {
		where = append(where, netip.AddrPortFrom(p.second, to.Port()))
	}
	var seen []netip.AddrPort
	for _, w := range where {
		h, _ := p.exchange(ctx, s, w, wire.Reach, false, 0, 0)
		seen = append(seen, h.Seen)
	}
	c.Sent = fmt.Sprintf("probes from one port to %d ports or addresses of the reflector, and from other ports", len(where))
	r, err := p.ask(ctx, wire.Request{Op: "counts"})
	if err != nil {
		return c, err
	}
	mapping := mappingOf(seen)
	if seen[0] == local && strings.HasPrefix(mapping, independent) {
		mapping = "none: addresses are not translated"
	}
	c.Values["mapping"] = mapping
	preserved, n := 0, 4
	for range n {
		s, err := p.free(ctx)
		if err != nil {
			return c, err
		}
		if h, _ := p.exchange(ctx, s, to, wire.Reach, false, 0, 0); h.Seen.Port() == addrPort(s.LocalAddr()).Port() {
			preserved++
		}
		_ = s.Close()
	}
	c.Values["ports kept"] = fmt.Sprintf("%d of %d", preserved, n)
	c.Values["filtering"] = p.filtering(ctx, to)
	c.Seen = fmt.Sprintf("mapping: %s; filtering: %s; it kept the port for %d of %d", mapping, c.Values["filtering"], preserved, n)
	switch {
	case len(r.Strays) > 0:
		c.Status, c.Cause = verdict.Warn, verdict.Symmetric
		c.Seen += "; probes came from other addresses than the control channel did: " + strings.Join(r.Strays, ", ")
		c.Change = "let one host of the site have one address outside at a time (paired address pooling, RFC 4787 REQ-2)"
	case mapping == dependent:
		c.Status, c.Cause = verdict.Warn, verdict.Symmetric
		c.Change = "set the NAT to endpoint-independent mapping (RFC 4787 REQ-1), e.g. without fully random ports; with mapping that depends on the destination, media by STUN and ICE needs a relay"
	}
	if !strings.HasPrefix(mapping, "none") {
		c.Values["hairpin"] = p.hairpin(ctx, to)
		c.Seen += "; from inside to outside and back in (hairpin): " + c.Values["hairpin"]
	}
	if p.Flows > 0 {
		if err := p.exhaust(ctx, to, &c); err != nil {
			return c, err
		}
	}
	if p.Lifetime > 0 && mapping != dependent {
		if err := p.lifetime(ctx, to, &c); err != nil {
			return c, err
		}
	}
	return c, nil
}

const (
	independent = "endpoint-independent"
	dependent   = "depends on the destination"
)

// mappingOf compares how one socket was seen from several places.
func mappingOf(seen []netip.AddrPort) string {
	seen = slices.DeleteFunc(slices.Clone(seen), func(a netip.AddrPort) bool { return !a.IsValid() })
	switch {
	case len(seen) < 2:
		return "not known: too few answers"
	case len(slices.Compact(slices.Clone(seen))) > 1:
		return dependent
	case len(seen) == 2:
		return independent + " for the ports of one address (the reflector has no second address)"
	}
	return independent
}

// filtering asks for answers from where nothing was sent to.
func (p *Prober) filtering(ctx context.Context, to netip.AddrPort) string {
	ask := func(kind wire.Kind) bool {
		s, err := p.free(ctx)
		if err != nil {
			return false
		}
		defer func() { _ = s.Close() }()
		h, _ := p.exchange(ctx, s, to, kind, false, 0, 0)
		return h.by.IsValid()
	}
	switch {
	case p.second.IsValid() && ask(wire.Afar):
		return "endpoint-independent: anybody can answer"
	case ask(wire.Elsewhere):
		return "address-dependent: only the address that was asked can answer, from any port"
	}
	return "address- and port-dependent: only what was asked can answer"
}

// hairpin sends from two sockets of this host to where the NAT shows the other one (RFC 4787 section 6). Both send, since a NAT may let in only whom it was sent to.
func (p *Prober) hairpin(ctx context.Context, to netip.AddrPort) string {
	type end struct {
		s     *datagram.Conn
		local netip.AddrPort
		seen  netip.AddrPort
	}
	var ends [2]end
	for i := range ends {
		s, err := p.free(ctx)
		if err != nil {
			return "not known: " + err.Error()
		}
		defer func() { _ = s.Close() }()
		h, _ := p.exchange(ctx, s, to, wire.Reach, false, 0, 0)
		if !h.Seen.IsValid() {
			return "not known: no answer"
		}
		ends[i] = end{s, addrPort(s.LocalAddr()), h.Seen}
	}
	b := make([]byte, wire.MaxSize+1)
	for range tries {
		q := p.next(wire.Reach)
		packet := q.Append(nil, p.ch.Key, 0)
		for i, e := range ends {
			_ = e.s.Write(packet, ends[1-i].seen, 0)
		}
		for i, e := range ends {
			_ = e.s.SetReadDeadline(time.Now().Add(p.patience))
			n, from, _, err := e.s.Read(b)
			if err != nil || ctx.Err() != nil {
				continue
			}
			if a, err := wire.ParseProbe(b[:n]); err == nil && !a.Answer && a.Seq == q.Seq && wire.Genuine(b[:n], p.ch.Key) {
				if from == ends[1-i].local {
					return "yes, and the sender is shown as it is inside (RFC 4787 REQ-9 wants the outside address)"
				}
				return "yes"
			}
		}
	}
	return "no: phones of the site reach each other by their inside addresses only"
}

// batch is how many flows are opened at a time.
const batch = 50

// exhaust opens flows and keeps them, until there are as many as were asked for or the NAT has no more ports.
func (p *Prober) exhaust(ctx context.Context, to netip.AddrPort, c *verdict.Check) error {
	var socks []*datagram.Conn
	defer func() {
		for _, s := range socks {
			_ = s.Close()
		}
	}()
	var mu sync.Mutex
	seen, owners, answered, first := map[netip.AddrPort]int{}, map[netip.Addr]bool{}, 0, 0
	for len(socks) < p.Flows && ctx.Err() == nil {
		began := len(socks)
		for range min(batch, p.Flows-began) {
			s, err := p.listen(ctx, 0)
			if err != nil {
				c.Values["flows"] = fmt.Sprintf("this host opens no more than %d sockets", len(socks))
				break
			}
			socks = append(socks, s)
		}
		if len(socks) == began {
			break
		}
		var wg sync.WaitGroup
		failed := 0
		for n := began; n < len(socks); n++ {
			wg.Go(func() {
				h, _ := p.exchange(ctx, socks[n], to, wire.Reach, false, 0, 0)
				mu.Lock()
				defer mu.Unlock()
				if !h.Seen.IsValid() {
					if failed++; first == 0 || n+1 < first {
						first = n + 1
					}
					return
				}
				answered++
				seen[h.Seen]++
				owners[h.Seen.Addr()] = true
			})
		}
		wg.Wait()
		if p.Progress != nil {
			p.Progress(len(socks), p.Flows, "nat: flows that are open")
		}
		if failed == len(socks)-began { // there is no use in more
			break
		}
	}
	if len(socks) == 0 {
		return nil
	}
	c.Values["flows"] = fmt.Sprintf("%d opened, %d answered, by %d ports of %d addresses outside", len(socks), answered, len(seen), len(owners))
	c.Seen += "; flows at a time: " + c.Values["flows"]
	switch {
	case answered < len(socks):
		c.Status, c.Cause, c.Required = verdict.Fail, verdict.Exhausted, true
		c.Seen += fmt.Sprintf("; the first without an answer was number %d", first)
		c.Change = joined(slices.DeleteFunc([]string{c.Change, "give the NAT more ports: a larger range or more addresses, see `ringfence network nat`; hosts beyond that number can neither register nor call, and nobody tells them"}, func(s string) bool { return s == "" }))
	case len(seen) < answered:
		c.Seen += "; ports were given to several hosts at a time, as RFC 4787 REQ-1 forbids"
		c.Status, c.Cause = verdict.Warn, verdict.Exhausted
		c.Change = "let the NAT give no port to two flows at a time"
	}
	return nil
}

// moments is how many silences of different length are tried: one each second, within bounds.
func moments(lifetime time.Duration) int { return min(max(int(lifetime/time.Second), 8), 600) }

// lifetime finds out how long the NAT remembers a port that is silent (RFC 4787 section 4.3): each of many ports is silent for another while.
func (p *Prober) lifetime(ctx context.Context, to netip.AddrPort, c *verdict.Check) error {
	var socks []*datagram.Conn
	for len(socks) < moments(p.Lifetime) {
		s, err := p.free(ctx)
		if err != nil && len(socks) == 0 {
			return err
		}
		if err != nil { // the row has fewer ports; then the moments are further apart
			break
		}
		defer func() { _ = s.Close() }()
		socks = append(socks, s)
	}
	steps := len(socks)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	remembered := map[time.Duration]bool{}
	for n, s := range socks {
		idle := p.Lifetime * time.Duration(n+1) / time.Duration(steps)
		wg.Go(func() {
			h, _ := p.exchange(ctx, s, to, wire.Reach, false, 0, 0)
			if !h.by.IsValid() {
				return
			}
			wait(ctx, idle)
			ok := false
			for range 2 {
				q := p.seq.Add(1)
				if _, err := p.ask(ctx, wire.Request{Op: "poke", To: h.Seen.String(), UDP: []uint16{to.Port()}, Seq: q}); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				_ = s.SetReadDeadline(time.Now().Add(p.patience))
				b := make([]byte, wire.MaxSize+1)
				if n, _, _, err := s.Read(b); err == nil {
					if a, genuine := p.genuine(b[:n]); genuine && a.Seq == q {
						ok = true
						break
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			remembered[idle] = ok
			if p.Progress != nil {
				p.Progress(len(remembered), steps, fmt.Sprintf("nat: silent for %v", idle.Round(100*time.Millisecond)))
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	longest, shortest := time.Duration(0), time.Duration(0)
	for n := 1; n <= steps; n++ {
		idle := p.Lifetime * time.Duration(n) / time.Duration(steps)
		if ok, known := remembered[idle]; known && ok && shortest == 0 {
			longest = idle
		} else if known && !ok && shortest == 0 {
			shortest = idle
		}
	}
	switch {
	case len(remembered) == 0:
		c.Values["lifetime"] = "not known: no answers"
		return nil
	case shortest == 0:
		c.Values["lifetime"] = fmt.Sprintf("at least %v", longest)
	default:
		c.Values["lifetime"] = fmt.Sprintf("between %v and %v", longest, shortest)
	}
	c.Seen += "; it remembers a silent port for " + c.Values["lifetime"]
	if shortest > 0 && shortest <= 2*time.Minute {
		c.Status, c.Cause = verdict.Warn, verdict.Symmetric
		c.Change = joined(slices.DeleteFunc([]string{c.Change, "let the NAT remember UDP for two minutes at least, better five (RFC 4787 REQ-5), or have phones send keep-alives more often than that"}, func(s string) bool { return s == "" }))
	}
	return nil
}
