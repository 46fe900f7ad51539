package codec

import "ringfence"

// Codec encodes and decodes one direction of one stream. It keeps state between frames (G.711 has none).
type Codec interface {
	// Rate is the sample rate in Hz.
	Rate() int
	// Encode appends the payload for the samples to dst. For G.722 their number must be even.
	Encode(dst []byte, samples []int16) []byte
	// Decode appends the samples of a payload to dst.
	Decode(dst []int16, payload []byte) []int16
}

// Name is the encoding name of a codec as in SDP's rtpmap (RFC 3551 section 6).
type Name string

// The codecs of this room. Their static payload types are 0, 8 and 9; the RTP clock of all three is 8000 Hz, that of G722
// by an old mistake that RFC 3551 section 4.5.2 keeps.
const (
	PCMU Name = "PCMU"
	PCMA Name = "PCMA"
	G722 Name = "G722"
)

// New returns a codec by its name, or a KindUnsupported fault.
func New(name Name) (Codec, error) {
	switch name {
	case PCMU:
		return ulaw{}, nil
	case PCMA:
		return alaw{}, nil
	case G722:
		return newG722(), nil
	}
	return nil, &ringfence.Fault{Op: "codec.new", Kind: ringfence.KindUnsupported, Text: "this codec is not built in",
		Hint: "use PCMU, PCMA or G722"}
}

type ulaw struct{}

func (ulaw) Rate() int { return 8000 }
func (ulaw) Encode(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		dst = append(dst, ULaw(s))
	}
	return dst
}
func (ulaw) Decode(dst []int16, payload []byte) []int16 {
	for _, b := range payload {
		dst = append(dst, FromULaw(b))
	}
	return dst
}

type alaw struct{}

func (alaw) Rate() int { return 8000 }
func (alaw) Encode(dst []byte, samples []int16) []byte {
	for _, s := range samples {
		dst = append(dst, ALaw(s))
	}
	return dst
}
func (alaw) Decode(dst []int16, payload []byte) []int16 {
	for _, b := range payload {
		dst = append(dst, FromALaw(b))
	}
	return dst
}
