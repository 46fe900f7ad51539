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
	"ringfence/internal/call/dialplan"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
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

// transfer asks for a blind transfer, and returns the call that comes of it at a phone, and where the outcome will be told.
func (s *site) transfer(c *phone.Call, number string, to *phone.Phone) (*phone.Call, <-chan error) {
	s.Helper()
	done := make(chan error, 1)
	go func() { done <- c.BlindTransfer(s.ctx, number) }()
	select {
	case third := <-to.Incoming():
		return third, done
	case err := <-done:
		s.Fatalf("no call came of the transfer to %s: %v", number, err)
		return nil, nil
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

func TestHoldHearsMusicAndResumes(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	alice, bob := s.phone("alice", nil), s.phone("bob", nil)
	out, in := s.talk(alice, bob, "102")
	s.hears(in, 440)
	for _, c := range []struct {
		holder, held *phone.Call
		tone         float64
	}{{out, in, 440}, {in, out, 700}} {
		s.ok(c.holder.Hold(s.ctx))
		s.until("music instead of the tone", func() bool {
			a := c.held.Audio()
			return a.HeardLevel > -50 && (a.HeardHz < c.tone*0.97 || a.HeardHz > c.tone*1.03)
		})
		if v := s.node.Calls.List(); len(v) != 1 || !(v[0].Legs[0].Held || v[0].Legs[1].Held) {
			t.Errorf("nobody is shown as held: %+v", v)
		}
		s.ok(c.holder.Resume(s.ctx))
		s.hears(c.held, c.tone)
	}
	s.ok(out.Rekey(s.ctx))
	packets := in.Proof().Media.PacketsIn
	s.until("media goes on with new keys", func() bool { return in.Proof().Media.PacketsIn > packets+20 })
	in.Hangup()
	s.ok(out.WaitEnded(s.ctx))
}

func TestTransfers(t *testing.T) {
	s := newSite(t, nil)
	for i, u := range []ringfence.UserID{"alice", "bob", "carol"} {
		s.user(u, ringfence.Number("10"+string(rune('1'+i))), nil)
	}
	alice, bob, carol := s.phone("alice", nil), s.phone("bob", nil), s.phone("carol", nil)
	blind := func(transferor func(out, in *phone.Call) *phone.Call, left func(out, in *phone.Call) *phone.Call, tone float64) {
		t.Helper()
		out, in := s.talk(alice, bob, "102")
		third, done := s.transfer(transferor(out, in), "103", carol)
		s.ok(third.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(900)}))
		s.ok(<-done)
		s.ok(transferor(out, in).WaitEnded(s.ctx))
		s.hears(left(out, in), 900)
		s.hears(third, tone)
		third.Hangup()
		s.ok(left(out, in).WaitEnded(s.ctx))
	}
	caller := func(out, _ *phone.Call) *phone.Call { return out }
	callee := func(_, in *phone.Call) *phone.Call { return in }
	blind(callee, caller, 440)
	blind(caller, callee, 700)

	// Attended: bob calls carol first, then connects alice with her.
	out, in := s.talk(alice, bob, "102")
	consult, err := bob.Call(s.ctx, "103", phone.CallOptions{Audio: phone.Tone(500)})
	s.ok(err)
	third := s.incoming(carol)
	s.ok(third.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(900)}))
	s.ok(consult.WaitAnswered(s.ctx))
	s.ok(in.AttendedTransfer(s.ctx, consult))
	s.hears(out, 900)
	s.hears(third, 440)
	s.until("one call is left", func() bool { return s.node.Calls.Count() == 1 })
	out.Hangup()
	s.ok(third.WaitEnded(s.ctx))

	// A transfer to nobody leaves the old call as it was.
	out, in = s.talk(alice, bob, "102")
	if err := in.BlindTransfer(s.ctx, "999"); err == nil {
		t.Fatal("a transfer to nobody succeeded")
	}
	s.hears(out, 700)
	s.hears(in, 440)
	out.Hangup()
	s.ok(in.WaitEnded(s.ctx))
}

