package probe

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/network/ready/datagram"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

const (
	packetTime = 20 * time.Millisecond
	voiceMark  = 46
	// maxSockets is how many ports of ours the packets of many calls leave from.
	maxSockets = 128
)

// jitter is the estimate of RFC 3550 section 6.4.1.
type jitter struct {
	last  time.Duration
	value float64
	begun bool
}

func (j *jitter) add(transit time.Duration) {
	if j.begun {
		j.value += (math.Abs(float64(transit-j.last)) - j.value) / 16
	}
	j.last, j.begun = transit, true
}

// flight is the packets of some calls at a time, and what came of them. Packet i is of call i%calls.
type flight struct {
	calls, size int
	first       uint32  // its number
	sent        []int64 // when, by our clock
	mu          sync.Mutex
	came        []bool          // back
	up, down    []time.Duration // transit; the two clocks differ by a constant
	rtt         []time.Duration
	jup, jdown  []jitter // by call
	arrived     int      // at the reflector
	returned    int
	slow        bool // this host could not send as fast as it should have
}

// fly sends so many packets of each call, one each 20 ms and the calls evenly spread over that time, and hears what comes back.
func (p *Prober) fly(ctx context.Context, calls, packets, size int) (*flight, error) {
	f := &flight{calls: calls, size: size, sent: make([]int64, calls*packets), came: make([]bool, calls*packets), up: make([]time.Duration, calls*packets), down: make([]time.Duration, calls*packets), rtt: make([]time.Duration, calls*packets),
		jup: make([]jitter, calls), jdown: make([]jitter, calls)}
	before, err := p.ask(ctx, wire.Request{Op: "counts"})
	if err != nil {
		return nil, err
	}
	var socks []*datagram.Conn
	for len(socks) < min(calls, maxSockets) {
		s, err := p.free(ctx)
		if err != nil && len(socks) == 0 {
			return nil, err
		}
		if err != nil { // fewer ports than calls: they share
			break
		}
		socks = append(socks, s)
	}
	f.first = p.seq.Load() + 1
	var wg sync.WaitGroup
	for _, s := range socks {
		wg.Go(func() {
			b := make([]byte, wire.MaxSize+1)
			for {
				n, _, _, err := s.Read(b)
				if err != nil {
					return
				}
				now := time.Now().UnixNano()
				if a, ok := p.genuine(b[:n]); ok && a.Kind == wire.Stream {
					f.hear(a, now)
				}
			}
		})
	}
	b := make([]byte, 0, wire.MaxSize)
	began, held := time.Now(), time.Duration(0)
	for i := range calls * packets {
		due := began.Add(held + time.Duration(i)*packetTime/time.Duration(calls))
		if d := time.Until(due); d > 0 {
			wait(ctx, d)
		} else if d < -packetTime { // a host that was held up goes on from now: to catch up would be a load that nobody asked for
			held -= d
		}
		if ctx.Err() != nil {
			break
		}
		q := p.next(wire.Stream)
		q.Whole, q.Mark = true, voiceMark
		f.mu.Lock()
		f.sent[i] = q.Sent
		f.mu.Unlock()
		call := i % calls
		_ = socks[call%len(socks)].Write(q.Append(b[:0], p.ch.Key, size), netip.AddrPortFrom(p.Reflector.Addr(), p.works[call%len(p.works)]), voiceMark)
	}
	f.slow = held > time.Duration(packets)*packetTime/20
	for ended, last := time.Now(), -1; time.Since(ended) < 3*time.Second && ctx.Err() == nil; { // what waits in queues still comes
		f.mu.Lock()
		n := f.returned
		f.mu.Unlock()
		if n == len(f.sent) || n == last {
			break
		}
		last = n
		wait(ctx, 2*p.patience)
	}
	for _, s := range socks {
		_ = s.Close()
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, &ringfence.Fault{Op: "probe", Kind: ringfence.KindCancelled, Text: "the test was stopped"}
	}
	after, err := p.ask(ctx, wire.Request{Op: "counts"})
	if err != nil {
		return nil, err
	}
	f.arrived = min(max(int(after.Streamed-before.Streamed), f.returned), len(f.sent))
	return f, nil
}

// hear takes an answer in: one to each packet, the first.
func (f *flight) hear(a wire.Probe, now int64) {
	i := int(a.Seq - f.first) // a number from before is a large one
	f.mu.Lock()
	defer f.mu.Unlock()
	if i < 0 || i >= len(f.sent) || f.sent[i] == 0 || f.came[i] {
		return
	}
	f.came[i] = true
	f.returned++
	f.up[i], f.down[i] = time.Duration(a.Came-f.sent[i]), time.Duration(now-a.Left)
	f.rtt[i] = roundTrip(f.sent[i], now, a)
	f.jup[i%f.calls].add(f.up[i])
	f.jdown[i%f.calls].add(f.down[i])
}

