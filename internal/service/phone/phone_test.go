package phone

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
)

func (s *testSwitch) config(user string) Config {
	return Config{Opener: s.opener, Server: s.addr, ServerName: "sip.example.test", TLS: s.ca.Client(user+"-desk", "sip.example.test"), User: user, Domain: "example.test",
		MediaAddr: s.addr.Addr()}
}

func openPhone(t *testing.T, cfg Config) *Phone {
	t.Helper()
	p, err := Open(ctxFor(t), cfg)
	if err != nil {
		t.Fatalf("open %s: %v", cfg.User, err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// pair returns a switch on the loopback interface and two phones on it.
func pair(t *testing.T) (*testSwitch, *Phone, *Phone) {
	t.Helper()
	noLeaks(t)
	sw := newSwitch(t, testkit.NewAuthority("Test Anchor"), loopback{}, "127.0.0.1:0")
	return sw, openPhone(t, sw.config("alice")), openPhone(t, sw.config("bob"))
}

// world is a switch and phones on a network in memory, whose time is virtual.
type world struct {
	*testSwitch
	net *testkit.Net
}

const switchAddr = "192.0.2.1"

func inBubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := testkit.New(1)
		n.SetShape(testkit.Shape{Latency: 5 * time.Millisecond})
		sw := newSwitch(t, testkit.NewAuthority("Test Anchor"), n.Host(netip.MustParseAddr(switchAddr)), switchAddr+":5061")
		f(t, &world{testSwitch: sw, net: n})
	})
}

// phone opens the phone of user at 192.0.2.host.
func (w *world) phone(t *testing.T, user string, host byte, change ...func(*Config)) *Phone {
	t.Helper()
	return openPhone(t, w.cfg(user, host, change...))
}

func (w *world) cfg(user string, host byte, change ...func(*Config)) Config {
	cfg := w.config(user)
	cfg.MediaAddr = netip.AddrFrom4([4]byte{192, 0, 2, host})
	cfg.Opener = w.net.Host(cfg.MediaAddr)
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

// join calls from a to b, which answers.
func join(t *testing.T, a, b *Phone, ao, bo CallOptions) (out, in *Call) {
	t.Helper()
	ctx := ctxFor(t)
	out, err := a.Call(ctx, b.cfg.User, ao)
	if err != nil {
		t.Fatal(err)
	}
	in = <-b.Incoming()
	if err := out.WaitRinging(ctx); err != nil {
		t.Fatal(err)
	}
	if err := in.Answer(ctx, bo); err != nil {
		t.Fatal(err)
	}
	if err := out.WaitAnswered(ctx); err != nil {
		t.Fatal(err)
	}
	return out, in
}

func near(got, want float64) bool { return math.Abs(got-want) <= want/100 }

func TestCallHearsTheOtherTone(t *testing.T) {
	_, a, b := pair(t)
	if pr := a.Proof(); pr.Verdict != ringfence.Sealed || pr.TLS.Version != "TLS 1.3" || pr.TLS.Group == "" || pr.TLS.PeerSubject != "CN=sip.example.test" || pr.TLS.Anchor != "CN=Test Anchor" {
		t.Fatalf("proof of the connection: %+v %+v", pr, pr.TLS)
	}
	rec := NewRecorder(10)
	out, in := join(t, a, b, CallOptions{Audio: Tone(440), Hear: rec}, CallOptions{Audio: Tone(1000)})
	if in.Peer().Number != "alice" || !in.Incoming() || out.Incoming() {
		t.Fatalf("peer %+v", in.Peer())
	}
	waitFor(t, "tones at both ends", func() bool {
		return near(out.Audio().HeardHz, 1000) && near(in.Audio().HeardHz, 440) && out.Audio().HeardSeconds > 0.5
	})
	if out.Audio().SentHz != 440 {
		t.Errorf("sent %v", out.Audio().SentHz)
	}
	for _, c := range []*Call{out, in} {
		pr := c.Proof()
		if pr.Verdict != ringfence.Sealed || pr.Media == nil || pr.Media.Suite != "AEAD_AES_256_GCM" || pr.Media.PacketsIn == 0 || pr.Media.PacketsOut == 0 ||
			pr.Media.Rejected != 0 || pr.Media.MOS < 1 {
			t.Errorf("leg proof %+v %+v", pr, pr.Media)
		}
	}
	if s := rec.Sound(); s.Rate != 8000 || len(s.Samples) < 4000 {
		t.Errorf("recorded %d samples at %d", len(s.Samples), s.Rate)
	}
	out.Hangup()
	ctx := ctxFor(t)
	if err := in.WaitEnded(ctx); err != nil {
		t.Error(err)
	}
	if err := out.WaitEnded(ctx); err != nil {
		t.Error(err)
	}
	if len(a.Calls())+len(b.Calls()) != 0 {
		t.Error("calls left")
	}
}

func TestRejectAndCancel(t *testing.T) {
	_, a, b := pair(t)
	ctx := ctxFor(t)
	out, err := a.Call(ctx, "bob", CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in := <-b.Incoming()
	if err := in.Reject(603); err != nil {
		t.Fatal(err)
	}
	var rejected *RejectedError
	if err := out.WaitAnswered(ctx); !errors.As(err, &rejected) || rejected.Status != 603 || ringfence.KindOf(err) != ringfence.KindBusy {
		t.Fatalf("rejected: %v", err)
	}

	out, err = a.Call(ctx, "bob", CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in = <-b.Incoming()
	if err := out.WaitRinging(ctx); err != nil {
		t.Fatal(err)
	}
	out.Hangup()
	if err := in.WaitEnded(ctx); ringfence.KindOf(err) != ringfence.KindCancelled {
		t.Errorf("callee: %v", err)
	}
	if err := out.WaitEnded(ctx); ringfence.KindOf(err) != ringfence.KindCancelled {
		t.Errorf("caller: %v", err)
	}

	b.SetDoNotDisturb(true)
	out, err = a.Call(ctx, "bob", CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.WaitAnswered(ctx); !errors.As(err, &rejected) || rejected.Status != 486 || rejected.Warning != "do not disturb" {
		t.Errorf("do not disturb: %v", err)
	}
	if _, err = a.Call(ctx, "nobody\r\nVia: x", CallOptions{}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("a number with a line break: %v", err)
	}
	out, err = a.Call(ctx, "nobody", CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.WaitAnswered(ctx); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Errorf("unknown number: %v", err)
	}
}
