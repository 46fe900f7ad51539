package codec

import "testing"

// FuzzDecode gives each codec a stranger's payload: any octets are sound, and their length says how much.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, []byte{0xff})
	f.Add([]byte{0x00, 0x7f, 0x80, 0xff, 0x2a}, []byte{0xd5, 0x55})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, name := range []Name{PCMU, PCMA, G722} {
			c, err := New(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, payload := range [][]byte{first, second, first} {
				got := c.Decode(nil, payload)
				if want := len(payload) * c.Rate() / 8000; len(got) != want {
					t.Fatalf("%s: %d octets became %d samples, not %d", name, len(payload), len(got), want)
				}
				if back := c.Encode(nil, got); len(back) != len(payload) {
					t.Fatalf("%s: %d octets came back as %d", name, len(payload), len(back))
				}
			}
		}
	})
}

// FuzzOpus gives the decoder of Opus three packets of a stranger's, the middle one lost: it may never give up, nor yield more than RFC 6716 lets a packet last. What it yields can be encoded again.
func FuzzOpus(f *testing.F) {
	c := newOpus("useinbandfec=1")
	said := [][]byte{c.Encode(nil, tone(440, opusRate, opusFrame, -13)), c.Encode(nil, tone(3000, opusRate, opusFrame, -3)), c.Encode(nil, make([]int16, opusFrame))}
	f.Add(said[0], said[1], said[2])
	f.Add([]byte{0x03, 0x81, 0x01, 0x00}, []byte{0xff, 0x41, 0x00}, []byte{0x7c})                                     // padding, many frames, a gap
	f.Add([]byte{0x09, 0x60, 0x60}, []byte{0x9a, 0x02, 0x11, 0x22, 0x33}, []byte{0xfb, 0x06, 0x11, 0x22, 0x33, 0x44}) // two frames, two lengths, six frames
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		c := newOpus("")
		var heard []int16
		for _, p := range [][]byte{first, second, third} {
			before := len(heard)
			heard = c.Decode(heard, p)
			if n := len(heard) - before; n == 0 || n > opusLongest {
				t.Fatalf("%d octets became %d samples", len(p), n)
			}
		}
		said := newOpus("useinbandfec=1") // a conference says what it heard
		for ; len(heard) >= opusFrame; heard = heard[opusFrame:] {
			if n := len(said.Encode(nil, heard[:opusFrame])); n != 80 {
				t.Fatalf("a frame became %d octets", n)
			}
		}
		for _, p := range [][]byte{third, first, nil} {
			if n := len(c.Conceal(nil, p)); n == 0 || n > opusLongest {
				t.Fatalf("a lost packet became %d samples", n)
			}
		}
		if c.fatal != 0 {
			t.Fatal("the decoder gave up")
		}
		readOpusWish(string(first))
	})
}
