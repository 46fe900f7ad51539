package codec

import (
	"slices"
	"testing"

	"ringfence"
)

func TestWAVRoundTrip(t *testing.T) {
	s := Sound{Rate: 16000, Samples: tone(440, 16000, 1601, -6)}
	b, err := s.WAV()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseWAV(b)
	if err != nil || got.Rate != 16000 || !slices.Equal(got.Samples, s.Samples) {
		t.Fatalf("%v, %d samples", err, len(got.Samples))
	}
	for _, name := range []Name{PCMU, PCMA} {
		b, err := Sound{Rate: 8000, Samples: s.Samples}.G711WAV(name)
		if err != nil || len(b)%2 != 0 {
			t.Fatalf("%v, %d octets", err, len(b))
		}
		c, _ := New(name)
		got, err := ParseWAV(b)
		if want := c.Decode(nil, c.Encode(nil, s.Samples)); err != nil || !slices.Equal(got.Samples, want) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if _, err := s.G711WAV(G722); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Fatal(err)
	}
}

func TestWAVShapes(t *testing.T) {
	head := func(tag, channels, bits byte) []byte {
		return []byte{'R', 'I', 'F', 'F', 0, 0, 0, 0, 'W', 'A', 'V', 'E', 'L', 'I', 'S', 'T', 3, 0, 0, 0, 1, 2, 3, 0,
			'f', 'm', 't', ' ', 16, 0, 0, 0, tag, 0, channels, 0, 0x40, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, bits, 0}
	}
	data := []byte{'d', 'a', 't', 'a', 255, 255, 255, 255, 10, 0, 20, 0, 30, 0, 50, 0}
	s, err := ParseWAV(append(head(1, 2, 16), data...))
	if err != nil || s.Rate != 8000 || !slices.Equal(s.Samples, []int16{15, 40}) {
		t.Fatalf("%+v %v", s, err)
	}
	for name, c := range map[string]struct {
		b    []byte
		kind ringfence.Kind
	}{
		"empty":      {nil, ringfence.KindInvalid},
		"no data":    {head(1, 1, 16), ringfence.KindInvalid},
		"no format":  {append(head(1, 1, 16)[:24], data...), ringfence.KindInvalid},
		"8-bit pcm":  {append(head(1, 1, 8), data...), ringfence.KindUnsupported},
		"float":      {append(head(3, 1, 32), data...), ringfence.KindUnsupported},
		"5 channels": {append(head(1, 5, 16), data...), ringfence.KindUnsupported},
		"too large":  {make([]byte, MaxWAV+1), ringfence.KindInvalid},
	} {
		if s, err := ParseWAV(c.b); ringfence.KindOf(err) != c.kind || s.Samples != nil || ringfence.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Sound{Rate: 100}).WAV(); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Fatal(err)
	}
}

func FuzzWAV(f *testing.F) {
	for _, s := range []Sound{{Rate: 8000, Samples: []int16{1, 2, 3}}, {Rate: 48000}} {
		b, err := s.WAV()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		if b, err = s.G711WAV(PCMA); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseWAV(b)
		if err != nil {
			return
		}
		again, err := s.WAV()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseWAV(again); err != nil || got.Rate != s.Rate || !slices.Equal(got.Samples, s.Samples) {
			t.Fatalf("does not survive being written: %v", err)
		}
	})
}
