package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/media/codec"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
)

// baresip is a running baresip with one account.
type baresip struct {
	*program
	s   *site
	dir string
}

// baresip starts baresip with the configuration of the guide; account is the block of the accounts file. It says a tone.
func (s *site) baresip(device, user, account, tone string) *baresip {
	s.Helper()
	path := testkit.Need(s.T, "baresip", "baresip-core")
	dir := s.path("baresip-" + device)
	s.OK(os.MkdirAll(dir, 0o700))
	conf := s.guide("baresip.md", "config", "/home/alice/ringfence/anchors.pem", s.path("ca.pem"))
	lines := []string{"sip_listen 127.0.0.1:0", "ausrc_srate 48000", "ausrc_channels 2", "auplay_srate 8000", "auplay_channels 1",
		"audio_source ausine," + tone, "audio_player aubridge,ear", "snd_path " + dir, "rtp_ports 40000-49999"}
	modules := []string{"ausine.so", "aubridge.so", "sndfile.so"}
	if account == "account-certificate" {
		lines = append(lines, s.guide("baresip.md", "config-certificate", "/home/alice/ringfence/alice-desk.pem", s.path(device+"/"+device+".pem")))
	}
	for _, m := range modules {
		lines = append(lines, "module "+m)
	}
	// The machine of a test has no sound card: the tone and the recording take its place.
	for line := range strings.Lines(conf) {
		if !strings.HasPrefix(line, "audio_") && !strings.Contains(line, "alsa.so") {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	s.file("baresip-"+device+"/config", []byte(strings.Join(lines, "\n")+"\n"))
	acc := s.guide("baresip.md", account, "ringfence.internal:5061", "127.0.0.1:"+s.port(), "alice@", user+"@")
	acc = strings.ReplaceAll(acc, "alice-desk", device)
	s.file("baresip-"+device+"/accounts", []byte(acc))
	s.file("baresip-"+device+"/contacts", nil)
	p := start(s.T, dir, path, "-f", dir, "-s")
	return &baresip{program: p, s: s, dir: dir}
}

// heard returns the recording of what baresip heard.
func (b *baresip) heard() string {
	files, _ := filepath.Glob(filepath.Join(b.dir, "dump-*-dec.wav"))
	if len(files) == 0 {
		return filepath.Join(b.dir, "none")
	}
	return files[len(files)-1]
}

// talk lets baresip call a headless phone, each saying a tone, and checks that both hear it.
func (b *baresip) talk(to *phone.Phone, number string, says, hears float64) *phone.Call {
	s := b.s
	s.Helper()
	b.say("/dial " + number + "\n")
	in := s.Incoming(to)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(hears)}))
	s.Hears(in, says)
	b.hears(hears)
	return in
}

// hears waits until the newest recording of baresip ends with a tone.
func (b *baresip) hears(hz float64) {
	b.s.Helper()
	b.s.Until(fmt.Sprintf("baresip hears %.0f Hz", hz), func() bool {
		f, err := os.ReadFile(b.heard())
		return err == nil && len(f) > 44 && near(ending(f), hz)
	})
}

func TestBaresipWithCertificate(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.certificate("alice", "alice-desk")
	b := s.baresip("alice-desk", "alice", "account-certificate", "600")
	bob := s.Phone("bob")
	if reg := s.registered("alice-desk"); reg.Proof.Auth != ringfence.AuthCertificate || reg.Proof.TLS.Version != "TLS 1.3" {
		t.Errorf("registered with %+v", reg.Proof)
	}

	// It calls, and hangs up.
	in := b.talk(bob, "102", 600, 1000)
	s.sealed("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")

	// Keys pressed, both ways.
	b.say("4")
	s.digits(in, "4")
	b.say("#")
	s.digits(in, "#")
	s.OK(in.SendDigits("7"))
	b.wait(s.Ctx, `received event: '7'`)

	// Hold: the far end hears music instead of the tone, and the tone again afterwards.
	b.say("x")
	b.wait(s.Ctx, `a=sendonly`)
	s.Until("music on hold", func() bool { a := in.Audio(); return a.HeardHz > 0 && !near(a.HeardHz, 600) })
	b.say("X")
	b.wait(s.Ctx, `a=sendrecv`)
	s.Hears(in, 600)
	b.hears(1000)
	// Hold by the far end.
	s.OK(in.Hold(s.Ctx))
	s.OK(in.Resume(s.Ctx))
	s.Hears(in, 600)
	b.hears(1000)

	b.say("b")
	s.OK(in.WaitEnded(s.Ctx))
	s.over()

	// It is called, and the far end hangs up.
	out, err := bob.Call(s.Ctx, "101", phone.CallOptions{Audio: phone.Tone(800)})
	s.OK(err)
	b.wait(s.Ctx, `Incoming call from: Bob`)
	b.say("a")
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(out, 600)
	b.hears(800)
	s.sealed("AEAD_AES_256_GCM", "AEAD_AES_256_GCM") // what we offer, it takes; what it offers is weaker
	out.Hangup()
	b.wait(s.Ctx, `session closed`)
	s.over()
}

