package node_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit/onehost"
)

// site is a whole node on loopback with phones that enrolled by code, as a user has them.
type site struct{ *onehost.Site }

func newSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	return &site{onehost.Open(t, onehost.Options{Change: change})}
}

// transfer asks for a blind transfer, and returns the call that comes of it at a phone, and where the outcome will be told.
func (s *site) transfer(c *phone.Call, number string, to *phone.Phone) (*phone.Call, <-chan error) {
	s.Helper()
	done := make(chan error, 1)
	go func() { done <- c.BlindTransfer(s.Ctx, number) }()
	select {
	case third := <-to.Incoming():
		return third, done
	case err := <-done:
		s.Fatalf("no call came of the transfer to %s: %v", number, err)
		return nil, nil
	}
}

func TestSealedCall(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	out, in := s.Talk(alice, bob, "102")
	s.Hears(out, 700)
	s.Hears(in, 440)

	calls := s.Node.Calls.List()
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
	s.OK(in.WaitEnded(s.Ctx))
	s.Until("the record is kept", func() bool {
		cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 1 && cdrs[0].From == "101" && cdrs[0].To == "102" && cdrs[0].Verdict == ringfence.Sealed && len(cdrs[0].Legs) == 2
	})
	if n := s.Node.Calls.Count(); n != 0 {
		t.Errorf("%d calls are left", n)
	}
}

func TestHoldHearsMusicAndResumes(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	out, in := s.Talk(alice, bob, "102")
	s.Hears(in, 440)
	for _, c := range []struct {
		holder, held *phone.Call
		tone         float64
	}{{out, in, 440}, {in, out, 700}} {
		s.OK(c.holder.Hold(s.Ctx))
		s.Until("music instead of the tone", func() bool {
			a := c.held.Audio()
			return a.HeardLevel > -50 && (a.HeardHz < c.tone*0.97 || a.HeardHz > c.tone*1.03)
		})
		if v := s.Node.Calls.List(); len(v) != 1 || !(v[0].Legs[0].Held || v[0].Legs[1].Held) {
			t.Errorf("nobody is shown as held: %+v", v)
		}
		s.OK(c.holder.Resume(s.Ctx))
		s.Hears(c.held, c.tone)
	}
	s.OK(out.Rekey(s.Ctx))
	packets := in.Proof().Media.PacketsIn
	s.Until("media goes on with new keys", func() bool { return in.Proof().Media.PacketsIn > packets+20 })
	in.Hangup()
	s.OK(out.WaitEnded(s.Ctx))
}

func TestTransfers(t *testing.T) {
	s := newSite(t, nil)
	for i, u := range []ringfence.UserID{"alice", "bob", "carol"} {
		s.User(u, ringfence.Number("10"+string(rune('1'+i))))
	}
	alice, bob, carol := s.Phone("alice"), s.Phone("bob"), s.Phone("carol")
	blind := func(transferor func(out, in *phone.Call) *phone.Call, left func(out, in *phone.Call) *phone.Call, tone float64) {
		t.Helper()
		out, in := s.Talk(alice, bob, "102")
		third, done := s.transfer(transferor(out, in), "103", carol)
		s.OK(third.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(900)}))
		s.OK(<-done)
		s.OK(transferor(out, in).WaitEnded(s.Ctx))
		s.Hears(left(out, in), 900)
		s.Hears(third, tone)
		third.Hangup()
		s.OK(left(out, in).WaitEnded(s.Ctx))
	}
	caller := func(out, _ *phone.Call) *phone.Call { return out }
	callee := func(_, in *phone.Call) *phone.Call { return in }
	blind(callee, caller, 440)
	blind(caller, callee, 700)

	// Attended: bob calls carol first, then connects alice with her.
	out, in := s.Talk(alice, bob, "102")
	consult, err := bob.Call(s.Ctx, "103", phone.CallOptions{Audio: phone.Tone(500)})
	s.OK(err)
	third := s.Incoming(carol)
	s.OK(third.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(900)}))
	s.OK(consult.WaitAnswered(s.Ctx))
	s.OK(in.AttendedTransfer(s.Ctx, consult))
	s.Hears(out, 900)
	s.Hears(third, 440)
	s.Until("one call is left", func() bool { return s.Node.Calls.Count() == 1 })
	out.Hangup()
	s.OK(third.WaitEnded(s.Ctx))

	// A transfer to nobody leaves the old call as it was.
	out, in = s.Talk(alice, bob, "102")
	if err := in.BlindTransfer(s.Ctx, "999"); err == nil {
		t.Fatal("a transfer to nobody succeeded")
	}
	s.Hears(out, 700)
	s.Hears(in, 440)
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
}

