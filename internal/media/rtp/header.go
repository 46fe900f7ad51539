package rtp

import (
	"encoding/binary"
	"errors"
)

// MaxPacket is the longest datagram this room looks at, in octets: an Ethernet payload. Audio is never near it.
const MaxPacket = 1500

// Reasons to refuse a packet before any key is touched. They are plain values, so that refusing costs no allocation.
var (
	ErrShort   = errors.New("rtp: packet is too short")
	ErrLong    = errors.New("rtp: packet is longer than 1500 octets")
	ErrVersion = errors.New("rtp: version is not 2")
	ErrPadding = errors.New("rtp: padding runs past the payload")
	ErrControl = errors.New("rtp: payload type belongs to RTCP")
)

// Header is the RTP header (RFC 3550 section 5.1). Offset and PadLen say where the payload lies.
type Header struct {
	Marker      bool
	Extension   bool
	Padded      bool // padding bit; the count is inside the sealed part, so only Payload checks it
	PayloadType uint8
	Sources     uint8 // number of CSRC identifiers
	Sequence    uint16
	Timestamp   uint32 // in units of the payload's clock
	SSRC        uint32
	Profile     uint16 // extension profile, if Extension
	Offset      int    // octets before the payload: fixed header, CSRC list, extension
}

// IsRTCP reports whether a packet on a port shared by RTP and RTCP is RTCP: packet types 192 to 223 (RFC 5761 section 4).
func IsRTCP(b []byte) bool { return len(b) >= 2 && b[1] >= 192 && b[1] <= 223 }

// ParseHeader reads the RTP header of b, sealed or not. It keeps no reference to b and allocates nothing.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	switch {
	case len(b) > MaxPacket:
		return h, ErrLong
	case len(b) < 12:
		return h, ErrShort
	case b[0]>>6 != 2:
		return h, ErrVersion
	case IsRTCP(b):
		return h, ErrControl
	}
	n := 12 + 4*int(b[0]&0x0f)
	h = Header{
		Padded:      b[0]&0x20 != 0,
		Extension:   b[0]&0x10 != 0,
		Sources:     b[0] & 0x0f,
		Marker:      b[1]&0x80 != 0,
		PayloadType: b[1] & 0x7f,
		Sequence:    binary.BigEndian.Uint16(b[2:]),
		Timestamp:   binary.BigEndian.Uint32(b[4:]),
		SSRC:        binary.BigEndian.Uint32(b[8:]),
	}
	if h.Extension {
		if len(b) < n+4 {
			return Header{}, ErrShort
		}
		h.Profile = binary.BigEndian.Uint16(b[n:])
		n += 4 + 4*int(binary.BigEndian.Uint16(b[n+2:]))
	}
	if len(b) < n {
		return Header{}, ErrShort
	}
	h.Offset = n
	return h, nil
}

// Payload returns the payload of the opened packet b that h was read from, without padding (RFC 3550 section 5.1).
func (h *Header) Payload(b []byte) ([]byte, error) {
	if len(b) < h.Offset {
		return nil, ErrShort
	}
	p := b[h.Offset:]
	if h.Padded {
		if len(p) == 0 || p[len(p)-1] == 0 || int(p[len(p)-1]) > len(p) {
			return nil, ErrPadding
		}
		p = p[:len(p)-int(p[len(p)-1])]
	}
	return p, nil
}

// AppendHeader appends a header without CSRC list, extension or padding to dst.
func AppendHeader(dst []byte, h Header) []byte {
	pt := h.PayloadType & 0x7f
	if h.Marker {
		pt |= 0x80
	}
	dst = append(dst, 0x80, pt)
	dst = binary.BigEndian.AppendUint16(dst, h.Sequence)
	dst = binary.BigEndian.AppendUint32(dst, h.Timestamp)
	return binary.BigEndian.AppendUint32(dst, h.SSRC)
}
