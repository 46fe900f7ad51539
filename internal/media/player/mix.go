package player

import (
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
)

// maxMembers bounds a conference.
const maxMembers = 64

// Mixer is a conference: each member hears the sum of the others. It works at 16 kHz if it is wideband, else at 8 kHz.
type Mixer struct {
	mu      sync.Mutex
	rate    int
	members []*Member
	tick    uint64
	sum     []int32
}

// Member is one leg in a conference. It is a relay.Source for what the member hears, and its Hear is the relay.TapFunc
// for what it says.
type Member struct {
	mixer   *Mixer
	payload uint8
	codec   codec.Codec
	up      *codec.Upsampler
	down    *codec.Downsampler
	buffer  *rtp.JitterBuffer
	muted   bool
	left    bool
	served  uint64  // the mixer's tick that this member has heard
	native  []int16 // at the codec's rate
	said    []int16 // this tick, at the mixer's rate
	heard   []int16
}

// NewMixer returns an empty conference.
func NewMixer(wideband bool) *Mixer {
	m := &Mixer{rate: 8000}
	if wideband {
		m.rate = 16000
	}
	m.sum = make([]int32, m.rate/50)
	return m
}

// Add lets a leg in that speaks the codec under the payload type. Faults: KindOverload if the conference is full, or that of
// codec.New.
func (m *Mixer) Add(name codec.Name, payloadType uint8) (*Member, error) {
	c, err := codec.New(name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.members) >= maxMembers {
		return nil, &ringfence.Fault{Op: "player.mix", Kind: ringfence.KindOverload, Text: "the conference is full"}
	}
	b := &Member{mixer: m, payload: payloadType, codec: c, buffer: rtp.NewJitterBuffer(), served: m.tick,
		said: make([]int16, m.rate/50), heard: make([]int16, m.rate/50)}
	if c.Rate() != m.rate {
		b.up, b.down = codec.NewUpsampler(), codec.NewDownsampler()
	}
	m.members = append(m.members, b)
	return b, nil
}

// Leave takes the member out; its source ends.
func (b *Member) Leave() {
	m := b.mixer
	m.mu.Lock()
	defer m.mu.Unlock()
	b.left = true
	for i, o := range m.members {
		if o == b {
			m.members = append(m.members[:i], m.members[i+1:]...)
			break
		}
	}
}

// Mute says whether the others shall not hear this member.
func (b *Member) Mute(muted bool) {
	b.mixer.mu.Lock()
	b.muted = muted
	b.mixer.mu.Unlock()
}

// Hear takes what the member says.
func (b *Member) Hear(h *rtp.Header, payload []byte, _ time.Duration) {
	if h.PayloadType != b.payload {
		return
	}
	b.mixer.mu.Lock()
	b.buffer.Push(h, payload)
	b.mixer.mu.Unlock()
}

// Next encodes what the member hears in the next 20 ms. The relay asks every member once a tick, in any order: whoever asks
// first for a tick that is not mixed yet has it mixed.
func (b *Member) Next(buf []byte) int {
	m := b.mixer
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.left {
		return 0
	}
	if b.served == m.tick {
		m.mix()
	}
	b.served = m.tick
	for i, v := range m.sum {
		if !b.muted {
			v -= int32(b.said[i])
		}
		b.heard[i] = int16(max(-32768, min(v, 32767)))
	}
	out := b.heard
	switch {
	case b.codec.Rate() < m.rate:
		b.native = b.down.Process(b.native[:0], b.heard)
		out = b.native
	case b.codec.Rate() > m.rate:
		b.native = b.up.Process(b.native[:0], b.heard)
		out = b.native
	}
	return len(b.codec.Encode(buf[:0], out))
}

// mix takes the next frame of every member and adds them up.
func (m *Mixer) mix() {
	m.tick++
	clear(m.sum)
	for _, b := range m.members {
		b.speak()
		if b.muted {
			continue
		}
		for i, v := range b.said {
			m.sum[i] += int32(v)
		}
	}
}

// speak fills said with the member's next 20 ms.
func (b *Member) speak() {
	payload, _, what := b.buffer.Pop()
	switch {
	case what == rtp.Frame && len(payload) > 0:
		b.native = b.codec.Decode(b.native[:0], payload)
	case what == rtp.Missing:
		b.native = b.codec.Conceal(b.native[:0], b.buffer.Peek())
	default:
		clear(b.said)
		return
	}
	samples := b.native
	if b.up != nil {
		if b.codec.Rate() < b.mixer.rate {
			samples = b.up.Process(nil, b.native)
		} else {
			samples = b.down.Process(nil, b.native)
		}
	}
	clear(b.said[copy(b.said, samples):])
}
