package posture

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"ringfence"
)

// Version is a version of the protocol, as it stands on the wire.
type Version uint16

// The versions that are asked for.
const (
	TLS10 Version = 0x0301
	TLS11 Version = 0x0302
	TLS12 Version = 0x0303
	TLS13 Version = 0x0304
)

// String returns "TLS 1.3".
func (v Version) String() string {
	switch v {
	case TLS10:
		return "TLS 1.0"
	case TLS11:
		return "TLS 1.1"
	case TLS12:
		return "TLS 1.2"
	case TLS13:
		return "TLS 1.3"
	}
	return fmt.Sprintf("%#04x", uint16(v))
}

// hello is what a ClientHello offers.
type hello struct {
	version Version
	suites  []uint16
	groups  []uint16
	name    string // server name (RFC 6066); empty: none
}

// record returns the ClientHello in its record (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2). For TLS 1.3 it holds no key share, so that the server says by a
// HelloRetryRequest which group it would take.
func (h hello) record() []byte {
	u16 := func(b []byte, v int) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }
	list := func(values []uint16) []byte {
		var b []byte
		for _, v := range values {
			b = u16(b, int(v))
		}
		return b
	}
	var ext []byte
	add := func(id int, body []byte) {
		ext = u16(ext, id)
		ext = u16(ext, len(body))
		ext = append(ext, body...)
	}
	if h.name != "" {
		n := append([]byte{0}, u16(nil, len(h.name))...)
		n = append(n, h.name...)
		add(0, append(u16(nil, len(n)), n...))
	}
	groups := list(h.groups)
	add(10, append(u16(nil, len(groups)), groups...))
	add(11, []byte{1, 0})
	algorithms := list([]uint16{0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401, 0x0501, 0x0601, 0x0402, 0x0203, 0x0201, 0x0202})
	add(13, append(u16(nil, len(algorithms)), algorithms...))
	add(23, nil)           // extended master secret
	add(0xff01, []byte{0}) // renegotiation
	legacy := h.version
	if h.version == TLS13 {
		legacy = TLS12
		add(43, []byte{2, 0x03, 0x04})
		add(51, u16(nil, 0))
	}
	body := u16(nil, int(legacy))
	random := make([]byte, 64)
	rand.Read(random)
	body = append(body, random[:32]...)
	body = append(append(body, 32), random[32:]...)
	suites := list(append(h.suites, 0x00ff)) // with the signal of RFC 5746
	body = append(u16(body, len(suites)), suites...)
	body = append(body, 1, 0) // no compression
	body = append(u16(body, len(ext)), ext...)
	message := append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	first := min(h.version, TLS12)
	if h.version == TLS13 {
		first = TLS10
	}
	out := u16([]byte{22}, int(first))
	return append(u16(out, len(message)), message...)
}

// answer is what a server makes of a ClientHello.
type answer struct {
	alert   int // 0: it went on
	version Version
	suite   uint16
	group   uint16 // that it asks for in a HelloRetryRequest, or shares; 0: none
}

// maxRecord bounds what is read of a server's answer, in bytes (RFC 8446 section 5.1).
const maxRecord = 1 << 14

// ParseAnswer reads the first record of a server: an alert, or a ServerHello, whose beginning must stand in that record.
func ParseAnswer(kind byte, b []byte) (alert int, version Version, suite, group uint16, err error) {
	a, err := parseAnswer(kind, b)
	return a.alert, a.version, a.suite, a.group, err
}

func parseAnswer(kind byte, b []byte) (a answer, err error) {
	bad := func(text string) (answer, error) {
		return answer{}, &ringfence.Fault{Op: "posture.answer", Kind: ringfence.KindInvalid, Text: "the server's answer is no TLS: " + text}
	}
	if len(b) > maxRecord {
		return bad("the record is too long")
	}
	switch kind {
	case 21:
		if len(b) != 2 || b[1] == 0 {
			return bad("an alert without a cause")
		}
		return answer{alert: int(b[1])}, nil
	case 22:
	default:
		return bad(fmt.Sprintf("a record of type %d", kind))
	}
	if len(b) < 4 || b[0] != 2 {
		return bad("it begins with no ServerHello")
	}
	n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	if n > len(b)-4 {
		return bad("the ServerHello goes on in another record")
	}
	b = b[4 : 4+n]
	if len(b) < 38 {
		return bad("the ServerHello is short")
	}
	a.version = Version(binary.BigEndian.Uint16(b))
	session := int(b[34])
	if session > 32 || len(b) < 38+session {
		return bad("the ServerHello is short")
	}
	b = b[35+session:]
	a.suite = binary.BigEndian.Uint16(b)
	if b[2] != 0 {
		return bad("it would compress")
	}
	if b = b[3:]; len(b) == 0 {
		return a, nil
	}
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(b)-2 {
		return bad("the extensions are short")
	}
	for b = b[2:]; len(b) > 0; {
		if len(b) < 4 {
			return bad("an extension is short")
		}
		id, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return bad("an extension is short")
		}
		body := b[4 : 4+n]
		b = b[4+n:]
		switch {
		case id == 43 && n == 2:
			a.version = Version(binary.BigEndian.Uint16(body))
		case id == 51 && n >= 2:
			a.group = binary.BigEndian.Uint16(body)
		}
	}
	return a, nil
}
