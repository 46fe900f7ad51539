package capf

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"ringfence"
)

// TestMalformed reads what no phone should send; each is refused for its own reason, and read no further than it must be.
func TestMalformed(t *testing.T) {
	for in, why := range map[string]string{
		"":                                 "hung up",
		"\x55\x02\x00":                     "hung up",
		"\x16\x03\x01\x00\x05\x00\x00\x00": "does not begin",
		"\x55\x00\x00\x00\x00\x01\x00\x00": "there is no command 0",
		"\x55\x18\x00\x00\x00\x01\x00\x00": "there is no command 24",
		"\x55\x02\x00\x00\x00\x01\x00\x04\x07\x00\x01":                                    "hung up",
		"\x55\x02\x00\x00\x00\x01\x00\x02\x07\x00":                                        "cut off",
		"\x55\x02\x00\x00\x00\x01\x00\x04\x07\x00\x02\x03":                                "says that it has 2 bytes, and 1 follow",
		"\x55\x02\x00\x00\x00\x01\x00\x08\x07\x00\x01\x03\x07\x00\x01\x02":                "comes twice",
		"\x55\x02\x00\x00\x00\x01\x00\x65" + strings.Repeat("\x07\x00\x01\x03", 26):       "100 are taken",
		"\x55\x02\x00\x00\x00\x01\x00\x63" + string(manyElements(maxElements+1, 33*3, t)): "too many elements",
	} {
		r := strings.NewReader(in)
		_, err := readMessage(r, func(header) (int, error) { return 100, nil })
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("% x: %v", in, err)
		}
		if strings.Contains(why, "are taken") && r.Len() != len(in)-headerLen {
			t.Errorf("% x: the body was read", in)
		}
	}
	// Whoever asks about the header first is heard before the body is read.
	r := strings.NewReader("\x55\x02\x00\x00\x00\x01\x00\x04\x07\x00\x01\x03")
	if _, err := readMessage(r, func(header) (int, error) { return 0, io.ErrClosedPipe }); err != io.ErrClosedPipe || r.Len() != 4 {
		t.Error(err, r.Len())
	}
}

// manyElements returns n empty elements with different tags, which are size bytes.
func manyElements(n, size int, t *testing.T) []byte {
	var b []byte
	for i := range n {
		b = append(b, byte(100+i), 0, 0)
	}
	if len(b) != size {
		t.Fatalf("%d elements are %d bytes", n, len(b))
	}
	return b
}

func TestValues(t *testing.T) {
	m := message{elements: []element{{1, nil}, {2, []byte{1, 2}}, {3, []byte("abc")}, {4, []byte("a\x00b\x00")}, {5, []byte("ab\x00")}, {6, []byte("\xc3\xa4\x00")}, {7, []byte{9}}}}
	for _, tg := range []tag{1, 2, 3} {
		if _, ok, err := m.byteOf(tg); !ok || err == nil {
			t.Errorf("element %d is a byte", tg)
		}
	}
	for _, tg := range []tag{1, 3, 7} {
		if _, ok, err := m.shortOf(tg); !ok || err == nil {
			t.Errorf("element %d is a short", tg)
		}
	}
	for _, tg := range []tag{1, 2, 3, 4, 6} {
		if s, ok, err := m.textOf(tg, 10); !ok || err == nil {
			t.Errorf("element %d is the text %q", tg, s)
		}
	}
	if _, _, err := m.textOf(5, 1); err == nil {
		t.Error("a text is longer than it may be")
	}
	if s, ok, err := m.textOf(5, 2); s != "ab" || !ok || err != nil {
		t.Error(s, ok, err)
	}
	if _, ok, err := m.byteOf(99); ok || err != nil {
		t.Error("an element that is not there is found")
	}
	if _, err := (message{elements: []element{{1, make([]byte, maxBody)}}}).bytes(); ringfence.KindOf(err) != ringfence.KindInternal || err == nil {
		t.Error("a message that is too long is sent")
	}
}

