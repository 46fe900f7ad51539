package probe

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
	"ringfence/internal/node/sockets"
)

// wholeTime is how long a test of all that Webex Calling needs may take against a reflector that is near.
const wholeTime = 90 * time.Second

// whole makes every check of the set with ten seconds of voice.
func (l *lab) whole() (*verdict.Report, time.Duration) {
	l.Helper()
	set, err := catalogue.Open("webex-calling")
	if err != nil {
		l.Fatal(err)
	}
	o, err := sockets.New(Flows())
	if err != nil {
		l.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.Context(), 2*wholeTime)
	defer cancel()
	began := time.Now()
	r, err := Run(ctx, Config{Set: set, Direction: need.Outbound, Reflector: l.at, Key: labKey, Opener: hand{l.site, o}, Seed: 1, Between: 8, Voice: 10 * time.Second, TLS: &tls.Config{InsecureSkipVerify: true}, Name: "webex.com"})
	if err != nil {
		l.Fatalf("%v\n%+v", err, r)
	}
	return r, time.Since(began)
}

// A full run takes less than 90 seconds where everything passes, and where nothing does but the control channel, which is the longest since silence has to be waited for.
func TestWholeRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rules  string
		passes bool
	}{
		"everything passes": {"", true},
		"nothing passes":    {"table ip t {\n chain f { type filter hook forward priority 0; policy drop\n tcp dport 8471 accept\n tcp sport 8471 accept\n}\n}", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.withTLS()
			if c.rules != "" {
				l.router.rules(c.rules)
			}
			r, took := l.whole()
			t.Logf("%v: %d checks, %d failed", took, len(r.Checks), len(r.Failed()))
			if took > wholeTime {
				t.Errorf("it takes %v", took)
			}
			if len(r.Checks) < 20 || c.passes != (len(r.Failed()) == 0) {
				t.Errorf("%v", r.Err())
			}
		})
	}
}

// rogue is a reflector that knows the key and answers as it likes.
func rogue(t *testing.T, answer func(q wire.Request) (r any, more bool)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				ch, err := wire.Accept(c, labKey)
				if err != nil {
					return
				}
				for {
					var q wire.Request
					if ch.Receive(&q) != nil {
						return
					}
					r, more := answer(q)
					if !more || ch.Send(r) != nil {
						_, _ = c.Read(make([]byte, 1)) // and says nothing more
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// A reflector that lies holds nobody up, and nobody believes it: what it says is bounded, what it did not prove is no pass.
func TestRogueReflector(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x1b[2J<script>", 1000)
	lie := wire.Reply{From: "\x1b[2J", Second: "127.0.0.2", Streamed: 1 << 31, Strays: slices.Repeat([]string{"127.0.0.1:1", "\x1b[2J"}, 100), Message: []byte(long), Arrived: true, MessageBy: "nowhere", SPKI: strings.Repeat("\x1b", 64), Issuer: long[:200], ALPN: "sip", Sockets: true}
	for name, c := range map[string]struct {
		answer func(q wire.Request) (any, bool)
		kind   ringfence.Kind
	}{
		"lies":     {func(wire.Request) (any, bool) { return lie, true }, 0},
		"no reply": {func(wire.Request) (any, bool) { return []int{1}, true }, ringfence.KindInvalid},
		"an error": {func(wire.Request) (any, bool) { return wire.Reply{Error: long}, true }, ringfence.KindUnavailable},
		"all unopened": {func(q wire.Request) (any, bool) {
			return wire.Reply{Unopened: map[string]string{"tcp/443": long, "udp/5004": long}}, true
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := sockets.New(Flows())
			if err != nil {
				t.Fatal(err)
			}
			set := &need.Set{ID: "test", Title: "A test", Roles: map[string]need.Role{"phone": {Side: "customer"}, "service": {Side: "elsewhere"}}, Needs: []need.Need{row("web", "tcp", "1024-65535", "443"), row("media", "udp", "19560-19570", "5004")}}
			began := time.Now()
			r, err := Run(t.Context(), Config{Set: set, Direction: need.Outbound, Reflector: rogue(t, c.answer), Key: labKey, Opener: o, Seed: 1, Between: 2, Voice: time.Second, TLS: &tls.Config{InsecureSkipVerify: true}, Name: "a.example"})
			if took := time.Since(began); took > 45*time.Second {
				t.Errorf("it takes %v", took)
			}
			if c.kind == 0 && err != nil || c.kind != 0 && ringfence.KindOf(err) != c.kind {
				t.Fatalf("%v", err)
			}
			if err != nil && r.Broken == "" {
				t.Error("the report does not say that it was broken off")
			}
			for _, k := range r.Checks {
				if k.Status == verdict.Pass {
					t.Errorf("%s passes: %+v", k.ID, k)
				}
			}
			var out strings.Builder
			r.Text(&out)
			if err := r.HTML(&out); err != nil || strings.Contains(out.String(), "\x1b") || out.Len() > 64<<10 {
				t.Errorf("%v; %d bytes", err, out.Len())
			}
		})
	}
}

// A reflector that goes, or falls silent, in the middle of a test is no fault of the network: the test ends, soon, says so, and keeps what it found until then.
func TestReflectorGoes(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(*lab, func()){
		"is stopped": func(_ *lab, stop func()) { stop() },
		"falls silent": func(l *lab, _ func()) {
			l.router.rules("table ip t {\n chain f { type filter hook forward priority 0; policy drop; }\n}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			o, err := sockets.New(Flows())
			if err != nil {
				t.Fatal(err)
			}
			set := &need.Set{ID: "test", Title: "A test", Roles: map[string]need.Role{"phone": {Side: "customer"}, "service": {Side: "elsewhere"}}, Needs: []need.Need{row("web", "tcp", "1024-65535", "443"), media()}}
			began := time.Now()
			r, err := Run(t.Context(), Config{Set: set, Direction: need.Outbound, Reflector: l.at, Key: labKey, Opener: hand{l.site, o}, Seed: 1, Between: 2, Voice: time.Second, TLS: &tls.Config{InsecureSkipVerify: true}, Progress: func(done, _ int, _ string) {
				if done == 1 {
					gone(l, l.stop)
				}
			}})
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it takes %v", took)
			}
			if ringfence.KindOf(err) != ringfence.KindUnavailable || r.Broken == "" || !strings.Contains(r.Broken, "the reflector stopped answering") {
				t.Fatalf("%v; broken %q", err, r.Broken)
			}
			if len(r.Checks) != 1 || r.Checks[0].ID != "tcp/web" || r.Checks[0].Status != verdict.Pass {
				t.Errorf("what was found until then is not told: %+v", r.Checks)
			}
		})
	}
}

// Times that cannot be are not believed.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct{ sent, now, came, left, want int64 }{{100, 200, 5, 15, 90}, {100, 200, 15, 5, 100}, {100, 200, 0, 1 << 62, 100}, {100, 200, -1 << 62, 1 << 62, 100}, {100, 200, 1000, 1100, 0}} {
		if got := roundTrip(c.sent, c.now, wire.Probe{Came: c.came, Left: c.left}); int64(got) != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
