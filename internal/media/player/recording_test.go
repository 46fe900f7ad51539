package player

import (
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/relay"
)

var _ relay.Source = (*repeated)(nil)

// A recording of either rate is heard as often as asked, by several legs at once, in every codec of ours.
func TestRecordingInEveryCodec(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		r, err := NewRecording(sine(700, rate, rate+rate/100)) // 1.01 s: the last frame is half full
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Length(); got < time.Second || got > 1020*time.Millisecond {
			t.Errorf("it lasts %s", got)
		}
		for _, name := range []codec.Name{codec.PCMU, codec.PCMA, codec.G722, codec.Opus} {
			turns := map[int]int{0: 51, 1: 51, 3: 153}
			if name == codec.Opus { // which takes its time
				turns = map[int]int{rate / 8000: 51 * rate / 8000}
			}
			for times, frames := range turns {
				a, b := r.Play(codecOf(t, name), times), r.Play(codecOf(t, name), 1)
				c := codecOf(t, name)
				var buf [1280]byte
				var out []int16
				got := 0
				for n := a.Next(buf[:]); n > 0 && got < 1000; n = a.Next(buf[:]) {
					out = c.Decode(out, buf[:n])
					got++
					b.Next(buf[:])
				}
				if got != frames || a.Next(buf[:]) != 0 {
					t.Errorf("%s from %d, %d times: %d frames", name, rate, times, got)
				}
				last := len(out) - c.Rate()/2 // in the last turn
				if h := codec.Hear(out[last:last+c.Rate()/50], c.Rate()); !near(h, 700) {
					t.Errorf("%s from %d: %+v", name, rate, h)
				}
			}
		}
	}
}

func TestRecordingRefusals(t *testing.T) {
	if _, err := NewRecording(sine(700, 44100, 44100)); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("44100 Hz: %v", err)
	}
	none, err := NewRecording(codec.Sound{Rate: 8000})
	if err != nil {
		t.Fatal(err)
	}
	if none.Play(codecOf(t, codec.PCMU), 100).Next(make([]byte, 1280)) != 0 {
		t.Error("nothing is not over at once")
	}
}
