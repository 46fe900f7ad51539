package cwmp

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Client keeps in touch with an ACS.
type Client struct {
	ACS      func() ACS // as the parameters in force have it
	Identity Identity
	Phone    Phone
	Interval func() (time.Duration, bool) // of periodic informs, and whether there are any
	Rung     <-chan struct{}              // of a Doorbell; may be nil
	Tell     func(Session)                // after each session
	// Fetch takes a file that the ACS ordered, and says whether the phone has to start again for it; nil: none is taken.
	Fetch func(ctx context.Context, o Order) (again bool, err error)
	// Retry is what the phone waits by after a session that failed: seconds, and thousandths of a factor; nil: 5 and 2000.
	Retry func() (wait, multiplier uint32)
}

// Bounds of the waits after sessions that failed.
const (
	retrySteps   = 10
	longestRetry = 24 * time.Hour
)

// retry returns how long to wait after so many sessions that failed: between m times k to the power of n-1 and of n (TR-069 table 3), where n is ten at most.
func retry(failed int, wait, multiplier uint32) time.Duration {
	factor := float64(multiplier) / 1000
	low := float64(wait) * math.Pow(factor, float64(min(failed, retrySteps)-1))
	low = min(low, longestRetry.Seconds()/factor)
	return time.Duration((low + rand.Float64()*low*(factor-1)) * float64(time.Second))
}

// Run makes a session with the first events, and then one whenever there is a reason, until ctx ends or the ACS asks for a restart, whose command key it returns.
func (c *Client) Run(ctx context.Context, first []Occasion) (reboot bool, key string) {
	events, failed := first, 0
	for {
		s, err := c.ACS().Run(ctx, c.Identity, c.Phone, events, failed)
		if ctx.Err() != nil {
			return false, ""
		}
		c.Tell(s)
		wait, periodic := c.Interval()
		switch {
		case err != nil:
			failed++
			m, k := uint32(5), uint32(2000)
			if c.Retry != nil {
				m, k = c.Retry()
			}
			wait, periodic = retry(failed, m, k), true
		case s.Reboot:
			return true, s.Key
		default:
			events, failed = nil, 0
		}
		more, again := c.wait(ctx, wait, periodic, err != nil)
		switch {
		case ctx.Err() != nil:
			return false, ""
		case again:
			return true, ""
		}
		for _, e := range more {
			if !slices.Contains(events, e) {
				events = append(events, e)
			}
		}
	}
}

// wait waits for a reason to make a session: the time, a wish of the ACS, an appointment, or a file that is there. A session that failed is made again for the reasons that it had. again tells that the phone has to start again.
func (c *Client) wait(ctx context.Context, wait time.Duration, periodic, failed bool) (events []Occasion, again bool) {
	now := time.Now()
	due, next := c.Phone.Due(now)
	if len(due) > 0 {
		return appointments(due), false
	}
	end := time.Time{}
	if periodic {
		end = now.Add(max(wait, time.Second))
	}
	order, ordered := c.Phone.Ordered()
	ordered = ordered && c.Fetch != nil && !failed
	for _, at := range []time.Time{next, order.At} {
		if at.IsZero() || at == order.At && !ordered {
			continue
		}
		if end.IsZero() || at.Before(end) {
			end = at
		}
	}
	var timer <-chan time.Time
	if !end.IsZero() {
		t := time.NewTimer(max(end.Sub(now), 0))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return nil, false
	case <-c.Rung:
		return []Occasion{{Event: Requested}}, false
	case <-timer:
	}
	now = time.Now()
	if ordered && !order.At.After(now) {
		t := Transfer{Key: order.Key, Started: now}
		restart, err := c.Fetch(ctx, order)
		if ctx.Err() != nil {
			return nil, false // it is taken at the next start
		}
		if t.Completed = time.Now(); err != nil {
			t.Code, t.Text, restart = CodeOf(err), printable(err.Error()), false
		}
		_ = c.Phone.Finish(t)
		return nil, restart // the next session tells of it
	}
	if due, _ = c.Phone.Due(now); len(due) > 0 {
		return appointments(due), false
	}
	if failed {
		return nil, false
	}
	return []Occasion{{Event: Periodic}}, false
}

func appointments(due []Appointment) []Occasion {
	out := []Occasion{{Event: Scheduled}}
	for _, a := range due {
		out = append(out, Occasion{Event: Asked, Key: a.Key})
	}
	return out
}
