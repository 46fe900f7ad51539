package rtp

import (
	"encoding/binary"
	"errors"
	"time"
)

// Reasons to refuse an RTCP packet.
var (
	ErrRTCPLength = errors.New("rtcp: a length runs past the packet")
	ErrRTCPFirst  = errors.New("rtcp: a compound packet begins with a sender or receiver report")
)

// RTCP packet types (RFC 3550 section 12.1, RFC 3611 section 2).
const (
	typeSR   = 200
	typeRR   = 201
	typeSDES = 202
	typeBYE  = 203
	typeXR   = 207
)

// Block is a report block: what a receiver tells about one source (RFC 3550 section 6.4.1).
type Block struct {
	SSRC     uint32 // the source reported on
	Fraction uint8  // lost since the last report, in 1/256
	Lost     int32  // lost since the beginning, 24 bits signed; negative if there were duplicates
	Highest  uint32 // extended highest sequence number received
	Jitter   uint32 // in units of the payload's clock
	LastSR   uint32 // middle 32 bits of the NTP time of the last sender report, 0 if none
	Delay    uint32 // since that report came, in 1/65536 s
}

// Sender is the sender information of a sender report (RFC 3550 section 6.4.1).
type Sender struct {
	NTP       uint64 // seconds since 1900 in the high half, fraction in the low
	Timestamp uint32 // the same instant on the payload's clock
	Packets   uint32
	Octets    uint32
}

// VoIPMetrics is the part of an RFC 3611 section 4.7 block that this node uses.
type VoIPMetrics struct {
	SSRC       uint32
	Loss       uint8  // in 1/256
	Discard    uint8  // in 1/256
	RoundTrip  uint16 // ms
	EndSystem  uint16 // ms
	R          uint8  // 0 to 100; 127 is unavailable
	MOSLQ      uint8  // times 10; 127 is unavailable
	MOSCQ      uint8  // times 10; 127 is unavailable
	JitterNow  uint16 // nominal jitter buffer delay, ms
	JitterPeak uint16 // highest jitter buffer delay, ms
}

// Control is what one compound RTCP packet says. It is reused from packet to packet and allocates nothing.
type Control struct {
	SSRC     uint32 // who sent the first packet of the compound
	IsSender bool   // the compound begins with a sender report, and Sender is set
	Sender   Sender
	Blocks   [31]Block
	Count    int // blocks that are set
	Voice    VoIPMetrics
	HasVoice bool
	Bye      bool
}

