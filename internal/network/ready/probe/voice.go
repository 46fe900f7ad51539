package probe

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

const (
	packetTime = 20 * time.Millisecond
	packetSize = 172 // RTP with 20 ms of G.711
	voiceMark  = 46
	codecIe    = 0    // G.711 with concealment of losses (ITU-T G.113 appendix I)
	codecBpl   = 25.1 // the same
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

func (j *jitter) String() string { return fmt.Sprintf("%.1f ms", j.value/float64(time.Millisecond)) }

// roundTrip is how long a probe was on its ways, without the time that the reflector says it kept it; what cannot be is not believed.
func roundTrip(sent, now int64, a wire.Probe) time.Duration {
	whole, kept := now-sent, a.Left-a.Came
	if kept < 0 || kept > whole {
		kept = 0
	}
	return time.Duration(whole - kept)
}

// voice sends what a call would send for a while, and says how it would sound.
func (p *Prober) voice(ctx context.Context) (verdict.Check, error) {
	c := verdict.Check{ID: "voice", Kind: "voice", Title: "How a call would sound", Required: true, Status: verdict.Pass, Values: map[string]string{}}
	if err := p.ways(ctx); err != nil {
		return c, err
	}
	if len(p.works) == 0 {
		return skipped(c.ID, c.Kind, c.Title, "no UDP port answers"), nil
	}
	before, err := p.ask(ctx, wire.Request{Op: "counts"})
	if err != nil {
		return c, err
	}
	s, err := p.free(ctx)
	if err != nil {
		return c, err
	}
	n := max(int(p.Voice/packetTime), 10)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var up, down jitter
	var rtts []time.Duration
	came := map[uint32]bool{}
	sent := map[uint32]int64{}
	first := p.seq.Load() + 1
	wg.Go(func() {
		b := make([]byte, wire.MaxSize+1)
		for {
			size, _, _, err := s.Read(b)
			if err != nil {
				return
			}
			now := time.Now().UnixNano()
			a, ok := p.genuine(b[:size])
			if !ok || a.Kind != wire.Stream {
				continue
			}
			mu.Lock()
			if left, ok := sent[a.Seq]; ok && !came[a.Seq] {
				came[a.Seq] = true
				up.add(time.Duration(a.Came - left))
				down.add(time.Duration(now - a.Left))
				rtts = append(rtts, roundTrip(left, now, a))
			}
			mu.Unlock()
		}
	})
	tick := time.NewTicker(packetTime)
	for range n {
		q := p.next(wire.Stream)
		q.Whole, q.Mark = true, voiceMark
		mu.Lock()
		sent[q.Seq] = q.Sent
		mu.Unlock()
		_ = s.Write(q.Append(nil, p.ch.Key, packetSize), netip.AddrPortFrom(p.Reflector.Addr(), p.works[0]), voiceMark)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	tick.Stop()
	wait(ctx, 2*p.patience)
	_ = s.Close()
	wg.Wait()
	after, err := p.ask(ctx, wire.Request{Op: "counts"})
	if err != nil {
		return c, err
	}
	c.Sent = fmt.Sprintf("%d packets of %d bytes, one each 20 ms, with DSCP %d, and back", n, packetSize, voiceMark)
	arrived := min(max(int(after.Streamed-before.Streamed), len(came)), n)
	if len(rtts) == 0 {
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Dropped, fmt.Sprintf("%d arrived, none came back", arrived)
		c.Change = "let streams of UDP pass in both directions"
		return c, nil
	}
	slices.Sort(rtts)
	rtt := rtts[len(rtts)/2]
	lost := func(of, got int) float64 { return 1 - float64(got)/float64(of) }
	play := max(40*time.Millisecond, 2*time.Duration(max(up.value, down.value)))
	stream := verdict.Stream{Delay: rtt/2 + packetTime + play, BurstRatio: burstRatio(first, n, came), Ie: codecIe, Bpl: codecBpl}
	worst := 100.0
	for _, way := range []struct {
		name string
		loss float64
		j    *jitter
	}{{"up", lost(n, arrived), &up}, {"down", lost(arrived, len(came)), &down}} {
		stream.Loss = way.loss
		r, mos := stream.Quality()
		worst = min(worst, r)
		c.Values[way.name] = fmt.Sprintf("loss %.2f %%, jitter %s, R %.1f, MOS %.2f (%s)", 100*way.loss, way.j, r, mos, stream)
		if way.loss > .01 || way.j.value > float64(30*time.Millisecond) {
			c.Status, c.Cause = verdict.Warn, verdict.Quality
		}
	}
	c.Values["round trip"] = rtt.Round(10 * time.Microsecond).String()
	c.Values["delay"] = "half the round trip, 20 ms of packet, " + play.Round(time.Millisecond).String() + " of jitter buffer"
	c.Seen = fmt.Sprintf("up: %s; down: %s; round trip %s", c.Values["up"], c.Values["down"], c.Values["round trip"])
	if rtt/2 > 150*time.Millisecond {
		c.Status, c.Cause = verdict.Warn, verdict.Quality
	}
	if worst < 60 { // ITU-T G.107 annex B: nearly all users are dissatisfied
		c.Status, c.Cause = verdict.Fail, verdict.Quality
	}
	if c.Status != verdict.Pass {
		c.Change = "give voice a queue of its own by its mark, look for a full link, a policer or a bad radio link; ITU-T G.114 wants 150 ms one way at most, and voice wants under 1 % of loss and 30 ms of jitter"
	}
	return c, nil
}

// burstRatio compares how long losses last with how long they would if they were independent (ITU-T G.107 section 3.5).
func burstRatio(first uint32, n int, came map[uint32]bool) float64 {
	lost, bursts, in := 0, 0, false
	for i := range n {
		switch {
		case came[first+uint32(i)]:
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
