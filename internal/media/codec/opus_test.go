package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os/exec"
	"testing"

	"github.com/thesyncim/gopus/container/ogg"

	"ringfence/internal/testkit"
)

// packets encodes a sound of 16 kHz for somebody who wishes what fmtp says.
func packets(t *testing.T, fmtp string, in []int16) (out [][]byte) {
	t.Helper()
	c, err := NewFor("OPUS", fmtp)
	if err != nil {
		t.Fatal(err)
	}
	for ; len(in) >= opusFrame; in = in[opusFrame:] {
		out = append(out, c.Encode(nil, in[:opusFrame]))
	}
	return out
}

// bestSNR compares 125 ms of b with a at the delay that fits best, up to 30 ms either way, in quarters of a sample: resamplers have delays
// that are no whole number of samples.
func bestSNR(a, b []int16) float64 {
	fine := func(in []int16) []int16 {
		return NewUpsampler().Process(nil, NewUpsampler().Process(nil, in[6000:8000]))
	}
	a, b = fine(a), fine(b)
	at := func(lag int) float64 {
		if lag < 0 {
			return snr(b, a, -lag)
		}
		return snr(a, b, lag)
	}
	near := 0
	for lag := -4 * 480; lag <= 4*480; lag += 4 {
		if at(lag) > at(near) {
			near = lag
		}
	}
	best := math.Inf(-1)
	for lag := near - 4; lag <= near+4; lag++ {
		best = max(best, at(lag))
	}
	return best
}

// speech is something like a voice: harmonics of a pitch that moves, in syllables.
func speech(seconds int) []int16 {
	out := make([]int16, seconds*opusRate)
	phase := 0.0
	for i := range out {
		at := float64(i) / opusRate
		phase += 2 * math.Pi * (140 + 30*math.Sin(2*math.Pi*0.7*at)) / opusRate
		v := 0.0
		for h := 1.0; h <= 12; h++ {
			v += math.Sin(h*phase) / h
		}
		out[i] = int16(5000 * v * (0.55 - 0.45*math.Cos(2*math.Pi*4*at)))
	}
	return out
}

func TestOpusKeepsTheSound(t *testing.T) {
	for _, hz := range []float64{300, 2500, 7000} {
		in := tone(hz, opusRate, opusFrame*20, -13)
		c := newOpus("")
		var out []int16
		for _, p := range packets(t, "", in) {
			out = c.Decode(out, p)
		}
		if h := Hear(out[4800:5120], opusRate); len(out) != len(in) || math.Abs(h.Hz-hz) > hz/100 || math.Abs(h.Level+13) > 2 {
			t.Errorf("%v Hz came out as %+v, %d samples", hz, h, len(out))
		}
	}
	if got := newOpus("").Encode([]byte{7}, make([]int16, 123)); len(got) != 1 || got[0] != 7 {
		t.Errorf("a frame that is none became %d octets", len(got))
	}
}

// What is said must not show in the lengths of packets, and the far end's wishes are kept.
func TestOpusWishes(t *testing.T) {
	short := opusFrame * 12
	silent, loud := make([]int16, short), speech(1)[:short]
	for _, c := range []struct {
		fmtp  string
		bytes int
		above bool // there is sound above 4 kHz
		fec   bool
	}{
		{"", 80, true, false},
		{"useinbandfec=1;minptime=10", 80, true, true},
		{"UseInbandFEC = 1 ; maxaveragebitrate=20000", 50, true, true},
		{"maxaveragebitrate=510000;stereo=1", 80, true, false},
		{"maxaveragebitrate=1", 15, false, false},
		{"maxaveragebitrate=-5;;=;useinbandfec=yes;maxplaybackrate=99999999999999999999", 80, true, false},
		{"maxplaybackrate=8000", 80, false, false},
	} {
		for _, in := range [][]int16{silent, loud} {
			for i, p := range packets(t, c.fmtp, in) {
				if len(p) != c.bytes {
					t.Fatalf("%q: packet %d has %d octets, want %d", c.fmtp, i, len(p), c.bytes)
				}
			}
		}
		d, out := newOpus(""), []int16(nil)
		for _, p := range packets(t, c.fmtp, tone(6000, opusRate, short, -10)) {
			out = d.Decode(out, p)
		}
		if h := Hear(out[3200:3520], opusRate); c.above != (h.Level > -20) {
			t.Errorf("%q: 6000 Hz came out as %+v", c.fmtp, h)
		}
		if got := readOpusWish(c.fmtp).fec; got != c.fec {
			t.Errorf("%q: a second copy: %v", c.fmtp, got)
		}
	}
}

