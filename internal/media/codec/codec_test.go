package codec

import (
	"math"
	"math/rand/v2"
	"testing"

	"ringfence"
)

// lawTable builds a companding law the way ITU-T G.711 tables 1 and 2 list it: segment by segment, upper decision values and
// the outputs half way between them, in 16-bit units.
func lawTable(first, step, segmentsAtFirstStep int) (upper, out [128]int) {
	low := 0
	width := first
	for code := range 128 {
		upper[code], out[code] = low+width, low+width/2
		low += width
		next := (code + 1) / 16
		width = step << max(0, next-segmentsAtFirstStep+1)
	}
	return upper, out
}

func TestG711AgainstItsDefinition(t *testing.T) {
	// mu-law: the first interval is half as wide and its output is 0; the steps double in every segment. Decision values are
	// 4, 12, 20, ... in 16-bit units.
	upper, out := lawTable(4, 8, 1)
	out[0] = 0
	aUpper, aOut := lawTable(16, 16, 2)
	find := func(upper *[128]int, m int) int {
		for i, u := range upper {
			if m < u {
				return i
			}
		}
		return 127
	}
	for v := -32768; v <= 32767; v++ {
		m, sign := v, 0x80
		if v < 0 {
			m, sign = -v, 0
		}
		if want := byte(sign|find(&upper, min(m, 32767))) ^ 0x7f; ULaw(int16(v)) != want {
			t.Fatalf("mu-law of %d is %#x, want %#x", v, ULaw(int16(v)), want)
		}
		if v < 0 {
			m-- // A-law has no zero: -1 is in the first negative interval
		}
		if want := byte(sign|find(&aUpper, m)) ^ 0x55; ALaw(int16(v)) != want {
			t.Fatalf("A-law of %d is %#x, want %#x", v, ALaw(int16(v)), want)
		}
	}
	for code := range 128 {
		if got := FromULaw(byte(code|0x80) ^ 0x7f); int(got) != out[code] {
			t.Fatalf("mu-law code %d decodes to %d, want %d", code, got, out[code])
		}
		if got := FromULaw(byte(code) ^ 0x7f); int(got) != -out[code] {
			t.Fatalf("mu-law code -%d decodes to %d", code, got)
		}
		if got := FromALaw(byte(code|0x80) ^ 0x55); int(got) != aOut[code] {
			t.Fatalf("A-law code %d decodes to %d, want %d", code, got, aOut[code])
		}
		if got := FromALaw(byte(code) ^ 0x55); int(got) != -aOut[code] {
			t.Fatalf("A-law code -%d decodes to %d", code, got)
		}
	}
}

// snr compares b with a delayed by lag samples, in dB.
func snr(a, b []int16, lag int) float64 {
	var signal, noise float64
	for i := 400; i+lag < len(b) && i < len(a); i++ {
		s, d := float64(a[i]), float64(a[i])-float64(b[i+lag])
		signal += s * s
		noise += d * d
	}
	return 10 * math.Log10(signal/max(noise, 1e-9))
}

func tone(hz float64, rate, n int, level float64) []int16 {
	out := make([]int16, n)
	NewTone(Signal{Hz: []float64{hz}}, rate, level).Read(out)
	return out
}

func TestCodecsKeepTheSound(t *testing.T) {
	for _, c := range []struct {
		name Name
		lag  int
		db   float64
	}{{PCMU, 0, 30}, {PCMA, 0, 30}, {G722, 22, 20}} {
		for _, hz := range []float64{300, 1000, 2500} {
			codec, err := New(c.name)
			if err != nil {
				t.Fatal(err)
			}
			in := tone(hz, codec.Rate(), codec.Rate(), -13)
			var out []int16
			for i := 0; i < len(in); i += codec.Rate() / 50 {
				payload := codec.Encode(nil, in[i:i+codec.Rate()/50])
				if len(payload) != 160 {
					t.Fatalf("%s: 20 ms became %d octets", c.name, len(payload))
				}
				out = codec.Decode(out, payload)
			}
			if db := snr(in, out, c.lag); db < c.db {
				t.Errorf("%s at %v Hz: %.1f dB", c.name, hz, db)
			}
		}
	}
	if _, err := New("G729"); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Fatal(err)
	}
}

// G.722 carries what G.711 cannot: a tone in the upper band must come through at its frequency, and with its level.
func TestG722UpperBand(t *testing.T) {
	for _, hz := range []float64{4500, 5500, 6500} {
		g := newG722()
		out := g.Decode(nil, g.Encode(nil, tone(hz, 16000, 16000, -13)))
		if h := Hear(out[8000:8320], 16000); math.Abs(h.Hz-hz) > hz/100 || math.Abs(h.Level+13) > 1.5 {
			t.Errorf("%v Hz came out as %+v", hz, h)
		}
	}
}

// Any octets must decode without a fault and within 16 bits, and silence must stay silence.
func TestG722Extremes(t *testing.T) {
	g := newG722()
	rng := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 160)
	for range 500 {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		g.Decode(nil, b)
	}
	loud := make([]int16, 320)
	for i := range loud {
		loud[i] = int16(32767 - i/8%2*65535)
	}
	for range 50 {
		g.Decode(nil, g.Encode(nil, loud))
	}
	g = newG722()
	for range 20 {
		for _, v := range g.Decode(nil, g.Encode(nil, make([]int16, 320))) {
			if v > 20 || v < -20 {
				t.Fatalf("silence became %d", v)
			}
		}
	}
}

func TestResampling(t *testing.T) {
	for _, hz := range []float64{300, 1000, 3000} {
		in := tone(hz, 8000, 8000, -6)
		up := NewUpsampler().Process(nil, in)
		if h := Hear(up[8000:8320], 16000); math.Abs(h.Hz-hz) > hz/200 || math.Abs(h.Level+6) > 0.3 || h.Confidence < 0.999 {
			t.Errorf("%v Hz up: %+v", hz, h)
		}
		down := NewDownsampler().Process(nil, up)
		if h := Hear(down[4000:4160], 8000); math.Abs(h.Hz-hz) > hz/200 || math.Abs(h.Level+6) > 0.3 || h.Confidence < 0.999 {
			t.Errorf("%v Hz down: %+v", hz, h)
		}
	}
	high := NewDownsampler().Process(nil, tone(5500, 16000, 16000, -6))
	if h := Hear(high[4000:4160], 8000); h.Level > -50 {
		t.Errorf("5500 Hz folds into the lower rate: %+v", h)
	}
}

func BenchmarkCodecs(b *testing.B) {
	for _, name := range []Name{PCMU, PCMA, G722, Opus} {
		b.Run(string(name), func(b *testing.B) {
			c, err := New(name)
			if err != nil {
				b.Fatal(err)
			}
			in := tone(440, c.Rate(), c.Rate()/50, -10)
			payload, out := make([]byte, 0, 1400), make([]int16, 0, 400)
			b.ReportAllocs()
			for b.Loop() {
				payload = c.Encode(payload[:0], in)
				out = c.Decode(out[:0], payload)
			}
		})
	}
}
