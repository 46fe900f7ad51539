package control

import (
	"math"
	"time"

	"ringfence/internal/media/codec"
	"ringfence/internal/media/player"
	"ringfence/internal/media/rtp"
)

// sound feeds a leg with samples made by next, encoded in the leg's codec.
type sound struct {
	enc  codec.Codec
	next func(frame []int16) // fills one frame of 20 ms
	buf  []int16
}

// Next implements relay.Source.
func (s *sound) Next(buf []byte) int {
	s.next(s.buf)
	return len(s.enc.Encode(buf[:0], s.buf))
}

// play lets a leg hear what maker yields, for ever. A leg whose codec we cannot encode hears silence.
func (l *Leg) play(maker func(rate int) func(frame []int16)) {
	if l.media == nil || !l.agreed {
		return
	}
	enc, err := l.encoder()
	if err != nil {
		return
	}
	s := &sound{enc: enc, next: maker(enc.Rate()), buf: make([]int16, enc.Rate()/50)}
	if err := l.media.Play(l.format(), s, nil); err != nil {
		l.call.ctl.cfg.Log.Debug("nothing can be played", "leg", l.ID, "err", err)
	}
}

func (l *Leg) silence() {
	if l.media != nil {
		l.media.Stop()
	}
}

// tone yields a signal of the telephone network.
func tone(sig codec.Signal) func(rate int) func([]int16) {
	return func(rate int) func([]int16) {
		t := codec.NewTone(sig, rate, -16)
		return func(frame []int16) { t.Read(frame) }
	}
}

// pitch yields one frequency.
func pitch(hz float64) func(rate int) func([]int16) { return tone(codec.Signal{Hz: []float64{hz}}) }

// music yields music on hold: a slow arpeggio over four chords, made up here, so that no recording needs a licence.
func music(rate int) func([]int16) {
	chords := [4][4]float64{{261.63, 329.63, 392.00, 493.88}, {220.00, 261.63, 329.63, 392.00}, {174.61, 220.00, 261.63, 329.63}, {196.00, 246.94, 293.66, 392.00}}
	const note = 400 * time.Millisecond
	perNote := int(float64(rate) * note.Seconds())
	n := 0
	return func(frame []int16) {
		for i := range frame {
			step := n / perNote
			hz := chords[step/8%4][[8]int{0, 1, 2, 3, 2, 1, 2, 1}[step%8]]
			t := float64(n%perNote) / float64(rate)
			decay := math.Exp(-3*t) * math.Min(1, t*200)
			v := math.Sin(2*math.Pi*hz*t) + 0.3*math.Sin(4*math.Pi*hz*t)
			frame[i] = int16(4200 * decay * v)
			n++
		}
	}
}

// musicTurn is how many frames of 20 ms the music takes until it begins again: 32 notes.
const musicTurn = 32 * 400 / 20

// holdMusic lets a leg hear music on hold. In a codec that costs much to encode it is one recording for all who are held.
func (l *Leg) holdMusic() {
	name := codec.Name(l.choice.Codec.Name)
	if _, ok := codec.Shared(name, l.choice.Codec.FMTP); !ok || l.media == nil || !l.agreed {
		l.play(music)
		return
	}
	ctl := l.call.ctl
	if ctl.music == nil {
		s := codec.Sound{Rate: 16000, Samples: make([]int16, musicTurn*320)}
		music(s.Rate)(s.Samples)
		var err error
		if ctl.music, err = player.NewRecording(s); err != nil {
			l.play(music)
			return
		}
	}
	src, err := ctl.music.Play(name, l.choice.Codec.FMTP, math.MaxInt)
	if err == nil {
		err = l.media.Play(l.format(), src, nil)
	}
	if err != nil {
		ctl.cfg.Log.Debug("nothing can be played", "leg", l.ID, "err", err)
	}
}

// repeater plays back what a leg says, and silence until it says something.
type repeater struct {
	frames chan []byte
	idle   []byte
}

// Next implements relay.Source.
func (r *repeater) Next(buf []byte) int {
	select {
	case f := <-r.frames:
		return copy(buf, f)
	default:
		return copy(buf, r.idle)
	}
}

// echo lets a leg hear itself, a little later.
func (l *Leg) echo() {
	enc, err := l.encoder()
	if err != nil {
		return
	}
	r := &repeater{frames: make(chan []byte, 50), idle: enc.Encode(nil, make([]int16, enc.Rate()/50))}
	voice := l.choice.Codec.PayloadType
	l.media.Tap(func(h *rtp.Header, payload []byte, _ time.Duration) {
		if h.PayloadType != voice || len(payload) > 1280 {
			return
		}
		select {
		case r.frames <- append([]byte(nil), payload...):
		default: // the queue is a second long; drop what does not fit
		}
	})
	_ = l.media.Play(l.format(), r, nil)
}
