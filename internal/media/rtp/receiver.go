package rtp

import (
	"time"

	"ringfence"
)

// Limits of RFC 3550 appendix A.1: a jump beyond maxDropout is a restart of the source, a step back beyond maxMisorder too.
const (
	maxDropout  = 3000
	maxMisorder = 100
)

// Receiver measures what arrives from one peer: loss by RFC 3550 appendix A.1 and A.3, jitter by A.8. Feed it only packets
// that authenticated, so it needs no probation. When the peer changes its SSRC the new source starts afresh and the totals
// go on.
type Receiver struct {
	clock    uint32 // payload clock in Hz
	started  bool
	ssrc     uint32
	max      uint16
	cycles   uint32 // 65536 times the wraps
	base     uint32
	bad      uint32 // the sequence number after a jump that would confirm a restart; 1<<16 for none
	received uint64 // from the current source
	stamp    uint32
	transit  uint32
	rebase   bool   // the next packet only sets transit: the clock has changed
	jitter   uint32 // times 16, in clock units

	earlierLost uint64 // of earlier sources
	total       uint64

	priorExpected uint32
	priorReceived uint64

	lastSR   uint32
	lastSRAt time.Duration
}

// NewReceiver returns a receiver for payloads whose RTP clock runs at clock Hz (8000 for G.711 and G.722, RFC 3551 section 4.5.2).
func NewReceiver(clock uint32) *Receiver {
	return &Receiver{clock: max(clock, 1), bad: 1 << 16}
}

// SetClock changes the payload clock, in Hz; a new clock begins a new measurement of the jitter and keeps all counts.
func (r *Receiver) SetClock(clock uint32) {
	if clock = max(clock, 1); clock != r.clock {
		r.clock, r.jitter, r.rebase = clock, 0, true
	}
}

// Packet counts a packet that arrived at the given time since any fixed origin.
func (r *Receiver) Packet(h *Header, at time.Duration) {
	r.total++
	arrival := r.units(at)
	if !r.started || r.ssrc != h.SSRC {
		r.earlierLost += r.lostNow()
		r.restart(h, arrival)
		return
	}
	delta := h.Sequence - r.max
	switch {
	case delta < maxDropout:
		if h.Sequence < r.max {
			r.cycles += 1 << 16
		}
		r.max = h.Sequence
	case delta <= 65535-maxMisorder:
		if uint32(h.Sequence) != r.bad { // the first packet after a very large jump: wait for the next to confirm it
			r.bad = uint32(h.Sequence + 1)
			return
		}
		r.earlierLost += r.lostNow()
		r.restart(h, arrival)
		return
	default: // late or repeated
	}
	r.received++
	r.spread(h.Timestamp, arrival)
}

func (r *Receiver) restart(h *Header, arrival uint32) {
	r.started, r.ssrc, r.max, r.cycles = true, h.SSRC, h.Sequence, 0
	r.base, r.bad, r.received = uint32(h.Sequence), 1<<16, 1
	r.priorExpected, r.priorReceived = 0, 0
	r.stamp, r.transit = h.Timestamp, arrival-h.Timestamp
	r.lastSR, r.lastSRAt, r.rebase = 0, 0, false
}

// spread updates the jitter (RFC 3550 appendix A.8). Packets of the same instant, such as the repeats of a telephone
// event, say nothing about the network's delay.
func (r *Receiver) spread(stamp, arrival uint32) {
	if stamp == r.stamp {
		return
	}
	transit := arrival - stamp
	if r.rebase {
		r.stamp, r.transit, r.rebase = stamp, transit, false
		return
	}
	d := int32(transit - r.transit)
	r.stamp, r.transit = stamp, transit
	if d < 0 {
		d = -d
	}
	if uint32(d) > 10*r.clock { // a new timestamp origin, not ten seconds of delay
		return
	}
	r.jitter += uint32(d) - (r.jitter+8)>>4
}

func (r *Receiver) units(at time.Duration) uint32 {
	return uint32(uint64(at/time.Second)*uint64(r.clock) + uint64(at%time.Second)*uint64(r.clock)/uint64(time.Second))
}

func (r *Receiver) expected() uint32 { return r.cycles + uint32(r.max) - r.base + 1 }

func (r *Receiver) lostNow() uint64 {
	if e := uint64(r.expected()); r.started && e > r.received {
		return e - r.received
	}
	return 0
}

// SenderReport notes a sender report of the current source, so that [Receiver.Report] can answer it.
func (r *Receiver) SenderReport(s Sender, at time.Duration) {
	r.lastSR, r.lastSRAt = uint32(s.NTP>>16), at
}

// Report returns the report block on the current source and begins the next reporting interval. It is false before the
// first packet.
func (r *Receiver) Report(at time.Duration) (Block, bool) {
	if !r.started {
		return Block{}, false
	}
	b := Block{SSRC: r.ssrc, Highest: r.cycles + uint32(r.max), Jitter: r.jitter >> 4, LastSR: r.lastSR}
	b.Lost = int32(max(-1<<23, min(int64(r.expected())-int64(r.received), 1<<23-1)))
	expected := r.expected() - r.priorExpected
	lost := int64(expected) - int64(r.received-r.priorReceived)
	if expected > 0 && lost > 0 {
		b.Fraction = uint8(min(lost<<8/int64(expected), 255))
	}
	r.priorExpected, r.priorReceived = r.expected(), r.received
	if r.lastSR != 0 {
		b.Delay = uint32((at - r.lastSRAt) * 65536 / time.Second)
	}
	return b, true
}

// Jitter returns the interarrival jitter (RFC 3550 section 6.4.1).
func (r *Receiver) Jitter() time.Duration {
	return time.Duration(r.jitter>>4) * time.Second / time.Duration(r.clock)
}

// Lost returns how many packets never came, over all sources.
func (r *Receiver) Lost() uint64 { return r.earlierLost + r.lostNow() }

// Snapshot returns the numbers so far in the shape of the evidence of a leg. Suite, DSCP, PacketsOut and Rejected are for
// the caller to fill in.
func (r *Receiver) Snapshot() ringfence.MediaProof {
	p := ringfence.MediaProof{PacketsIn: r.total, Lost: r.Lost(), JitterMS: float64(r.Jitter()) / float64(time.Millisecond)}
	if r.total > 0 {
		p.MOS = G711().MOS(float64(p.Lost)/float64(p.Lost+r.total), r.Jitter(), 0)
	}
	return p
}
