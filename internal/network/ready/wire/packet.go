package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"

	"ringfence"
)

// Kind says what a probe asks for.
type Kind uint8

// The kinds of probes.
const (
	Reach     Kind = 1 // an answer from the port that it came to
	Stream    Kind = 2 // the same, and it is counted as one of a stream
	Elsewhere Kind = 3 // an answer from another port of the reflector
	Afar      Kind = 4 // an answer from another address and port of the reflector
)

// NoMark stands for a mark that could not be read.
const NoMark = 255

// Probe is one probe or the answer to it. On the wire it is Size bytes long and may have padding behind it.
type Probe struct {
	Kind    Kind
	Answer  bool
	Whole   bool   // the answer shall be as long as the request
	Mark    uint8  // the DSCP that the sender set
	Session uint64 // of the control channel
	Seq     uint32 // each number is good once in a session
	Sent    int64  // the prober's clock in nanoseconds, given back as it came
	// Of answers only.
	Seen     netip.AddrPort // whom the reflector saw
	SeenMark uint8          // the DSCP with which the request came, or NoMark
	Came     int64          // the reflector's clock when the request came, in nanoseconds
	Left     int64          // and when the answer left
}

const (
	// Size is the length of a probe without padding, in bytes.
	Size = 80
	// MaxSize bounds a probe with its padding.
	MaxSize = 9000
	signed  = 64 // what the code is computed over, with the length
	version = 1
)

// Magic begins every probe, and Greeting every control channel, so that one port can take both.
const (
	Magic    = "RFpb"
	Greeting = "RFct"
)

// Append adds a probe of so many bytes to b, with its code under key.
func (p Probe) Append(b []byte, key []byte, size int) []byte {
	size = min(max(size, Size), MaxSize)
	start := len(b)
	b = append(b, make([]byte, size)...)
	w := b[start:]
	copy(w, Magic)
	w[4], w[5], w[7] = version, byte(p.Kind), p.Mark
	if p.Answer {
		w[6] |= 1
	}
	if p.Whole {
		w[6] |= 2
	}
	binary.BigEndian.PutUint64(w[8:], p.Session)
	binary.BigEndian.PutUint32(w[16:], p.Seq)
	binary.BigEndian.PutUint64(w[20:], uint64(p.Sent))
	if p.Seen.IsValid() {
		a := p.Seen.Addr().As16()
		copy(w[28:], a[:])
		binary.BigEndian.PutUint16(w[44:], p.Seen.Port())
	}
	w[46] = p.SeenMark
	binary.BigEndian.PutUint64(w[48:], uint64(p.Came))
	binary.BigEndian.PutUint64(w[56:], uint64(p.Left))
	copy(w[signed:], code(key, w[:signed], size))
	return b
}

func code(key, b []byte, size int) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(b)
	m.Write(binary.BigEndian.AppendUint32(nil, uint32(size)))
	return m.Sum(nil)[:16]
}

// ParseProbe reads a probe without believing it; see [Genuine].
func ParseProbe(b []byte) (p Probe, err error) {
	switch {
	case len(b) < Size || len(b) > MaxSize:
		return p, invalid(fmt.Sprintf("%d bytes are no probe", len(b)))
	case string(b[:4]) != Magic || b[4] != version:
		return p, invalid("this is no probe of this version")
	case b[6]&^3 != 0 || b[47] != 0 || b[7] > 63:
		return p, invalid("a probe with unknown flags or marks")
	}
	p = Probe{Kind: Kind(b[5]), Answer: b[6]&1 != 0, Whole: b[6]&2 != 0, Mark: b[7], Session: binary.BigEndian.Uint64(b[8:]), Seq: binary.BigEndian.Uint32(b[16:]),
		Sent: int64(binary.BigEndian.Uint64(b[20:])), SeenMark: b[46], Came: int64(binary.BigEndian.Uint64(b[48:])), Left: int64(binary.BigEndian.Uint64(b[56:]))}
	if p.Kind < Reach || p.Kind > Afar {
		return p, invalid(fmt.Sprintf("a probe of the unknown kind %d", b[5]))
	}
	if p.Answer {
		p.Seen = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[28:44])).Unmap(), binary.BigEndian.Uint16(b[44:]))
	}
	return p, nil
}

// Genuine reports whether somebody with the key wrote a probe that ParseProbe could read.
func Genuine(b, key []byte) bool {
	return len(b) >= Size && hmac.Equal(b[signed:Size], code(key, b[:signed], len(b)))
}

func invalid(text string) error {
	return &ringfence.Fault{Op: "wire", Kind: ringfence.KindInvalid, Text: text}
}

// TokenHeader is the header field of a SIP message whose bytes are to be compared.
const TokenHeader = "X-Ringfence-Probe"

// Token is what makes a SIP message one of a session, whatever else of it is changed on the way.
type Token struct {
	Session uint64
	Seq     uint32
	code    [16]byte
}

// NewToken returns the token of a SIP message.
func NewToken(session uint64, seq uint32, key []byte) Token {
	t := Token{Session: session, Seq: seq}
	copy(t.code[:], code(key, t.head(), 0))
	return t
}

func (t Token) head() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte("SIP token "), t.Session), t.Seq)
}

// Genuine reports whether somebody with the key made the token.
func (t Token) Genuine(key []byte) bool { return hmac.Equal(t.code[:], code(key, t.head(), 0)) }

// String returns the value of the header field.
func (t Token) String() string { return fmt.Sprintf("%016x-%08x-%x", t.Session, t.Seq, t.code) }

const tokenLen = 16 + 1 + 8 + 1 + 32

// ParseToken finds the token in what may have been a SIP message.
func ParseToken(b []byte) (t Token, ok bool) {
	if len(b) > MaxSize {
		return t, false
	}
	_, rest, found := bytes.Cut(b, []byte("\r\n"+TokenHeader+": "))
	if !found || len(rest) < tokenLen || rest[16] != '-' || rest[25] != '-' {
		return t, false
	}
	var raw [28]byte
	for _, part := range []struct{ to, from []byte }{{raw[:8], rest[:16]}, {raw[8:12], rest[17:25]}, {raw[12:], rest[26:tokenLen]}} {
		if _, err := hex.Decode(part.to, part.from); err != nil {
			return t, false
		}
	}
	t.Session, t.Seq = binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint32(raw[8:])
	copy(t.code[:], raw[12:])
	return t, true
}