func TestForwardingAndDoNotDisturb(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", func(u *store.User) { u.Forward.Always = "103" })
	s.user("carol", "103", func(u *store.User) { u.DoNotDisturb = true; u.Forward.Busy = "104" })
	s.user("dave", "104", func(u *store.User) { u.Forward.Unreachable = "105" })
	s.user("erin", "105", func(u *store.User) { u.Forward.NoAnswer = "106"; u.Forward.NoAnswerAfter = time.Second })
	s.user("frank", "106", nil)
	alice, erin, frank := s.phone("alice", nil), s.phone("erin", nil), s.phone("frank", nil)
	out, err := alice.Call(s.ctx, "102", phone.CallOptions{Audio: phone.Tone(440)})
	s.ok(err)
	rang := s.incoming(erin)
	in := s.incoming(frank)
	if err := rang.WaitEnded(s.ctx); err == nil {
		t.Log("the phone that did not answer stopped ringing")
	}
	s.ok(in.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.ok(out.WaitAnswered(s.ctx))
	s.hears(out, 700)
	reasons := strings.Join(s.node.Calls.List()[0].Reasons, "; ")
	for _, want := range []string{"bob forwards to 103 (always)", "carol forwards to 104 (do not disturb)", "dave forwards to 105 (unreachable)", "erin forwards to 106 (no answer)"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("reasons %q lack %q", reasons, want)
		}
	}
	out.Hangup()
	s.ok(in.WaitEnded(s.ctx))
}

func TestForwardingLoopEnds(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", func(u *store.User) { u.Forward.Always = "103" })
	s.user("carol", "103", func(u *store.User) { u.Forward.Always = "102" })
	out, err := s.phone("alice", nil).Call(s.ctx, "102", phone.CallOptions{})
	s.ok(err)
	if err := out.WaitAnswered(s.ctx); err == nil || !strings.Contains(err.Error(), "forwarded too often") {
		t.Errorf("err = %v", err)
	}
}

func TestHuntGroups(t *testing.T) {
	for _, strategy := range []dialplan.Strategy{dialplan.RingAll, dialplan.Sequential, dialplan.RoundRobin, dialplan.LongestIdle} {
		t.Run(string(strategy), func(t *testing.T) {
			s := newSite(t, func(c *config.Config) {
				c.Plan.Groups = []dialplan.Group{{Number: "300", Name: "sales", Strategy: strategy, Members: []ringfence.UserID{"bob", "carol"}, Seconds: 1}}
			})
			s.user("alice", "101", nil)
			s.user("bob", "102", nil)
			s.user("carol", "103", nil)
			alice, bob, carol := s.phone("alice", nil), s.phone("bob", nil), s.phone("carol", nil)
			answer := func(p *phone.Phone) {
				t.Helper()
				out, err := alice.Call(s.ctx, "300", phone.CallOptions{Audio: phone.Tone(440)})
				s.ok(err)
				in := s.incoming(p)
				s.ok(in.Answer(s.ctx, phone.CallOptions{}))
				s.ok(out.WaitAnswered(s.ctx))
				s.hears(in, 440)
				out.Hangup()
				s.ok(in.WaitEnded(s.ctx))
				s.until("the call is gone", func() bool { return s.node.Calls.Count() == 0 })
			}
			answer(bob)
			if strategy == dialplan.RingAll || strategy == dialplan.Sequential {
				answer(bob)
				return
			}
			answer(carol) // the next one, or the one who has been idle longer
		})
	}
}

