package phone

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/sip"
)

func TestChallenge(t *testing.T) {
	const secret = "a long device password"
	for _, tc := range []struct {
		name     string
		alg      sip.DigestAlgorithm
		password string
		md5      bool
		want     ringfence.Auth
		kind     ringfence.Kind
	}{
		{"SHA-256", sip.DigestSHA256, secret, false, ringfence.AuthDigestSHA256, 0},
		{"MD5 where it is allowed", sip.DigestMD5, secret, true, ringfence.AuthDigestMD5, 0},
		{"MD5 elsewhere", sip.DigestMD5, secret, false, "", ringfence.KindUnauthenticated},
		{"wrong password", sip.DigestSHA256, "guess", false, "", ringfence.KindUnauthenticated},
		{"no password", sip.DigestSHA256, "", false, "", ringfence.KindUnauthenticated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.password, w.alg = secret, tc.alg
				cfg := w.cfg("alice", 10, func(c *Config) {
					c.TLS = w.ca.Client("", "sip.example.test")
					c.Password, c.AllowMD5 = tc.password, tc.md5
				})
				p, err := Open(ctxFor(t), cfg)
				if tc.want == "" {
					var r *RejectedError
					if ringfence.KindOf(err) != tc.kind || !errors.As(err, &r) || r.Status != 401 {
						t.Fatalf("got %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if r := p.Registration(); r.Auth != tc.want {
					t.Errorf("authenticated by %q", r.Auth)
				}
				// The answer also covers calls, for which a new challenge is asked only when the nonce is too old.
				b := w.phone(t, "bob", 11, func(c *Config) { c.Password, c.AllowMD5 = secret, tc.md5 })
				out, _ := join(t, p, b, CallOptions{}, CallOptions{})
				out.Hangup()
				pass(2 * time.Minute)
				out, _ = join(t, p, b, CallOptions{}, CallOptions{})
				if out.tries != 1 {
					t.Errorf("the second call answered %d challenges, want one for the stale nonce", out.tries)
				}
				out.Hangup()
			})
		})
	}
}

func TestRefreshes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.expires = 100
		p := w.phone(t, "alice", 10)
		pass(1000 * time.Second)
		if !p.Registered() || time.Until(p.Registration().Expires) <= 0 {
			t.Fatalf("%+v", p.Registration())
		}
		n := drain(w.seen, "REGISTER alice")
		if n < 11 || n > 16 { // every 70 to 90 s, and the first
			t.Errorf("%d registrations in 1000 s with a lifetime of 100 s", n)
		}
	})
}

func drain(ch chan string, want string) (n int) {
	for {
		select {
		case s := <-ch:
			if s == want {
				n++
			}
		default:
			return n
		}
	}
}

func TestComesBackAfterALoss(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.phone(t, "alice", 10, func(c *Config) { c.RetryMax = 20 * time.Second }), w.phone(t, "bob", 11)
		out, in := join(t, a, b, CallOptions{Audio: Tone(600)}, CallOptions{Audio: Tone(900)})
		pass(time.Second)
		here, sw := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr(switchAddr)
		w.net.Cut(here, sw)
		synctest.Wait()
		if r := a.Registration(); r.State != Offline || ringfence.KindOf(r.Err) != ringfence.KindUnavailable || a.Proof().Verdict != ringfence.Refused {
			t.Fatalf("after the cut: %+v", r)
		}
		if _, err := a.Call(ctxFor(t), "bob", CallOptions{}); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Fatalf("a call while offline: %v", err)
		}
		pass(time.Minute)
		if a.Registered() {
			t.Fatal("registered through a cut")
		}
		w.net.Heal(here, sw)
		if err := a.WaitRegistration(ctxFor(t), func(r Registration) bool { return r.State == Registered }); err != nil {
			t.Fatal(err)
		}
		if s, _ := out.State(); s != Up {
			t.Fatalf("the call is %v", s)
		}
		pass(3 * time.Second)
		if !near(out.Audio().HeardHz, 900) || !near(in.Audio().HeardHz, 600) {
			t.Errorf("heard %v and %v", out.Audio(), in.Audio())
		}
		out.Hangup() // over the new flow
		if err := in.WaitEnded(ctxFor(t)); err != nil {
			t.Error(err)
		}
	})
}

