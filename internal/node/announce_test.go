package node_test

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/media/codec"
	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit/onehost"
	"ringfence/internal/trust/tlspolicy"
)

// A caller whose call fails hears why, sealed, before the phone is told.
func TestAnnouncements(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Calls.Announcements = config.Announcements{Unknown: onehost.SoundFile(t, 620, 8000, 1.2), Busy: onehost.SoundFile(t, 480, 16000, 1.2)}
	})
	s.User("alice", "101")
	s.User("bob", "102", func(u *store.User) { u.DoNotDisturb = true })
	alice := s.Phone("alice", func(c *phone.Config) { c.Codecs = []codec.Name{codec.Opus} })
	for _, c := range []struct {
		number string
		hz     float64 // 0: there is no announcement for that
		status string
	}{{"999", 620, "404"}, {"102", 480, "486"}, {"0049301234567", 0, "403"}} {
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

// Who cannot hear an announcement, or would be told the wrong thing or held up by it, gets the plain response at once.
func TestNoAnnouncement(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		file := onehost.SoundFile(t, 620, 8000, 0.2)
		c.Calls.Announcements = config.Announcements{Unknown: file, Barred: file, Busy: file, NoAnswer: file, Unreachable: file}
	})
	s.User("alice", "101")
	id := s.Identity("alice", "alice-raw")
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.OK(err)
	known := []sdp.Codec{sdp.PCMU(), sdp.Events(101, 8000)}
	for _, c := range []struct {
		name, number string
		codecs       []sdp.Codec // of the offer; none: there is no offer
		first, final int         // responses
	}{
		{"nobody's number", "999", known, 183, 404},
		{"no feature code", "*99", known, 183, 404},
		{"barred", "0049301234567", known, 183, 403},
		{"only Opus", "999", []sdp.Codec{sdp.Opus(96), sdp.Events(101, 8000)}, 183, 404},
		{"only a codec that is not built in", "999", []sdp.Codec{{PayloadType: 18, Name: "G729", Clock: 8000}, sdp.Events(101, 8000)}, 404, 404},
		{"no offer", "999", nil, 404, 404},
		{"nothing to pick up", "*8", known, 404, 404},
		{"nothing parked", "*711", known, 404, 404},
		{"not by dialling", "*72101", known, 480, 480},
		{"nobody takes emergency calls", "112", known, 480, 480},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.raw(id)
			uri := "sip:" + c.number + "@" + s.Node.Config.Domain
			var body []byte
			if len(c.codecs) > 0 {
				offer, err := sdp.BuildOffer(sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, c.codecs...)
				s.OK(err)
				body = offer.Bytes()
			}
			p.send("INVITE", uri, "<"+uri+">", body)
			m := p.recv()
			if m.Status() != c.first {
				t.Errorf("first %d %s, want %d", m.Status(), m.Reason(), c.first)
			}
			if m.Status() == 183 {
				answer, err := sdp.Parse(m.Body())
				s.OK(err)
				s.OK(answer.Sealed())
				m = p.final()
			}
			if m.Status() != c.final || !strings.Contains(string(m.Get(sip.HeaderReason)), "Q.850;cause=") || m.Get(sip.HeaderWarning) == nil {
				t.Errorf("final %d %s, want %d; Reason %q, Warning %q", m.Status(), m.Reason(), c.final, m.Get(sip.HeaderReason), m.Get(sip.HeaderWarning))
			}
		})
	}
}

// An emergency call that rings at nobody's phone fails at once too, so that the caller can try something else.
func TestEmergencyCallIsNotHeldUp(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Plan.EmergencyTo = "103"
		c.Calls.Announcements.Unreachable = onehost.SoundFile(t, 620, 8000, 0.2)
	})
	s.User("alice", "101")
	s.User("guard", "103")
	p := s.raw(s.Identity("alice", "alice-raw"))
	for _, c := range []struct {
		number string
		first  int
	}{{"103", 183}, {"112", 480}} {
		crypto, err := sdp.NewCryptos(rand.Reader)
		s.OK(err)
		offer, err := sdp.BuildOffer(sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU())
		s.OK(err)
		uri := "sip:" + c.number + "@" + s.Node.Config.Domain
		p.send("INVITE", uri, "<"+uri+">", offer.Bytes())
		m := p.recv()
		if m.Status() != c.first {
			t.Errorf("%s: first %d %s, want %d", c.number, m.Status(), m.Reason(), c.first)
		}
		if m.Status() < 200 {
			m = p.final()
		}
		if m.Status() != 480 {
			t.Errorf("%s: final %d %s", c.number, m.Status(), m.Reason())
		}
	}
}