func TestPickUpAndPark(t *testing.T) {
	s := newSite(t, nil)
	for i, u := range []ringfence.UserID{"alice", "bob", "carol"} {
		s.user(u, ringfence.Number("10"+string(rune('1'+i))), nil)
	}
	alice, bob, carol := s.phone("alice", nil), s.phone("bob", nil), s.phone("carol", nil)
	out, err := alice.Call(s.ctx, "102", phone.CallOptions{Audio: phone.Tone(440)})
	s.ok(err)
	ringing := s.incoming(bob)
	pick, err := carol.Call(s.ctx, "*8102", phone.CallOptions{Audio: phone.Tone(900)})
	s.ok(err)
	s.ok(pick.WaitAnswered(s.ctx))
	s.ok(out.WaitAnswered(s.ctx))
	_ = ringing.WaitEnded(s.ctx)
	s.hears(out, 900)
	s.hears(pick, 440)
	if n := s.node.Calls.Count(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}

	// Carol parks alice; bob takes the call.
	s.ok(pick.BlindTransfer(s.ctx, "*70"))
	s.until("the call is parked", func() bool { return len(s.node.Calls.Parked()) == 1 })
	take, err := bob.Call(s.ctx, "*71701", phone.CallOptions{Audio: phone.Tone(700)})
	s.ok(err)
	s.ok(take.WaitAnswered(s.ctx))
	s.hears(out, 700)
	s.hears(take, 440)
	out.Hangup()
	s.ok(take.WaitEnded(s.ctx))
	s.until("no call is left", func() bool { return s.node.Calls.Count() == 0 })
}

func TestEcho(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	c, err := s.phone("alice", nil).Call(s.ctx, "*43", phone.CallOptions{Audio: phone.Tone(523)})
	s.ok(err)
	s.ok(c.WaitAnswered(s.ctx))
	s.hears(c, 523)
	c.Hangup()
}

func TestForkRejectCancelBusy(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	alice := s.phone("alice", nil)
	desk := s.phone("bob", nil)
	soft := s.open(s.identity("bob", "bob-soft"), nil)
	out, err := alice.Call(s.ctx, "bob", phone.CallOptions{Audio: phone.Tone(440)})
	s.ok(err)
	a, b := s.incoming(desk), s.incoming(soft)
	s.ok(b.Answer(s.ctx, phone.CallOptions{}))
	s.ok(out.WaitAnswered(s.ctx))
	_ = a.WaitEnded(s.ctx) // the other phone stops ringing
	s.hears(b, 440)
	out.Hangup()
	s.ok(b.WaitEnded(s.ctx))

	out, err = alice.Call(s.ctx, "102", phone.CallOptions{})
	s.ok(err)
	a, b = s.incoming(desk), s.incoming(soft)
	s.ok(a.Reject(486))
	s.ok(b.Reject(603))
	if err := out.WaitAnswered(s.ctx); ringfence.KindOf(err) != ringfence.KindBusy {
		t.Errorf("rejected by both: %v", err)
	}

	out, err = alice.Call(s.ctx, "102", phone.CallOptions{})
	s.ok(err)
	a, b = s.incoming(desk), s.incoming(soft)
	s.ok(out.WaitRinging(s.ctx))
	out.Hangup()
	_ = a.WaitEnded(s.ctx)
	_ = b.WaitEnded(s.ctx)
	s.until("no call is left", func() bool { return s.node.Calls.Count() == 0 })

	out, err = alice.Call(s.ctx, "nobody", phone.CallOptions{})
	s.ok(err)
	if err := out.WaitAnswered(s.ctx); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Errorf("a call to nobody: %v", err)
	}
}

// A device without a certificate proves itself by digest; one that may use MD5 too is not talked down to it.
func TestDigest(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	bob := s.phone("bob", nil)
	const password = "correct horse battery"
	both := []ringfence.Auth{ringfence.AuthDigestSHA256, ringfence.AuthDigestMD5}
	s.ok(s.node.Store.CreateDevice(s.ctx, store.Device{ID: "old-phone", User: "alice", Kind: "desk", Profile: store.DeviceProfile{Auth: both}, Created: time.Now()}))
	for _, alg := range both {
		sum := map[ringfence.Auth]sip.DigestAlgorithm{ringfence.AuthDigestSHA256: sip.DigestSHA256, ringfence.AuthDigestMD5: sip.DigestMD5}[alg]
		s.ok(s.node.Store.PutDigestSecret(s.ctx, store.DigestSecret{Device: "old-phone", Username: "old-phone", Realm: s.node.Config.Domain, Algorithm: alg,
			HA1: sip.HA1(sum, "old-phone", s.node.Config.Domain, password)}))
	}
	s.ok(s.node.Roster.Reload(s.ctx))
	cfg := phone.Config{Opener: s.opener(), Server: s.node.SIPAddr(), ServerName: s.node.Config.Domain, TLS: &tls.Config{RootCAs: s.node.Authority.Roots()},
		User: "alice", AuthUser: "old-phone", Domain: s.node.Config.Domain, Password: "wrong", AllowMD5: true,
		MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard()}
	if _, err := phone.Open(s.ctx, cfg); err == nil {
		t.Fatal("a wrong password was accepted")
	}
	cfg.Password = password
	p, err := phone.Open(s.ctx, cfg)
	s.ok(err)
	defer func() { _ = p.Close() }()
	out, in := s.talk(p, bob, "102")
	s.hears(in, 440)
	if legs := s.node.Calls.List()[0].Legs; legs[0].Auth != ringfence.AuthDigestSHA256 {
		t.Errorf("the proof says %s, want SHA-256", legs[0].Auth)
	}
	out.Hangup()
	s.ok(in.WaitEnded(s.ctx))
}

