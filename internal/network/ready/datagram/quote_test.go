package datagram

import (
	"bytes"
	"net/netip"
	"testing"
)

// said makes what a router says of a datagram.
func said(six bool) []byte {
	if six {
		head := append([]byte{0x6b, 0x80, 0, 0, 0, 8, 17, 1}, append(netip.MustParseAddr("2001:db8::2").AsSlice(), netip.MustParseAddr("2001:db8:1::2").AsSlice()...)...)
		return append(append([]byte{3, 0, 0, 0, 0, 0, 0, 0}, head...), 0x10, 0, 0x13, 0x8c, 0, 8, 0, 0)
	}
	return append([]byte{11, 0, 0, 0, 0, 0, 0, 0}, 0x45, 46<<2, 0, 28, 0, 0, 0x40, 0, 1, 17, 0, 0, 10, 0, 0, 2, 192, 0, 2, 2, 0x10, 0, 0x13, 0x8c, 0, 8, 0, 0)
}

func TestQuote(t *testing.T) {
	for six, want := range map[bool]string{false: "10.0.0.2:4096 192.0.2.2:5004", true: "[2001:db8::2]:4096 [2001:db8:1::2]:5004"} {
		b := said(six)
		q, err := ParseQuote(b, six)
		if got := q.From.String() + " " + q.To.String(); err != nil || q.Mark != 46 || got != want {
			t.Errorf("%+v %v", q, err)
		}
		if _, err := ParseQuote(b, !six); err == nil {
			t.Error("a message of the other family is read")
		}
		for n := range b {
			if _, err := ParseQuote(b[:n], six); err == nil {
				t.Errorf("%d bytes are a quote", n)
			}
		}
	}
	for at, v := range map[int]byte{0: 3, 1: 1, 8: 0x44, 14: 1, 17: 6} {
		b := bytes.Clone(said(false))
		if b[at] = v; at == 14 {
			b[15] = 1
		}
		if q, err := ParseQuote(b, false); err == nil {
			t.Errorf("byte %d: %+v", at, q)
		}
	}
}

// Who refused a segment of TCP is heard, and nothing else is taken for that.
func TestRefusedSegment(t *testing.T) {
	for _, six := range []bool{false, true} {
		b := said(six)
		if _, err := ParseRefusal(b, six); err == nil {
			t.Error("hops that came to their end are a refusal")
		}
		b[0], b[1] = 3, 13
		protocol := &b[17]
		if six {
			b[0], b[1], protocol = 1, 1, &b[14]
		}
		if _, err := ParseRefusal(b, six); err == nil {
			t.Error("a refusal of UDP is one of TCP")
		}
		*protocol = 6
		if q, err := ParseRefusal(b, six); err != nil || q.To.Port() != 5004 || q.From.Port() != 4096 {
			t.Errorf("%+v %v", q, err)
		}
		if _, err := ParseQuote(b, six); err == nil {
			t.Error("a refusal is hops that came to their end")
		}
		for n := range b {
			if _, err := ParseRefusal(b[:n], six); err == nil {
				t.Errorf("%d bytes are a refusal", n)
			}
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add(said(false), false)
	f.Add(said(true), true)
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		for _, parse := range []func([]byte, bool) (Quote, error){ParseQuote, ParseRefusal} {
			if q, err := parse(b, six); err == nil && (q.Mark > 63 || q.From.Addr().Is6() != six) {
				t.Errorf("%+v", q)
			}
		}
	})
}
