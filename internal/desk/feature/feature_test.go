package feature

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/linekey"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit"
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
<Extended_Function_2_>fnc=blf+sd+cp;sub=102@example.com;nme=Bob</Extended_Function_2_><Extended_Function_3_>fnc=dance;sub=1</Extended_Function_3_>`))
	if s.Forward != (Forwarding{All: "201", NoAnswer: "203", After: 7 * time.Second}) || !s.DoNotDisturb || s.Waiting || !s.NoAnonymous || !s.Hidden || s.Appearances != 3 || s.Conference || s.Blind || s.Attended || s.Speed[9].Number != "103" ||
		s.Keys[2] != (linekey.Function{Lamp: true, Dials: true, PicksUp: true, Target: "102@example.com", Name: "Bob"}) || len(s.Keys) != 1 || len(s.Wrong) != 1 || !strings.Contains(s.Wrong[0], "Extended_Function_3_ (cfg.xml:5)") || s.Mailbox[1] != "box@vm.example.com" || len(s.Mailbox) != 15 || s.KeepMissed[1] || s.ForwardAllowed[Busy] {
		t.Errorf("%+v", s)
	}
	s = Of(with(t, `<Proxy_1_>pbx.example.com:5061</Proxy_1_><User_ID_1_>101</User_ID_1_><Proxy_2_>[2001:db8::1]</Proxy_2_><User_ID_2_>201</User_ID_2_><BLF_List_URI>lamps@$PROXY</BLF_List_URI><BLF_List_Feature_Options>prk</BLF_List_Feature_Options>
