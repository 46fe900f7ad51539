package feature

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit/onehost"
)

// with returns a set of parameters, as a file gives them.
func with(t *testing.T, text string) *flatprofile.Set {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return set
}

func TestSetting(t *testing.T) {
	s := Of(with(t, ""))
	if s.Forward != (Forwarding{After: 20 * time.Second}) || s.DoNotDisturb || !s.Waiting || s.NoAnonymous || s.Hidden || s.Appearances != 2 || !s.Conference || !s.Blind || !s.Attended || len(s.Speed)+len(s.Keys)+len(s.Wrong) != 0 || len(s.Mailbox) != 16 || !s.KeepMissed[1] || !s.ForwardAllowed[All] {
		t.Errorf("%+v", s)
	}
	s = Of(with(t, `<Cfwd_All_Dest>201</Cfwd_All_Dest><Cfwd_Busy_Dest>202</Cfwd_Busy_Dest><Cfwd_No_Ans_Dest>203</Cfwd_No_Ans_Dest><Cfwd_No_Ans_Delay>7</Cfwd_No_Ans_Delay><Cfwd_Busy_Serv>No</Cfwd_Busy_Serv>
<DND_Setting>Yes</DND_Setting><CW_Setting>No</CW_Setting><Block_ANC_Setting>Yes</Block_ANC_Setting><Block_CID_Setting>Yes</Block_CID_Setting><Call_Appearances_Per_Line>3</Call_Appearances_Per_Line>
<Conference_Serv>No</Conference_Serv><Blind_Transfer_Serv>No</Blind_Transfer_Serv><Attn_Transfer_Serv>No</Attn_Transfer_Serv><Speed_Dial_9_Number>103</Speed_Dial_9_Number><Voice_Mail_Enable_2_>No</Voice_Mail_Enable_2_>
<Mailbox_ID_1_>box</Mailbox_ID_1_><Voice_Mail_Server_1_>vm.example.com</Voice_Mail_Server_1_><Log_Missed_Calls_for_EXT_1>No</Log_Missed_Calls_for_EXT_1>
<Extended_Function_2_>fnc=blf+sd+cp;sub=102@example.com;nme=Bob</Extended_Function_2_><Extended_Function_3_>fnc=park;sub=1</Extended_Function_3_>`))
	if s.Forward != (Forwarding{All: "201", NoAnswer: "203", After: 7 * time.Second}) || !s.DoNotDisturb || s.Waiting || !s.NoAnonymous || !s.Hidden || s.Appearances != 3 || s.Conference || s.Blind || s.Attended || s.Speed[9].Number != "103" ||
		s.Keys[2] != (Function{Lamp: true, Dials: true, Target: "102@example.com", Name: "Bob"}) || len(s.Keys) != 1 || len(s.Wrong) != 1 || !strings.Contains(s.Wrong[0], "Extended_Function_3_ (cfg.xml:5)") || s.Mailbox[1] != "box@vm.example.com" || len(s.Mailbox) != 15 || s.KeepMissed[1] || s.ForwardAllowed[Busy] {
		t.Errorf("%+v", s)
	}
	if s := Of(with(t, "<Cfwd_Setting>No</Cfwd_Setting><Cfwd_All_Dest>201</Cfwd_All_Dest>")); s.Forward.All != "" || s.ForwardAllowed[All] {
		t.Errorf("%+v", s)
	}
}

func TestFunctions(t *testing.T) {
	for text, want := range map[string]Function{"": {}, "fnc=sd;ext=103": {Dials: true, Target: "103"}, " fnc = BLF ; sub = 102@a ; usr=x": {Lamp: true, Target: "102@a"}, "fnc=sd;sub=1;ext=2": {Dials: true, Target: "1"}} {
		if f, err := ParseFunction(text); err != nil || f != want {
			t.Errorf("%q: %+v %v", text, f, err)
		}
	}
	for _, text := range []string{"fnc=sd", "fnc=park;sub=1", "sub=1", "fnc", "fnc=sd;ext=a b", "fnc=sd;ext=<x>", "fnc=sd;ext=" + strings.Repeat("1", 257), strings.Repeat(";", 1025)} {
		if f, err := ParseFunction(text); ringfence.KindOf(err) != ringfence.KindInvalid || f != (Function{}) {
			t.Errorf("%.40q: %+v %v", text, f, err)
		}
	}
}