func TestForwardingAndDoNotDisturb(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102", func(u *store.User) { u.Forward.Always = "103" })
	s.User("carol", "103", func(u *store.User) { u.DoNotDisturb = true; u.Forward.Busy = "104" })
	s.User("dave", "104", func(u *store.User) { u.Forward.Unreachable = "105" })
	s.User("erin", "105", func(u *store.User) { u.Forward.NoAnswer = "106"; u.Forward.NoAnswerAfter = time.Second })
	s.User("frank", "106")
	alice, erin, frank := s.Phone("alice"), s.Phone("erin"), s.Phone("frank")
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	rang := s.Incoming(erin)
	in := s.Incoming(frank)
	if err := rang.WaitEnded(s.Ctx); err == nil {
		t.Log("the phone that did not answer stopped ringing")
	}
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(out, 700)
	reasons := strings.Join(s.Node.Calls.List()[0].Reasons, "; ")
	for _, want := range []string{"bob forwards to 103 (always)", "carol forwards to 104 (do not disturb)", "dave forwards to 105 (unreachable)", "erin forwards to 106 (no answer)"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("reasons %q lack %q", reasons, want)
		}
	}
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
}

// A phone sends its caller elsewhere: for its user, who pays, on all of the user's phones; not for a group, and not to nowhere.
func TestDeflection(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Plan.Groups = []dialplan.Group{{Number: "300", Name: "sales", Strategy: dialplan.Sequential, Members: []ringfence.UserID{"bob", "carol"}}}
	})
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("carol", "103")
	s.User("dave", "104")
	alice, bob, carol, dave := s.Phone("alice"), s.Phone("bob"), s.Phone("carol"), s.Phone("dave")
	soft := s.Start(s.Known(s.Identity("bob", "bob-soft")))
	call := func(number string) *phone.Call {
		t.Helper()
		out, err := alice.Call(s.Ctx, number, phone.CallOptions{Audio: phone.Tone(440)})
		s.OK(err)
		return out
	}
	refused := func(out *phone.Call, status int) {
		t.Helper()
		var r *phone.RejectedError
		if err := out.WaitAnswered(s.Ctx); !errors.As(err, &r) || r.Status != status {
			t.Errorf("%v, want %d", err, status)
		}
	}

	out := call("102")
	desk, other := s.Incoming(bob), s.Incoming(soft)
	s.OK(desk.Redirect("103"))
	in := s.Incoming(carol)
	_ = other.WaitEnded(s.Ctx) // it stopped ringing
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(out, 700)
	if reasons := strings.Join(s.Node.Calls.List()[0].Reasons, "; "); !strings.Contains(reasons, "bob forwards to 103 (deflected)") {
		t.Errorf("reasons %q", reasons)
	}
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))

	t.Log("on and on, and back: it ends")
	out = call("104")
	for range 3 {
		s.OK(s.Incoming(dave).Redirect("103"))
		s.OK(s.Incoming(carol).Redirect("104"))
	}
	if err := out.WaitAnswered(s.Ctx); err == nil || !strings.Contains(err.Error(), "too often") {
		t.Errorf("%v", err)
	}

	t.Log("what the user may not dial, and nobody's number")
	out = call("103")
	s.OK(s.Incoming(carol).Redirect("00442079460000"))
	if err := out.WaitAnswered(s.Ctx); err == nil {
		t.Error("a call went abroad")
	}
	out = call("103")
	s.OK(s.Incoming(carol).Reject(302)) // without a Contact
	refused(out, 480)

	t.Log("a group goes on to its next member")
	out = call("300")
	first, second := s.Incoming(bob), s.Incoming(soft)
	s.OK(first.Redirect("104"))
	s.OK(second.Redirect("104"))
	in = s.Incoming(carol)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
	s.OK(out.WaitAnswered(s.Ctx))
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
	s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })
}

