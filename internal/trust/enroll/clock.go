package enroll

import (
	"sync"
	"time"
)

// ratchet is a clock that follows the wall clock forwards and never back, so that a code that was once too old stays too old when
// somebody sets the clock back. In between it runs on.
type ratchet struct {
	now func() time.Time

	mu   sync.Mutex
	last time.Time
}

func (r *ratchet) read() time.Time {
	t := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() {
		// Both have a monotonic reading as a rule, and then Sub does not notice the step; Round drops it.
		if on := r.last.Add(max(t.Sub(r.last), 0)); on.Round(0).After(t.Round(0)) {
			t = on
		}
	}
	r.last = t
	return t
}