func TestKeepAliveFindsADeadFlow(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.phone(t, "alice", 10)
		pass(10 * time.Minute)
		if !a.Registered() || drain(w.seen, "REGISTER alice") != 1 {
			t.Fatal("a healthy flow was given up")
		}
		here, sw := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr(switchAddr)
		w.net.Blackhole(here, sw)
		pass(36 * time.Second) // 25 s to the next keep-alive, 10 s for its answer
		if a.Registered() {
			t.Fatal("still believes in a dead flow")
		}
		w.net.Heal(here, sw)
		pass(time.Minute)
		if !a.Registered() {
			t.Fatalf("%+v", a.Registration())
		}
	})
}

func TestRefusesAServerItCannotVerify(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, err := Open(ctxFor(t), w.cfg("alice", 10, func(c *Config) { c.ServerName = "other.example.test" }))
		if ringfence.KindOf(err) != ringfence.KindInsecure || ringfence.HintOf(err) == "" {
			t.Errorf("wrong name: %v", err)
		}
		if n := drain(w.seen, "REGISTER alice"); n != 0 {
			t.Errorf("%d requests were sent to a server that was not verified", n)
		}
		for name, change := range map[string]func(*Config){
			"no TLS":   func(c *Config) { c.TLS = nil },
			"no check": func(c *Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} },
		} {
			if _, err := Open(ctxFor(t), w.cfg("alice", 10, change)); ringfence.KindOf(err) != ringfence.KindInsecure {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestSubscription(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.phone(t, "alice", 10)
		s, err := a.Subscribe(ctxFor(t), "message-summary", "", "application/simple-message-summary")
		if err != nil {
			t.Fatal(err)
		}
		n := <-s.Notices()
		if m, err := ParseMessages(n.Body); n.State != "active" || err != nil || m != (Messages{Waiting: true, New: 2, Old: 8}) {
			t.Fatalf("%+v %+v %v", n, m, err)
		}
		// It is refreshed, and follows the phone to a new connection.
		pass(time.Hour)
		<-s.Notices()
		drain(w.seen, "")
		here, sw := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr(switchAddr)
		w.net.Cut(here, sw)
		synctest.Wait()
		w.net.Heal(here, sw)
		pass(time.Minute)
		if drain(w.seen, "SUBSCRIBE alice") == 0 {
			t.Error("the subscription stayed behind on the lost flow")
		}
		s.Close()
		for range s.Notices() { // until it is closed
		}
	})
}

func TestNothingIsLeftOfAPhoneThatIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := NewStack(StackConfig{Opener: w.net.Host(netip.MustParseAddr("192.0.2.20")), Shards: 4})
		var phones []*Phone
		for _, user := range []string{"p1", "p2", "p3", "p4", "p5"} {
			p, err := s.Open(ctxFor(t), w.cfg(user, 20))
			if err != nil {
				t.Fatal(err)
			}
			phones = append(phones, p)
		}
		out, in := join(t, phones[0], phones[1], CallOptions{}, CallOptions{})
		for _, p := range phones {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, c := range []*Call{out, in} {
			if s, _ := c.State(); s != Ended {
				t.Errorf("a call is still %v", s)
			}
		}
		if s.Phones() != 0 || len(w.bindings) != 0 {
			t.Errorf("%d phones, bindings %v", s.Phones(), w.bindings)
		}
		s.Close()
		if _, err := s.Start(w.cfg("late", 20)); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Errorf("a phone on a closed stack: %v", err)
		}
	})
}
