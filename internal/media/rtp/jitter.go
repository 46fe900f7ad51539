package rtp

// Bounds of a jitter buffer, in frames of the caller's tick (20 ms).
const (
	slots     = 64 // what fits: 1.28 s
	minTarget = 1
	maxTarget = 12
	calm      = 500 // ticks without trouble (10 s) before the buffer is made shorter
)

// Played says what a jitter buffer returned.
type Played uint8

// What [JitterBuffer.Pop] returns.
const (
	Waiting Played = iota // nothing to play yet, or any more: play silence
	Frame                 // the next frame
	Missing               // the frame is lost but later ones are here: conceal it
)

// JitterBuffer puts packets back in order and plays one frame a tick. It keeps no clock: the caller's Pop, once every frame
// time, is the clock. Its depth adapts: each late packet or dry spell makes it one frame deeper, ten calm seconds one
// frame shorter. One goroutine at a time may use it.
type JitterBuffer struct {
	slot    [slots]held
	next    uint16 // sequence number to play next
	started bool   // next is meaningful
	filling bool
	target  int
	count   int
	quiet   int // ticks since the last trouble
	spare   int // the fewest frames left over after a tick, since quiet began
	late    uint64
	missing uint64
}

type held struct {
	full    bool
	seq     uint16
	stamp   uint32
	payload []byte
}

// NewJitterBuffer returns a buffer that begins two frames deep.
func NewJitterBuffer() *JitterBuffer { return &JitterBuffer{target: 2, filling: true, spare: slots} }

// Push stores a copy of a payload. It returns false if the packet came too late, came twice, or is longer than [MaxPacket].
func (j *JitterBuffer) Push(h *Header, payload []byte) bool {
	if len(payload) > MaxPacket {
		return false
	}
	if !j.started {
		j.started, j.next = true, h.Sequence
	}
	ahead := int16(h.Sequence - j.next)
	switch {
	case ahead < 0 && j.filling && j.count > 0 && ahead > -maxTarget && int(int16(j.newest()-h.Sequence)) < slots:
		j.next = h.Sequence // still filling: the packet that came first was not the first
	case ahead < 0 && ahead > -maxMisorder:
		j.late++
		j.trouble()
		return false
	case ahead < 0 || ahead >= slots: // another stream, or a gap longer than the buffer
		j.flush()
		j.started, j.next = true, h.Sequence
	}
	s := &j.slot[h.Sequence%slots]
	if s.full {
		return false
	}
	s.full, s.seq, s.stamp = true, h.Sequence, h.Timestamp
	s.payload = append(s.payload[:0], payload...)
	j.count++
	return true
}

func (j *JitterBuffer) newest() uint16 {
	for i := slots - 1; i > 0; i-- {
		if seq := j.next + uint16(i); j.slot[seq%slots].full {
			return seq
		}
	}
	return j.next
}

// Flush forgets what is held, e.g. because what comes now is of another codec. The counts go on.
func (j *JitterBuffer) Flush() {
	j.flush()
	j.started = false
}

func (j *JitterBuffer) flush() {
	for i := range j.slot {
		j.slot[i].full = false
	}
	j.count, j.filling = 0, true
}

func (j *JitterBuffer) trouble() {
	j.target, j.quiet, j.spare = min(j.target+1, maxTarget), 0, slots
}

// Peek returns the payload that Pop returns next, or nil if it is not here: after a missing frame, the one that may hold a second copy
// of it. It is valid until the next Push.
func (j *JitterBuffer) Peek() []byte {
	if s := &j.slot[j.next%slots]; s.full && !j.filling {
		return s.payload
	}
	return nil
}

// Pop returns what to play in this tick. The payload is valid until the next Push.
func (j *JitterBuffer) Pop() (payload []byte, timestamp uint32, what Played) {
	if j.filling {
		if j.count < j.target {
			return nil, 0, Waiting
		}
		j.filling = false
		for !j.slot[j.next%slots].full { // what was lost before this is not missed any more
			j.next++
		}
	}
	if j.count == 0 { // dry: wait until the target is reached again
		j.filling = true
		j.trouble()
		return nil, 0, Waiting
	}
	j.settle()
	s := &j.slot[j.next%slots]
	j.next++
	if !s.full {
		j.missing++
		return nil, 0, Missing
	}
	s.full = false
	j.count--
	return s.payload, s.stamp, Frame
}

// settle makes the buffer shorter after a calm time in which frames were always left over: one frame is dropped.
func (j *JitterBuffer) settle() {
	j.quiet++
	j.spare = min(j.spare, j.count-1)
	if j.quiet < calm {
		return
	}
	if j.target > minTarget {
		j.target--
	}
	if s := &j.slot[j.next%slots]; j.spare >= j.target && j.count > 1 && s.full {
		s.full = false
		j.count--
		j.next++
	}
	j.quiet, j.spare = 0, slots
}

// Depth returns the frames held now and the depth aimed at.
func (j *JitterBuffer) Depth() (now, target int) { return j.count, j.target }

// Trouble returns how many packets came too late and how many frames were missing when their time came.
func (j *JitterBuffer) Trouble() (late, missing uint64) { return j.late, j.missing }
