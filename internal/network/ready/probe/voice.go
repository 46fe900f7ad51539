package probe

import (
	"context"
	"fmt"
	"time"

	"ringfence/internal/network/ready/verdict"
)

const (
	packetSize = 172  // RTP with 20 ms of G.711
	codecIe    = 0    // G.711 with concealment of losses (ITU-T G.113 appendix I)
	codecBpl   = 25.1 // the same
	maxLoss    = .01
	maxJitter  = 30 * time.Millisecond
	maxOneWay  = 150 * time.Millisecond // ITU-T G.114
)

// voice sends what a call would send for a while, and says how it would sound, and what carries it if this host has a tunnel.
func (p *Prober) voice(ctx context.Context) ([]verdict.Check, error) {
	through := p.watchTunnel()
	c, f, err := p.sound(ctx)
	if err != nil || f == nil || through == nil {
		return []verdict.Check{c}, err
	}
	return []verdict.Check{c, through(f)}, nil
}

func (p *Prober) sound(ctx context.Context) (verdict.Check, *flight, error) {
	c := verdict.Check{ID: "voice", Kind: "voice", Title: "How a call would sound", Required: true, Status: verdict.Pass, Values: map[string]string{}}
	if err := p.ways(ctx); err != nil {
		return c, nil, err
	}
	if len(p.works) == 0 {
		return skipped(c.ID, c.Kind, c.Title, "no UDP port answers"), nil, nil
	}
	n := max(int(p.Voice/packetTime), 10)
	f, err := p.fly(ctx, 1, n, packetSize)
	if err != nil {
		return c, nil, err
	}
	c.Sent = fmt.Sprintf("%d packets of %d bytes, one each 20 ms, with DSCP %d, and back", n, packetSize, voiceMark)
	rtts := f.those(f.rtt)
	if len(rtts) == 0 {
		c.Status, c.Cause, c.Seen = verdict.Fail, verdict.Dropped, fmt.Sprintf("%d arrived, none came back", f.arrived)
		c.Change = "let streams of UDP pass in both directions"
		return c, f, nil
	}
	rtt, ways := rtts[len(rtts)/2], f.ways()
	play := max(40*time.Millisecond, 2*max(ways[0].variation, ways[1].variation))
	worst := 100.0
	for _, w := range ways {
		s := w.stream(f, rtt/2+packetTime+play)
		r, mos := s.Quality()
		worst = min(worst, r)
		c.Values[w.name] = fmt.Sprintf("loss %.2f %%, jitter %s, R %.1f, MOS %.2f (%s)", 100*w.loss, ms(w.variation), r, mos, s)
		c.Values["jitter "+w.name] = fmt.Sprintf("mean difference of transit %s (RFC 5481), at the end %s (RFC 3550); over the fastest packet: median %s, 95 of 100 within %s", ms(w.variation), ms(w.jitter), ms(w.median), ms(w.most))
		if w.loss > maxLoss || w.variation > maxJitter {
			c.Status, c.Cause = verdict.Warn, verdict.Quality
		}
	}
	c.Values["round trip"] = rtt.Round(10 * time.Microsecond).String()
	c.Values["delay"] = "half the round trip, 20 ms of packet, " + play.Round(time.Millisecond).String() + " of jitter buffer"
	c.Seen = fmt.Sprintf("up: %s; down: %s; round trip %s", c.Values["up"], c.Values["down"], c.Values["round trip"])
	if rtt/2 > maxOneWay {
		c.Status, c.Cause = verdict.Warn, verdict.Quality
	}
	if worst < 60 { // ITU-T G.107 annex B: nearly all users are dissatisfied
		c.Status, c.Cause = verdict.Fail, verdict.Quality
	}
	if c.Status != verdict.Pass {
		c.Change = "give voice a queue of its own by its mark, look for a full link, a policer or a bad radio link; ITU-T G.114 wants 150 ms one way at most, and voice wants under 1 % of loss and 30 ms of jitter"
	}
	return c, f, nil
}
