package probe

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

const (
	callSize  = 182 // SRTP with 20 ms of G.711 and a tag of 80 bits
	maxSteps  = 24
	maxQueued = 50 * time.Millisecond // that packets may wait in a queue that stays
	// MaxCalls bounds how many calls at a time are tried.
	MaxCalls = wire.MaxCalls
)

// step is a number of calls that was tried.
type step struct {
	calls int
	fault string // why it is too many; "" if it is not
	late  bool   // this host could not send as fast as it should have
	held  bool   // it was tried for longer
}

// line finds out how many calls fit: it doubles until they do not, or until as many as were asked for do, then searches between, and holds the outcome for longer. Where that does not hold, the line
// has a reserve for a moment, and every step from then on is a long one. Try makes one step. Over is the least number that was too many, if there is one.
func line(most int, short, long time.Duration, try func(calls int, d time.Duration) (step, error)) (fit int, over step, done []step, err error) {
	high := most + 1
	var good step
	for len(done) < maxSteps {
		next, d := min(max(2*good.calls, 1), most), short
		if high <= most {
			next = (good.calls + high) / 2
		}
		if high-good.calls <= max(1, good.calls/50) { // a fiftieth is as exact as a step can be
			if good.held || good.calls == 0 {
				break
			}
			next, d = good.calls, long
		}
		s, err := try(next, d)
		if err != nil {
			return good.calls, over, done, err
		}
		s.held = d == long
		if done = append(done, s); s.fault == "" {
			good = s
			continue
		}
		high, over = s.calls, s
		if good.calls >= high {
			good, short = step{}, long
			for _, s := range done {
				if s.fault == "" && s.calls <= high/2 && s.calls > good.calls {
					good = s
				}
			}
		}
	}
	return good.calls, over, done, nil
}

// capacity finds out how many calls at a time the way to the service carries.
func (p *Prober) capacity(ctx context.Context) (verdict.Check, error) {
	c := verdict.Check{ID: "capacity", Kind: "capacity", Title: "How many calls fit", Required: true, Status: verdict.Pass, Values: map[string]string{}}
	if err := p.ways(ctx); err != nil {
		return c, err
	}
	if len(p.works) == 0 {
		return skipped(c.ID, c.Kind, c.Title, "no UDP port answers"), nil
	}
	r, err := p.ask(ctx, wire.Request{Op: "load", Calls: p.Calls})
	if err != nil {
		return c, err
	}
	most := min(r.Calls, p.Calls)
	if most < 1 {
		return skipped(c.ID, c.Kind, c.Title, "the reflector lends itself to no load; see `ringfence ready reflect --calls`"), nil
	}
	packets, short, long := 0, cmp.Or(p.callStep, 3*time.Second), cmp.Or(p.callHold, 10*time.Second)
	fit, over, done, err := line(most, short, long, func(calls int, d time.Duration) (step, error) {
		if p.Progress != nil {
			p.Progress(calls, most, fmt.Sprintf("capacity: calls at a time, for %v", d))
		}
		var s step
		for n := range 4 { // what is wrong once may be a moment of a busy host
			f, err := p.fly(ctx, calls, int(d/packetTime), callSize)
			if err != nil {
				return step{}, err
			}
			packets += len(f.sent)
			s = f.step(calls)
			wait(ctx, min(f.standing(f.rtt), 2*time.Second)+2*p.patience) // what still waits in queues is not of the next step
			if s.fault == "" || n > 0 && !s.late {
				break
			}
		}
		return s, nil
	})
	if err != nil {
		return c, err
	}
	var told []string
	for _, s := range done {
		if s.fault == "" {
			told = append(told, fmt.Sprintf("%d fit", s.calls))
		} else {
			told = append(told, fmt.Sprintf("%d do not (%s)", s.calls, s.fault))
		}
	}
	c.Values["calls"] = fmt.Sprint(fit)
	c.Values["steps"] = strings.Join(told, "; ")
	c.Values["call"] = fmt.Sprintf("each way %d bytes of SRTP (G.711) each 20 ms, with DSCP %d: %.1f kbit/s with the heads of UDP and IP", callSize, voiceMark, p.callRate())
	c.Values["method"] = fmt.Sprintf("so many streams at a time, doubled and then searched between, %v each and %v for the outcome; they fit while at most %.0f %% are lost each way and in no fifth of a second all packets are more than %v slower than the fastest", short, long, 100*maxLoss, maxQueued)
	c.Sent = fmt.Sprintf("up to %d calls at a time in %d steps, %.1f MB each way: %s", most, len(done), float64(packets*(callSize+p.heads()))/1e6, c.Values["method"])
	c.Seen = fmt.Sprintf("%d calls fit", fit)
	if over.calls > 0 {
		c.Seen += fmt.Sprintf("; with %d: %s", over.calls, over.fault)
	}
	switch {
	case fit < most && over.late:
		c.Status, c.Cause, c.Required = verdict.Warn, verdict.Untested, false
		c.Change = "test from a faster host: this one could not send more at the right times, so the line may carry more"
	case fit == 0:
		c.Status, c.Cause = verdict.Fail, verdict.Quality
		c.Seen = fmt.Sprintf("not even one call fits: %s", over.fault)
		c.Change = "give voice a queue of its own by its mark, and look for a full link, a policer or a bad radio link"
	case fit < most:
		c.Status, c.Cause = verdict.Fail, verdict.Quality
		c.Change = fmt.Sprintf("give voice more of the line (a queue of its own by its mark, or a faster line), or let no more than %d calls at a time onto it", fit)
	case fit < p.Calls:
		c.Status, c.Cause, c.Required = verdict.Warn, verdict.Untested, false
		c.Seen += fmt.Sprintf("; more were not tried, since the reflector takes %d at most", r.Calls)
		c.Change = fmt.Sprintf("run the reflector with --calls %d", p.Calls)
	}
	return c, nil
}

// step is what a flight says of so many calls.
func (f *flight) step(calls int) step {
	var faults []string
	for _, w := range f.ways() {
		if what := w.fault(maxQueued); what != "" {
			faults = append(faults, what)
		}
	}
	s := step{calls: calls, fault: strings.Join(faults, ", ")}
	if f.slow && s.fault == "" { // with a fault, fewer were too many already
		s.fault, s.late = "this host sends too slowly", true
	}
	return s
}

// heads is the length of the heads of UDP and IP.
func (p *Prober) heads() int {
	if p.local.Is6() {
		return 48
	}
	return 28
}

// callRate is what a call takes one way, in kbit/s.
func (p *Prober) callRate() float64 {
	return float64((callSize+p.heads())*8) / float64(packetTime/time.Millisecond)
}
