package codec

// G.711 (ITU-T G.711, RFC 3551 section 4.5.14). Both laws are computed rather than looked up for encoding; decoding is a
// few shifts.

// ULaw encodes one linear sample as mu-law: 14-bit magnitude with a bias of 33, eight chords of sixteen steps, all bits
// inverted.
func ULaw(sample int16) byte {
	const bias, clip = 0x84, 32635
	v, sign := int(sample), byte(0)
	if v < 0 {
		v, sign = -v, 0x80
	}
	v = min(v, clip) + bias
	chord := 0
	for m := v >> 8; m != 0; m >>= 1 {
		chord++
	}
	return ^(sign | byte(chord<<4) | byte(v>>(chord+3)&0x0f))
}

// FromULaw decodes one mu-law octet.
func FromULaw(b byte) int16 {
	b = ^b
	v := (int(b&0x0f)<<3+0x84)<<(b>>4&7) - 0x84
	if b&0x80 != 0 {
		v = -v
	}
	return int16(v)
}

// ALaw encodes one linear sample as A-law: 13-bit, eight chords of sixteen steps, even bits inverted.
func ALaw(sample int16) byte {
	v, sign := int(sample)>>3, byte(0x80)
	if v < 0 {
		v, sign = -v-1, 0
	}
	chord := 0
	for m := v >> 5; m != 0; m >>= 1 {
		chord++
	}
	step := v >> 1
	if chord > 0 {
		step = v >> chord
	}
	return (sign | byte(chord<<4) | byte(step&0x0f)) ^ 0x55
}

// FromALaw decodes one A-law octet.
func FromALaw(b byte) int16 {
	b ^= 0x55
	v := int(b&0x0f)<<4 + 8
	if chord := b >> 4 & 7; chord > 0 {
		v = (v + 0x100) << (chord - 1)
	}
	if b&0x80 == 0 {
		v = -v
	}
	return int16(v)
}
