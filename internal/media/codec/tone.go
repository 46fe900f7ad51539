package codec

import (
	"math"
	"time"
)

// Cadence is one step of a tone's rhythm.
type Cadence struct{ On, Off time.Duration }

// Signal is a sound of call progress: the sum of frequencies, in a rhythm. Without a cadence it sounds all the time.
type Signal struct {
	Hz      []float64
	Cadence []Cadence // repeated in turn
}

// Plan is a country's set of call-progress signals (ITU-T E.180 supplement 2).
type Plan struct{ Dial, Ringback, Busy, Congestion Signal }

// ETSI returns the signals that ETSI TR 101 041 and most of Europe use: one frequency, 425 Hz.
func ETSI() Plan {
	return Plan{
		Dial:       Signal{Hz: []float64{425}},
		Ringback:   Signal{Hz: []float64{425}, Cadence: []Cadence{{time.Second, 4 * time.Second}}},
		Busy:       Signal{Hz: []float64{425}, Cadence: []Cadence{{500 * time.Millisecond, 500 * time.Millisecond}}},
		Congestion: Signal{Hz: []float64{425}, Cadence: []Cadence{{250 * time.Millisecond, 250 * time.Millisecond}}},
	}
}

// NorthAmerica returns the precise tone plan of North America.
func NorthAmerica() Plan {
	return Plan{
		Dial:       Signal{Hz: []float64{350, 440}},
		Ringback:   Signal{Hz: []float64{440, 480}, Cadence: []Cadence{{2 * time.Second, 4 * time.Second}}},
		Busy:       Signal{Hz: []float64{480, 620}, Cadence: []Cadence{{500 * time.Millisecond, 500 * time.Millisecond}}},
		Congestion: Signal{Hz: []float64{480, 620}, Cadence: []Cadence{{250 * time.Millisecond, 250 * time.Millisecond}}},
	}
}

// Korea returns the signals used in Korea: the frequencies of North America, a ringback of 1 s in 3.
func Korea() Plan {
	p := NorthAmerica()
	p.Ringback.Cadence = []Cadence{{time.Second, 2 * time.Second}}
	p.Congestion.Cadence = []Cadence{{300 * time.Millisecond, 200 * time.Millisecond}}
	return p
}

// Tone generates a signal. Frames follow each other without a click: the phase is kept as a 32-bit fraction of a turn, which
// wraps exactly.
type Tone struct {
	rate      int
	amplitude float64 // of each frequency
	step      []uint32
	phase     []uint32
	rhythm    []Cadence
	at        int // samples into the rhythm
	turn      int
}

// NewTone returns a generator at rate samples a second. level is the power of the whole signal in dB relative to a full-scale
// sine, at most 0; about -13 suits call progress. Frequencies must lie below half the rate, or they fold.
func NewTone(s Signal, rate int, level float64) *Tone {
	t := &Tone{rate: rate, rhythm: s.Cadence, phase: make([]uint32, len(s.Hz))}
	for _, hz := range s.Hz {
		t.step = append(t.step, uint32(math.Round(hz/float64(rate)*(1<<32))))
	}
	t.amplitude = 32767 * math.Pow(10, min(level, 0)/20) / math.Sqrt(float64(max(len(s.Hz), 1)))
	t.turn = t.length()
	return t
}

func (t *Tone) samples(d time.Duration) int { return int(d * time.Duration(t.rate) / time.Second) }

// length is how many samples the whole rhythm has, 0 if there is none.
func (t *Tone) length() (n int) {
	for _, c := range t.rhythm {
		n += t.samples(c.On) + t.samples(c.Off)
	}
	return n
}

// sounding reports whether the rhythm is on at this sample.
func (t *Tone) sounding() bool {
	if t.turn == 0 {
		return true
	}
	at := t.at % t.turn
	for _, c := range t.rhythm {
		on, off := t.samples(c.On), t.samples(c.Off)
		if at < on {
			return true
		}
		if at -= on; at < off {
			return false
		}
		at -= off
	}
	return false
}

// Read fills frame with the next samples. The phase runs on through the pauses.
func (t *Tone) Read(frame []int16) {
	const turn = 2 * math.Pi / (1 << 32)
	for i := range frame {
		sum := 0.0
		on := t.sounding()
		for j, step := range t.step {
			if on {
				sum += math.Sin(float64(t.phase[j]) * turn)
			}
			t.phase[j] += step
		}
		frame[i] = round16(sum * t.amplitude)
		if t.at++; t.turn > 0 && t.at >= t.turn {
			t.at = 0
		}
	}
}

