package interop_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit"
)

// linphone is a running linphonec with one account.
type linphone struct {
	*program
	s   *site
	dir string
	n   int // recordings so far
}

// linphone starts linphonec with the configuration of the guide. It plays a tone from a file and records into files.
func (s *site) linphone(device, user, auth string, hz float64) *linphone {
	s.Helper()
	path := testkit.Need(s.T, "linphonec", "linphone-cli")
	dir := s.path("linphone-" + device)
	s.OK(os.MkdirAll(dir+"/.local/share/linphone", 0o700))
	conf := s.guide("linphone.md", "linphonerc", "/home/bob/ringfence/anchors.pem", s.path("ca.pem"), "ringfence.internal:5061", "localhost:"+s.port(), "bob@", user+"@")
	extra := s.guide("linphone.md", "linphonerc-"+auth)
	extra = strings.ReplaceAll(strings.ReplaceAll(extra, "/home/bob/ringfence", s.path(device)), "bob-desk", device)
	if rest, ok := strings.CutPrefix(extra, "[sip]\n"); ok { // one section, two blocks of the guide
		conf = strings.Replace(conf, "[sip]\n", "[sip]\n"+rest, 1)
	} else {
		conf += "\n" + extra
	}
	s.file("linphone-"+device+"/linphonerc", []byte(conf))
	sound := codec.Sound{Rate: 16000, Samples: make([]int16, 16000*2)}
	codec.NewTone(codec.Signal{Hz: []float64{hz}}, sound.Rate, -10).Read(sound.Samples)
	wav, err := sound.WAV()
	s.OK(err)
	p := start(s.T, dir, path, "-c", dir+"/linphonerc", "-d", "6", "-l", dir+"/log")
	l := &linphone{program: p, s: s, dir: dir}
	s.Cleanup(func() {
		if s.Failed() {
			b, _ := os.ReadFile(dir + "/log")
			s.Logf("--- log:\n%s", clip(string(b), 60000))
		}
	})
	l.say("soundcard use files\n")
	l.say("play " + s.file("linphone-"+device+"/tone.wav", wav) + "\n")
	return l
}

// record begins a new recording of what it hears.
func (l *linphone) record() string {
	l.s.Helper()
	l.n++
	file := fmt.Sprintf("%s/heard-%d.wav", l.dir, l.n)
	l.say("record " + file + "\n")
	return file
}

func TestLinphoneWithCertificate(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.certificate("bob", "bob-desk")
	l := s.linphone("bob-desk", "bob", "certificate", 600)
	alice := s.Phone("alice")
	if reg := s.registered("bob-desk"); reg.Proof.Auth != ringfence.AuthCertificate {
		t.Errorf("registered with %+v", reg.Proof)
	}
	// It calls.
	file := l.record()
	l.say("call sip:101@ringfence.internal\n")
	in := s.Incoming(alice)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
	s.Hears(in, 600)
	s.recorded(file, 1000)
	s.sealed("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")

	// Keys pressed, both ways.
	l.say("4\n")
	s.digits(in, "4")
	l.say("#\n")
	s.digits(in, "#")
	s.OK(in.SendDigits("7"))
	l.wait(s.Ctx, `Receiving tone 7 from`)

	// Hold from either side.
	l.say("pause\n")
	s.Until("music on hold", func() bool { a := in.Audio(); return a.HeardHz > 0 && !near(a.HeardHz, 600) })
	l.say("resume\n")
	s.Hears(in, 600)
	s.OK(in.Hold(s.Ctx))
	s.OK(in.Resume(s.Ctx))
	s.Hears(in, 600)

	l.say("terminate\n")
	s.OK(in.WaitEnded(s.Ctx))
	s.over()

	// It is called, and the far end hangs up.
	file = l.record()
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{Audio: phone.Tone(800)})
	s.OK(err)
	l.wait(s.Ctx, `Receiving new incoming call from .*101@`)
	l.say("answer\n")
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(out, 600)
	s.recorded(file, 800)
	s.sealed("AEAD_AES_256_GCM", "AES_CM_128_HMAC_SHA1_80")
	out.Hangup()
	l.wait(s.Ctx, `Call \d+ with .* ended`)
	s.over()
}

