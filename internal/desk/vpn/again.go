package vpn

import (
	"context"
	"math/rand/v2"
	"time"

	"ringfence"
)

// Waits between attempts to open a tunnel again.
const (
	firstWait   = 2 * time.Second
	longestWait = 5 * time.Minute
)

// Attempt is an attempt to open a tunnel that failed.
type Attempt struct {
	Number int
	Err    error
	Next   time.Time // when it is tried again
}

// Passing reports whether what failed may be over soon. A server that refuses a user may lock that user out if it is asked too often.
func Passing(err error) bool {
	k := ringfence.KindOf(err)
	return k == ringfence.KindUnavailable || k == ringfence.KindTimeout
}

// wait returns how long to wait after so many attempts that failed, the last of them with err; a tenth more or less, so that phones that lost their server together do not come back together.
func wait(failed int, err error) time.Duration {
	d := longestWait
	if n := failed - 1; Passing(err) && n < 8 {
		d = min(firstWait<<n, longestWait)
	}
	return d - d/10 + rand.N(d/5)
}

// Again opens a tunnel that ended, because of err, until it is open; tell hears of each attempt that failed, the end itself among them. It returns an error only when ctx has ended.
func Again(ctx context.Context, err error, open func(context.Context) (*Tunnel, error), tell func(Attempt), now func() time.Time) (*Tunnel, error) {
	for failed := 1; ; failed++ {
		d := wait(failed, err)
		tell(Attempt{failed, err, now().Add(d)})
		timer := time.NewTimer(d)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fault(ringfence.KindCancelled, "the tunnel is not opened again", "", ctx.Err())
		case <-timer.C:
		}
		var t *Tunnel
		if t, err = open(ctx); err == nil {
			return t, nil
		}
	}
}