// Of what is lost, the second copy in the packet behind it is nearer to what was said than what the decoder makes up.
func TestOpusConcealsALoss(t *testing.T) {
	in := speech(2)
	all := packets(t, "useinbandfec=1", in)
	hear := func(lost func(int) bool, second bool) []int16 {
		c, out := newOpus(""), []int16(nil)
		for i, p := range all {
			switch {
			case !lost(i):
				out = c.Decode(out, p)
			case second && i+1 < len(all):
				out = c.Conceal(out, all[i+1])
			default:
				out = c.Conceal(out, nil)
			}
		}
		if len(out) != len(in) {
			t.Fatalf("%d samples", len(out))
		}
		return out
	}
	whole := hear(func(int) bool { return false }, false)
	some := func(i int) bool { return i%7 == 5 }
	with, without := snr(whole, hear(some, true), 0), snr(whole, hear(some, false), 0)
	if with < without+3 || with < 8 {
		t.Errorf("%.1f dB with the second copy, %.1f dB without", with, without)
	}
	if last := hear(func(i int) bool { return i > 50 }, false); loudest(last[len(last)-3200:]) > loudest(whole)/8 {
		t.Errorf("a stream that ended goes on at %d, its loudest was %d", loudest(last[len(last)-3200:]), loudest(whole))
	}
}

func loudest(s []int16) (top int) {
	for _, v := range s {
		top = max(top, int(v), -int(v))
	}
	return top
}

// falling is a decoder with a mistake in it.
type falling struct{ opusDecoder }

func (falling) DecodeInt16([]byte, []int16) (int, error) { panic("index out of range") }

func TestOpusBearsWhatItsDecoderDoesNot(t *testing.T) {
	all := packets(t, "", tone(700, opusRate, opusRate/4, -13))
	c := newOpus("")
	c.dec = falling{}
	out := c.Decode(nil, all[0])
	if len(out) != opusFrame || c.fatal != 1 {
		t.Fatalf("%d samples, given up %d times", len(out), c.fatal)
	}
	for _, p := range all {
		out = c.Decode(out, p)
	}
	if h := Hear(out[len(out)-320:], opusRate); math.Abs(h.Hz-700) > 7 {
		t.Errorf("afterwards: %+v", h)
	}
	for name, p := range map[string][]byte{"nothing": {}, "an odd pair": {0x01, 1, 2}, "no frames": {0x03, 0}, "more than 120 ms": {0x1b, 0x3f}, "a length beyond the end": {0x02, 0xff},
		"more than a datagram": make([]byte, 70000)} {
		if got := len(c.Decode(nil, p)); got != opusFrame || c.fatal != 1 {
			t.Errorf("%s: %d samples, given up %d times", name, got, c.fatal)
		}
	}
}

// run gives a program of opus-tools its input and returns its output.
func run(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Need(t, name, "opus-tools"), args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.String())
	}
	return out
}

func pcm(samples []int16) (b []byte) {
	for _, v := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b
}

func samples(b []byte) (out []int16) {
	for ; len(b) >= 2; b = b[2:] {
		out = append(out, int16(binary.LittleEndian.Uint16(b)))
	}
	return out
}

// The reference implementation hears what we say.
func TestOpusIsHeardByTheReference(t *testing.T) {
	in := append(speech(1), tone(1000, opusRate, opusRate/2, -13)...)
	var file bytes.Buffer
	w, err := ogg.NewWriter(&file, opusRate, 1)
	if err != nil {
		t.Fatal(err)
	}
	own, ours := newOpus(""), []int16(nil)
	for _, p := range packets(t, "useinbandfec=1", in) {
		ours = own.Decode(ours, p)
		if err := w.WritePacket(p, 960); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := samples(run(t, file.Bytes(), "opusdec", "--quiet", "--no-dither", "--rate", "16000", "-", "-"))
	if db := bestSNR(got, ours); db < 25 {
		t.Errorf("opusdec and we hear the same with %.1f dB", db)
	}
	if h := Hear(got[20000:20320], opusRate); math.Abs(h.Hz-1000) > 2 || math.Abs(h.Level+13) > 1 {
		t.Errorf("opusdec hears %+v", h)
	}
}

// We hear what the reference implementation says, in every mode, bandwidth and packet time of it.
func TestOpusHearsTheReference(t *testing.T) {
	in := append(speech(1), tone(1000, opusRate, opusRate/2, -13)...)
	for _, args := range []string{
		"--speech --bitrate 12", "--speech --bitrate 24 --framesize 60 --expect-loss 20", "--music --bitrate 64 --framesize 2.5", "--music --bitrate 128 --framesize 10",
		"--speech --bitrate 40 --framesize 40", "--hard-cbr --bitrate 16",
	} {
		var list []string
		for f := range bytes.FieldsSeq([]byte(args)) {
			list = append(list, string(f))
		}
		file := run(t, pcm(in), "opusenc", append(list, "--quiet", "--raw", "--raw-rate", "16000", "--raw-chan", "1", "-", "-")...)
		r, err := ogg.NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		c, out := newOpus(""), []int16(nil)
		for {
			p, _, err := r.ReadPacket()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			out = c.Decode(out, p)
		}
		if len(out) < len(in) || c.fatal != 0 {
			t.Fatalf("%s: %d of %d samples, given up %d times", args, len(out), len(in), c.fatal)
		}
		if h := Hear(out[20000:20320], opusRate); math.Abs(h.Hz-1000) > 5 || math.Abs(h.Level+13) > 2 {
			t.Errorf("%s: heard %+v", args, h)
		}
		reference := samples(run(t, file, "opusdec", "--quiet", "--no-dither", "--rate", "16000", "-", "-"))
		if db := bestSNR(reference, out); db < 30 {
			t.Errorf("%s: opusdec and we hear the same with %.1f dB", args, db)
		}
	}
}