// Whoever is connected already hears a recording as well: by a transfer, and when the node rang the caller's phone first.
func TestRecordingForWhoIsConnected(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Plan.Recordings = []dialplan.Recording{{Number: "190", File: onehost.SoundFile(t, 900, 8000, 1)}}
	})
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	out, in := s.Talk(alice, bob, "102")
	s.OK(in.BlindTransfer(s.Ctx, "190"))
	s.OK(in.WaitEnded(s.Ctx))
	s.Hears(out, 900)
	s.OK(out.WaitEnded(s.Ctx))

	id, err := s.Node.Calls.Originate("alice", "190")
	s.OK(err)
	first := s.Incoming(alice)
	s.OK(first.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(440)}))
	s.Hears(first, 900)
	s.OK(first.WaitEnded(s.Ctx))
	s.Until("its record is kept", func() bool {
		cdr, err := s.Node.Store.CDR(s.Ctx, id)
		return err == nil && cdr.Cause == "the recording was played" && cdr.Verdict == ringfence.Sealed
	})
}

// Sounds that are gone or damaged keep no node from starting: they are named, calls are refused as without them, and checks of a configuration say what is wrong.
func TestStartWithoutSounds(t *testing.T) {
	gone, torn := filepath.Join(t.TempDir(), "gone.wav"), onehost.SoundFile(t, 620, 8000, 0.4)
	good, err := os.ReadFile(torn)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(torn, good[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "ringfence.yaml")
	text := "calls:\n  announcements:\n    unknown: " + torn + "\n    busy: " + gone + "\ndialplan:\n  recordings:\n    - {number: \"190\", file: " + gone + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	over := func(c *config.Config) {
		c.SIP.TLS, c.API.HTTPS, c.Media.Addr = onehost.Config().SIP.TLS, onehost.Config().API.HTTPS, onehost.Config().Media.Addr
	}
	over(&conf)
	var log lines
	n, err := node.Open(t.Context(), node.Options{Config: conf, Data: dir, Version: "test", Log: slog.New(slog.NewTextHandler(&log, nil)), ConfigFile: file, Override: over})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	for _, f := range []string{gone, torn} {
		if said := log.String(); strings.Count(said, "a sound cannot be played") != 2 || !strings.Contains(said, "file="+f) {
			t.Errorf("the log says %s", said)
		}
	}
	s := onehost.New(t, time.Minute)
	s.Node, s.SIP, s.HTTPS, s.Roots, s.Domain = n, n.SIPAddr(), n.HTTPSAddr(), n.Authority.Roots(), conf.Domain
	s.User("alice", "101")
	alice := s.Phone("alice")
	for number, status := range map[string]int{"999": 404, "190": 480} {
		out, err := alice.Call(s.Ctx, number, phone.CallOptions{Audio: phone.Tone(440)})
		s.OK(err)
		var refused *phone.RejectedError
		if err := out.WaitAnswered(s.Ctx); !errors.As(err, &refused) || refused.Status != status {
			t.Errorf("%s: %v, want %d", number, err, status)
		}
	}
	// A check, a plan and an apply refuse what is not there; a change of the TLS settings has nothing to do with it.
	_, err = config.Parse([]byte(text), "new.yaml")
	_, planned := n.Settings.Plan(text, "new.yaml")
	_, applied := n.Settings.Apply(s.Ctx, text, "new.yaml", "test", "")
	for _, err := range []error{err, planned, applied} {
		if err == nil || !strings.Contains(err.Error(), "new.yaml:3:14: calls.announcements.unknown: "+torn) || !strings.Contains(err.Error(), "new.yaml:7:29: dialplan.recordings[0].file: "+gone) {
			t.Errorf("it says %v", err)
		}
	}
	_, err = n.Settings.EditTLS(s.Ctx, "test", "", false, func(tree tlspolicy.Tree) (tlspolicy.Tree, error) {
		return tlspolicy.Tree{"/system": {Min: "1.3"}}, nil
	})
	s.OK(err)
	// The files are put back, and the next apply has them.
	for _, f := range []string{gone, torn} {
		s.OK(os.WriteFile(f, good, 0o600))
	}
	_, err = n.Settings.Reload(s.Ctx)
	s.OK(err)
	out, err := alice.Call(s.Ctx, "999", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	s.Hears(out, 620)
	out.Hangup()
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
