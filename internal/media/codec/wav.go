package codec

import (
	"encoding/binary"
	"fmt"

	"ringfence"
)

// MaxWAV bounds a sound file, in octets: half an hour of 16-bit sound at 16 kHz.
const MaxWAV = 64 << 20

// Sound is mono sound in memory.
type Sound struct {
	Rate    int // samples a second
	Samples []int16
}

// WAV format tags.
const (
	wavPCM        = 1
	wavALaw       = 6
	wavULaw       = 7
	wavExtensible = 0xfffe
)

// ParseWAV reads a RIFF/WAVE file: 16-bit PCM or G.711, one channel, or two that are mixed into one, 8000 to 48000 Hz. Faults:
// KindInvalid for what is no such file or contradicts itself, KindUnsupported for another encoding.
func ParseWAV(b []byte) (Sound, error) {
	fault := func(kind ringfence.Kind, format string, args ...any) (Sound, error) {
		return Sound{}, &ringfence.Fault{Op: "codec.wav", Kind: kind, Text: fmt.Sprintf(format, args...),
			Hint: "use a mono WAV file with 16-bit PCM or G.711, 8000 or 16000 Hz"}
	}
	if len(b) > MaxWAV {
		return fault(ringfence.KindInvalid, "the sound file is larger than %d MiB", MaxWAV>>20)
	}
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return fault(ringfence.KindInvalid, "this is no RIFF/WAVE file")
	}
	var form []byte
	for b = b[12:]; len(b) >= 8; {
		name, size := string(b[:4]), uint64(binary.LittleEndian.Uint32(b[4:]))
		b = b[8:]
		if name == "data" && form != nil {
			// A recorder that was cut off leaves a size that is too large: take what is there.
			return decodeWAV(form, b[:min(size, uint64(len(b)))], fault)
		}
		if size > uint64(len(b)) {
			return fault(ringfence.KindInvalid, "a chunk runs past the end of the file")
		}
		if name == "fmt " {
			form = b[:size]
		}
		b = b[min(size+size&1, uint64(len(b))):]
	}
	return fault(ringfence.KindInvalid, "the file has no sound in it")
}

func decodeWAV(form, data []byte, fault func(ringfence.Kind, string, ...any) (Sound, error)) (Sound, error) {
	if len(form) < 16 {
		return fault(ringfence.KindInvalid, "the format chunk is too short")
	}
	tag, channels := binary.LittleEndian.Uint16(form), int(binary.LittleEndian.Uint16(form[2:]))
	rate, bits := binary.LittleEndian.Uint32(form[4:]), int(binary.LittleEndian.Uint16(form[14:]))
	if tag == wavExtensible && len(form) >= 26 {
		tag = binary.LittleEndian.Uint16(form[24:])
	}
	switch {
	case channels != 1 && channels != 2:
		return fault(ringfence.KindUnsupported, "%d channels", channels)
	case rate < 8000 || rate > 48000:
		return fault(ringfence.KindUnsupported, "%d samples a second", rate)
	case !(tag == wavPCM && bits == 16 || (tag == wavALaw || tag == wavULaw) && bits == 8):
		return fault(ringfence.KindUnsupported, "encoding %d with %d bits", tag, bits)
	}
	step := channels * bits / 8
	s := Sound{Rate: int(rate), Samples: make([]int16, 0, len(data)/step)}
	one := func(b []byte) int {
		switch tag {
		case wavALaw:
			return int(FromALaw(b[0]))
		case wavULaw:
			return int(FromULaw(b[0]))
		}
		return int(int16(binary.LittleEndian.Uint16(b)))
	}
	for ; len(data) >= step; data = data[step:] {
		v := one(data)
		if channels == 2 {
			v = (v + one(data[bits/8:])) / 2
		}
		s.Samples = append(s.Samples, int16(v))
	}
	return s, nil
}

// WAV returns the sound as a 16-bit PCM file. A sound too long for [MaxWAV] is a KindInvalid fault.
func (s Sound) WAV() ([]byte, error) {
	b, err := s.wav(wavPCM, 2)
	if err != nil {
		return nil, err
	}
	for _, v := range s.Samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(v))
	}
	return b, nil
}

// G711WAV returns the sound as a file encoded with PCMU or PCMA; another name is a KindUnsupported fault.
func (s Sound) G711WAV(name Name) ([]byte, error) {
	tag, c := uint16(wavULaw), Codec(&ulaw{})
	switch name {
	case PCMU:
	case PCMA:
		tag, c = wavALaw, &alaw{}
	default:
		return nil, &ringfence.Fault{Op: "codec.wav", Kind: ringfence.KindUnsupported, Text: "a G.711 file holds PCMU or PCMA"}
	}
	b, err := s.wav(tag, 1)
	if err != nil {
		return nil, err
	}
	b = c.Encode(b, s.Samples)
	if len(s.Samples)&1 == 1 {
		b = append(b, 0) // chunks are padded to an even length
	}
	return b, nil
}

func (s Sound) wav(tag uint16, width int) ([]byte, error) {
	size := len(s.Samples) * width
	if size > MaxWAV-44 || s.Rate < 8000 || s.Rate > 48000 {
		return nil, &ringfence.Fault{Op: "codec.wav", Kind: ringfence.KindInvalid, Text: "the sound is too long, or its rate is not 8000 to 48000 Hz"}
	}
	b := make([]byte, 0, 44+size+size&1)
	b = append(b, "RIFF"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(36+size+size&1))
	b = append(b, "WAVEfmt "...)
	b = binary.LittleEndian.AppendUint32(b, 16)
	b = binary.LittleEndian.AppendUint16(b, tag)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.Rate))
	b = binary.LittleEndian.AppendUint32(b, uint32(s.Rate*width))
	b = binary.LittleEndian.AppendUint16(b, uint16(width))
	b = binary.LittleEndian.AppendUint16(b, uint16(8*width))
	b = append(b, "data"...)
	return binary.LittleEndian.AppendUint32(b, uint32(size)), nil
}
