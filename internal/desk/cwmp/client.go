package cwmp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
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
}

// After a session that failed the phone waits between these two, and twice as long after each further one, up to ten (TR-069 table 3).
const (
	retryFirst = 5 * time.Second
	retrySteps = 10
)

// retry returns how long to wait after so many sessions that failed: somewhere between d and twice d.
func retry(failed int) time.Duration {
	d := retryFirst << (min(failed, retrySteps) - 1)
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 2 * d
	}
	return d + time.Duration(uint64(binary.BigEndian.Uint32(b[:]))*uint64(d)>>32)
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
			wait, periodic = retry(failed), true
		case s.Reboot:
			return true, s.Key
		default:
			events, failed = nil, 0
		}
		var timer <-chan time.Time
		stop := func() bool { return true }
		if periodic {
			t := time.NewTimer(max(wait, time.Second))
			timer, stop = t.C, t.Stop
		}
		add := Occasion{Event: Periodic}
		select {
		case <-ctx.Done():
			stop()
			return false, ""
		case <-timer:
		case <-c.Rung:
			add.Event = Requested
		}
		stop()
		if (err == nil || add.Event == Requested) && !slices.Contains(events, add) { // a session that failed is made again for the same reasons
			events = append(events, add)
		}
	}
}
