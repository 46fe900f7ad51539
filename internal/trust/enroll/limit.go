package enroll

import (
	"sync"
	"time"

	"ringfence/internal/trust/quota"
)

// maxSources bounds the memory of a limiter.
const maxSources = 16384

// limiter lets each source address do perMinute things a minute, and as many at once. When more sources are remembered than fit,
// those that have been quiet for a minute are forgotten; if none has, new sources share one allowance.
type limiter struct {
	perMinute float64
	now       func() time.Time

	mu      sync.Mutex
	sources map[string]*bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(perMinute int, now func() time.Time) *limiter {
	return &limiter{perMinute: float64(perMinute), now: now, sources: map[string]*bucket{}}
}

// allow reports whether the source may go on, and counts it.
func (l *limiter) allow(remote string) bool {
	key, now := quota.Source(remote), l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.sources[key]
	if b == nil && len(l.sources) >= maxSources {
		for k, old := range l.sources {
			if now.Sub(old.at) >= time.Minute {
				delete(l.sources, k)
			}
		}
		if len(l.sources) >= maxSources {
			key = "everybody else"
			b = l.sources[key]
		}
	}
	if b == nil {
		b = &bucket{tokens: l.perMinute, at: now}
		l.sources[key] = b
	}
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(l.perMinute, b.tokens+d.Minutes()*l.perMinute)
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
