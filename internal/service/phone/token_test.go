package phone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
)

// purse is a source of tokens that lets each live for an hour of the bubble's clock.
type purse struct {
	mu      sync.Mutex
	made    int
	since   time.Time
	fails   error
	refused []string
	text    func(n int) string
}

func (s *purse) Token(_ context.Context, refused string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return "", s.fails
	}
	if refused != "" {
		s.refused = append(s.refused, refused)
	}
	if s.made == 0 || time.Since(s.since) > 40*time.Minute || refused == s.now() {
		s.made++
		s.since = time.Now()
	}
	return s.now(), nil
}

func (s *purse) now() string {
	if s.text != nil {
		return s.text(s.made)
	}
	return fmt.Sprintf("token-%d", s.made)
}

func (s *purse) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func TestRegistersWithATokenAndRenewsIt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := &purse{}
		var seen []string
		w.takes = func(token string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			if token != "" && !slices.Contains(seen, token) {
				seen = append(seen, token)
			}
			return strings.HasPrefix(token, "token-")
		}
		a := w.phone(t, "alice", 10, func(c *Config) { c.TLS, c.Tokens = w.ca.Client("", "sip.example.test"), s })
		if r := a.Registration(); r.Auth != ringfence.AuthToken {
			t.Errorf("authenticated by %q", r.Auth)
		}
		if n := drain(w.seen, "REGISTER alice"); n != 1 {
			t.Errorf("%d requests: the token was not there from the beginning", n)
		}
		b := w.phone(t, "bob", 11, func(c *Config) { c.TLS, c.Tokens = w.ca.Client("", "sip.example.test"), s })
		out, _ := join(t, a, b, CallOptions{}, CallOptions{})
		out.Hangup()
		if n := w.leaked.Load(); n != 0 {
			t.Errorf("%d requests that others see carried a token", n)
		}
		pass(2 * time.Hour)
		w.mu.Lock()
		if !a.Registered() || len(seen) < 3 {
			t.Errorf("%v in two hours, %v", seen, a.Registration())
		}
		w.mu.Unlock()
	})
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := &purse{}
		w.takes = func(token string) bool { return token == "token-2" }
		a := w.phone(t, "alice", 10, func(c *Config) { c.Tokens = s })
		s.set(func() {
			if !slices.Equal(s.refused, []string{"token-1"}) {
				t.Errorf("%v", s.refused)
			}
		})
		if !a.Registered() {
			t.Error(a.Registration())
		}
		// Nobody takes any: it says so, and does not ask for tokens without end.
		w.takes = func(string) bool { return false }
		p, err := Open(ctxFor(t), w.cfg("carol", 12, func(c *Config) { c.Tokens = &purse{} }))
		var r *RejectedError
		if p != nil || ringfence.KindOf(err) != ringfence.KindUnauthenticated || !errors.As(err, &r) || r.Status != 401 {
			t.Errorf("%v", err)
		}
		if n := drain(w.seen, "REGISTER carol"); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestProxyAsksForTheToken has a proxy ask, to which the token goes in another field; that says nothing against the token.
func TestProxyAsksForTheToken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := &purse{}
		w.proxied, w.takes = true, func(token string) bool { return strings.HasPrefix(token, "token-") }
		a := w.phone(t, "alice", 10, func(c *Config) { c.Tokens = s })
		if n := drain(w.seen, "REGISTER alice"); !a.Registered() || n != 2 {
			t.Errorf("%d requests, %+v", n, a.Registration())
		}
		pass(2 * time.Hour)
		s.set(func() {
			if len(s.refused) != 0 || !a.Registered() {
				t.Errorf("%v", s.refused)
			}
		})
		// One that nobody takes ends here as well.
		w.takes = func(string) bool { return false }
		drain(w.seen, "")
		if _, err := Open(ctxFor(t), w.cfg("carol", 12, func(c *Config) { c.Tokens = &purse{} })); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
			t.Errorf("%v", err)
		}
		if n := drain(w.seen, "REGISTER carol"); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestNoTokenNoRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		over := &ringfence.Fault{Op: "test", Kind: ringfence.KindUnauthenticated, Text: "the sign-in is over", Hint: "sign in again"}
		_, err := Open(ctxFor(t), w.cfg("alice", 10, func(c *Config) { c.Tokens = &purse{fails: over} }))
		if !errors.Is(err, over) {
			t.Errorf("%v", err)
		}
		for _, text := range []string{"a b", "a\r\nX: y", "", "===", strings.Repeat("x", maxToken+1)} {
			_, err := Open(ctxFor(t), w.cfg("alice", 10, func(c *Config) { c.Tokens = &purse{text: func(int) string { return text }} }))
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Errorf("%.10q: %v", text, err)
			}
		}
		if n := drain(w.seen, "REGISTER alice"); n != 0 {
			t.Errorf("%d requests without a token", n)
		}
		if _, err := Open(ctxFor(t), w.cfg("alice", 10, func(c *Config) { c.Tokens, c.Password = &purse{}, "x" })); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("a password and tokens: %v", err)
		}
		// What is registered stays so while there is no token, and goes on afterwards.
		s := &purse{}
		b := w.phone(t, "bob", 11, func(c *Config) { c.Tokens = s })
		s.set(func() { s.fails = over })
		pass(57 * time.Minute)
		if !b.Registered() {
			t.Error(b.Registration())
		}
		pass(13 * time.Minute)
		if r := b.Registration(); r.State != Failed || !errors.Is(r.Err, over) {
			t.Errorf("%+v", r)
		}
		s.set(func() { s.fails = nil })
		pass(6 * time.Minute)
		if !b.Registered() {
			t.Error(b.Registration())
		}
	})
}
