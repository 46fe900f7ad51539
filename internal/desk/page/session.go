package page

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"time"
)

// Bounds of signing in.
const (
	maxSessions = 32
	maxGuesses  = 10 // of one source in a period
	guessPeriod = 5 * time.Minute
	maxSources  = 1024
	maxPassword = 512 // bytes
)

// cookie is the name of the session's cookie; the prefix binds it to this host and to TLS.
const cookie = "__Host-phone"

// session is somebody who signed in.
type session struct {
	user    string
	token   string // what each form must carry
	since   time.Time
	touched time.Time
}

// sessions are those who signed in.
type sessions struct {
	max, idle time.Duration
	now       func() time.Time

	mu  sync.Mutex
	all map[[32]byte]*session // by the digest of the cookie
}

func (s *sessions) over(x *session) bool {
	now := s.now()
	return now.Sub(x.since) > s.max || now.Sub(x.touched) > s.idle
}

// begin makes a session. If there are too many, the one that was idle longest ends.
func (s *sessions) begin(user string) (value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest [32]byte
	for id, x := range s.all {
		if s.over(x) {
			delete(s.all, id)
			continue
		}
		if o, ok := s.all[oldest]; !ok || x.touched.Before(o.touched) {
			oldest = id
		}
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
	}
	value = rand.Text() + rand.Text()
	s.all[sha256.Sum256([]byte(value))] = &session{user: user, token: rand.Text(), since: s.now(), touched: s.now()}
	return value
}

// find returns the session of a request, or nil.
func (s *sessions) find(r *http.Request) *session {
	c, err := r.Cookie(cookie)
	if err != nil || len(c.Value) > 256 {
		return nil
	}
	id := sha256.Sum256([]byte(c.Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.all[id]
	if x == nil {
		return nil
	}
	if s.over(x) {
		delete(s.all, id)
		return nil
	}
	x.touched = s.now()
	out := *x
	return &out
}

func (s *sessions) end(r *http.Request) {
	if c, err := r.Cookie(cookie); err == nil {
		s.mu.Lock()
		delete(s.all, sha256.Sum256([]byte(c.Value)))
		s.mu.Unlock()
	}
}

// same compares two texts in a time that tells nothing of either, not even of its length.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// guesses counts the wrong passwords of each source. Who made too many has to wait, whatever comes next.
type guesses struct {
	now func() time.Time

	mu  sync.Mutex
	all map[string]*guess
}

type guess struct {
	n     int
	since time.Time
}

// wait returns how long a source has to wait.
func (g *guesses) wait(source string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	x := g.all[source]
	if x == nil || x.n < maxGuesses {
		return 0
	}
	return max(0, guessPeriod-g.now().Sub(x.since))
}

// wrong counts a wrong password.
func (g *guesses) wrong(source string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	x := g.all[source]
	if x == nil || g.now().Sub(x.since) > guessPeriod {
		if len(g.all) >= maxSources {
			for s, old := range g.all {
				if g.now().Sub(old.since) > guessPeriod || len(g.all) >= maxSources {
					delete(g.all, s)
				}
			}
		}
		x = &guess{since: g.now()}
		g.all[source] = x
	}
	if x.n++; x.n == maxGuesses { // the wait begins with the last one
		x.since = g.now()
	}
}
