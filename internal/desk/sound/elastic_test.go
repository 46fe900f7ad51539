package sound

import (
	"math"
	"slices"
	"testing"
)

// wave is a tone that goes on.
type wave struct{ at int }

func (w *wave) next(n int) []int16 {
	out := make([]int16, n)
	for i := range out {
		out[i] = int16(10000 * math.Sin(2*math.Pi*440*float64(w.at)/rate))
		w.at++
	}
	return out
}

// Between clocks that agree nothing is changed, however the sound is cut into pieces.
func TestElasticLeavesSoundAlone(t *testing.T) {
	var e elastic
	var w wave
	var in, out []int16
	for i := range 2000 {
		piece := w.next([]int{100, 320, 540}[i%3]) // 960 in three turns
		in = append(in, piece...)
		e.push(piece)
		got := make([]int16, frame)
		e.pull(got)
		out = append(out, got...)
	}
	silent := 0
	for silent < len(out) && out[silent] == 0 {
		silent++
	}
	out = out[silent:]
	at := -1
	for i := range in[:space] {
		if slices.Equal(in[i:i+1000], out[:1000]) {
			at = i
			break
		}
	}
	if at < 0 || !slices.Equal(in[at:at+len(out)], out) || e.gaps != 0 || e.shed != 0 || silent > 3*frame {
		t.Fatalf("silent for %d samples, found at %d, %d gaps, %d shed", silent, at, e.gaps, e.shed)
	}
}

// Clocks that differ by as much as sound devices do never make a gap, and the sound stays smooth.
func TestElasticBearsTwoClocks(t *testing.T) {
	for _, ppm := range []float64{-1000, 1000} {
		var e elastic
		var w wave
		due, last, most := 0.0, 0.0, 0.0
		got := make([]int16, frame)
		for tick := range 3_000 {
			due += frame * (1 + ppm/1e6)
			n := int(due)
			due -= float64(n)
			e.push(w.next(n))
			e.pull(got)
			for i, v := range got {
				if tick > 10 && (tick > 11 || i > 0) {
					most = max(most, math.Abs(float64(v)-last))
				}
				last = float64(v)
			}
			if tick > 100 && (e.n < frame/2 || e.n > space-frame) {
				t.Fatalf("%v ppm: %d samples in the buffer after %d frames", ppm, e.n, tick)
			}
		}
		if step := 10000 * 2 * math.Pi * 440 / rate; e.gaps != 0 || e.shed != 0 || most > 1.1*step {
			t.Errorf("%v ppm: %d gaps, %d shed, a step of %.0f where the tone has %.0f", ppm, e.gaps, e.shed, most, step)
		}
	}
}

// One that is filled and not emptied keeps what is newest; one that is emptied and not filled is silent, and begins anew.
func TestElasticBounds(t *testing.T) {
	var e elastic
	var w wave
	got := make([]int16, frame)
	for range 100 {
		e.push(w.next(frame))
	}
	if e.n != target || e.shed != 0 {
		t.Errorf("nobody pulls: %d samples, %d shed", e.n, e.shed)
	}
	e.pull(got)
	for range 100 {
		e.push(w.next(frame))
	}
	if e.n > space || e.shed < 100*frame-space {
		t.Errorf("%d samples, %d shed", e.n, e.shed)
	}
	e.push(make([]int16, 10*space))
	for range 20 {
		e.pull(got)
	}
	if loudest := slices.Max(got); loudest != 0 || e.gaps != 1 {
		t.Errorf("%d in silence, %d gaps", loudest, e.gaps)
	}
	e.push(w.next(frame))
	if e.pull(got); slices.Max(got) != 0 {
		t.Error("it begins with less than its target")
	}
	e.push(w.next(2 * frame))
	if e.pull(got); slices.Max(got) == 0 {
		t.Error("it does not begin anew")
	}
}
