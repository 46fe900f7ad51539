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