func TestCertificateElement(t *testing.T) {
	der := append([]byte{0x30, 0x82, 1, 0}, make([]byte, 256)...)
	good := certificateElement(der, certMIC).value
	if got, ok, err := (message{elements: []element{{tagCertificate, good}}}).certificateOf(); !ok || err != nil || !bytes.Equal(got, der) {
		t.Fatal(ok, err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"another tag":     func(b []byte) []byte { b[0] = 2; return b },
		"longer inside":   func(b []byte) []byte { b[2]++; return b },
		"shorter inside":  func(b []byte) []byte { b[2]--; return b },
		"a byte too many": func(b []byte) []byte { b = append(b, 0); b[2]++; return b },
		"no certificate":  func([]byte) []byte { return []byte{1, 0, 2, 0, 1} },
	} {
		if _, ok, err := (message{elements: []element{{tagCertificate, change(bytes.Clone(good))}}}).certificateOf(); !ok || err == nil {
			t.Error(name)
		}
	}
	for in, ok := range map[string]bool{
		"\x30\x00": true, "\x30\x01\x00": true, "\x30\x81\x80" + strings.Repeat("a", 128): true, "\x30\x82\x01\x00" + strings.Repeat("a", 256): true,
		"": false, "\x30": false, "\x31\x00": false, "\x30\x01": false, "\x30\x00\x00": false, "\x30\x80\x00\x00": false, "\x30\x81\x01\x00": false, "\x30\x81": false,
		"\x30\x82\x00\x80" + strings.Repeat("a", 128): false, "\x30\x83\x00\x01\x00" + strings.Repeat("a", 256): false, "\x30\x82\x01\x00" + strings.Repeat("a", 255): false,
		"\x30\x82\x20\x00" + strings.Repeat("a", 8192): false, // good DER, and too long
	} {
		if err := checkDER([]byte(in), maxDER); (err == nil) != ok {
			t.Errorf("%.8x: %v", in, err)
		}
	}
}

func TestSignedElements(t *testing.T) {
	join := func(parts ...tagged) (b []byte) {
		for _, p := range parts {
			b = appendTagged(b, p)
		}
		return b
	}
	der := []byte{0x30, 0}
	if d, s, l, err := parseSUDI(join(tagged{0, der}, tagged{1, []byte("s")}, tagged{3, []byte("l")})); err != nil || !bytes.Equal(d, der) || string(s) != "s" || string(l) != "l" {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":             nil,
		"two":               join(tagged{0, der}, tagged{1, nil}),
		"four":              join(tagged{0, der}, tagged{1, nil}, tagged{3, nil}, tagged{3, nil}),
		"cut":               join(tagged{0, der}, tagged{1, nil}, tagged{3, []byte("l")})[:10],
		"SHA-256 at last":   join(tagged{0, der}, tagged{1, nil}, tagged{2, []byte("l")}),
		"a long signature":  join(tagged{0, der}, tagged{1, nil}, tagged{3, make([]byte, maxProof+1)}),
		"no certificate":    join(tagged{0, []byte("x")}, tagged{1, nil}, tagged{3, []byte("l")}),
		"a long SHA-1 part": join(tagged{0, der}, tagged{1, make([]byte, maxProof+1)}, tagged{3, nil}),
	} {
		if _, _, _, err := parseSUDI(b); err == nil {
			t.Error(name)
		}
	}
	if _, _, err := bestProof(Order{}, message{elements: []element{{tagSignedSHA2, join(tagged{digestSHA1, []byte("s")})}}}); err == nil {
		t.Error("SHA-1 passes for SHA-512")
	}
	if kind, sig, err := bestProof(Order{Old: true}, message{elements: []element{{tagSignedSHA2, join(tagged{digestSHA512, []byte("l")})}, {tagSigned, []byte("s")}}}); kind != digestSHA512 || string(sig) != "l" || err != nil {
		t.Error("the weaker of two proofs counts")
	}
}