func TestForwardingLoopEnds(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102", func(u *store.User) { u.Forward.Always = "103" })
	s.User("carol", "103", func(u *store.User) { u.Forward.Always = "102" })
	out, err := s.Phone("alice").Call(s.Ctx, "102", phone.CallOptions{})
	s.OK(err)
	if err := out.WaitAnswered(s.Ctx); err == nil || !strings.Contains(err.Error(), "forwarded too often") {
		t.Errorf("err = %v", err)
	}
}

func TestHuntGroups(t *testing.T) {
	for _, strategy := range []dialplan.Strategy{dialplan.RingAll, dialplan.Sequential, dialplan.RoundRobin, dialplan.LongestIdle} {
		t.Run(string(strategy), func(t *testing.T) {
			s := newSite(t, func(c *config.Config) {
				c.Plan.Groups = []dialplan.Group{{Number: "300", Name: "sales", Strategy: strategy, Members: []ringfence.UserID{"bob", "carol"}, Seconds: 1}}
			})
			s.User("alice", "101")
			s.User("bob", "102")
			s.User("carol", "103")
			alice, bob, carol := s.Phone("alice"), s.Phone("bob"), s.Phone("carol")
			answer := func(p *phone.Phone) {
				t.Helper()
				out, err := alice.Call(s.Ctx, "300", phone.CallOptions{Audio: phone.Tone(440)})
				s.OK(err)
				in := s.Incoming(p)
				s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
				s.OK(out.WaitAnswered(s.Ctx))
				s.Hears(in, 440)
				out.Hangup()
				s.OK(in.WaitEnded(s.Ctx))
				s.Until("the call is gone", func() bool { return s.Node.Calls.Count() == 0 })
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
		s.User(u, ringfence.Number("10"+string(rune('1'+i))))
	}
	alice, bob, carol := s.Phone("alice"), s.Phone("bob"), s.Phone("carol")
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	ringing := s.Incoming(bob)
	pick, err := carol.Call(s.Ctx, "*8102", phone.CallOptions{Audio: phone.Tone(900)})
	s.OK(err)
	s.OK(pick.WaitAnswered(s.Ctx))
	s.OK(out.WaitAnswered(s.Ctx))
	_ = ringing.WaitEnded(s.Ctx)
	s.Hears(out, 900)
	s.Hears(pick, 440)
	if n := s.Node.Calls.Count(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}

	// Carol parks alice; bob takes the call.
	s.OK(pick.BlindTransfer(s.Ctx, "*70"))
	s.Until("the call is parked", func() bool { return len(s.Node.Calls.Parked()) == 1 })
	take, err := bob.Call(s.Ctx, "*71701", phone.CallOptions{Audio: phone.Tone(700)})
	s.OK(err)
	s.OK(take.WaitAnswered(s.Ctx))
	s.Hears(out, 700)
	s.Hears(take, 440)
	out.Hangup()
	s.OK(take.WaitEnded(s.Ctx))
	s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })
}

func TestEcho(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	c, err := s.Phone("alice").Call(s.Ctx, "*43", phone.CallOptions{Audio: phone.Tone(523)})
	s.OK(err)
	s.OK(c.WaitAnswered(s.Ctx))
	s.Hears(c, 523)
	c.Hangup()
}

func TestForkRejectCancelBusy(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	alice := s.Phone("alice")
	desk := s.Phone("bob")
	soft := s.Start(s.Known(s.Identity("bob", "bob-soft")))
	out, err := alice.Call(s.Ctx, "bob", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	a, b := s.Incoming(desk), s.Incoming(soft)
	s.OK(b.Answer(s.Ctx, phone.CallOptions{}))
	s.OK(out.WaitAnswered(s.Ctx))
	_ = a.WaitEnded(s.Ctx) // the other phone stops ringing
	s.Hears(b, 440)
	out.Hangup()
	s.OK(b.WaitEnded(s.Ctx))

	out, err = alice.Call(s.Ctx, "102", phone.CallOptions{})
	s.OK(err)
	a, b = s.Incoming(desk), s.Incoming(soft)
	s.OK(a.Reject(486))
	s.OK(b.Reject(603))
	if err := out.WaitAnswered(s.Ctx); ringfence.KindOf(err) != ringfence.KindBusy {
		t.Errorf("rejected by both: %v", err)
	}

	out, err = alice.Call(s.Ctx, "102", phone.CallOptions{})
	s.OK(err)
	a, b = s.Incoming(desk), s.Incoming(soft)
	s.OK(out.WaitRinging(s.Ctx))
	out.Hangup()
	_ = a.WaitEnded(s.Ctx)
	_ = b.WaitEnded(s.Ctx)
	s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })

	out, err = alice.Call(s.Ctx, "nobody", phone.CallOptions{})
	s.OK(err)
	if err := out.WaitAnswered(s.Ctx); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Errorf("a call to nobody: %v", err)
	}
}

