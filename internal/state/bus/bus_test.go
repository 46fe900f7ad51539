package bus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/bus"
	"ringfence/internal/testkit"
)

// wires is an opener that dials for real, as the node's does for a declared flow.
type wires struct{ ringfence.Opener }

func (wires) Dial(ctx context.Context, flow string, at netip.AddrPort) (net.Conn, error) {
	if flow != "bus" {
		return nil, fmt.Errorf("flow %q is not declared", flow)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", at.String())
}

// place is where buses of several nodes meet.
type place interface {
	join(t *testing.T, node ringfence.NodeID) *bus.Bus
}

type embedded struct{ server *bus.Server }

func (p embedded) join(t *testing.T, node ringfence.NodeID) *bus.Bus {
	t.Helper()
	return open(t, bus.Config{Node: node, Server: p.server})
}

func open(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := bus.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// outside is Debian's nats-server behind mutual TLS.
type outside struct {
	dir       string
	authority *testkit.Authority
	port      int
	cmd       *exec.Cmd
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{dir: t.TempDir(), authority: testkit.NewAuthority("bus"), port: -1}
	cert := o.authority.Issue("127.0.0.1")
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(o.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cert.pem", "CERTIFICATE", cert.Certificate[0])
	write("key.pem", "EC PRIVATE KEY", key)
	write("ca.pem", "CERTIFICATE", o.authority.Root())
	o.start(t)
	t.Cleanup(o.kill)
	return o
}

// start runs the server and waits until it says where it listens.
func (o *outside) start(t *testing.T) {
	t.Helper()
	in := func(name string) string { return filepath.Join(o.dir, name) }
	o.cmd = exec.Command("/usr/sbin/nats-server", "-a", "127.0.0.1", "-p", fmt.Sprint(o.port), "--tls", "--tlsverify", "--tlscert", in("cert.pem"), "--tlskey", in("key.pem"),
		"--tlscacert", in("ca.pem"), "--ports_file_dir", o.dir)
	o.cmd.Stderr = t.Output()
	if err := o.cmd.Start(); err != nil {
		t.Fatalf("nats-server is needed: apt-get install nats-server (%v)", err)
	}
	file := in(fmt.Sprintf("nats-server_%d.ports", o.cmd.Process.Pid))
	until(t, "the server listens", func() bool {
		b, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		var ports struct{ Nats []string }
		if json.Unmarshal(b, &ports) != nil || len(ports.Nats) == 0 {
			return false
		}
		_, err = fmt.Sscanf(ports.Nats[0][strings.LastIndexByte(ports.Nats[0], ':')+1:], "%d", &o.port)
		return err == nil
	})
}

func (o *outside) kill() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

func (o *outside) config(node ringfence.NodeID) bus.Config {
	return bus.Config{Node: node, URL: fmt.Sprintf("tls://127.0.0.1:%d", o.port), Opener: wires{},
		TLS: &tls.Config{RootCAs: o.authority.Pool, Certificates: []tls.Certificate{o.authority.Issue(string(node))}, MinVersion: tls.VersionTLS13}}
}

func (o *outside) join(t *testing.T, node ringfence.NodeID) *bus.Bus {
	t.Helper()
	b := open(t, o.config(node))
	if !b.Stats().Connected {
		t.Fatal("not connected")
	}
	return b
}

// until waits for what other goroutines or processes bring about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

func next(t *testing.T, ch <-chan bus.Event) bus.Event {
	t.Helper()
	select {
	case e := <-ch:
		return e
	case <-time.After(30 * time.Second):
		t.Fatal("no event came")
		return bus.Event{}
	}
}

func listen(b *bus.Bus, kind bus.Kind) <-chan bus.Event {
	ch := make(chan bus.Event, 100)
	b.Subscribe(kind, func(e bus.Event) { ch <- e })
	return ch
}

// TestPlaces runs the same tests on the embedded server and on one outside.
func TestPlaces(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		s, err := bus.NewServer()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		testPlace(t, embedded{s})
	})
	t.Run("outside", func(t *testing.T) { testPlace(t, newOutside(t)) })
}

func testPlace(t *testing.T, p place) {
	a, b := p.join(t, "a"), p.join(t, "b")
	atA, atB, other := listen(a, bus.DeviceRevoked), listen(b, bus.DeviceRevoked), listen(b, bus.CallStarted)
	before := time.Now()
	for i := range 50 {
		if err := a.Publish(t.Context(), bus.Event{Kind: bus.DeviceRevoked, Device: ringfence.DeviceID(fmt.Sprint("phone-", i)), Cause: "lost & <found>", Node: "forged"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 { // in order, once each, at both ends
		for _, ch := range []<-chan bus.Event{atA, atB} {
			e := next(t, ch)
			if e.Kind != bus.DeviceRevoked || e.Node != "a" || e.Device != ringfence.DeviceID(fmt.Sprint("phone-", i)) || e.Cause != "lost & <found>" || e.At.Before(before.Add(-time.Second)) {
				t.Fatalf("%d: %+v", i, e)
			}
		}
	}
	if err := b.Publish(t.Context(), bus.Event{Kind: bus.DeviceRevoked, Device: "back"}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, atA); e.Node != "b" || e.Device != "back" {
		t.Fatalf("%+v", e)
	}
	if len(other) != 0 {
		t.Fatalf("an event of another kind: %+v", <-other)
	}
	if s := a.Stats(); s.Published != 50 || s.Received != 1 || s.Dropped+s.Unsent+s.Rejected != 0 || !s.Connected {
		t.Fatalf("%+v", s)
	}
	if err := a.Publish(t.Context(), bus.Event{Kind: bus.DeviceRevoked}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Fatalf("an event without a device: %v", err)
	}
}

func TestOutsideComesBack(t *testing.T) {
	o := newOutside(t)
	a, b := o.join(t, "a"), o.join(t, "b")
	events := listen(b, bus.DeviceRevoked)
	o.kill()
	until(t, "both notice", func() bool { return !a.Stats().Connected && !b.Stats().Connected })
	here := listen(a, bus.DeviceRevoked)
	if err := a.Publish(t.Context(), bus.Event{Kind: bus.DeviceRevoked, Device: "meanwhile"}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, here); e.Device != "meanwhile" {
		t.Fatalf("within the node: %+v", e)
	}
	o.start(t)
	if e := next(t, events); e.Kind != bus.Lost { // before anything else: what was missed must be read again
		t.Fatalf("%+v", e)
	}
	until(t, "both are back", func() bool { return a.Stats().Connected && b.Stats().Connected })
	if err := a.Publish(t.Context(), bus.Event{Kind: bus.DeviceRevoked, Device: "after"}); err != nil {
		t.Fatal(err)
	}
	for e := next(t, events); e.Device != "after"; e = next(t, events) {
	}
}

func TestOutsideMustProveItsName(t *testing.T) {
	o := newOutside(t)
	stranger := testkit.NewAuthority("stranger")
	for name, cfg := range map[string]bus.Config{
		"unknown authority": {Node: "a", URL: o.config("a").URL, Opener: wires{}, TLS: &tls.Config{RootCAs: stranger.Pool, Certificates: []tls.Certificate{o.authority.Issue("a")}}},
		"other name":        {Node: "a", URL: o.config("a").URL, Opener: wires{}, TLS: &tls.Config{RootCAs: o.authority.Pool, ServerName: "elsewhere.example", Certificates: []tls.Certificate{o.authority.Issue("a")}}},
		"no certificate":    {Node: "a", URL: o.config("a").URL, Opener: wires{}, TLS: &tls.Config{RootCAs: o.authority.Pool}},
	} {
		b := open(t, cfg)
		if b.Stats().Connected {
			t.Errorf("%s: connected", name)
		}
	}
	if _, err := bus.Open(t.Context(), bus.Config{Node: "a", URL: o.config("a").URL, Opener: wires{}, Log: slog.New(slog.DiscardHandler)}); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("without TLS: %v", err)
	}
}

func TestSlowSubscriberLosesAndHears(t *testing.T) {
	b := open(t, bus.Config{Node: "a", Queue: 4})
	release, slow := make(chan struct{}), make(chan bus.Event, 100)
	b.Subscribe(bus.ConfigApplied, func(e bus.Event) {
		<-release
		slow <- e
	})
	fast := make(chan bus.Event)
	b.Subscribe(bus.ConfigApplied, func(e bus.Event) { fast <- e })
	for range 20 {
		if err := b.Publish(t.Context(), bus.Event{Kind: bus.ConfigApplied}); err != nil { // never waits for the slow one
			t.Fatal(err)
		}
		next(t, fast)
	}
	dropped := b.Stats().Dropped
	if dropped < 15 || dropped > 16 { // one may be in its hands, four in its queue
		t.Errorf("%d dropped", dropped)
	}
	close(release)
	for range 20 - dropped {
		if e := next(t, slow); e.Kind != bus.ConfigApplied {
			t.Fatalf("%+v", e)
		}
	}
	if e := next(t, slow); e.Kind != bus.Lost {
		t.Fatalf("%+v", e)
	}
}

func TestCancelAndClose(t *testing.T) {
	b := open(t, bus.Config{Node: "a"})
	heard := make(chan bus.Event, 10)
	var cancel func()
	cancel = b.Subscribe(bus.ConfigApplied, func(e bus.Event) {
		cancel()
		heard <- e
	})
	for range 3 {
		if err := b.Publish(t.Context(), bus.Event{Kind: bus.ConfigApplied}); err != nil {
			t.Fatal(err)
		}
	}
	next(t, heard)
	b.Close()
	if err := b.Publish(t.Context(), bus.Event{Kind: bus.ConfigApplied}); err != nil {
		t.Fatal(err)
	}
	b.Subscribe(bus.ConfigApplied, func(bus.Event) { t.Error("called after the end") })()
	over, stop := context.WithCancel(t.Context())
	stop()
	if err := b.Publish(over, bus.Event{Kind: bus.ConfigApplied}); err == nil {
		t.Error("published after the context was over")
	}
}

// FuzzDecode reads hostile messages and checks that what is accepted can be told on.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"kind":"device.revoked","node":"a","at":"2026-01-02T03:04:05Z","device":"alice-desk","cause":"lost"}`))
	f.Add([]byte(`{"kind":"lost","node":"a","at":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"kind":"call.ended","node":"a","at":"2026-01-02T03:04:05+01:00","call":"c","state":"sealed","new":[1]}`))
	f.Add([]byte(`[[[[`))
	f.Add([]byte(strings.Repeat("[", 9000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := bus.Decode(b)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Fatalf("%v", err)
			}
			return
		}
		text, err := bus.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		again, err := bus.Decode(text)
		if err != nil || !again.At.Equal(e.At) {
			t.Fatalf("%+v %v", again, err)
		}
		again.At = e.At
		if again != e {
			t.Fatalf("%+v became %+v", e, again)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `null`, `{"kind":"device.revoked"}`, `{"kind":"x","node":"a","at":"2026-01-02T03:04:05Z"}`,
		`{"kind":"device.revoked","node":"a","at":"2026-01-02T03:04:05Z"}`,
		`{"kind":"device.revoked","node":"a","at":"yesterday","device":"d"}`,
		`{"kind":"device.revoked","node":"a","at":"2026-01-02T03:04:05Z","device":"d\n"}`,
		`{"kind":"lost","node":"a","at":"2026-01-02T03:04:05Z"}`,
		`{"kind":"registration.changed","node":"a","at":"2026-01-02T03:04:05Z","user":"u","device":"d","state":"maybe"}`,
		`{"kind":"device.revoked","node":"a","at":"2026-01-02T03:04:05Z","device":"` + strings.Repeat("d", 257) + `"}`,
		`{"kind":"config.applied","node":"a","at":"2026-01-02T03:04:05Z","x":"` + strings.Repeat("d", 9000) + `"}`,
	} {
		if e, err := bus.Decode([]byte(text)); ringfence.KindOf(err) != ringfence.KindInvalid || err == nil {
			t.Errorf("%.80s: %+v, %v", text, e, err)
		}
	}
}

// An event of a call that nobody waits for.
func BenchmarkPublish(b *testing.B) {
	x, err := bus.Open(b.Context(), bus.Config{Node: "node-1"})
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	for _, kind := range []bus.Kind{bus.DeviceRevoked, bus.CertificateRevoked, bus.RosterChanged, bus.GrantRevoked, bus.KeyringChanged} {
		x.Subscribe(kind, func(bus.Event) {})
	}
	e := bus.Event{Kind: bus.CallStarted, User: "alice", Call: "01JDNF3Z8Y", Number: "2001", At: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Publish(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}
