package node_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/enroll"
)

// site is a whole node on loopback with phones that enrolled by code, as a user has them.
type site struct {
	*testing.T
	node *node.Node
	ctx  context.Context
}

func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	c := config.Default()
	c.SIP.TLS = netip.MustParseAddrPort("127.0.0.1:0")
	c.API.HTTPS = netip.MustParseAddrPort("127.0.0.1:0")
	c.Media.Addr = netip.MustParseAddr("127.0.0.1")
	if change != nil {
		change(&c)
	}
	return openSite(t, c, t.TempDir())
}

func openSite(t *testing.T, c config.Config, data string) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	n, err := node.Open(ctx, node.Options{Config: c, Data: data, Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return &site{T: t, node: n, ctx: ctx}
}

func (s *site) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v (%s)", err, ringfence.HintOf(err))
	}
}

// user adds a user with a number.
func (s *site) user(id ringfence.UserID, number ringfence.Number, change func(*store.User)) {
	s.Helper()
	u := store.User{ID: id, Name: strings.ToUpper(string(id[:1])) + string(id[1:]), Numbers: []ringfence.Number{number}, TollClass: "internal"}
	if change != nil {
		change(&u)
	}
	s.ok(s.node.Store.CreateUser(s.ctx, u))
	s.ok(s.node.Roster.Reload(s.ctx))
}

// identity enrols a new device of a user.
func (s *site) identity(user ringfence.UserID, device ringfence.DeviceID) enroll.Identity {
	s.Helper()
	s.ok(s.node.Store.CreateDevice(s.ctx, store.Device{ID: device, User: user, Kind: "headless", Created: time.Now()}))
	s.ok(s.node.Roster.Reload(s.ctx))
	code, _, err := s.node.Enroll.NewCode(s.ctx, device)
	s.ok(err)
	c := enroll.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.node.HTTPSAddr().String())
	}}
	id, err := c.Enrol(s.ctx, "localhost", code)
	s.ok(err)
	return id
}

func (s *site) opener() ringfence.Opener {
	sockets, err := node.NewSockets(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}))
	s.ok(err)
	return sockets
}

// phone opens a registered phone of a new device.
func (s *site) phone(user ringfence.UserID, change func(*phone.Config)) *phone.Phone {
	s.Helper()
	id := s.identity(user, ringfence.DeviceID(string(user)+"-desk"))
	return s.open(id, change)
}

func (s *site) open(id enroll.Identity, change func(*phone.Config)) *phone.Phone {
	s.Helper()
	cfg := phone.Config{Opener: s.opener(), Server: s.node.SIPAddr(), ServerName: id.Bootstrap.Domain,
		TLS:  &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS13},
		User: string(id.Bootstrap.User), Domain: id.Bootstrap.Domain, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard()}
	if change != nil {
		change(&cfg)
	}
	p, err := phone.Open(s.ctx, cfg)
	s.ok(err)
	s.Cleanup(func() { _ = p.Close() })
	return p
}

// incoming waits for the next call at a phone.
func (s *site) incoming(p *phone.Phone) *phone.Call {
	s.Helper()
	select {
	case c := <-p.Incoming():
		return c
	case <-s.ctx.Done():
		s.Fatal("no call came")
		return nil
	}
}

// until waits for a condition that the outside world brings about.
func (s *site) until(what string, cond func() bool) {
	s.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.Fatalf("never: %s", what)
		}
	}
}

// hears waits until a call hears a tone within 1 %.
func (s *site) hears(c *phone.Call, hz float64) {
	s.Helper()
	s.until("the tone is heard", func() bool {
		h := c.Audio().HeardHz
		return h > hz*0.99 && h < hz*1.01
	})
}

// talk sets up a call between two phones with tones both ways.
func (s *site) talk(from, to *phone.Phone, number string) (*phone.Call, *phone.Call) {
	s.Helper()
	out, err := from.Call(s.ctx, number, phone.CallOptions{Audio: phone.Tone(440)})
	s.ok(err)
	in := s.incoming(to)
	s.ok(in.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.ok(out.WaitAnswered(s.ctx))
	return out, in
}

func TestSealedCall(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	alice, bob := s.phone("alice", nil), s.phone("bob", nil)
	out, in := s.talk(alice, bob, "102")
	s.hears(out, 700)
	s.hears(in, 440)

	calls := s.node.Calls.List()
	if len(calls) != 1 || calls[0].State != "up" || calls[0].Verdict != ringfence.Sealed || len(calls[0].Legs) != 2 {
		t.Fatalf("calls = %+v", calls)
	}
	for _, l := range calls[0].Legs {
		if l.TLS == nil || l.TLS.Version != "TLS 1.3" || l.TLS.Group != "X25519MLKEM768" || l.Media == nil || l.Media.Suite != "AEAD_AES_256_GCM" ||
			l.Media.PacketsIn == 0 || l.Media.DSCP != 46 || l.Auth != ringfence.AuthCertificate {
			t.Errorf("leg %s: %+v tls %+v media %+v", l.ID, l, l.TLS, l.Media)
		}
	}
	out.Hangup()
	s.ok(in.WaitEnded(s.ctx))
	s.until("the record is kept", func() bool {
		cdrs, err := s.node.Store.CDRs(s.ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 1 && cdrs[0].From == "101" && cdrs[0].To == "102" && cdrs[0].Verdict == ringfence.Sealed && len(cdrs[0].Legs) == 2
	})
	if n := s.node.Calls.Count(); n != 0 {
		t.Errorf("%d calls are left", n)
	}
}