// A device without a certificate proves itself by digest; one that may use MD5 too is not talked down to it.
func TestDigest(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	bob := s.Phone("bob")
	const password = "correct horse battery"
	s.Password("alice", "old-phone", password, ringfence.AuthDigestSHA256, ringfence.AuthDigestMD5)
	cfg := s.Client()
	cfg.User, cfg.AuthUser, cfg.Password, cfg.AllowMD5 = "alice", "old-phone", "wrong", true
	if _, err := phone.Open(s.Ctx, cfg); err == nil {
		t.Fatal("a wrong password was accepted")
	}
	cfg.Password = password
	p := s.Start(cfg)
	out, in := s.Talk(p, bob, "102")
	s.Hears(in, 440)
	if legs := s.Node.Calls.List()[0].Legs; legs[0].Auth != ringfence.AuthDigestSHA256 {
		t.Errorf("the proof says %s, want SHA-256", legs[0].Auth)
	}
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
}

func TestBindingsSurviveRestart(t *testing.T) {
	data := t.TempDir()
	s := onehost.Open(t, onehost.Options{Data: data})
	s.User("alice", "101")
	s.Phone("alice")
	if n := len(s.Node.Registrar.Locate("alice")); n != 1 {
		t.Fatalf("%d contacts", n)
	}
	s.Node.Close()
	again := onehost.Open(t, onehost.Options{Data: data, Change: func(c *config.Config) { c.SIP.TLS = s.SIP }})
	if all := again.Node.Registrar.All(); len(all) != 1 || all[0].Live() {
		t.Fatalf("after the restart: %+v", all)
	}
	again.Until("the phone comes back by itself", func() bool { return len(again.Node.Registrar.Locate("alice")) == 1 })
}

func TestRevokedDeviceLosesEverything(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	id := s.Identity("alice", "alice-desk")
	alice, bob := s.Start(s.Known(id)), s.Phone("bob")
	_, in := s.Talk(alice, bob, "102")
	s.OK(s.Node.Revoke(s.Ctx, "alice-desk", "lost"))
	_ = in.WaitEnded(s.Ctx)
	s.Until("the registration is gone", func() bool { return len(s.Node.Registrar.Locate("alice")) == 0 })
	if _, err := phone.Open(s.Ctx, s.Known(id)); err == nil {
		t.Error("a revoked certificate was accepted")
	}
}

// An emergency call gets through when nothing else does: limits, do-not-disturb and forwarding do not hold it up.
func TestEmergencyIsNeverBlocked(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Plan.EmergencyTo = "103"
		c.Calls.Max = 1
	})
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("guard", "103", func(u *store.User) { u.DoNotDisturb = true; u.Forward.Always = "102" })
	alice, bob, guard := s.Phone("alice"), s.Phone("bob"), s.Phone("guard")
	echo, err := bob.Call(s.Ctx, "*43", phone.CallOptions{})
	s.OK(err)
	s.OK(echo.WaitAnswered(s.Ctx))
	full, err := alice.Call(s.Ctx, "103", phone.CallOptions{})
	s.OK(err)
	if err := full.WaitAnswered(s.Ctx); err == nil {
		t.Fatal("a call above the limit was taken")
	}
	out, err := alice.Call(s.Ctx, "112", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	in := s.Incoming(guard)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(in, 440)
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
}
