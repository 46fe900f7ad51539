package capf

import (
	"sync"
	"time"
)

// maxSources bounds the memory of the guard, and sweepEvery its work.
const (
	maxSources = 16384
	sweepEvery = 5 * time.Second
)

// guard bounds sessions at one time, and makes sources wait that fail: each may fail perMinute times a minute, and as often at once. When more
// sources are remembered than fit, those that have been quiet for a minute are forgotten; if none has, new sources share one allowance.
type guard struct {
	perMinute float64
	sessions  int
	perSource int
	now       func() time.Time

	mu      sync.Mutex
	swept   time.Time
	open    int
	sources map[string]*source
}

type source struct {
	tokens float64
	at     time.Time
	open   int
}

// enter admits a session, or says why not. leave ends what enter began.
func (g *guard) enter(key string) (leave func(), refusal string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key = g.key(key)
	s := g.source(key)
	switch {
	case g.open >= g.sessions:
		return nil, "too many sessions are open"
	case s.open >= g.perSource:
		return nil, "too many sessions are open from this address"
	}
	g.open++
	s.open++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.open--
		s.open--
	}, ""
}

// patient reports whether a source failed so little that it is served.
func (g *guard) patient(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.source(g.key(key)).tokens >= 1
}

// failed counts a failure of a source.
func (g *guard) failed(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.source(g.key(key))
	s.tokens = max(0, s.tokens-1)
}

// key returns the name under which a source is remembered. The guard is locked.
func (g *guard) key(key string) string {
	if g.sources[key] != nil || len(g.sources) < maxSources {
		return key
	}
	// Not at each newcomer: a flood of them would have us look through the sources all the time.
	if now := g.now(); now.Sub(g.swept) >= sweepEvery {
		g.swept = now
		for k, s := range g.sources {
			if s.open == 0 && now.Sub(s.at) >= time.Minute {
				delete(g.sources, k)
			}
		}
	}
	if len(g.sources) >= maxSources {
		return "everybody else"
	}
	return key
}

func (g *guard) source(key string) *source {
	now := g.now()
	s := g.sources[key]
	if s == nil {
		s = &source{tokens: g.perMinute, at: now}
		g.sources[key] = s
	}
	if d := now.Sub(s.at); d > 0 {
		s.tokens = min(g.perMinute, s.tokens+d.Minutes()*g.perMinute)
		s.at = now
	}
	return s
}
