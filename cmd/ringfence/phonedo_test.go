package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence/internal/desk/feature"
	"ringfence/internal/media/codec"
)

// said is what a program printed, while it runs.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// deskUp is a desk phone that runs in a test.
type deskUp struct {
	*testing.T
	name, state string
	said        *said
	stop        func()
}

// runDesk starts a phone from the parameters of a profile, and waits until its first line is registered.
func runDesk(t *testing.T, dir, name, parameters string, flags ...string) *deskUp {
	t.Helper()
	d := startDesk(t, dir, name, parameters, flags...)
	d.until("it is registered", func(s feature.State) bool { return len(s.Lines) > 0 && s.Lines[0].Registered })
	return d
}

// startDesk starts a phone from the parameters of a profile.
func startDesk(t *testing.T, dir, name, parameters string, flags ...string) *deskUp {
	t.Helper()
	d := &deskUp{T: t, name: name, state: filepath.Join(dir, name), said: &said{}}
	file := filepath.Join(dir, name+".xml")
	if err := os.WriteFile(file, []byte("<flat-profile>"+parameters+"</flat-profile>"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, append([]string{"phone", "up", "--cfg", file, "--ca", filepath.Join(dir, "ca.pem"), "--state", d.state}, flags...), d.said, d.said)
	}()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("%s: exit code %d", name, code)
		}
	})
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", name, d.said)
		}
	})
	return d
}

// stands waits for where the phone stands, as `phone status` tells it.
func (d *deskUp) stands(what string, f func(deskStatus) bool) (s deskStatus) {
	d.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var out bytes.Buffer
	for range 400 {
		out.Reset()
		if execute(d.Context(), []string{"phone", "status", "--json", "--state", d.state}, &out, io.Discard) == 0 {
			if s = (deskStatus{}); json.Unmarshal(out.Bytes(), &s) == nil && f(s) {
				return s
			}
		}
		<-tick.C
	}
	d.Fatalf("%s: %s: it does not come about: %s", d.name, what, out.String())
	return s
}

// says waits until the phone has said something so many times.
func (d *deskUp) says(text string, times int) {
	d.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		if strings.Count(d.said.String(), text) >= times {
			return
		}
		<-tick.C
	}
	d.Fatalf("%s: nothing says %q %d times", d.name, text, times)
}

// do has the phone do something, which ends with a code.
func (d *deskUp) do(want int, args ...string) string {
	d.Helper()
	var out, errs bytes.Buffer
	if code := execute(d.Context(), append(append([]string{"phone", "do"}, args...), "--state", d.state), &out, &errs); code != want {
		d.Fatalf("%s: %v: exit code %d, want %d: %s%s", d.name, args, code, want, out.String(), errs.String())
	}
	return out.String() + errs.String()
}

// until waits for what the phone shows.
func (d *deskUp) until(what string, f func(feature.State) bool) feature.State {
	d.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var s feature.State
	for range 400 {
		var out bytes.Buffer
		if execute(d.Context(), []string{"phone", "do", "show", "--json", "--state", d.state}, &out, io.Discard) == 0 {
			s = feature.State{}
			if err := json.Unmarshal(out.Bytes(), &s); err != nil {
				d.Fatal(err)
			}
			if f(s) {
				return s
			}
		}
		<-tick.C
	}
	d.Fatalf("%s: %s: it does not come about: %+v", d.name, what, s)
	return s
}

func calls(n int, state string) func(feature.State) bool {
	return func(s feature.State) bool {
		for _, c := range s.Calls {
			if c.State != state {
				return false
			}
		}
		return len(s.Calls) == n
	}
}

// tones says which of the tones were in a tenth of a second of a WAV file, the one with most of them: by the share of its power that the sum with a complex wave of its frequency has (Goertzel). A machine that is busy
// breaks a tone now and then, so longer stretches tell less.
func tones(t *testing.T, file string, hz ...float64) map[float64]bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	sound, err := codec.ParseWAV(b)
	if err != nil {
		return nil
	}
	best := map[float64]bool{}
	for at := 0; at+sound.Rate/10 <= len(sound.Samples); at += sound.Rate / 20 {
		piece := sound.Samples[at : at+sound.Rate/10]
		power, found := 0.0, map[float64]bool{}
		for _, v := range piece {
			power += float64(v) * float64(v)
		}
		for _, f := range hz {
			var re, im float64
			for i, v := range piece {
				re += float64(v) * math.Cos(2*math.Pi*f*float64(i)/float64(sound.Rate))
				im += float64(v) * math.Sin(2*math.Pi*f*float64(i)/float64(sound.Rate))
			}
			if power > 0 && 2*(re*re+im*im)/(float64(len(piece))*power) > 0.2 {
				found[f] = true
			}
		}
		if len(found) > len(best) {
			best = found
		}
	}
	return best
}

