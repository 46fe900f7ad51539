package dot1x

import (
	"encoding/binary"
	"net"

	"ringfence"
)

// EAPOL (IEEE 802.1X-2010 section 11).
const (
	EtherType = 0x888e
	maxFrame  = 1600
	headLen   = 14
)

// The packet types of EAPOL that a phone minds.
const (
	typeEAP    = 0
	typeStart  = 1
	typeLogoff = 2
)

// EAP codes (RFC 3748 section 4).
const (
	codeSuccess = 3
	codeFailure = 4
)

// Group is where EAPOL goes that is for the nearest port: no bridge passes it on.
func Group() [6]byte { return [6]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x03} }

// Frame is an EAPOL frame.
type Frame struct {
	To, From [6]byte
	Version  byte
	Type     byte
	Code     byte // of EAP, if Type is EAP
	Body     []byte
}

// ParseFrame reads an Ethernet frame that carries EAPOL. What stands behind the packet is padding.
func ParseFrame(b []byte) (f Frame, err error) {
	bad := func(text string) (Frame, error) {
		return Frame{}, &ringfence.Fault{Op: "dot1x.frame", Kind: ringfence.KindInvalid, Text: text}
	}
	switch {
	case len(b) < headLen+4 || len(b) > maxFrame:
		return bad("the frame is too short or too long")
	case binary.BigEndian.Uint16(b[12:]) != EtherType:
		return bad("the frame carries no EAPOL")
	}
	n := int(binary.BigEndian.Uint16(b[headLen+2:]))
	if len(b) < headLen+4+n {
		return bad("the packet is cut short")
	}
	f = Frame{To: [6]byte(b[:6]), From: [6]byte(b[6:12]), Version: b[headLen], Type: b[headLen+1], Body: b[headLen+4 : headLen+4+n]}
	if f.From[0]&1 != 0 || f.From == [6]byte{} {
		return bad("a frame comes from one station")
	}
	if f.Type == typeEAP {
		if n < 4 || int(binary.BigEndian.Uint16(f.Body[2:])) > n {
			return bad("the EAP packet is cut short")
		}
		f.Code = f.Body[0]
	}
	return f, nil
}

// Logoff writes the frame by which a station leaves the network, as from that station.
func Logoff(station [6]byte, version byte) []byte {
	g := Group()
	b := append(append([]byte{}, g[:]...), station[:]...)
	b = append(b, EtherType>>8, EtherType&255, max(version, 1), typeLogoff, 0, 0)
	return append(b, make([]byte, 60-len(b))...) // the shortest frame of Ethernet
}

func hardware(a [6]byte) string { return net.HardwareAddr(a[:]).String() }