// ParseRTCP reads a compound RTCP packet (RFC 3550 section 6.1) into c, which is overwritten even on error. Packet types
// it does not know are stepped over.
func ParseRTCP(b []byte, c *Control) error {
	*c = Control{}
	if len(b) > MaxPacket {
		return ErrLong
	}
	if len(b) < 8 {
		return ErrShort
	}
	if b[1] != typeSR && b[1] != typeRR {
		return ErrRTCPFirst
	}
	c.SSRC = binary.BigEndian.Uint32(b[4:])
	for len(b) > 0 {
		if len(b) < 4 {
			return ErrRTCPLength
		}
		if b[0]>>6 != 2 {
			return ErrVersion
		}
		n := 4 + 4*int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return ErrRTCPLength
		}
		if err := c.one(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (c *Control) one(p []byte) error {
	count, body := int(p[0]&0x1f), p[4:]
	switch p[1] {
	case typeSR:
		if len(body) < 24+24*count {
			return ErrRTCPLength
		}
		c.IsSender = true
		c.Sender = Sender{NTP: binary.BigEndian.Uint64(body[4:]), Timestamp: binary.BigEndian.Uint32(body[12:]),
			Packets: binary.BigEndian.Uint32(body[16:]), Octets: binary.BigEndian.Uint32(body[20:])}
		c.blocks(body[24:], count)
	case typeRR:
		if len(body) < 4+24*count {
			return ErrRTCPLength
		}
		c.blocks(body[4:], count)
	case typeBYE:
		if len(body) < 4*count {
			return ErrRTCPLength
		}
		c.Bye = true
	case typeXR:
		return c.extended(body)
	}
	return nil
}

func (c *Control) blocks(b []byte, count int) {
	for i := 0; i < count && c.Count < len(c.Blocks); i++ {
		p := b[24*i:]
		lost := int32(binary.BigEndian.Uint32(p[4:])<<8) >> 8 // sign of 24 bits
		c.Blocks[c.Count] = Block{SSRC: binary.BigEndian.Uint32(p), Fraction: p[4], Lost: lost,
			Highest: binary.BigEndian.Uint32(p[8:]), Jitter: binary.BigEndian.Uint32(p[12:]),
			LastSR: binary.BigEndian.Uint32(p[16:]), Delay: binary.BigEndian.Uint32(p[20:])}
		c.Count++
	}
}

func (c *Control) extended(body []byte) error {
	if len(body) < 4 {
		return ErrRTCPLength
	}
	for b := body[4:]; len(b) > 0; {
		if len(b) < 4 {
			return ErrRTCPLength
		}
		n := 4 + 4*int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return ErrRTCPLength
		}
		if b[0] == 7 { // VoIP metrics, RFC 3611 section 4.7
			if n != 36 {
				return ErrRTCPLength
			}
			c.HasVoice = true
			c.Voice = VoIPMetrics{SSRC: binary.BigEndian.Uint32(b[4:]), Loss: b[8], Discard: b[9],
				RoundTrip: binary.BigEndian.Uint16(b[16:]), EndSystem: binary.BigEndian.Uint16(b[18:]),
				R: b[24], MOSLQ: b[26], MOSCQ: b[27],
				JitterNow: binary.BigEndian.Uint16(b[30:]), JitterPeak: binary.BigEndian.Uint16(b[32:])}
		}
		b = b[n:]
	}
	return nil
}

// AppendReport appends a sender report, or a receiver report if s is nil, and at most 31 blocks to dst.
func AppendReport(dst []byte, ssrc uint32, s *Sender, blocks ...Block) []byte {
	blocks = blocks[:min(len(blocks), 31)]
	kind, words := byte(typeRR), 1
	if s != nil {
		kind, words = typeSR, 6
	}
	dst = append(dst, 0x80|byte(len(blocks)), kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(words+6*len(blocks)))
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	if s != nil {
		dst = binary.BigEndian.AppendUint64(dst, s.NTP)
		dst = binary.BigEndian.AppendUint32(dst, s.Timestamp)
		dst = binary.BigEndian.AppendUint32(dst, s.Packets)
		dst = binary.BigEndian.AppendUint32(dst, s.Octets)
	}
	for _, r := range blocks {
		dst = binary.BigEndian.AppendUint32(dst, r.SSRC)
		lost := max(-1<<23, min(r.Lost, 1<<23-1))
		dst = binary.BigEndian.AppendUint32(dst, uint32(r.Fraction)<<24|uint32(lost)&0xffffff)
		dst = binary.BigEndian.AppendUint32(dst, r.Highest)
		dst = binary.BigEndian.AppendUint32(dst, r.Jitter)
		dst = binary.BigEndian.AppendUint32(dst, r.LastSR)
		dst = binary.BigEndian.AppendUint32(dst, r.Delay)
	}
	return dst
}

// AppendName appends a source description with a canonical name of at most 255 octets (RFC 3550 section 6.5.1).
func AppendName(dst []byte, ssrc uint32, cname string) []byte {
	cname = cname[:min(len(cname), 255)]
	item := 2 + len(cname)
	padded := (item + 4) &^ 3 // at least one zero octet ends the list
	dst = append(dst, 0x81, typeSDES)
	dst = binary.BigEndian.AppendUint16(dst, uint16(1+padded/4))
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = append(dst, 1, byte(len(cname)))
	dst = append(dst, cname...)
	for range padded - item {
		dst = append(dst, 0)
	}
	return dst
}

// AppendBye appends a goodbye for one source (RFC 3550 section 6.6).
func AppendBye(dst []byte, ssrc uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0x81, typeBYE, 0, 1), ssrc)
}

// AppendVoice appends an extended report with one VoIP metrics block (RFC 3611 section 4.7); what VoIPMetrics does not
// hold is written as unavailable.
func AppendVoice(dst []byte, ssrc uint32, v VoIPMetrics) []byte {
	dst = append(dst, 0x80, typeXR, 0, 10)
	dst = binary.BigEndian.AppendUint32(dst, ssrc)
	dst = append(dst, 7, 0, 0, 8)
	dst = binary.BigEndian.AppendUint32(dst, v.SSRC)
	dst = append(dst, v.Loss, v.Discard, 0, 0) // burst and gap densities are not measured
	dst = append(dst, 0, 0, 0, 0)              // nor are their durations
	dst = binary.BigEndian.AppendUint16(dst, v.RoundTrip)
	dst = binary.BigEndian.AppendUint16(dst, v.EndSystem)
	dst = append(dst, 127, 127, 127, 16) // signal, noise, echo return loss unavailable; Gmin 16
	dst = append(dst, v.R, 127, v.MOSLQ, v.MOSCQ)
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, v.JitterNow)
	dst = binary.BigEndian.AppendUint16(dst, v.JitterPeak)
	return binary.BigEndian.AppendUint16(dst, v.JitterPeak)
}

// NTP converts an instant to a 64-bit NTP timestamp (RFC 3550 section 4).
func NTP(t time.Time) uint64 {
	const from1900 = 2208988800
	return uint64(t.Unix()+from1900)<<32 | uint64(t.Nanosecond())<<32/1_000_000_000
}

// RoundTrip returns the round-trip time that block b reveals when it arrives at now: now - LastSR - Delay (RFC 3550
// section 6.4.1). It is false if the block answers no sender report or the clocks do not add up.
func RoundTrip(now time.Time, b Block) (time.Duration, bool) {
	if b.LastSR == 0 {
		return 0, false
	}
	d := int32(uint32(NTP(now)>>16) - b.LastSR - b.Delay)
	if d < 0 {
		return 0, false
	}
	return time.Duration(d) * time.Second / 65536, true
}
