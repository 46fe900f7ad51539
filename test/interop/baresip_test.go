package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/service/phone"
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
	path := need(s.T, "baresip", "baresip-core")
	dir := s.path("baresip-" + device)
	s.ok(os.MkdirAll(dir, 0o700))
	conf := s.guide("baresip.md", "config", "/home/alice/.baresip/ca.pem", s.path("ca.pem"))
	lines := []string{"sip_listen 127.0.0.1:0", "ausrc_srate 48000", "ausrc_channels 2", "auplay_srate 8000", "auplay_channels 1",
		"audio_source ausine," + tone, "audio_player aubridge,ear", "snd_path " + dir, "rtp_ports 40000-49999"}
	modules := []string{"ausine.so", "aubridge.so", "sndfile.so"}
	if account == "account-certificate" {
		lines = append(lines, s.guide("baresip.md", "config-certificate", "/home/alice/.baresip/alice-desk.pem", s.path(device+".pem")))
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
	in := s.incoming(to)
	s.ok(in.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(hears)}))
	s.hears(in, says)
	b.hears(hears)
	return in
}

// hears waits until the newest recording of baresip ends with a tone.
func (b *baresip) hears(hz float64) {
	b.s.Helper()
	b.s.until(fmt.Sprintf("baresip hears %.0f Hz", hz), func() bool {
		f, err := os.ReadFile(b.heard())
		return err == nil && len(f) > 44 && near(ending(f), hz)
	})
}

func TestBaresipWithCertificate(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", "101")
	s.user("bob", "102")
	s.certificate("alice", "alice-desk")
	b := s.baresip("alice-desk", "alice", "account-certificate", "600")
	bob := s.phone("bob")
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
	s.ok(in.SendDigits("7"))
	b.wait(s.ctx, `received event: '7'`)

	// Hold: the far end hears music instead of the tone, and the tone again afterwards.
	b.say("x")
	b.wait(s.ctx, `a=sendonly`)
	s.until("music on hold", func() bool { a := in.Audio(); t.Logf("%+v", a); return a.HeardHz > 0 && !near(a.HeardHz, 600) })
	b.say("X")
	b.wait(s.ctx, `a=sendrecv`)
	s.hears(in, 600)
	b.hears(1000)
	// Hold by the far end.
	s.ok(in.Hold(s.ctx))
	s.ok(in.Resume(s.ctx))
	s.hears(in, 600)
	b.hears(1000)

	b.say("b")
	s.ok(in.WaitEnded(s.ctx))
	s.over()

	// It is called, and the far end hangs up.
	out, err := bob.Call(s.ctx, "101", phone.CallOptions{Audio: phone.Tone(800)})
	s.ok(err)
	b.wait(s.ctx, `Incoming call from: Bob`)
	b.say("a")
	s.ok(out.WaitAnswered(s.ctx))
	s.hears(out, 600)
	b.hears(800)
	s.sealed("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_80")
	out.Hangup()
	b.wait(s.ctx, `session closed`)
	s.over()
}
