package player

import (
	"slices"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/relay"
)

// Recording is a sound that many legs may hear, kept at both rates of our codecs so that playing it costs no conversion.
type Recording struct {
	narrow, wide codec.Sound
	shared       shared
}

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

// Play returns a source that plays the recording so many times, at least once, to a far end that says fmtp of the codec. The fault is that of codec.NewFor.
func (r *Recording) Play(name codec.Name, fmtp string, times int) (relay.Source, error) {
	if enc, ok := codec.Shared(name, fmtp); ok {
		r.shared.begin(enc, r.wide.Samples)
		return &replayed{from: &r.shared, left: max(times, 1)}, nil
	}
	c, err := codec.NewFor(name, fmtp)
	if err != nil {
		return nil, err
	}
	sound := r.narrow
	if c.Rate() == r.wide.Rate {
		sound = r.wide
	}
	return &repeated{codec: c, sound: sound.Samples, left: max(times, 1), frame: make([]int16, c.Rate()/50)}, nil
}

// shared is a sound that is encoded once, as far as anybody has heard it.
type shared struct {
	mu      sync.Mutex
	enc     codec.Codec
	frame   []int16
	sound   []int16 // what is not encoded yet
	packets [][]byte
}

// begin gives it its encoder and its sound, the first time.
func (s *shared) begin(enc codec.Codec, sound []int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc == nil {
		s.enc, s.frame, s.sound = enc, make([]int16, enc.Rate()/50), sound
	}
}

// packet returns a packet by its number; nil is the end.
func (s *shared) packet(i int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.packets) <= i && len(s.sound) > 0 {
		n := copy(s.frame, s.sound)
		clear(s.frame[n:])
		s.sound = s.sound[n:]
		s.packets = append(s.packets, slices.Clip(s.enc.Encode(nil, s.frame)))
	}
	if i >= len(s.packets) {
		return nil
	}
	return s.packets[i]
}

// replayed plays what is shared some times over.
type replayed struct {
	from *shared
	at   int
	left int
}

// Next implements relay.Source.
func (p *replayed) Next(buf []byte) int {
	b := p.from.packet(p.at)
	if b == nil && p.at > 0 {
		if p.left--; p.left > 0 {
			p.at = 0
			b = p.from.packet(0)
		}
	}
	p.at++
	return copy(buf, b)
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
