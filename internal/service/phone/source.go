package phone

import (
	"sync"

	"ringfence"
	"ringfence/internal/media/codec"
)

// Source is what a call says. Read fills frame, 20 ms of mono sound, with the next samples at rate (8000 or 16000 Hz). One
// goroutine calls it; the rate changes only if the call's codec does.
type Source interface {
	Read(frame []int16, rate int)
}

// Live is a source that is for those who speak with each other alone, such as a microphone. A far end that is put on hold hears silence instead of it.
type Live interface {
	Source
	Live()
}

// Silence returns a source that says nothing, but says it: packets are sent.
func Silence() Source { return silence{} }

type silence struct{}

func (silence) Read(frame []int16, _ int) { clear(frame) }

// toneLevel is the power of a tone in dB relative to a full-scale sine.
const toneLevel = -13

// Tone returns a source of one frequency; 300 to 3400 Hz pass every codec.
func Tone(hz float64) *ToneSource { return &ToneSource{hz: hz} }

// ToneSource is one steady frequency.
type ToneSource struct {
	hz   float64
	rate int
	tone *codec.Tone
}

// Read implements [Source].
func (t *ToneSource) Read(frame []int16, rate int) {
	if t.tone == nil || t.rate != rate {
		t.rate, t.tone = rate, codec.NewTone(codec.Signal{Hz: []float64{t.hz}}, rate, toneLevel)
	}
	t.tone.Read(frame)
}

// Hz returns the frequency.
func (t *ToneSource) Hz() float64 { return t.hz }

// Play returns a source that plays a sound, once or again and again, and then is silent.
func Play(s codec.Sound, loop bool) *PlaySource {
	return &PlaySource{sound: s, loop: loop, done: make(chan struct{})}
}

// PlayWAV is [Play] for the content of a WAV file; the error is that of codec.ParseWAV.
func PlayWAV(file []byte, loop bool) (*PlaySource, error) {
	s, err := codec.ParseWAV(file)
	if err != nil {
		return nil, err
	}
	if len(s.Samples) == 0 {
		return nil, &ringfence.Fault{Op: "phone.play", Kind: ringfence.KindInvalid, Text: "the file holds no sound"}
	}
	return Play(s, loop), nil
}

// PlaySource plays a sound.
type PlaySource struct {
	sound codec.Sound
	loop  bool
	at    float64 // position in samples of the sound
	once  sync.Once
	done  chan struct{}
}

// Done is closed when the sound was played to its end; never for one that loops.
func (p *PlaySource) Done() <-chan struct{} { return p.done }

// Read implements [Source]. Between rates it interpolates linearly.
func (p *PlaySource) Read(frame []int16, rate int) {
	step := float64(p.sound.Rate) / float64(rate)
	n := len(p.sound.Samples)
	for i := range frame {
		at := int(p.at)
		if at >= n && p.loop && n > 0 {
			p.at -= float64(n)
			at = int(p.at)
		}
		if at >= n {
			clear(frame[i:])
			p.once.Do(func() { close(p.done) })
			return
		}
		next := p.sound.Samples[min(at+1, n-1)]
		part := p.at - float64(at)
		frame[i] = int16(float64(p.sound.Samples[at])*(1-part) + float64(next)*part)
		p.at += step
	}
}
