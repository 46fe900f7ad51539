package codec

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestHearFindsTheFrequency(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for hz := 150.0; hz < 3700; hz *= 1.037 {
		gen := NewTone(Signal{Hz: []float64{hz}}, 8000, -20)
		frame := make([]int16, 160)
		for range 4 {
			gen.Read(frame)
			for _, c := range []Codec{&ulaw{}, &alaw{}} { // as it arrives over the wire
				heard := c.Decode(nil, c.Encode(nil, frame))
				for i := range heard {
					heard[i] += int16(rng.NormFloat64() * 100)
				}
				h := Hear(heard, 8000)
				if math.Abs(h.Hz-hz) > hz/100 || h.Confidence < 0.9 || math.Abs(h.Level+20) > 1 {
					t.Fatalf("%.1f Hz was heard as %+v", hz, h)
				}
			}
		}
	}
}

func TestHearDoubtsNoiseAndSilence(t *testing.T) {
	if h := Hear(make([]int16, 160), 8000); h != (Heard{Level: -100}) {
		t.Fatalf("silence: %+v", h)
	}
	if h := Hear(make([]int16, 3), 8000); h != (Heard{Level: -100}) {
		t.Fatalf("three samples: %+v", h)
	}
	rng := rand.New(rand.NewPCG(8, 9))
	for range 200 {
		noise := make([]int16, 160)
		for i := range noise {
			noise[i] = int16(rng.NormFloat64() * 3000)
		}
		if h := Hear(noise, 8000); h.Confidence > 0.5 {
			t.Fatalf("noise: %+v", h)
		}
	}
}

// The phase must run on from frame to frame: 50 frames of 160 are the same samples as one of 8000.
func TestToneHasNoSeams(t *testing.T) {
	s := NorthAmerica().Dial
	whole := make([]int16, 8000)
	NewTone(s, 8000, -13).Read(whole)
	gen := NewTone(s, 8000, -13)
	for i := 0; i < 8000; i += 160 {
		frame := make([]int16, 160)
		gen.Read(frame)
		for j, v := range frame {
			if v != whole[i+j] {
				t.Fatalf("sample %d differs", i+j)
			}
		}
	}
}

func TestCadence(t *testing.T) {
	for name, c := range map[string]struct {
		s       Signal
		on, off time.Duration
	}{
		"etsi ringback": {ETSI().Ringback, time.Second, 4 * time.Second},
		"us busy":       {NorthAmerica().Busy, 500 * time.Millisecond, 500 * time.Millisecond},
		"korea ring":    {Korea().Ringback, time.Second, 2 * time.Second},
	} {
		gen := NewTone(c.s, 8000, -13)
		for round := range 2 {
			for at := time.Duration(0); at < c.on+c.off; at += 10 * time.Millisecond {
				frame := make([]int16, 80)
				gen.Read(frame)
				loud := Hear(frame, 8000).Level > -40
				if loud != (at < c.on) {
					t.Fatalf("%s, round %d at %v: sounding is %v", name, round, at, loud)
				}
			}
		}
	}
}

func BenchmarkHear(b *testing.B) {
	frame := tone(1004, 8000, 160, -13)
	b.ReportAllocs()
	for b.Loop() {
		Hear(frame, 8000)
	}
}
