package player

import (
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
)

// maxGap is the longest pause that a recording keeps as silence; a larger step of the timestamp is a new stream that
// follows on at once.
const maxGap = 10 * time.Second

// Recorder records what a leg hears. Its Hear is a relay.TapFunc.
type Recorder struct {
	mu      sync.Mutex
	codec   codec.Codec
	clock   uint32 // of timestamps, in Hz
	payload uint8
	limit   int // samples
	samples []int16
	frame   []int16
	begun   bool
	ssrc    uint32
	stamp   uint32 // timestamp of samples[base]
	base    int
	full    bool
	loud    time.Duration // end of the last frame that was not silence, from the beginning of the recording
}

// NewRecorder returns a recorder for packets of one payload type, which keeps at most limit of sound. A limit below 20 ms
// or above an hour is a KindInvalid fault; an unknown codec is that of codec.New.
func NewRecorder(name codec.Name, payloadType uint8, limit time.Duration) (*Recorder, error) {
	c, err := codec.New(name)
	if err != nil {
		return nil, err
	}
	if limit < 20*time.Millisecond || limit > time.Hour {
		return nil, &ringfence.Fault{Op: "player.record", Kind: ringfence.KindInvalid, Text: "a recording lasts between 20 ms and an hour"}
	}
	return &Recorder{codec: c, clock: name.Clock(), payload: payloadType, limit: int(limit * time.Duration(c.Rate()) / time.Second)}, nil
}

// Hear puts one packet in its place. Packets of other payload types and what lies beyond the limit are dropped.
func (r *Recorder) Hear(h *rtp.Header, payload []byte, _ time.Duration) {
	if h.PayloadType != r.payload {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.base + int(int64(int32(h.Timestamp-r.stamp))*int64(r.codec.Rate())/int64(r.clock))
	gap := int(maxGap * time.Duration(r.codec.Rate()) / time.Second)
	if !r.begun || r.ssrc != h.SSRC || at < r.base || at > len(r.samples)+gap {
		if r.begun && r.ssrc == h.SSRC && at < r.base && at > r.base-gap {
			return // older than where this stream's recording began
		}
		r.begun, r.ssrc, r.stamp, r.base = true, h.SSRC, h.Timestamp, len(r.samples)
		at = r.base
	}
	r.frame = r.codec.Decode(r.frame[:0], payload)
	end := min(at+len(r.frame), r.limit)
	r.full = r.full || end == r.limit
	if at >= end {
		return
	}
	if end > len(r.samples) {
		r.samples = append(r.samples, make([]int16, end-len(r.samples))...)
	}
	copy(r.samples[at:end], r.frame)
	if loud(r.frame) {
		r.loud = max(r.loud, r.length(end))
	}
}

// loud reports whether a frame is above about -45 dB, which the noise of a quiet room is not.
func loud(frame []int16) bool {
	var sum int64
	for _, v := range frame {
		sum += int64(v) * int64(v)
	}
	return len(frame) > 0 && sum/int64(len(frame)) > 130*130
}

func (r *Recorder) length(samples int) time.Duration {
	return time.Duration(samples) * time.Second / time.Duration(r.codec.Rate())
}

// Progress returns how long the recording is, how much of its end is silence, and whether it has reached its limit.
func (r *Recorder) Progress() (length, silence time.Duration, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	length = r.length(len(r.samples))
	return length, length - r.loud, r.full
}

// Sound returns a copy of what was recorded so far.
func (r *Recorder) Sound() codec.Sound {
	r.mu.Lock()
	defer r.mu.Unlock()
	return codec.Sound{Rate: r.codec.Rate(), Samples: append([]int16(nil), r.samples...)}
}