<Use_Line_Keys_For_BLF_List>Yes</Use_Line_Keys_For_BLF_List><Number_of_Units>2</Number_of_Units><Extended_Function_3_>fnc=blf;sub=$USER@$PROXY;vid=2</Extended_Function_3_><Call_Park_Code>*70</Call_Park_Code><Call_Pick_Up_Serv>No</Call_Pick_Up_Serv>`))
	if s.List != "lamps@pbx.example.com" || s.ListFunction != (linekey.Function{Parks: true}) || len(s.ListKeys) != 13+2*UnitKeys || s.ListKeys[0] != 4 || s.ListKeys[13] != 101 || s.Keys[3].Target != "201@[2001:db8::1]" || s.Codes != (Codes{PickUpGroup: "*98", Park: "*70", Retrieve: "*88"}) {
		t.Errorf("%+v", s)
	}
	if s := Of(with(t, "<Cfwd_Setting>No</Cfwd_Setting><Cfwd_All_Dest>201</Cfwd_All_Dest>")); s.Forward.All != "" || s.ForwardAllowed[All] {
		t.Errorf("%+v", s)
	}
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
	d := New(Config{Setting: Of(with(t, "<Cfwd_Busy_Serv>No</Cfwd_Busy_Serv><Conference_Serv>No</Conference_Serv><Call_Pick_Up_Serv>No</Call_Pick_Up_Serv>")), Sound: func() (Sound, error) { return Sound{}, nil }})
	for _, x := range []struct {
		c    Command
		kind ringfence.Kind
	}{
		{Command{Do: "dance"}, ringfence.KindInvalid}, {Command{Do: DoDial, Number: "102"}, ringfence.KindUnavailable}, {Command{Do: DoDial, Line: 3, Number: "102"}, ringfence.KindNotFound}, {Command{Do: DoSpeed, Key: 4}, ringfence.KindNotFound},
		{Command{Do: DoKey, Key: 4}, ringfence.KindNotFound}, {Command{Do: DoKey}, ringfence.KindNotFound},
		{Command{Do: DoPark, Number: "701"}, ringfence.KindNotFound}, {Command{Do: DoRetrieve}, ringfence.KindInvalid}, {Command{Do: DoRetrieve, Number: "701"}, ringfence.KindUnavailable}, {Command{Do: DoPickUp, Number: "102"}, ringfence.KindDenied}, {Command{Do: DoPickUp}, ringfence.KindUnavailable}, {Command{Do: DoHold}, ringfence.KindNotFound}, {Command{Do: DoHold, Call: 7}, ringfence.KindNotFound}, {Command{Do: DoSplit}, ringfence.KindConflict},
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
	s.User("dave", "104")
	alice := runs(s, "alice", "<Extended_Function_2_>fnc=blf+sd;sub=102;nme=Bob</Extended_Function_2_><Extended_Function_3_>fnc=prk;sub=705</Extended_Function_3_><Extended_Function_4_>fnc=blf+sd+cp;sub=104;nme=Dave</Extended_Function_4_><Extended_Function_5_>fnc=mwi;sub=101</Extended_Function_5_>"+
		"<Attendant_Console_Call_Pickup_Code>*8</Attendant_Console_Call_Pickup_Code><Call_Park_Code>*70</Call_Park_Code><Call_Unpark_Code>*71</Call_Unpark_Code>", false)
	bob := runs(s, "bob", "<Cfwd_No_Ans_Dest>103</Cfwd_No_Ans_Dest><Cfwd_No_Ans_Delay>1</Cfwd_No_Ans_Delay><CW_Setting>No</CW_Setting>", false)
	carol := runs(s, "carol", "<Block_CID_Setting>Yes</Block_CID_Setting>", true)
	alice.Watch(s.Ctx)
	lamp := func(state string) func(State) bool {
		return func(x State) bool { return len(x.Lamps) == 4 && x.Lamps[0].State == state }
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

	// Keys: what rings at dave is taken by alice, who parks it where dave takes it back.
	dave := runs(s, "dave", "<Call_Park_Code>*70</Call_Park_Code><Call_Unpark_Code>*71</Call_Unpark_Code>", false)
	nth := func(i int, state string) func(State) bool {
		return func(x State) bool { return x.Lamps[i].State == state }
	}
	ringing := func(x State) bool { return len(x.Calls) == 1 && x.Calls[0].State == "ringing" }
	wait(s, alice, "no messages wait", nth(3, "idle"))
	wait(s, alice, "nobody is parked", nth(1, "idle"))
	if _, err := alice.Do(s.Ctx, s.Ctx, Command{Do: DoKey, Key: 3}); ringfence.KindOf(err) != ringfence.KindConflict {
		t.Errorf("nobody is parked: %v", err)
	}
	do(carol, Command{Do: DoDial, Number: "104"})
	wait(s, dave, "it rings", ringing)
	wait(s, alice, "dave's lamp flashes", nth(2, "ringing"))
	if r := do(alice, Command{Do: DoKey, Key: 4}); r.Text != "picking up: *8104" {
		t.Error(r.Text)
	}
	wait(s, alice, "alice has the call", up)
	wait(s, dave, "it rings no more", none)
	if r := do(alice, Command{Do: DoKey, Key: 3}); r.Text != "parked by *70705" {
		t.Error(r.Text)
	}
	wait(s, alice, "it is parked", func(x State) bool { return none(x) && nth(1, "parked")(x) })
	wait(s, carol, "carol waits", up)
	do(dave, Command{Do: DoRetrieve, Number: "705"})
	wait(s, dave, "dave has the call", up)
	wait(s, alice, "nobody is parked any more", nth(1, "idle"))
	do(dave, Command{Do: DoPark}) // the node chooses
	wait(s, dave, "it is parked again", none)
	do(alice, Command{Do: DoRetrieve, Number: "701"})
	wait(s, alice, "alice has the call", up)
	if _, err := alice.Do(s.Ctx, s.Ctx, Command{Do: DoPark, Number: "800"}); ringfence.KindOf(err) == ringfence.KindInternal || err == nil {
		t.Errorf("parked nowhere: %v", err)
	}
	wait(s, alice, "the call goes on", up)
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

// TestGroupLamps has a desk follow all members of a hunt group by one subscription, which somebody else's reader of mail takes apart as well.
func TestGroupLamps(t *testing.T) {
	python := testkit.Need(t, "/usr/bin/python3", "python3")
	s := onehost.Open(t, onehost.Options{Change: func(c *config.Config) {
		c.Plan.Groups = []dialplan.Group{{Number: "500", Name: "Sales", Strategy: dialplan.RingAll, Members: []ringfence.UserID{"bob", "carol"}}}
	}})
	for i, user := range []ringfence.UserID{"alice", "bob", "carol"} {
		s.User(user, ringfence.Number(fmt.Sprint(101+i)))
	}
	alice := runs(s, "alice", "<BLF_List_URI>500</BLF_List_URI><Number_of_Units>1</Number_of_Units><Attendant_Console_Call_Pickup_Code>*8</Attendant_Console_Call_Pickup_Code>", false)
	bob, carol := runs(s, "bob", "", false), runs(s, "carol", "", false)
	alice.Watch(s.Ctx)
	lamps := func(bob, carol string) func(State) bool {
		return func(x State) bool {
			return len(x.Lamps) == 2 && x.Lamps[0].Key == 101 && x.Lamps[0].Name == "bob" && x.Lamps[0].State == bob && x.Lamps[1].State == carol
		}
	}
	do := func(d *Desk, c Command) {
		t.Helper()
		_, err := d.Do(s.Ctx, s.Ctx, c)
		s.OK(err)
	}
	wait(s, alice, "the list is there", lamps("idle", "idle"))
	do(bob, Command{Do: DoDial, Number: "103"})
	wait(s, carol, "it rings", func(x State) bool { return len(x.Calls) == 1 })
	wait(s, alice, "both lamps flash", lamps("ringing", "ringing"))
	do(alice, Command{Do: DoKey, Key: 102}) // what rings at carol; bob calls himself
	wait(s, alice, "alice has the call", func(x State) bool { return len(x.Calls) == 1 && x.Calls[0].State == "up" && lamps("busy", "idle")(x) })
	do(alice, Command{Do: DoHangup})
	wait(s, alice, "all lamps are out", lamps("idle", "idle"))

	s.User("dave", "104")
	p := s.Phone("dave")
	if _, err := p.Subscribe(s.Ctx, "dialog", "500", dialogType); err == nil || !strings.Contains(err.Error(), "421") {
		t.Errorf("a phone that knows no lists: %v", err)
	}
	sub, err := p.Subscribe(s.Ctx, "dialog", "500", "multipart/related, "+phone.ListType+", "+dialogType)
	s.OK(err)
	n := <-sub.Notices()
	cmd := exec.CommandContext(s.Ctx, python, "-c", `import email, email.policy, sys, xml.etree.ElementTree as x
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.HTTP)
assert m.get_content_type() == "multipart/related" and not m.defects, m.defects
root, *parts = m.iter_parts()
assert root["Content-ID"] == m.get_param("start") and root.get_content_type() == m.get_param("type") == "application/rlmi+xml"
by = {p["Content-ID"]: p for p in parts}
ns = "{urn:ietf:params:xml:ns:rlmi}"
l = x.fromstring(root.get_payload(decode=True))
assert l.tag == ns + "list" and l.get("fullState") == "true" and l.get("version") == "0"
for r in l.findall(ns + "resource"):
    i = r.find(ns + "instance")
    p = by.pop("<" + i.get("cid") + ">")
    d = x.fromstring(p.get_payload(decode=True))
    print(r.get("uri"), i.get("state"), p.get_content_type(), d.get("entity") == r.get("uri"), d.get("state"), len(d))
assert not by`)
	cmd.Stdin = strings.NewReader("Content-Type: " + n.ContentType + "\r\n\r\n" + string(n.Body))
	out, err := cmd.CombinedOutput()
	if want := "sip:bob@DOMAIN active application/dialog-info+xml True full 0\nsip:carol@DOMAIN active application/dialog-info+xml True full 0\n"; err != nil || string(out) != strings.ReplaceAll(want, "DOMAIN", s.Domain) {
		t.Errorf("%v %s", err, out)
	}
}