func TestBaresipWithDigest(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.Password("alice", "alice-desk", "SECRET", ringfence.AuthDigestMD5)
	b := s.baresip("alice-desk", "alice", "account-digest", "600")
	bob := s.Phone("bob", func(c *phone.Config) { c.Codecs = []codec.Name{codec.Opus} })
	if reg := s.registered("alice-desk"); reg.Proof.Auth != ringfence.AuthDigestMD5 {
		t.Errorf("registered with %+v", reg.Proof)
	}
	in := b.talk(bob, "102", 600, 1000)
	view := s.sealed("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")
	if view.Legs[0].Auth != ringfence.AuthDigestMD5 || view.Legs[1].Auth != ringfence.AuthCertificate {
		t.Errorf("proof %s and %s", view.Legs[0].Auth, view.Legs[1].Auth)
	}
	if view.Legs[0].Codec != "opus" || view.Legs[1].Codec != "opus" {
		t.Errorf("they speak %s and %s", view.Legs[0].Codec, view.Legs[1].Codec)
	}
	// Keys go on the clock of Opus.
	b.say("4")
	s.digits(in, "4")
	s.OK(in.SendDigits("7"))
	b.wait(s.Ctx, `received event: '7'`)
	// Music on hold, which is encoded once for all.
	b.say("x")
	s.Until("music on hold", func() bool { a := in.Audio(); return a.HeardHz > 0 && !near(a.HeardHz, 600) })
	b.say("X")
	s.Hears(in, 600)
	in.Hangup()
	b.wait(s.Ctx, `session closed`)
	s.over()
}

// A profile without MD5 keeps a phone out that knows nothing better: this baresip does not know SHA-256.
func TestBaresipNeedsMD5InItsProfile(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.Password("alice", "alice-desk", "SECRET", ringfence.AuthDigestSHA256)
	b := s.baresip("alice-desk", "alice", "account-digest", "600")
	b.wait(s.Ctx, `401 Unauthorized`)
	s.Until("it is counted", func() bool { return s.Node.Registrar.Stats().Challenged > 0 })
	if all := s.Node.Registrar.All(); len(all) != 0 {
		t.Errorf("registered: %+v", all)
	}
}

func TestBaresipTransfers(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("carol", "103")
	s.certificate("alice", "alice-desk")
	b := s.baresip("alice-desk", "alice", "account-certificate", "600")
	bob, carol := s.Phone("bob"), s.Phone("carol")
	s.registered("alice-desk")

	// Blind: alice, who called bob, sends him to carol.
	in := b.talk(bob, "102", 600, 1000)
	b.say("/transfer 103\n")
	third := s.Incoming(carol)
	s.OK(third.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1400)}))
	s.Hears(in, 1400)
	s.Hears(third, 1000)
	b.wait(s.Ctx, `(?m)^BYE sip:`)
	in.Hangup()
	s.OK(third.WaitEnded(s.Ctx))
	s.over()

	// Attended: she calls carol while bob is on hold, then connects them. This baresip has no command for it, but sends what it
	// is told to: the dialog that is to be replaced is read from its own trace.
	in = b.talk(bob, "102", 600, 1000)
	b.say("x")
	b.wait(s.Ctx, `a=sendonly`)
	b.say("/dial 103\n")
	m := b.wait(s.Ctx, `(?s)INVITE sip:103@.*?From: <[^>]*>;tag=(\S+).*?Call-ID: (\S+)`)
	third = s.Incoming(carol)
	s.OK(third.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1400)}))
	ours := b.wait(s.Ctx, `(?s)SIP/2\.0 200 OK.*?To: <sip:103[^>]*>;tag=(\S+)`)
	s.Hears(third, 600)
	b.say(fmt.Sprintf("/line 1\n/transfer <sip:103@ringfence.internal?Replaces=%s%%3Bto-tag%%3D%s%%3Bfrom-tag%%3D%s>\n", m[2], ours[1], m[1]))
	s.Hears(in, 1400)
	s.Hears(third, 1000)
	s.Until("one call is left", func() bool { return s.Node.Calls.Count() == 1 })
	third.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
	s.over()
}

// A phone of somebody else hears the recording of a number, and before a refusal the announcement that says why, both sealed.
func TestBaresipHearsRecordings(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) {
		c.Plan.Recordings = []dialplan.Recording{{Number: "190", File: onehost.SoundFile(t, 700, 8000, 2), Times: 10}}
		c.Calls.Announcements.Unknown = onehost.SoundFile(t, 950, 8000, 2)
	})
	s.User("alice", "101")
	s.certificate("alice", "alice-desk")
	b := s.baresip("alice-desk", "alice", "account-certificate", "600")
	s.registered("alice-desk")
	b.say("/dial 190\n")
	b.hears(700)
	v := s.Node.Calls.List()
	if len(v) != 1 || v[0].Verdict != ringfence.Sealed || v[0].Legs[0].Media == nil || v[0].Legs[0].Media.Suite == "" {
		t.Errorf("the call: %+v", v)
	}
	b.say("b")
	s.over()
	b.say("/dial 999\n")
	b.hears(950)
	b.wait(s.Ctx, `404 Not Found`)
	s.over()
}
