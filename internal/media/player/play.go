package player

import (
	"fmt"
	"sync"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/relay"
)

// FormatOf returns how 20 ms of a codec are labelled, under the payload type that the far end gave to it.
func FormatOf(name codec.Name, payloadType uint8) relay.Format {
	return relay.Format{PayloadType: payloadType, Samples: name.Clock() / 50}
}

// Playback is a sound being played. It implements relay.Source.
type Playback struct {
	codec codec.Codec
	sound []int16 // at the codec's rate
	at    int
	loop  bool
	frame []int16
}

// NewPlayback returns a source that plays s once, or again and again. The sound must have 8000 or 16000 samples a second
// and, to be looped, at least 20 ms; otherwise it is a KindInvalid fault. The last frame is filled up with silence.
func NewPlayback(name codec.Name, s codec.Sound, loop bool) (*Playback, error) {
	c, err := codec.New(name)
	if err != nil {
		return nil, err
	}
	if s.Rate != 8000 && s.Rate != 16000 {
		return nil, &ringfence.Fault{Op: "player.play", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("the sound has %d samples a second", s.Rate),
			Hint: "convert it to 8000 or 16000"}
	}
	p := &Playback{codec: c, loop: loop, frame: make([]int16, c.Rate()/50)}
	p.sound = convert(s.Samples, s.Rate, c.Rate())
	if loop && len(p.sound) < len(p.frame) {
		return nil, &ringfence.Fault{Op: "player.play", Kind: ringfence.KindInvalid, Text: "a sound shorter than 20 ms cannot be looped"}
	}
	return p, nil
}

// convert returns samples at the other of the two rates, or as they are.
func convert(samples []int16, from, to int) []int16 {
	switch {
	case from < to:
		return codec.NewUpsampler().Process(make([]int16, 0, 2*len(samples)), samples)
	case from > to:
		return codec.NewDownsampler().Process(make([]int16, 0, len(samples)/2), samples)
	}
	return samples
}

// Next encodes the next 20 ms.
func (p *Playback) Next(buf []byte) int {
	if p.at >= len(p.sound) && !p.loop {
		return 0
	}
	n := 0
	for n < len(p.frame) {
		if p.at >= len(p.sound) {
			if !p.loop {
				clear(p.frame[n:])
				break
			}
			p.at = 0
		}
		k := copy(p.frame[n:], p.sound[p.at:])
		n += k
		p.at += k
	}
	return len(p.codec.Encode(buf[:0], p.frame))
}

// Tone is an endless call-progress tone. It implements relay.Source.
type Tone struct {
	codec codec.Codec
	tone  *codec.Tone
	frame []int16
}

// NewTone returns a source for a signal at level dB below a full-scale sine (a negative number). The fault is that of
// codec.New.
func NewTone(name codec.Name, s codec.Signal, level float64) (*Tone, error) {
	c, err := codec.New(name)
	if err != nil {
		return nil, err
	}
	return &Tone{codec: c, tone: codec.NewTone(s, c.Rate(), level), frame: make([]int16, c.Rate()/50)}, nil
}

// Next encodes the next 20 ms.
func (t *Tone) Next(buf []byte) int {
	t.tone.Read(t.frame)
	return len(t.codec.Encode(buf[:0], t.frame))
}

// Queue plays sources one after the other; the next may be added while one plays. It implements relay.Source and ends
// when it is empty.
type Queue struct {
	mu      sync.Mutex
	sources []relay.Source
}

// Add puts sources at the end.
func (q *Queue) Add(s ...relay.Source) {
	q.mu.Lock()
	q.sources = append(q.sources, s...)
	q.mu.Unlock()
}

// Next returns the next frame of the first source that has one.
func (q *Queue) Next(buf []byte) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.sources) > 0 {
		if n := q.sources[0].Next(buf); n > 0 {
			return n
		}
		q.sources = q.sources[1:]
	}
	return 0
}
