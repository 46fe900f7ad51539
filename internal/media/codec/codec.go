package codec

import (
	"strings"

	"ringfence"
)

// Codec encodes and decodes one direction of one stream. It keeps state between frames.
type Codec interface {
	// Rate is the sample rate in Hz: 8000 or 16000.
	Rate() int
	// Encode appends the payload for the samples to dst. For G.722 their number must be even; for Opus they must be 20 ms, else nothing
	// is appended.
	Encode(dst []byte, samples []int16) []byte
	// Decode appends the samples of a payload to dst.
	Decode(dst []int16, payload []byte) []int16
	// Conceal appends what stands for a payload that was lost, as long as the one before it. next is the payload behind the lost one if
	// that is here already, else nil: Opus finds a second copy in it.
	Conceal(dst []int16, next []byte) []int16
}

// Name is the encoding name of a codec as in SDP's rtpmap (RFC 3551 section 6).
type Name string

// The codecs of this room. The static payload types of the first three are 0, 8 and 9; that of Opus is dynamic.
const (
	PCMU Name = "PCMU"
	PCMA Name = "PCMA"
	G722 Name = "G722"
	Opus Name = "opus"
)

// Clock is the rate of the codec's RTP timestamps in Hz: 48000 for Opus (RFC 7587 section 4.1), 8000 for the others, for G722 by an old
// mistake that RFC 3551 section 4.5.2 keeps.
func (n Name) Clock() uint32 {
	if strings.EqualFold(string(n), string(Opus)) {
		return 48000
	}
	return 8000
}

// New returns a codec by its name, in capitals or not, or a KindUnsupported fault.
func New(name Name) (Codec, error) { return NewFor(name, "") }

// NewFor is New for sending to somebody whose session description says fmtp of the codec (RFC 8866 section 6.15). Only Opus heeds it.
func NewFor(name Name, fmtp string) (Codec, error) {
	switch strings.ToLower(string(name)) {
	case "pcmu":
		return &ulaw{}, nil
	case "pcma":
		return &alaw{}, nil
	case "g722":
		return newG722(), nil
	case "opus":
		return newOpus(fmtp), nil
	}
	return nil, &ringfence.Fault{Op: "codec.new", Kind: ringfence.KindUnsupported, Text: "this codec is not built in",
		Hint: "use PCMU, PCMA, G722 or opus"}
}

// echo conceals a loss for codecs that have no way of their own: the frame before it again, each time at half its strength, for 60 ms.
type echo struct {
	last []int16
	lost int
}

// keep remembers a frame.
func (e *echo) keep(frame []int16) {
	e.last, e.lost = append(e.last[:0], frame...), 0
}

func (e *echo) Conceal(dst []int16, _ []byte) []int16 {
	if e.lost++; e.lost > 3 {
		clear(e.last)
	}
	for i := range e.last {
		e.last[i] /= 2
	}
	return append(dst, e.last...)
}

type ulaw struct{ echo }

func (*ulaw) Rate() int { return 8000 }
func (*ulaw) Encode(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		dst = append(dst, ULaw(s))
	}
	return dst
}
func (c *ulaw) Decode(dst []int16, payload []byte) []int16 {
	at := len(dst)
	for _, b := range payload {
		dst = append(dst, FromULaw(b))
	}
	c.keep(dst[at:])
	return dst
}

type alaw struct{ echo }

func (*alaw) Rate() int { return 8000 }
func (*alaw) Encode(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		dst = append(dst, ALaw(s))
	}
	return dst
}
func (c *alaw) Decode(dst []int16, payload []byte) []int16 {
	at := len(dst)
	for _, b := range payload {
		dst = append(dst, FromALaw(b))
	}
	c.keep(dst[at:])
	return dst
}
