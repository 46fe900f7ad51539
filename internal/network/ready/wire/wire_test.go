package wire

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"ringfence"
)

func TestProbe(t *testing.T) {
	key := []byte("0123456789abcdef")
	p := Probe{Kind: Stream, Answer: true, Whole: true, Mark: 46, Session: 1 << 60, Seq: 7, Sent: -3, Seen: netip.MustParseAddrPort("[2001:db8::1]:5061"), SeenMark: NoMark, Came: 4, Left: 5}
	for _, size := range []int{0, Size, 172, 1472} {
		b := p.Append(nil, key, size)
		got, err := ParseProbe(b)
		if err != nil || got != p || len(b) != max(size, Size) || !Genuine(b, key) {
			t.Fatalf("%d: %+v, %v", size, got, err)
		}
		if Genuine(b, []byte("another key of 16")) || Genuine(append(b, 0), key) {
			t.Error("a probe with another key or length is believed")
		}
		for i := range Size {
			b[i] ^= 1
			if Genuine(b, key) {
				t.Errorf("a change at byte %d is not seen", i)
			}
			b[i] ^= 1
		}
	}
}

func TestToken(t *testing.T) {
	key := []byte("0123456789abcdef")
	tok := NewToken(9, 8, key)
	got, ok := ParseToken([]byte("OPTIONS sip:x SIP/2.0\r\n" + TokenHeader + ": " + tok.String() + "\r\n\r\n"))
	if !ok || got != tok || !got.Genuine(key) {
		t.Errorf("%+v %v", got, ok)
	}
	got.Seq++
	if got.Genuine(key) {
		t.Error("a token for another message is believed")
	}
}

// tampering changes one byte of what passes, counted from where it is armed.
type tampering struct {
	net.Conn
	at int
}

func (c *tampering) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	if c.at >= 0 && c.at < len(b) {
		b[c.at] ^= 1
	}
	return c.Conn.Write(b)
}

func TestChannel(t *testing.T) {
	key := []byte("0123456789abcdef")
	run := func(other []byte, at int) (got Request, prober, reflector error) {
		a, b := net.Pipe()
		defer a.Close()
		done := make(chan error, 1)
		go func() {
			defer b.Close()
			c, err := Accept(b, other)
			if err == nil {
				err = c.Receive(&got)
			}
			if err == nil {
				err = c.Send(Reply{From: "192.0.2.1"})
			}
			done <- err
		}()
		tap := &tampering{a, -1}
		c, err := Dial(tap, key)
		if err == nil {
			tap.at = at
			if err = c.Send(Request{Op: "open", TCP: []uint16{443}}); err == nil {
				var r Reply
				err = c.Receive(&r)
			}
		}
		a.Close()
		reflector = <-done
		return got, err, reflector
	}
	if got, p, r := run(key, -1); p != nil || r != nil || got.Op != "open" || got.TCP[0] != 443 {
		t.Errorf("%v %v %+v", p, r, got)
	}
	if _, p, r := run([]byte("fedcba9876543210"), -1); ringfence.KindOf(p) != ringfence.KindUnauthenticated || r == nil {
		t.Errorf("another key: %v %v", p, r)
	}
	if got, _, r := run(key, 10); ringfence.KindOf(r) != ringfence.KindUnauthenticated || got.Op != "" {
		t.Errorf("a changed request: %v %+v", r, got)
	}
}

func FuzzProbe(f *testing.F) {
	key := []byte("0123456789abcdef")
	f.Add(Probe{Kind: Reach, Mark: 46, Seq: 1}.Append(nil, key, 100))
	f.Add(Probe{Kind: Stream, Answer: true, Seen: netip.MustParseAddrPort("192.0.2.1:1")}.Append(nil, key, 0))
	f.Add([]byte("INVITE sip:a@b SIP/2.0\r\n" + TokenHeader + ": " + NewToken(1, 2, key).String() + "\r\n\r\n"))
	f.Add([]byte("\r\n" + TokenHeader + ": 0-"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseProbe(b); err == nil && Genuine(b, key) {
			again, err := ParseProbe(p.Append(nil, key, len(b)))
			if err != nil || again != p {
				t.Errorf("%+v became %+v, %v", p, again, err)
			}
		}
		if tok, ok := ParseToken(b); ok {
			again, ok := ParseToken([]byte("\r\n" + TokenHeader + ": " + tok.String()))
			if !ok || again != tok {
				t.Errorf("%v became %v", tok, again)
			}
		}
	})
}

// stranger is a peer that says what a fuzzer made up.
type stranger struct {
	*bytes.Reader
	bytes.Buffer
}

func (s *stranger) Read(b []byte) (int, error) { return s.Reader.Read(b) }

func FuzzChannel(f *testing.F) {
	f.Add([]byte(Greeting + "\x010123456789abcdef0123456789abcdef0123456789abcdef"))
	f.Add([]byte("\x00\x00\x00\x02{}0123456789abcdef0123456789abcdef"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Accept(&stranger{Reader: bytes.NewReader(b)}, []byte("0123456789abcdef")); err == nil {
			t.Error("a stranger is believed")
		}
		if _, err := Dial(&stranger{Reader: bytes.NewReader(b)}, []byte("0123456789abcdef")); err == nil {
			t.Error("a strange reflector is believed")
		}
		c, _ := newChannel(&stranger{Reader: bytes.NewReader(b)}, []byte("0123456789abcdef"), make([]byte, 32), 's', 'p')
		var r Request
		if c.Receive(&r) == nil {
			t.Error("a stranger's message is believed")
		}
	})
}
