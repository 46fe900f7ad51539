package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ringfence/internal/network/ready/datagram"
	"ringfence/internal/network/ready/wire"
)

// maxHops is how many routers on the way are looked at.
const maxHops = 16

// hop is a machine on the way that said that a probe came to its end there; not valid: silence. The reflector's own answer ends the way.
type hop struct {
	by   netip.Addr
	mark uint8 // of the probe as it came there, or datagram.NoMark
	last bool  // the reflector answered
}

// String names a machine.
func (h hop) String() string {
	if !h.by.IsValid() {
		return "a machine that does not say its name"
	}
	return h.by.String()
}

// hops sends probes that go one router further each, all at once, up to the reflector. Marks are read where the opener hears what routers say.
func (p *Prober) hops(ctx context.Context, to netip.AddrPort, mark uint8, size int) []hop {
	all := make([]hop, maxHops)
	socks := make([]*datagram.Conn, maxHops)
	marks := p.quotes(ctx)
	defer marks.close()
	var wg sync.WaitGroup
	for n := range socks {
		s, err := p.free(ctx)
		if err != nil {
			continue
		}
		socks[n], all[n].mark = s, datagram.NoMark
		defer func() { _ = s.Close() }()
		s.Whole()
		s.Hops(n + 1)
		wg.Go(func() { all[n].by, all[n].last = p.expire(ctx, s, to, mark, size) })
	}
	wg.Wait()
	for n, s := range socks {
		if s != nil {
			if m, ok := marks.of(addrPort(s.LocalAddr()).Port(), all[n].by); ok {
				all[n].mark = m
			}
		}
	}
	if n := slices.IndexFunc(all, func(h hop) bool { return h.last }); n >= 0 {
		return all[:n+1]
	}
	for len(all) > 0 && !all[len(all)-1].by.IsValid() {
		all = all[:len(all)-1]
	}
	return all
}

// expire sends a probe whose hops are counted, and once more if nobody says anything: routers limit how often they do.
func (p *Prober) expire(ctx context.Context, s *datagram.Conn, to netip.AddrPort, mark uint8, size int) (by netip.Addr, answered bool) {
	b := make([]byte, wire.MaxSize+1)
	for range 2 {
		q := p.next(wire.Reach)
		_ = s.Write(q.Append(nil, p.ch.Key, size), to, mark)
		for until := time.Now().Add(2 * p.patience); ctx.Err() == nil && time.Now().Before(until); {
			_ = s.SetReadDeadline(time.Now().Add(p.patience / 4))
			if n, _, _, err := s.Read(b); err == nil {
				if a, ok := p.genuine(b[:n]); ok && a.Seq == q.Seq {
					return by, true
				}
			}
			for _, r := range s.Refusals() {
				if r.Expired && r.By.IsValid() {
					return r.By, false
				}
			}
		}
	}
	return by, false
}

// quotes hears what routers give back, if it may.
type quotes struct {
	pc   net.PacketConn
	mu   sync.Mutex
	seen map[quoteKey]uint8
	// refused has who refused connections, by the port at the reflector and by both ports.
	refused map[pair]netip.Addr
	done    sync.WaitGroup
}

type quoteKey struct {
	port uint16
	by   netip.Addr
}

func (p *Prober) quotes(ctx context.Context) *quotes {
	q := &quotes{seen: map[quoteKey]uint8{}, refused: map[pair]netip.Addr{}}
	pc, err := p.Opener.ListenICMP(ctx, FlowICMP, p.local)
	if err != nil {
		return q
	}
	q.pc = pc
	q.done.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			ip, ok := from.(*net.IPAddr)
			if !ok {
				continue
			}
			by, _ := netip.AddrFromSlice(ip.IP)
			if m, err := datagram.ParseQuote(b[:n], p.local.Is6()); err == nil && m.To.Addr() == p.Reflector.Addr() {
				q.mu.Lock()
				if len(q.seen) < 4*maxHops {
					q.seen[quoteKey{m.From.Port(), by.Unmap()}] = m.Mark
				}
				q.mu.Unlock()
			}
			if m, err := datagram.ParseRefusal(b[:n], p.local.Is6()); err == nil && m.To.Addr() == p.Reflector.Addr() {
				q.mu.Lock()
				if len(q.refused) < maxRefused {
					q.refused[pair{m.From.Port(), m.To.Port()}], q.refused[pair{0, m.To.Port()}] = by.Unmap(), by.Unmap()
				}
				q.mu.Unlock()
			}
		}
	})
	return q
}

func (q *quotes) of(port uint16, by netip.Addr) (uint8, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m, ok := q.seen[quoteKey{port, by}]
	return m, ok
}

// maxRefused bounds how many refusals of connections are remembered.
const maxRefused = 4096

// who refused a connection, if somebody on the way said so.
func (q *quotes) who(c pair) netip.Addr {
	q.mu.Lock()
	defer q.mu.Unlock()
	if by, ok := q.refused[c]; ok {
		return by
	}
	return q.refused[pair{0, c.to}]
}

func (q *quotes) close() {
	if q.pc != nil {
		_ = q.pc.SetReadDeadline(time.Unix(1, 0))
		q.done.Wait()
		_ = q.pc.Close()
	}
}

// whoMarks says between which machines a mark was changed on the way to the service.
func (p *Prober) whoMarks(ctx context.Context, to netip.AddrPort, mark uint8) string {
	path := p.hops(ctx, to, mark, 0)
	before, heard := "this host", false
	for _, h := range path {
		if h.last {
			break
		}
		if h.mark == datagram.NoMark {
			continue
		}
		heard = true
		if h.mark != mark {
			return fmt.Sprintf("between %s and %s, where it came as %d", before, h, h.mark)
		}
		before = h.String()
	}
	if !heard {
		return ""
	}
	return "after " + before + ", where it came as it was sent"
}

// whoSwallows says behind which machine long datagrams vanish.
func (p *Prober) whoSwallows(ctx context.Context, to netip.AddrPort, size int) string {
	short, long := p.hops(ctx, to, datagram.NoMark, wire.Size), p.hops(ctx, to, datagram.NoMark, size)
	reached := func(path []hop, n int) bool { return n < len(path) && (path[n].by.IsValid() || path[n].last) }
	before := "this host"
	for n, h := range short {
		if !reached(short, n) {
			continue
		}
		if !reached(long, n) {
			if h.last {
				return "between " + before + " and the reflector"
			}
			return "between " + before + " and " + h.String()
		}
		before = h.String()
	}
	return ""
}
