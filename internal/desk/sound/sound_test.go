package sound

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/testkit"
)

func tone(hz float64, n int) []int16 {
	out := make([]int16, n)
	codec.NewTone(codec.Signal{Hz: []float64{hz}}, rate, -13).Read(out)
	return out
}

// talk is a call that says and hears, at its own rate, until stop is called.
func talk(t *testing.T, h *Handset, hz float64, at int) (heard func() codec.Heard, stop func()) {
	t.Helper()
	var mu sync.Mutex
	last := make([]int16, at/50)
	over, gone := make(chan struct{}), make(chan struct{})
	say := codec.NewTone(codec.Signal{Hz: []float64{hz}}, at, -13)
	go func() {
		defer close(gone)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		frame := make([]int16, at/50)
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			say.Read(frame)
			h.Write(frame, at)
			mu.Lock()
			h.Read(last, at)
			mu.Unlock()
		}
	}()
	stop = sync.OnceFunc(func() { close(over); <-gone })
	t.Cleanup(stop)
	return func() codec.Heard { mu.Lock(); defer mu.Unlock(); return codec.Hear(last, at) }, stop
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if f() {
			return
		}
		<-tick.C
	}
	t.Fatalf("never: %s", what)
}

func hears(h codec.Heard, hz float64) bool {
	return h.Confidence > 0.9 && math.Abs(h.Hz-hz) < hz/100 && h.Level > -20
}

// Two calls of different rates use the devices of a real sound server at the same time; the programs end with the second, and are there again for a third; and calls go on when the server goes, and
// have sound again when it comes back.
func TestDevices(t *testing.T) {
	server := testkit.PulseAudio(t)
	server.Say(tone(600, rate)) // whole waves
	found, err := List(t.Context(), server.Env)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]Device{}
	for _, d := range found {
		kinds[d.Name] = d
	}
	if len(found) != 5 || kinds["mic"].Kind != Microphone || !kinds["mic"].Default || kinds["ear"].Kind != Loudspeaker || !kinds["ear"].Default || kinds["ear.monitor"].Kind != Monitor || kinds["mouth"].Default {
		t.Errorf("%+v", found)
	}
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan error, 100)
	d := New(ctx, Config{Env: server.Env, Say: func(err error) { said <- err }})
	defer d.Wait()
	defer cancel()
	runs := func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.runs }
	narrow, stopNarrow := talk(t, d.Handset(), 1000, 8000)
	wide, stopWide := talk(t, d.Handset(), 2500, 16000)
	until(t, "both hear the microphone", func() bool { return hears(narrow(), 600) && hears(wide(), 600) })
	until(t, "the loudspeaker plays both", func() bool {
		played := server.Listen(300 * time.Millisecond)
		return share(played[3200:], 1000) > 0.3 && share(played[3200:], 2500) > 0.3
	})
	stopNarrow()
	until(t, "the first call is forgotten", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.used) == 1 })
	if !hears(codec.Hear(server.Listen(300 * time.Millisecond)[3000:3320], rate), 2500) {
		t.Error("the second call is not heard any more")
	}
	stopWide()
	until(t, "the programs end", func() bool { return !runs() })
	third, stopThird := talk(t, d.Handset(), 800, 16000)
	until(t, "a third call hears", func() bool { return hears(third(), 600) })
	if len(said) != 0 {
		t.Errorf("%v", <-said)
	}
	server.Stop()
	if err := <-said; ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Errorf("%v", err)
	}
	until(t, "the third call is silent", func() bool { return third().Level < -60 })
	server.Start()
	server.Say(tone(900, rate))
	until(t, "the third call hears again", func() bool { return hears(third(), 900) })
	stopThird()
	until(t, "the programs end again", func() bool { return !runs() })
	server.Stop()
	if _, err := List(t.Context(), server.Env); ringfence.KindOf(err) != ringfence.KindUnavailable || !strings.Contains(ringfence.HintOf(err), "pulseaudio-utils") {
		t.Errorf("no server: %v", err)
	}
}

// share is how much of the power of a sound one frequency has, within the half of a hundredth by which a buffer may bend it.
func share(s []int16, hz float64) (most float64) {
	for bent := hz * 0.994; bent <= hz*1.006; bent += hz * 0.001 {
		most = max(most, exact(s, bent))
	}
	return most
}

func exact(s []int16, hz float64) float64 {
	var re, im, power float64
	for i, v := range s {
		re += float64(v) * math.Cos(2*math.Pi*hz*float64(i)/rate)
		im += float64(v) * math.Sin(2*math.Pi*hz*float64(i)/rate)
		power += float64(v) * float64(v)
	}
	return 2 * (re*re + im*im) / (float64(len(s)) * max(power, 1))
}

func TestParseDevices(t *testing.T) {
	got, err := ParseDevices([]byte(`[{"name":"a","description":"A\u001b[2J","state":"RUNNING","mute":true,"monitor_source":""},{"name":"b","monitor_source":"x"},{"name":"c\u0007"},{}]`), false)
	if err != nil || len(got) != 2 || got[0] != (Device{Name: "a", Kind: Microphone, Description: "A?[2J", Muted: true, State: "running"}) || got[1].Kind != Monitor {
		t.Errorf("%+v, %v", got, err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "no list": []byte("{}"), "too many": []byte("[" + strings.Repeat("{},", 300) + "{}]"), "too long": make([]byte, maxList+1)} {
		if _, err := ParseDevices(b, true); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseDevices(f *testing.F) {
	f.Add([]byte(`[{"name":"ear","description":"Null Output","state":"IDLE","mute":false,"monitor_source":"ear.monitor"}]`), true)
	f.Add([]byte(`[{"name":"\u0000","monitor_source":null}]`), false)
	f.Fuzz(func(t *testing.T, b []byte, sinks bool) {
		got, err := ParseDevices(b, sinks)
		if err != nil && ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Fatal(err)
		}
		for _, d := range got {
			if d.Name == "" || len(got) > maxDevices || strings.ContainsAny(d.Name+d.Description+d.State, "\x00\x1b\n") {
				t.Fatalf("%+v", d)
			}
		}
	})
}