// roundTrip is how long a probe was on its ways, without the time that the reflector says it kept it; what cannot be is not believed.
func roundTrip(sent, now int64, a wire.Probe) time.Duration {
	whole, kept := now-sent, a.Left-a.Came
	if kept < 0 || kept > whole {
		kept = 0
	}
	return time.Duration(whole - kept)
}

func (f *flight) lostUp() float64 { return 1 - float64(f.arrived)/float64(len(f.sent)) }

func (f *flight) lostDown() float64 { return 1 - float64(f.returned)/float64(max(f.arrived, 1)) }

// came returns some times of the packets that came back, in order of size.
func (f *flight) those(all []time.Duration) (out []time.Duration) {
	for i, d := range all {
		if f.came[i] {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

// variation is the mean difference between the transits of packets of a call that follow each other (RFC 5481 section 4.1, absolute values).
func (f *flight) variation(transit []time.Duration) time.Duration {
	var sum time.Duration
	n := 0
	for i := f.calls; i < len(transit); i++ {
		if f.came[i] && f.came[i-f.calls] {
			sum += (transit[i] - transit[i-f.calls]).Abs()
			n++
		}
	}
	return sum / time.Duration(max(n, 1))
}

// added is how much longer than the fastest packet others took: the median and what 95 of 100 stay below (RFC 5481 section 4.2).
func (f *flight) added(transit []time.Duration) (median, most time.Duration) {
	all := f.those(transit)
	if len(all) == 0 {
		return 0, 0
	}
	return all[len(all)/2] - all[0], all[len(all)*95/100] - all[0]
}

// standing is for how long packets wait in a queue that does not go away: of each fifth of a second the least that they took longer than the fastest of all, and of these the most. What is slow for a moment,
// since a host is busy or packets met, is no queue (RFC 8289 section 3.2 tells them apart so).
func (f *flight) standing(transit []time.Duration) (most time.Duration) {
	all := f.those(transit)
	per := f.calls * int(200*time.Millisecond/packetTime)
	for first := 0; first < len(transit); first += per {
		least, any := time.Duration(0), false
		for i := first; i < min(first+per, len(transit)); i++ {
			if d := transit[i]; f.came[i] && (!any || d < least) {
				least, any = d, true
			}
		}
		if any {
			most = max(most, least-all[0])
		}
	}
	return most
}

// way is what a flight says of one direction.
type way struct {
	name      string
	loss      float64
	variation time.Duration
	jitter    time.Duration // RFC 3550, of the first call
	median    time.Duration
	most      time.Duration
	standing  time.Duration
}

func (f *flight) ways() [2]way {
	one := func(name string, loss float64, transit []time.Duration, j jitter) way {
		w := way{name: name, loss: loss, variation: f.variation(transit), jitter: time.Duration(j.value), standing: f.standing(transit)}
		w.median, w.most = f.added(transit)
		return w
	}
	return [2]way{one("up", f.lostUp(), f.up, f.jup[0]), one("down", f.lostDown(), f.down, f.jdown[0])}
}

// fault is what is wrong with a way for voice, or nothing.
func (w way) fault(most time.Duration) string {
	switch {
	case w.loss > maxLoss:
		return fmt.Sprintf("%.1f %% lost %s", 100*w.loss, w.name)
	case w.standing > most:
		return fmt.Sprintf("%s %s in queues", ms(w.standing), w.name)
	}
	return ""
}

// ms writes a time in milliseconds.
func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// burstRatio compares how long losses last with how long they would if they were independent (ITU-T G.107 section 3.5).
func burstRatio(came []bool) float64 {
	lost, bursts, in, n := 0, 0, false, len(came)
	for _, ok := range came {
		switch {
		case ok:
			in = false
		case in:
			lost++
		default:
			lost, bursts, in = lost+1, bursts+1, true
		}
	}
	if bursts == 0 || lost == n {
		return 1
	}
	return max(1, float64(lost)/float64(bursts)*(1-float64(lost)/float64(n)))
}

// stream is how a way sounds by G.107, with this delay from mouth to ear.
func (w way) stream(f *flight, delay time.Duration) verdict.Stream {
	return verdict.Stream{Delay: delay, Loss: w.loss, BurstRatio: burstRatio(f.came), Ie: codecIe, Bpl: codecBpl}
}
