package player

import (
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/relay"
)

// Recording is a sound that many legs may hear, kept at both rates of our codecs so that playing it costs no conversion.
type Recording struct{ narrow, wide codec.Sound }

// NewRecording keeps a sound of 8000 or 16000 samples a second; another rate is a KindInvalid fault.
func NewRecording(s codec.Sound) (*Recording, error) {
	if s.Rate != 8000 && s.Rate != 16000 {
		return nil, &ringfence.Fault{Op: "player.recording", Kind: ringfence.KindInvalid, Text: "a recording has 8000 or 16000 samples a second", Hint: "convert it with sox -r 8000"}
	}
	at := func(rate int) codec.Sound { return codec.Sound{Rate: rate, Samples: convert(s.Samples, s.Rate, rate)} }
	return &Recording{narrow: at(8000), wide: at(16000)}, nil
}

// Length returns how long it is.
func (r *Recording) Length() time.Duration {
	return time.Duration(len(r.narrow.Samples)) * time.Second / 8000
}

// Play returns a source that plays the recording through c so many times, at least once.
func (r *Recording) Play(c codec.Codec, times int) relay.Source {
	sound := r.narrow
	if c.Rate() == r.wide.Rate {
		sound = r.wide
	}
	return &repeated{codec: c, sound: sound.Samples, left: max(times, 1), frame: make([]int16, c.Rate()/50)}
}

// repeated plays a sound some times over.
type repeated struct {
	codec codec.Codec
	sound []int16
	at    int
	left  int
	frame []int16
}

// Next implements relay.Source.
func (p *repeated) Next(buf []byte) int {
	if p.at >= len(p.sound) {
		p.left--
		p.at = 0
	}
	if p.left <= 0 || len(p.sound) == 0 {
		return 0
	}
	n := copy(p.frame, p.sound[p.at:])
	clear(p.frame[n:])
	p.at += n
	return len(p.codec.Encode(buf[:0], p.frame))
}
