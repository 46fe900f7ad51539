package admin

import (
	"sync"
	"time"

	"ringfence/internal/trust/quota"
)

// Bounds on tries at the administrator code. The code has 100 bits; this is for the log and the disk rather than the secret.
const (
	triesPerSource = 5  // a minute
	triesInAll     = 60 // a minute
)

// attempts counts tries by source address within a minute, and all of them, so that its memory is bounded too.
type attempts struct {
	now func() time.Time

	mu    sync.Mutex
	since time.Time
	all   int
	by    map[string]int
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, by: map[string]int{}}
}

// allow reports whether the source may try, and counts the try.
func (a *attempts) allow(remote string) bool {
	source := quota.Source(remote)
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); now.Sub(a.since) >= time.Minute {
		a.since, a.all = now, 0
		clear(a.by)
	}
	if a.all >= triesInAll || a.by[source] >= triesPerSource {
		return false
	}
	a.all++
	a.by[source]++
	return true
}