// TestDeskPhonesAtAnotherServer has three desk phones, of which one signals over TLS, one over TCP and one over UDP, call each other by a server of another vendor, and do what desk phones do.
func TestDeskPhonesAtAnotherServer(t *testing.T) {
	dir := t.TempDir()
	port, sealed, _ := kamailio(t, dir, "MD5", "	record_route();\n", "	record_route();\n	if ($rU == \"intercom\") { $rU = \"alice\"; append_hf(\"Call-Info: <sip:localhost>;answer-after=0\\r\\n\"); }\n")
	udp, _ := freePorts(t)
	line := func(user, transport, port, more string) string {
		return "<Proxy_1_>localhost:" + port + "</Proxy_1_><User_ID_1_>" + user + "</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>" + transport + "</SIP_Transport_1_>" + more
	}
	record := func(name string) string { return filepath.Join(dir, name+".wav") }
	alice := runDesk(t, dir, "alice", line("alice", "TLS", sealed, "<Speed_Dial_2_Number>carol</Speed_Dial_2_Number><Speed_Dial_2_Name>Carol</Speed_Dial_2_Name><Preferred_Codec_1_>G722</Preferred_Codec_1_><Encryption_Method_1_>AES 128</Encryption_Method_1_>"), "--tone", "440", "--record", record("alice"), "--no-answer")
	bob := runDesk(t, dir, "bob", line("bob", "TCP", port, "<Preferred_Codec_1_>OPUS</Preferred_Codec_1_><Use_Pref_Codec_Only_1_>Yes</Use_Pref_Codec_Only_1_>"), "--tone", "620", "--record", record("bob"))
	carol := runDesk(t, dir, "carol", line("carol", "UDP", port, "<SIP_Port_1_>"+udp+"</SIP_Port_1_>"), "--tone", "880", "--record", record("carol"))
	if info, err := os.Stat(filepath.Join(alice.state, controlName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}

	// A call, hold, and a second one; then a conference: each hears the two others.
	alice.do(0, "dial", "bob")
	alice.until("bob answers", calls(1, "up"))
	alice.do(3, "resume") // nothing is held
	alice.do(0, "hold", "1")
	bob.until("bob is held", func(s feature.State) bool { return len(s.Calls) == 1 && s.Calls[0].Holds })
	alice.do(0, "speed", "2")
	s := alice.until("carol answers", calls(2, "up"))
	if !s.Calls[0].Held || s.Calls[1].Number != "carol" || s.Calls[1].Verdict != "sealed" {
		t.Errorf("%+v", s.Calls)
	}
	alice.do(4, "hangup")
	alice.do(0, "digits", "12#", "--call", "2")
	alice.do(0, "conference")
	bob.until("bob is taken back", func(s feature.State) bool { return len(s.Calls) == 1 && !s.Calls[0].Holds })
	alice.do(4, "conference", "1", "2")
	tick := time.NewTicker(2500 * time.Millisecond) // of sound
	<-tick.C
	tick.Stop()
	alice.do(0, "hangup", "2")
	if s := alice.until("the conference is over", calls(1, "up")); s.Calls[0].Conference {
		t.Errorf("%+v", s.Calls)
	}
	alice.do(0, "hangup")
	for _, d := range []*deskUp{alice, bob, carol} {
		d.until("nobody is in a call", calls(0, ""))
	}
	all := []float64{440, 620, 880}
	for name, want := range map[string]string{"alice-1": "map[620:true 880:true]", "bob-1": "map[440:true 880:true]", "carol-1": "map[440:true 620:true]"} {
		tick := time.NewTicker(50 * time.Millisecond) // the file is there a moment after the call has ended
		got := ""
		for range 100 {
			if got = fmt.Sprint(tones(t, record(name), all...)); got == want {
				break
			}
			<-tick.C
		}
		tick.Stop()
		if got != want {
			t.Errorf("%s heard %s, want %s", name, got, want)
		}
	}

	// Blind transfer: bob, whom alice called, goes on to carol; attended: alice has both, and joins them.
	alice.do(0, "dial", "bob")
	alice.until("bob answers", calls(1, "up"))
	alice.do(3, "transfer", "nobody")
	alice.until("the call goes on", calls(1, "up"))
	alice.do(0, "transfer", "carol")
	alice.until("alice is out", calls(0, ""))
	bob.until("bob speaks with carol", func(s feature.State) bool { return calls(1, "up")(s) && s.Calls[0].Number == "carol" })
	bob.do(0, "hangup")
	carol.until("carol is free", calls(0, ""))
	alice.do(0, "dial", "bob")
	alice.until("bob answers", calls(1, "up"))
	alice.do(0, "hold")
	alice.do(0, "dial", "carol")
	s = alice.until("carol answers", calls(2, "up"))
	alice.do(0, "transfer", "--call", fmt.Sprint(s.Calls[0].ID), "--to", fmt.Sprint(s.Calls[1].ID))
	alice.until("alice is out", calls(0, ""))
	bob.until("bob speaks with carol", func(s feature.State) bool { return calls(1, "up")(s) && s.Calls[0].Number == "carol" })
	carol.until("carol speaks with bob", func(s feature.State) bool { return calls(1, "up")(s) && s.Calls[0].Number == "bob" })
	carol.do(0, "hangup")
	bob.until("bob is free", calls(0, ""))

	// Calls that ring, are refused, missed, forwarded and not let through; all are in the lists.
	bob.do(0, "dial", "alice")
	alice.until("it rings", calls(1, "ringing"))
	alice.do(0, "answer")
	bob.until("alice answers", calls(1, "up"))
	bob.do(0, "hangup")
	alice.until("it is over", calls(0, ""))
	bob.do(0, "dial", "alice")
	alice.until("it rings", calls(1, "ringing"))
	alice.do(0, "hangup")
	bob.until("it is refused", calls(0, ""))
	alice.do(0, "dnd", "on")
	bob.do(0, "dial", "alice")
	bob.until("it is not let through", calls(0, ""))
	alice.do(0, "dnd", "off")
	alice.do(0, "forward", "all", "carol")
	bob.do(0, "dial", "alice")
	bob.until("carol answers", calls(1, "up"))
	carol.until("carol speaks with bob", calls(1, "up"))
	bob.do(0, "hangup")
	alice.do(0, "forward", "all", "off")
	alice.until("the call went on", calls(0, ""))
	bob.do(0, "dial", "intercom") // a page, which a phone that leaves calls ringing answers
	alice.until("the page is answered", calls(1, "up"))
	bob.do(0, "hangup")
	alice.until("it is over", calls(0, ""))
	alice.do(2, "forward", "some", "carol")
	alice.do(2, "forward", "all", "not a number")
	alice.do(3, "key", "1")
	s = alice.until("the lists are whole", func(s feature.State) bool { return len(s.Lists) >= 10 })
	kinds := []string{}
	for _, e := range s.Lists[1:5] {
		kinds = append(kinds, e.Kind+" "+e.Number+" "+e.To)
	}
	if got := strings.Join(kinds, ", "); got != "forwarded bob carol, missed bob , missed bob , received bob " {
		t.Error(got)
	}
	if text := alice.do(0, "show"); !strings.Contains(text, "speed dial 2: carol Carol") || !strings.Contains(text, "FORWARDED TO") {
		t.Error(text)
	}
	alice.stop()
	alice.do(3, "show")
}

// TestDeskGuideAtThePhone does what the guide says that one does at a phone.
func TestDeskGuideAtThePhone(t *testing.T) {
	var verbs [][]string
	for _, block := range deskGuide(t, "sh") {
		for line := range strings.Lines(block) {
			if args := strings.Fields(line); len(args) > 3 && args[1] == "phone" && args[2] == "do" {
				verbs = append(verbs, args[1:])
			}
		}
	}
	if len(verbs) != 5 {
		t.Fatalf("the guide does %d things: %q", len(verbs), verbs)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	_, sealed, _ := kamailio(t, dir, "MD5")
	var desk *deskUp
	for _, x := range [][2]string{{"other", "102"}, {"third", "103"}, {"desk", "alice"}} { // the guide's phone keeps its state in desk
		flags := []string{"--tone", "440"}
		if x[0] == "desk" {
			flags = append(flags, "--no-answer")
		}
		desk = runDesk(t, dir, x[0], "<Proxy_1_>localhost:"+sealed+"</Proxy_1_><User_ID_1_>"+x[1]+"</User_ID_1_><Password_1_>secret</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>", flags...)
	}
	n := 0
	for _, args := range verbs {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, &out, &errs); code != 0 {
			t.Fatalf("%q: exit code %d: %s%s", args, code, out.String(), errs.String())
		}
		if args[2] == "dial" {
			n++
			desk.until("the call is up", calls(n, "up"))
		}
	}
	if s := desk.until("it is a conference", calls(2, "up")); !s.Calls[0].Conference || !s.Calls[1].Conference || s.Calls[0].Held {
		t.Errorf("%+v", s.Calls)
	}
}
