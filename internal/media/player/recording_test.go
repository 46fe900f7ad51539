package player

import (
	"bytes"
	"slices"
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
				a, err := r.Play(name, "", times)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := r.Play(name, "", 1)
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
	for _, name := range []codec.Name{codec.PCMU, codec.Opus} {
		src, err := none.Play(name, "", 100)
		if err != nil || src.Next(make([]byte, 1280)) != 0 || src.Next(make([]byte, 1280)) != 0 {
			t.Errorf("%s: nothing is not over at once: %v", name, err)
		}
	}
	if _, err := none.Play("G729", "", 1); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Errorf("G.729: %v", err)
	}
}

// What many hear in Opus is encoded once, from its beginning for each of them; who asks for less than we send gets it encoded anew.
func TestRecordingIsEncodedOnce(t *testing.T) {
	r, err := NewRecording(sine(700, 16000, 16000/2))
	if err != nil {
		t.Fatal(err)
	}
	var first [][]byte
	for turn, fmtp := range []string{"", "useinbandfec=1;stereo=1", "maxaveragebitrate=12000"} {
		src, err := r.Play(codec.Opus, fmtp, 1)
		if err != nil {
			t.Fatal(err)
		}
		var buf [1280]byte
		n, same := 0, 0
		for k := src.Next(buf[:]); k > 0; k = src.Next(buf[:]) {
			if turn == 0 {
				first = append(first, slices.Clone(buf[:k]))
			}
			if bytes.Equal(buf[:k], first[n]) {
				same++
			}
			n++
		}
		if n != 25 || (same == 25) != (turn < 2) || len(r.shared.packets) != 25 {
			t.Errorf("%q: %d frames, %d as before, %d encoded for all", fmtp, n, same, len(r.shared.packets))
		}
	}
}
