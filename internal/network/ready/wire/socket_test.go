package wire

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

func TestSocket(t *testing.T) {
	const key = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455 section 1.3
	if accept(key) != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Error(accept(key))
	}
	probe := Probe{Kind: Reach, Session: 7, Seq: 1}.Append(nil, []byte("key"), Size)
	got, p, err := ParseSocketRequest(bufio.NewReader(bytes.NewReader(SocketRequest("service.example.com", key, probe))))
	if err != nil || got != key || !bytes.Equal(p, probe) {
		t.Errorf("%q %v", got, err)
	}
	if err := ParseSocketResponse(bufio.NewReader(bytes.NewReader(SocketResponse(key))), key); err != nil {
		t.Error(err)
	}
	for _, b := range []string{"", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: y\r\n\r\n", strings.Repeat("x", 9000), "\r\n"} {
		if err := ParseSocketResponse(bufio.NewReader(strings.NewReader(b)), key); err == nil {
			t.Errorf("%.40q is an upgrade", b)
		}
	}
	good := string(SocketRequest("a", key, probe))
	for _, b := range []string{"", strings.Replace(good, "/ready/", "/", 1), strings.Replace(good, "GET", "POST", 1), strings.Replace(good, key, "x", 1), strings.Replace(good, "websocket", "h2c", 1), strings.Replace(good, "Host", strings.Repeat("A: b\r\n", 1000)+"Host", 1)} {
		if _, _, err := ParseSocketRequest(bufio.NewReader(strings.NewReader(b))); err == nil {
			t.Errorf("%.40q is a request", b)
		}
	}
	for _, mask := range []*[4]byte{nil, {1, 2, 3, 4}} {
		f := Frame(probe, mask)
		if b, err := ParseFrame(bytes.NewReader(f), mask != nil); err != nil || !bytes.Equal(b, probe) {
			t.Error(err)
		}
		for n := range f {
			if _, err := ParseFrame(bytes.NewReader(f[:n]), mask != nil); err == nil {
				t.Errorf("%d bytes are a frame", n)
			}
		}
		if _, err := ParseFrame(bytes.NewReader(f), mask == nil); err == nil {
			t.Error("a mask is not looked at")
		}
	}
}

func FuzzSocketRequest(f *testing.F) {
	f.Add(SocketRequest("a", "dGhlIHNhbXBsZSBub25jZQ==", make([]byte, Size)))
	f.Add(Frame(make([]byte, Size), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, p, err := ParseSocketRequest(bufio.NewReader(bytes.NewReader(b))); err == nil && (len(p) != Size || len(key) != 24) {
			t.Errorf("%q %d", key, len(p))
		}
		if p, err := ParseFrame(bytes.NewReader(b), true); err == nil && len(p) > 125 {
			t.Errorf("%d", len(p))
		}
		_ = ParseSocketResponse(bufio.NewReader(bytes.NewReader(b)), "x")
	})
}
