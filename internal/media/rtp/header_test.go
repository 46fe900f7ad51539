package rtp

import (
	"bytes"
	"errors"
	"testing"

	prtp "github.com/pion/rtp"
)

func TestHeaderShapes(t *testing.T) {
	want := Header{Marker: true, PayloadType: 101, Sequence: 0xFFFE, Timestamp: 0xDEADBEEF, SSRC: 0x01020304, Offset: 12}
	b := AppendHeader(nil, want)
	got, err := ParseHeader(append(b, 1, 2, 3))
	if err != nil || got != want {
		t.Fatalf("%+v %v", got, err)
	}
	full := []byte{0xB2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0xBE, 0xDE, 0, 1, 0x10, 7, 0, 0, 0xAA, 0xBB, 0, 2}
	h, err := ParseHeader(full)
	if err != nil || h.Sources != 2 || h.Profile != 0xBEDE || h.Offset != 28 || !h.Padded {
		t.Fatalf("%+v %v", h, err)
	}
	if p, err := h.Payload(full); err != nil || !bytes.Equal(p, []byte{0xAA, 0xBB}) {
		t.Fatalf("%x %v", p, err)
	}
	for _, last := range []byte{0, 5} { // padding of nothing, padding beyond the payload
		full[len(full)-1] = last
		if _, err := h.Payload(full); !errors.Is(err, ErrPadding) {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		b   []byte
		err error
	}{
		"empty": {nil, ErrShort}, "version 1": {append([]byte{0x40}, b[1:]...), ErrVersion}, "csrc cut": {append([]byte{0x8f}, b[1:]...), ErrShort},
		"extension cut": {full[:22], ErrShort}, "extension beyond": {full[:26], ErrShort}, "long": {make([]byte, 1501), ErrLong},
		"control": {[]byte{0x80, 200, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, ErrControl},
	} {
		if h, err := ParseHeader(c.b); !errors.Is(err, c.err) || h != (Header{}) {
			t.Errorf("%s: %v %+v", name, err, h)
		}
	}
}

// FuzzHeader compares with an independent parser on everything that both accept.
func FuzzHeader(f *testing.F) {
	f.Add(packet(1, 2))
	f.Add([]byte{0xB2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0xBE, 0xDE, 0, 1, 0x10, 7, 0, 0, 0xAA})
	f.Add([]byte{0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if h.Offset > len(b) || h.Offset < 12 {
			t.Fatalf("offset %d of %d", h.Offset, len(b))
		}
		if p, err := h.Payload(b); err == nil && len(p) > len(b)-h.Offset {
			t.Fatal("payload is longer than the packet")
		}
		var o prtp.Header
		if n, err := o.Unmarshal(b); err == nil {
			if n != h.Offset || o.SSRC != h.SSRC || o.SequenceNumber != h.Sequence || o.Timestamp != h.Timestamp || o.Marker != h.Marker || o.PayloadType != h.PayloadType {
				t.Fatalf("%+v is not %+v", h, o)
			}
		}
	})
}