func FuzzParseFunction(f *testing.F) {
	for _, s := range []string{"fnc=blf+sd+cp;sub=102@pbx.example.com;nme=Bob", "fnc=sd;ext=103", ";;=;fnc=", "fnc=sd;ext=\r\nX: y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if x, err := ParseFunction(s); err == nil && strings.ContainsAny(x.Target, "\r\n<> ") {
			t.Errorf("%q: %+v", s, x)
		}
	})
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{`{"do":"dial","number":"102"}`, `{"do":"hold","call":1}`, `{"do":"x"}{}`, `{"do":1}`, `[]`, ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCommand(b); err == nil && (c.Do == "" || len(b) > MaxCommand) {
			t.Errorf("%q: %+v", b, c)
		}
	})
}

func TestCommands(t *testing.T) {
	for _, text := range []string{"", "{}", `{"do":"dial","loudly":true}`, `{"do":"dial"} {"do":"dial"}`, `{"do":"` + strings.Repeat("x", MaxCommand) + `"}`} {
		if c, err := ParseCommand([]byte(text)); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%.40q: %+v %v", text, c, err)
		}
	}
	d := New(Config{Setting: Of(with(t, "<Cfwd_Busy_Serv>No</Cfwd_Busy_Serv><Conference_Serv>No</Conference_Serv>")), Sound: func() (Sound, error) { return Sound{}, nil }})
	for _, x := range []struct {
		c    Command
		kind ringfence.Kind
	}{
		{Command{Do: "dance"}, ringfence.KindInvalid}, {Command{Do: DoDial, Number: "102"}, ringfence.KindUnavailable}, {Command{Do: DoDial, Line: 3, Number: "102"}, ringfence.KindNotFound}, {Command{Do: DoSpeed, Key: 4}, ringfence.KindNotFound},
		{Command{Do: DoKey, Key: 4}, ringfence.KindNotFound}, {Command{Do: DoHold}, ringfence.KindNotFound}, {Command{Do: DoHold, Call: 7}, ringfence.KindNotFound}, {Command{Do: DoSplit}, ringfence.KindConflict},
		{Command{Do: DoConference}, ringfence.KindDenied}, {Command{Do: DoForward, Kind: Busy, Number: "1"}, ringfence.KindDenied}, {Command{Do: DoForward, Kind: "some", Number: "1"}, ringfence.KindInvalid},
		{Command{Do: DoForward, Kind: All, Number: "1\r\nX: y"}, ringfence.KindInvalid}, {Command{Do: DoNotDisturb, Line: 5}, ringfence.KindNotFound},
	} {
		if r, err := d.Do(t.Context(), t.Context(), x.c); ringfence.KindOf(err) != x.kind || err == nil {
			t.Errorf("%+v: %+v %v", x.c, r, err)
		}
	}
}

// power is the share of a sound's power that a tone has (Goertzel).
func power(sound []int16, rate int, hz float64) float64 {
	var re, im, all float64
	for i, v := range sound {
		re += float64(v) * math.Cos(2*math.Pi*hz*float64(i)/float64(rate))
		im += float64(v) * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))
		all += float64(v) * float64(v)
	}
	if all == 0 {
		return 0
	}
	return 2 * (re*re + im*im) / (float64(len(sound)) * all)
}

// TestMixer mixes a call of 8 kHz, one of 16 kHz and this phone: each hears the two others and not itself.
func TestMixer(t *testing.T) {
	here := phone.NewRecorder(10)
	m := newMixer(2, phone.Tone(440), here)
	rates, hz := []int{8000, 16000}, []float64{620, 880}
	heard := make([][]int16, 2)
	says := []*phone.ToneSource{phone.Tone(hz[0]), phone.Tone(hz[1])}
	for range 100 {
		for i, p := range m.ports {
			frame := make([]int16, rates[i]/50)
			says[i].Read(frame, rates[i])
			p.Write(frame, rates[i])
			p.Read(frame, rates[i])
			heard[i] = append(heard[i], frame...)
		}
	}
	for i, want := range [][]float64{{440, 880}, {440, 620}} {
		for _, f := range []float64{440, 620, 880} {
			share, expected := power(heard[i][len(heard[i])/2:], rates[i], f), f == want[0] || f == want[1]
			if (share > 0.35) != expected || !expected && share > 0.01 {
				t.Errorf("side %d hears %.3f of %v Hz", i, share, f)
			}
		}
	}
	sound := here.Sound()
	if a, b, own := power(sound.Samples[16000:], mixRate, 620), power(sound.Samples[16000:], mixRate, 880), power(sound.Samples[16000:], mixRate, 440); a < 0.35 || b < 0.35 || own > 0.01 {
		t.Errorf("this phone hears %.3f %.3f %.3f", a, b, own)
	}
	loud := make([]int16, mixFrame)
	for i := range loud {
		loud[i] = 32767
	}
	m = newMixer(3, nil, nil)
	for range 2 * maxQueue { // a side that nobody listens to does not grow
		m.ports[0].Write(loud, mixRate)
		m.ports[1].Write(loud, mixRate)
	}
	m.ports[2].Read(loud, mixRate)
	if loud[0] != 32767 || loud[mixFrame-1] != 32767 {
		t.Errorf("the sum of two loud sides is %d", loud[0])
	}
}

