package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence/internal/desk/sound"
	"ringfence/internal/media/codec"
	"ringfence/internal/testkit"
)

// TestPhoneSound lets a desk phone speak by the devices of a sound server: what is said into the microphone is heard at the other end of a sealed call, and what is said there comes out of the loudspeaker.
func TestPhoneSound(t *testing.T) {
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), append([]string{"phone"}, args...), &out, &errs); code != want {
			t.Errorf("%v: exit code %d, want %d: %s%s", args, code, want, out.String(), errs.String())
		}
		return out.String() + errs.String()
	}
	dir := t.TempDir()
	profile := filepath.Join(dir, "cfg.xml")
	if err := os.WriteFile(profile, []byte("<flat-profile/>"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PULSE_SERVER", "unix:"+filepath.Join(dir, "none"))
	for _, args := range [][]string{{"sound"}, {"up", "--cfg", profile, "--sound"}} {
		if got := run(7, args...); !strings.Contains(got, "no sound server answers") || !strings.Contains(got, "hint: ") {
			t.Errorf("%v: %s", args, got)
		}
	}
	server := testkit.PulseAudio(t)
	for _, e := range server.Env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	if got := run(0, "sound"); !strings.Contains(got, "KIND") || !strings.Contains(got, "microphone   yes      no     mic ") {
		t.Error(got)
	}
	var list []sound.Device
	if err := json.Unmarshal([]byte(run(0, "sound", "--json")), &list); err != nil || len(list) != 5 {
		t.Errorf("%v: %+v", err, list)
	}
	run(3, "up", "--cfg", profile, "--microphone", "nowhere")
	run(3, "up", "--cfg", profile, "--loudspeaker", "mic")
	run(2, "up", "--cfg", profile, "--microphone", "mic", "--tone", "440")

	_, sealed, _ := kamailio(t, dir, "MD5")
	line := func(user string) string {
		return "<Proxy_1_>localhost:" + sealed + "</Proxy_1_><User_ID_1_>" + user + "</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><Preferred_Codec_1_>OPUS</Preferred_Codec_1_>"
	}
	alice := runDesk(t, dir, "alice", line("alice"), "--sound", "--record", filepath.Join(dir, "alice.wav"))
	bob := runDesk(t, dir, "bob", line("bob"), "--tone", "1000", "--record", filepath.Join(dir, "bob.wav"))
	voice := make([]int16, 16000)
	codec.NewTone(codec.Signal{Hz: []float64{600}}, 16000, -13).Read(voice)
	server.Say(voice)
	alice.do(0, "dial", "bob")
	if s := alice.until("bob answers", calls(1, "up")); s.Calls[0].Verdict != "sealed" {
		t.Errorf("%+v", s.Calls)
	}
	heard := false
	for range 20 { // of half a second each
		played := server.Listen(500 * time.Millisecond)
		if h := codec.Hear(played[len(played)-320:], 16000); h.Hz > 985 && h.Hz < 1015 && h.Level > -20 {
			heard = true
			break
		}
	}
	if !heard {
		t.Error("the loudspeaker does not play what bob says")
	}
	server.Listen(time.Second) // while bob hears the microphone
	alice.do(0, "hangup")
	for _, d := range []*deskUp{alice, bob} {
		d.until("nobody is in a call", calls(0, ""))
	}
	alice.stop()
	bob.stop()
	if got := tones(t, filepath.Join(dir, "bob-1.wav"), 600, 1000); !got[600] || got[1000] {
		t.Errorf("bob heard %v", got)
	}
	if got := tones(t, filepath.Join(dir, "alice-1.wav"), 600, 1000); !got[1000] {
		t.Errorf("alice's recording has %v", got)
	}
}
