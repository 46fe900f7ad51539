package phone

import (
	"math"
	"slices"
	"sync"

	"ringfence/internal/media/codec"
)

// Sink hears what a call plays: 20 ms of mono sound at rate (8000 or 16000 Hz) at a time, in order. One goroutine calls it.
type Sink interface {
	Write(frame []int16, rate int)
}

// Discard returns a sink that keeps nothing. The call still measures what it hears.
func Discard() Sink { return discard{} }

type discard struct{}

func (discard) Write([]int16, int) {}

// Recorder is a sink that keeps what it hears, up to a limit.
type Recorder struct {
	mu    sync.Mutex
	limit int // samples
	sound codec.Sound
}

// NewRecorder returns a recorder for at most the given seconds; what comes later is not kept.
func NewRecorder(seconds int) *Recorder {
	return &Recorder{limit: max(seconds, 1)}
}

// Write implements [Sink].
func (r *Recorder) Write(frame []int16, rate int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sound.Rate == 0 {
		r.sound.Rate = rate
	}
	room := r.limit*r.sound.Rate - len(r.sound.Samples)
	switch { // the codec may change during a call; the file keeps the rate it began with
	case rate > r.sound.Rate:
		for i := 0; i+1 < len(frame) && room > 0; i, room = i+2, room-1 {
			r.sound.Samples = append(r.sound.Samples, int16((int(frame[i])+int(frame[i+1]))/2))
		}
	case rate < r.sound.Rate:
		for _, v := range frame {
			r.sound.Samples = append(r.sound.Samples, v, v)
		}
	default:
		r.sound.Samples = append(r.sound.Samples, frame[:max(min(room, len(frame)), 0)]...)
	}
}

// Sound returns a copy of what was heard.
func (r *Recorder) Sound() codec.Sound {
	r.mu.Lock()
	defer r.mu.Unlock()
	return codec.Sound{Rate: max(r.sound.Rate, 8000), Samples: slices.Clone(r.sound.Samples)}
}

// WAV returns what was heard as a file.
func (r *Recorder) WAV() ([]byte, error) { return r.Sound().WAV() }

// Audio reports what a call said and heard.
type Audio struct {
	Codec        string  `json:"codec"`         // what is spoken, as SDP names it
	SentHz       float64 `json:"sent_hz"`       // frequency of its own tone, 0 if its source is no tone
	HeardHz      float64 `json:"heard_hz"`      // median frequency heard lately, 0 if there was no clear tone
	HeardSeconds float64 `json:"heard_seconds"` // sound above -50 dB, since the beginning
	HeardLevel   float64 `json:"heard_level"`   // power of the last 20 ms in dB relative to a full-scale sine, -100 for silence
	Concealed    uint64  `json:"concealed"`     // frames that were missing when their time came
}

// ear measures what is heard. Looking for the frequency is the expensive part, so it listens to one frame in five.
type ear struct {
	frames int
	sound  int // frames with sound
	level  float64
	recent [15]float64 // frequencies heard, the last 1.5 s
	count  int
}

const soundLevel = -50 // dB

func (e *ear) hear(frame []int16, rate int) {
	power := 0.0
	for _, s := range frame {
		power += float64(s) * float64(s)
	}
	e.level = -100
	if power > 0 && len(frame) > 0 {
		e.level = max(-100, 10*math.Log10(power/float64(len(frame))/(32767*32767/2)))
	}
	if e.level > soundLevel {
		e.sound++
	}
	e.frames++
	if e.frames%5 != 0 {
		return
	}
	hz := 0.0
	if e.level > soundLevel {
		if h := codec.Hear(frame, rate); h.Confidence > 0.5 {
			hz = h.Hz
		}
	}
	e.recent[e.count%len(e.recent)] = hz
	e.count++
}

// hz is the median of what was heard lately; silence counts, so a tone that ended is forgotten.
func (e *ear) hz() float64 {
	n := min(e.count, len(e.recent))
	if n == 0 {
		return 0
	}
	sorted := slices.Clone(e.recent[:n])
	slices.Sort(sorted)
	return sorted[n/2]
}