// runs makes a desk of a phone of a user, at the node of a site.
func runs(s *onehost.Site, user ringfence.UserID, parameters string, answers bool) *Desk {
	d := New(Config{Setting: Of(with(s.T, parameters)), Answers: answers, Sound: func() (Sound, error) { return Sound{Source: phone.Tone(440)}, nil }})
	p := s.Phone(user, func(c *phone.Config) { c.Auto, c.Screen, c.Audio = d.Auto(1), d.Screen(1), d.Audio() })
	d.Attach(1, string(user), p)
	return d
}

func wait(s *onehost.Site, d *Desk, what string, f func(State) bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Ctx, 20*time.Second)
	defer cancel()
	if err := d.Wait(ctx, f); err != nil {
		s.Fatalf("%s: %v: %+v", what, err, d.State())
	}
}

// TestLampsAndForwarding has desks at a node: a busy lamp follows the calls of somebody else, a call that nobody answers goes on, callers who hide are refused, and a line that is busy says so.
func TestLampsAndForwarding(t *testing.T) {
	s := onehost.Open(t, onehost.Options{})
	for i, user := range []ringfence.UserID{"alice", "bob", "carol"} {
		s.User(user, ringfence.Number(fmt.Sprint(101+i)))
	}
	alice := runs(s, "alice", "<Extended_Function_2_>fnc=blf+sd;sub=102;nme=Bob</Extended_Function_2_>", false)
	bob := runs(s, "bob", "<Cfwd_No_Ans_Dest>103</Cfwd_No_Ans_Dest><Cfwd_No_Ans_Delay>1</Cfwd_No_Ans_Delay><CW_Setting>No</CW_Setting>", false)
	carol := runs(s, "carol", "<Block_CID_Setting>Yes</Block_CID_Setting>", true)
	alice.Watch(s.Ctx)
	lamp := func(state string) func(State) bool {
		return func(x State) bool { return len(x.Lamps) == 1 && x.Lamps[0].State == state }
	}
	wait(s, alice, "the lamp is out", lamp("idle"))
	wait(s, alice, "messages are told of, or why not", func(x State) bool { return x.Lines[0].Messages != nil })
	do := func(d *Desk, c Command) Result {
		t.Helper()
		r, err := d.Do(s.Ctx, s.Ctx, c)
		s.OK(err)
		return r
	}
	up := func(x State) bool { return len(x.Calls) == 1 && x.Calls[0].State == "up" }
	none := func(x State) bool { return len(x.Calls) == 0 }

	do(carol, Command{Do: DoDial, Number: "102"})
	wait(s, bob, "it rings", func(x State) bool { return len(x.Calls) == 1 && x.Calls[0].State == "ringing" })
	wait(s, alice, "the lamp flashes", lamp("ringing"))
	do(bob, Command{Do: DoAnswer})
	wait(s, bob, "it is up", up)
	wait(s, alice, "the lamp is lit", lamp("busy"))
	do(alice, Command{Do: DoKey, Key: 2})
	wait(s, alice, "bob is busy", none)
	do(carol, Command{Do: DoHangup})
	wait(s, bob, "it is over", none)
	wait(s, alice, "the lamp is out again", lamp("idle"))

	do(alice, Command{Do: DoDial, Number: "102"}) // bob does not answer, and names carol
	wait(s, bob, "it rings", func(x State) bool { return len(x.Calls) == 1 && x.Calls[0].State == "ringing" })
	wait(s, bob, "the lists tell", func(x State) bool {
		return len(x.Lists) == 3 && x.Lists[0].Kind == "forwarded" && x.Lists[0].To == "103" && x.Lists[1].Kind == "received" && x.Lists[2].Kind == "missed"
	})
	wait(s, alice, "carol has the call", up)
	wait(s, carol, "she knows whose it is", func(x State) bool { return up(x) && x.Calls[0].Number == "101" })
	do(alice, Command{Do: DoHangup})
	wait(s, carol, "it is over", none)

	strict := New(Config{Setting: Of(with(t, "<Block_ANC_Setting>Yes</Block_ANC_Setting>"))})
	strict.lines[1] = &line{number: 1}
	if status, _ := strict.Screen(1)(phone.Peer{Number: "anonymous", Address: "sip:anonymous@anonymous.invalid"}); status != 433 {
		t.Errorf("who hides got %d", status)
	}
	if status, _ := strict.Screen(1)(phone.Peer{Number: "103"}); status != 0 {
		t.Errorf("who does not hide got %d", status)
	}
}
