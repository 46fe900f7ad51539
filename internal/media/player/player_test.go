package player

import (
	"math"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/relay"
	"ringfence/internal/media/rtp"
)

// The room's types fit the relay's interfaces.
var (
	_ relay.Source  = (*Playback)(nil)
	_ relay.Source  = (*Tone)(nil)
	_ relay.Source  = (*Queue)(nil)
	_ relay.Source  = (*Member)(nil)
	_ relay.TapFunc = (*Recorder)(nil).Hear
	_ relay.TapFunc = (*Member)(nil).Hear
)

func codecOf(t *testing.T, name codec.Name) codec.Codec {
	t.Helper()
	c, err := codec.New(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sine(hz float64, rate, n int) codec.Sound {
	s := codec.Sound{Rate: rate, Samples: make([]int16, n)}
	codec.NewTone(codec.Signal{Hz: []float64{hz}}, rate, -13).Read(s.Samples)
	return s
}

// typeOf is a payload type for each codec: the static one, and 111 for Opus.
func typeOf(name codec.Name) uint8 {
	return map[codec.Name]uint8{codec.PCMU: 0, codec.PCMA: 8, codec.G722: 9, codec.Opus: 111}[name]
}

func near(got codec.Heard, hz float64) bool {
	return math.Abs(got.Hz-hz) < hz/100 && got.Confidence > 0.95
}

func TestPlaybackOfBothRatesInEveryCodec(t *testing.T) {
	for _, name := range []codec.Name{codec.PCMU, codec.PCMA, codec.G722, codec.Opus} {
		for _, rate := range []int{8000, 16000} {
			p, err := NewPlayback(name, sine(700, rate, rate+1), false)
			if err != nil {
				t.Fatal(err)
			}
			c := codecOf(t, name)
			var buf [1280]byte
			var out []int16
			frames := 0
			for n := p.Next(buf[:]); n > 0; n = p.Next(buf[:]) {
				if want := map[bool]int{true: 80, false: 160}[name == codec.Opus]; n != want {
					t.Fatalf("%s: %d octets", name, n)
				}
				out = c.Decode(out, buf[:n])
				frames++
			}
			if frames < 50 || frames > 51 {
				t.Fatalf("%s from %d: %d frames", name, rate, frames)
			}
			if h := codec.Hear(out[c.Rate()/2:c.Rate()/2+c.Rate()/50], c.Rate()); !near(h, 700) || math.Abs(h.Level+13) > 1 {
				t.Fatalf("%s from %d: %+v", name, rate, h)
			}
		}
	}
}

func TestLoopQueueAndRefusals(t *testing.T) {
	var buf [1280]byte
	p, err := NewPlayback(codec.PCMU, codec.Sound{Rate: 8000, Samples: []int16{1000: 9}}, true)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if p.Next(buf[:]) != 160 {
			t.Fatal("the loop ended")
		}
	}
	one, _ := NewPlayback(codec.PCMU, sine(500, 8000, 320), false)
	two, _ := NewPlayback(codec.PCMU, sine(900, 8000, 480), false)
	var q Queue
	q.Add(one, two)
	var out []int16
	for n := q.Next(buf[:]); n > 0; n = q.Next(buf[:]) {
		out = codecOf(t, codec.PCMU).Decode(out, buf[:n])
	}
	if len(out) != 800 || !near(codec.Hear(out[:320], 8000), 500) || !near(codec.Hear(out[320:], 8000), 900) {
		t.Fatalf("%d samples", len(out))
	}
	for name, f := range map[string]func() error{
		"rate": func() error { _, err := NewPlayback(codec.PCMU, codec.Sound{Rate: 44100}, false); return err },
		"loop": func() error {
			_, err := NewPlayback(codec.PCMU, codec.Sound{Rate: 8000, Samples: make([]int16, 9)}, true)
			return err
		},
		"limit": func() error { _, err := NewRecorder(codec.PCMU, 0, 2*time.Hour); return err },
	} {
		if err := f(); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewTone("GSM", codec.ETSI().Dial, -13); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Fatal(err)
	}
}

// talk yields the packets of a sound.
func talk(t *testing.T, name codec.Name, s codec.Sound, ssrc uint32) (h []rtp.Header, payload [][]byte) {
	t.Helper()
	p, err := NewPlayback(name, s, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		buf := make([]byte, 1280)
		n := p.Next(buf)
		if n == 0 {
			return h, payload
		}
		f := FormatOf(name, typeOf(name))
		h = append(h, rtp.Header{PayloadType: f.PayloadType, Sequence: uint16(i), Timestamp: 0xFFFFFF00 + uint32(i)*f.Samples, SSRC: ssrc})
		payload = append(payload, buf[:n])
	}
}

func TestRecorderPlacesByTimestamp(t *testing.T) {
	for _, name := range []codec.Name{codec.PCMA, codec.G722, codec.Opus} {
		r, err := NewRecorder(name, typeOf(name), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		rate := codecOf(t, name).Rate()
		h, p := talk(t, name, sine(600, rate, rate), 1)
		for i := range h {
			if i >= 10 && i < 15 { // lost
				continue
			}
			j := i
			if name == codec.PCMA && (i == 20 || i == 21) { // swapped
				j = 41 - i
			}
			r.Hear(&h[j], p[j], 0)
			other := h[j]
			other.PayloadType = 101
			r.Hear(&other, []byte{1, 2, 3, 4}, 0)
		}
		s := r.Sound()
		if len(s.Samples) != rate {
			t.Fatalf("%s: %d samples", name, len(s.Samples))
		}
		frame := rate / 50
		for i := range 50 {
			got := codec.Hear(s.Samples[i*frame:(i+1)*frame], rate)
			if lost := i >= 10 && i < 15; lost != (got.Level < -60) || !lost && i > 0 && i != 15 && !near(got, 600) {
				t.Fatalf("%s: frame %d: %+v", name, i, got)
			}
		}
		// a new stream follows on; a pause stays a pause; the end is silence
		h2, p2 := talk(t, name, codec.Sound{Rate: rate, Samples: make([]int16, rate)}, 2)
		for i := range h2 {
			r.Hear(&h2[i], p2[i], 0)
		}
		if length, silence, full := r.Progress(); length != 2*time.Second || silence < 940*time.Millisecond || silence > 1010*time.Millisecond || full {
			t.Fatalf("%s: %v %v %v", name, length, silence, full)
		}
		far := h2[len(h2)-1]
		far.Timestamp += 8 * name.Clock()
		r.Hear(&far, p2[0], 0)
		if length, _, full := r.Progress(); length != 10*time.Second || !full {
			t.Fatalf("%s: %v %v", name, length, full)
		}
	}
}

func TestConferenceHearsTheOthersOnly(t *testing.T) {
	m := NewMixer(true)
	names := []codec.Name{codec.PCMU, codec.G722, codec.Opus}
	hz := []float64{500, 1100, 2300}
	members := make([]*Member, 3)
	headers, payloads := make([][]rtp.Header, 3), make([][][]byte, 3)
	outs, codecs := make([][]int16, 3), make([]codec.Codec, 3)
	for i, name := range names {
		b, err := m.Add(name, typeOf(name))
		if err != nil {
			t.Fatal(err)
		}
		members[i], codecs[i] = b, codecOf(t, name)
		headers[i], payloads[i] = talk(t, name, sine(hz[i], codecs[i].Rate(), 3*codecs[i].Rate()), uint32(i))
	}
	run := func(from, to int) {
		for tick := from; tick < to; tick++ {
			for i, b := range members {
				b.Hear(&headers[i][tick], payloads[i][tick], 0)
			}
			for i, b := range members {
				var buf [1280]byte
				n := b.Next(buf[:])
				outs[i] = codecs[i].Decode(outs[i], buf[:n])
			}
		}
	}
	// present says which of the tones are in the last 100 ms of what a member hears.
	present := func(i int) (in [3]bool) {
		rate := codecs[i].Rate()
		tail := outs[i][len(outs[i])-rate/10:]
		for j, f := range hz {
			var re, im float64
			for k, v := range tail {
				s, c := math.Sincos(2 * math.Pi * f * float64(k) / float64(rate))
				re += float64(v) * c
				im += float64(v) * s
			}
			in[j] = math.Hypot(re, im)*2/float64(len(tail)) > 2000 // a tone at -13 dB has 7,300
		}
		return in
	}
	run(0, 50)
	for i := range members {
		want := [3]bool{true, true, true}
		want[i] = false
		if got := present(i); got != want {
			t.Fatalf("member %d hears %v", i, got)
		}
	}
	members[1].Mute(true)
	run(50, 100)
	if present(0) != [3]bool{false, false, true} || present(1) != [3]bool{true, false, true} {
		t.Fatalf("with 1 muted: %v %v", present(0), present(1))
	}
	members[2].Leave()
	var buf [1280]byte
	if members[2].Next(buf[:]) != 0 {
		t.Fatal("who has left still hears")
	}
	members = members[:2]
	members[1].Mute(false)
	run(100, 140)
	if present(0) != [3]bool{false, true, false} {
		t.Fatalf("after 2 left: %v", present(0))
	}
	for range maxMembers - 2 {
		if _, err := m.Add(codec.PCMU, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Add(codec.PCMU, 0); ringfence.KindOf(err) != ringfence.KindOverload {
		t.Fatal(err)
	}
}