func TestBindingsSurviveRestart(t *testing.T) {
	c := config.Default()
	c.SIP.TLS = netip.MustParseAddrPort("127.0.0.1:0")
	c.API.HTTPS = netip.MustParseAddrPort("127.0.0.1:0")
	c.Media.Addr = netip.MustParseAddr("127.0.0.1")
	data := t.TempDir()
	s := openSite(t, c, data)
	s.user("alice", "101", nil)
	s.phone("alice", nil)
	c.SIP.TLS = s.node.SIPAddr()
	if n := len(s.node.Registrar.Locate("alice")); n != 1 {
		t.Fatalf("%d contacts", n)
	}
	s.node.Close()
	again := openSite(t, c, data)
	if all := again.node.Registrar.All(); len(all) != 1 || all[0].Live() {
		t.Fatalf("after the restart: %+v", all)
	}
	again.until("the phone comes back by itself", func() bool { return len(again.node.Registrar.Locate("alice")) == 1 })
}

func TestRevokedDeviceLosesEverything(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	id := s.identity("alice", "alice-desk")
	alice, bob := s.open(id, nil), s.phone("bob", nil)
	_, in := s.talk(alice, bob, "102")
	s.ok(s.node.Revoke(s.ctx, "alice-desk", "lost"))
	_ = in.WaitEnded(s.ctx)
	s.until("the registration is gone", func() bool { return len(s.node.Registrar.Locate("alice")) == 0 })
	cfg := phone.Config{Opener: s.opener(), Server: s.node.SIPAddr(), ServerName: id.Bootstrap.Domain,
		TLS:  &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}},
		User: "alice", Domain: id.Bootstrap.Domain, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard()}
	if _, err := phone.Open(s.ctx, cfg); err == nil {
		t.Error("a revoked certificate was accepted")
	}
}

// An emergency call gets through when nothing else does: limits, do-not-disturb and forwarding do not hold it up.
func TestEmergencyIsNeverBlocked(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Plan.EmergencyTo = "103"
		c.Calls.Max = 1
	})
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	s.user("guard", "103", func(u *store.User) { u.DoNotDisturb = true; u.Forward.Always = "102" })
	alice, bob, guard := s.phone("alice", nil), s.phone("bob", nil), s.phone("guard", nil)
	echo, err := bob.Call(s.ctx, "*43", phone.CallOptions{})
	s.ok(err)
	s.ok(echo.WaitAnswered(s.ctx))
	full, err := alice.Call(s.ctx, "103", phone.CallOptions{})
	s.ok(err)
	if err := full.WaitAnswered(s.ctx); err == nil {
		t.Fatal("a call above the limit was taken")
	}
	out, err := alice.Call(s.ctx, "112", phone.CallOptions{Audio: phone.Tone(440)})
	s.ok(err)
	in := s.incoming(guard)
	s.ok(in.Answer(s.ctx, phone.CallOptions{}))
	s.ok(out.WaitAnswered(s.ctx))
	s.hears(in, 440)
	out.Hangup()
	s.ok(in.WaitEnded(s.ctx))
}