func TestLinphoneWithDigest(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.Password("bob", "bob-desk", "SECRET", ringfence.AuthDigestSHA256)
	l := s.linphone("bob-desk", "bob", "digest", 600)
	l.wait(s.Ctx, `Password for \(null\) on \(null\):`) // the node asks for a certificate too; the guide says: type anything
	l.say("none\n")
	alice := s.Phone("alice", func(c *phone.Config) { c.Codecs = []codec.Name{codec.Opus} })
	if reg := s.registered("bob-desk"); reg.Proof.Auth != ringfence.AuthDigestSHA256 {
		t.Errorf("registered with %+v", reg.Proof)
	}
	file := l.record()
	l.say("call sip:101@ringfence.internal\n")
	in := s.Incoming(alice)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
	s.Hears(in, 600)
	s.recorded(file, 1000*8000.0/48000) // until linphone writes the header, its samples are read as if they were 8000 a second
	if view := s.sealed("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM"); view.Legs[0].Codec != "opus" || view.Legs[1].Codec != "opus" {
		t.Errorf("they speak %s and %s", view.Legs[0].Codec, view.Legs[1].Codec)
	}
	l.say("4\n")
	s.digits(in, "4")
	in.Hangup()
	s.over()
}

// A phone that trusts another authority must not tell us anything.
func TestLinphoneVerifiesTheNode(t *testing.T) {
	t.Parallel()
	s, other := newSite(t, nil), newSite(t, nil)
	s.User("bob", "102")
	s.Password("bob", "bob-desk", "SECRET", ringfence.AuthDigestSHA256)
	s.file("ca.pem", other.Node.Authority.RootPEM())
	l := s.linphone("bob-desk", "bob", "digest", 600)
	s.Until("linphone refuses the certificate", func() bool {
		b, err := os.ReadFile(l.dir + "/log")
		return err == nil && strings.Contains(string(b), "X509 - Certificate verification failed")
	})
	if st := s.Node.Registrar.Stats(); st.Challenged+st.Registered != 0 {
		t.Errorf("it spoke to a node that it cannot trust: %+v", st)
	}
}

func TestLinphoneTransfers(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("carol", "103")
	s.certificate("bob", "bob-desk")
	l := s.linphone("bob-desk", "bob", "certificate", 600)
	alice, carol := s.Phone("alice"), s.Phone("carol")
	s.registered("bob-desk")
	call := func(number string, p *phone.Phone, hz float64) *phone.Call {
		t.Helper()
		l.say("call sip:" + number + "@ringfence.internal\n")
		in := s.Incoming(p)
		s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(hz)}))
		s.Hears(in, 600)
		return in
	}

	// Blind.
	in := call("101", alice, 1000)
	l.say("transfer sip:103@ringfence.internal\n")
	third := s.Incoming(carol)
	s.OK(third.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1400)}))
	s.Hears(in, 1400)
	s.Hears(third, 1000)
	l.wait(s.Ctx, `Call \d+ with .* ended`)
	in.Hangup()
	s.OK(third.WaitEnded(s.Ctx))
	s.over()

	// Attended.
	in = call("101", alice, 1000)
	l.say("pause\n")
	s.Until("music on hold", func() bool { a := in.Audio(); return a.HeardHz > 0 && !near(a.HeardHz, 600) })
	third = call("103", carol, 1400)
	l.say("transfer 2 --to-call 3\n")
	s.Hears(in, 1400)
	s.Hears(third, 1000)
	s.Until("one call is left", func() bool { return s.Node.Calls.Count() == 1 })
	third.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
	s.over()
}
