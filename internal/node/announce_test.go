package node_test

import (
	"slices"
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

// A caller whose call fails hears why, sealed, before the phone is told.
func TestAnnouncements(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Calls.Announcements = config.Announcements{Unknown: onehost.SoundFile(t, 620, 8000, 1.2), Busy: onehost.SoundFile(t, 480, 16000, 1.2)}
	})
	s.User("alice", "101")
	s.User("bob", "102", func(u *store.User) { u.DoNotDisturb = true })
	alice := s.Phone("alice")
	for _, c := range []struct {
		number string
		hz     float64 // 0: there is no announcement for that
		status string
	}{{"999", 620, "404"}, {"102", 480, "486"}, {"0049301234567", 0, ""}} {
		began := time.Now()
		out, err := alice.Call(s.Ctx, c.number, phone.CallOptions{Audio: phone.Tone(440)})
		s.OK(err)
		if c.hz > 0 {
			s.Hears(out, c.hz)
			v := s.Node.Calls.List()
			if len(v) != 1 || v[0].State != "ringing" || v[0].Verdict != ringfence.Sealed || v[0].Legs[0].Media == nil || v[0].Legs[0].Media.Suite != "AEAD_AES_256_GCM" ||
				!slices.ContainsFunc(v[0].Reasons, func(r string) bool { return strings.Contains(r, "announcement") }) {
				t.Errorf("%s: %+v", c.number, v)
			}
		}
		err = out.WaitEnded(s.Ctx)
		if _, why := out.State(); !strings.Contains(why.Error(), c.status) {
			t.Errorf("%s: %v, %v", c.number, err, why)
		}
		if took := time.Since(began); c.hz > 0 && took < time.Second {
			t.Errorf("%s was refused after %s, before the announcement was over", c.number, took)
		}
	}
	// Who has heard enough hangs up.
	out, err := alice.Call(s.Ctx, "999", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	s.Hears(out, 620)
	out.Hangup()
	s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })
	if d := s.Node.Calls.Explain("alice", "999"); !slices.ContainsFunc(d.Reasons, func(r string) bool { return strings.Contains(r, `announcement "unknown"`) }) {
		t.Errorf("explained: %q", d.Reasons)
	}
}

// A number of the dial plan plays a recording and hangs up.
func TestRecordingOfTheDialPlan(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Plan.Recordings = []dialplan.Recording{{Number: "190", Name: "opening hours", File: onehost.SoundFile(t, 700, 8000, 0.6), Times: 2}}
	})
	s.User("alice", "101")
	alice := s.Phone("alice")
	began := time.Now()
	out, err := alice.Call(s.Ctx, "190", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(out, 700)
	s.OK(out.WaitEnded(s.Ctx))
	if took := time.Since(began); took < 1100*time.Millisecond {
		t.Errorf("it was over after %s", took)
	}
	s.Until("its record is kept", func() bool {
		cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 1 && cdrs[0].Cause == "the recording was played" && cdrs[0].To == "190" && cdrs[0].Verdict == ringfence.Sealed
	})
}