// Heard says what was heard in a frame.
type Heard struct {
	Hz         float64 // frequency of the strongest sine
	Confidence float64 // the share of the frame's power that it explains, 0 to 1; noise and silence stay below 0.5
	Level      float64 // its power in dB relative to a full-scale sine
}

// Hear finds the strongest sine in a frame (20 ms are enough), between 100 Hz and just under half the rate, within 1%. It
// sweeps the band in steps of half a period per frame and then closes in on the frequency whose best-fitting sine leaves
// the least of the frame unexplained. Silence, and a frame too short to tell, is answered with Level -100 and no frequency.
func Hear(frame []int16, rate int) Heard {
	n := len(frame)
	if n < 64 || rate < 1000 {
		return Heard{Level: -100}
	}
	power := 0.0
	for _, s := range frame {
		power += float64(s) * float64(s)
	}
	if power/float64(n) < 100 { // below -67 dB
		return Heard{Level: -100}
	}
	grid := float64(rate) / float64(n) / 2
	hz := strongest(frame, rate, grid)
	lo, hi := max(hz-grid, 50), hz+grid
	const golden = 0.6180339887498949
	a, b := hi-golden*(hi-lo), lo+golden*(hi-lo)
	left, right := fit(frame, a/float64(rate)), fit(frame, b/float64(rate))
	for range 20 { // to a hundredth of a Hertz; each turn keeps one of its two points
		if left < right {
			lo, a, left = a, b, right
			b = lo + golden*(hi-lo)
			right = fit(frame, b/float64(rate))
		} else {
			hi, b, right = b, a, left
			a = hi - golden*(hi-lo)
			left = fit(frame, a/float64(rate))
		}
	}
	hz = (lo + hi) / 2
	explained := fit(frame, hz/float64(rate))
	return Heard{Hz: hz, Confidence: min(explained/power, 1), Level: 10 * math.Log10(max(explained, 1e-9)/float64(n)/(32767*32767/2))}
}

// strongest returns the frequency of a grid at which the frame has most power, by Goertzel's recurrence for four frequencies at a time: one step
// of it waits for the one before, and four that do not wait for each other take little longer than one.
func strongest(frame []int16, rate int, grid float64) float64 {
	best, hz := -1.0, 100.0
	for f := 100.0; f < 0.48*float64(rate); f += 4 * grid {
		var k, now, before [4]float64
		for i := range k {
			k[i] = 2 * math.Cos(2*math.Pi*(f+float64(i)*grid)/float64(rate))
		}
		k0, k1, k2, k3 := k[0], k[1], k[2], k[3]
		var a0, a1, a2, a3, b0, b1, b2, b3 float64
		for _, v := range frame {
			x := float64(v)
			a0, b0 = x+k0*a0-b0, a0
			a1, b1 = x+k1*a1-b1, a1
			a2, b2 = x+k2*a2-b2, a2
			a3, b3 = x+k3*a3-b3, a3
		}
		now, before = [4]float64{a0, a1, a2, a3}, [4]float64{b0, b1, b2, b3}
		for i := range k {
			if p := now[i]*now[i] + before[i]*before[i] - k[i]*now[i]*before[i]; p > best {
				best, hz = p, f+float64(i)*grid
			}
		}
	}
	return min(hz, 0.48*float64(rate))
}

// fit returns how much of the frame's energy the best sine of frequency f (in turns a sample) explains, by least squares on
// its cosine and sine parts.
func fit(frame []int16, f float64) float64 {
	ds, dc := math.Sincos(2 * math.Pi * f)
	s, c := 0.0, 1.0
	var xc, xs, cc, ss, cs float64
	for _, v := range frame {
		x := float64(v)
		xc += x * c
		xs += x * s
		cc += c * c
		ss += s * s
		cs += c * s
		c, s = c*dc-s*ds, s*dc+c*ds
	}
	det := cc*ss - cs*cs
	if det < 1e-6*float64(len(frame)) {
		return 0
	}
	return (xc*xc*ss - 2*xc*xs*cs + xs*xs*cc) / det
}
