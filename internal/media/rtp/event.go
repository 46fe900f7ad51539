package rtp

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// ErrEvent refuses a payload that is no telephone event.
var ErrEvent = errors.New("rtp: telephone event is not 4 octets")

// Event is a named telephone event (RFC 4733 section 2.3).
type Event struct {
	Code     uint8 // 0 to 9, 10 "*", 11 "#", 12 to 15 "A" to "D", 16 flash; others are not key presses
	End      bool
	Volume   uint8  // 0 to 63: dBm0 below zero
	Duration uint16 // so far, in units of the payload's clock
}

const digits = "0123456789*#ABCD"

// ParseEvent reads a telephone-event payload. Octets after the first four belong to further events (section 2.5.1.5), which
// nothing sends for key presses; they are ignored.
func ParseEvent(p []byte) (Event, error) {
	if len(p) < 4 {
		return Event{}, ErrEvent
	}
	return Event{Code: p[0], End: p[1]&0x80 != 0, Volume: p[1] & 0x3f, Duration: binary.BigEndian.Uint16(p[2:])}, nil
}

// Append appends the event's four octets to dst.
func (e Event) Append(dst []byte) []byte {
	flags := e.Volume & 0x3f
	if e.End {
		flags |= 0x80
	}
	return binary.BigEndian.AppendUint16(append(dst, e.Code, flags), e.Duration)
}

// Digit returns the key as a character, or false if the event is no key press.
func (e Event) Digit() (rune, bool) {
	if int(e.Code) < len(digits) {
		return rune(digits[e.Code]), true
	}
	return 0, false
}

// EventCode returns the event code of a key.
func EventCode(digit rune) (uint8, bool) {
	i := strings.IndexRune(digits, digit)
	return uint8(max(i, 0)), i >= 0
}

// DigitSource makes the packets of one key press, one each 20 ms: the duration grows, and the end is sent three times
// (RFC 4733 section 2.5.1.4). All of them carry the timestamp of the beginning.
type DigitSource struct {
	code   uint8
	clock  uint32
	frames int // frames of sound
	sent   int
}

// NewDigitSource returns a source for a key held down for d (at least 40 ms), on a clock of clock Hz. It is false for a
// character that is no key.
func NewDigitSource(digit rune, d time.Duration, clock uint32) (*DigitSource, bool) {
	code, ok := EventCode(digit)
	return &DigitSource{code: code, clock: clock, frames: max(2, min(int(d/(20*time.Millisecond)), 200))}, ok
}

// Next writes the next event into buf (at least 4 octets); first asks for the marker bit. It returns 0 when all was sent.
func (d *DigitSource) Next(buf []byte) (n int, first bool) {
	if d.sent >= d.frames+3 {
		return 0, false
	}
	d.sent++
	held := min(d.sent, d.frames)
	e := Event{Code: d.code, End: d.sent > d.frames, Volume: 10, Duration: uint16(min(uint32(held)*d.clock/50, 0xffff))}
	return len(e.Append(buf[:0])), d.sent == 1
}
