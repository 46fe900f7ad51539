package wire

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"

	"ringfence"
)

// A probe also goes through a web socket (RFC 6455) within TLS, since machines that take TLS apart often break what is upgraded. The request carries a probe too, so that strangers get no answer.

const (
	socketPath = "/ready/"
	maxSocket  = 4096 // bytes of a request or response
	binary2    = 0x82 // FIN, binary
)

// SocketRequest asks for an upgrade. The key is 16 random bytes in base64, the probe one without padding.
func SocketRequest(host, key string, probe []byte) []byte {
	return fmt.Appendf(nil, "GET %s%x HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", socketPath, probe, host, key)
}

func unclear(text string, err error) error {
	return &ringfence.Fault{Op: "wire.socket", Kind: ringfence.KindInvalid, Text: text, Err: err}
}

// head reads up to the end of a header, and no more than it may have.
func head(r *bufio.Reader) ([]byte, error) {
	var b []byte
	for {
		line, err := r.ReadSlice('\n')
		if b = append(b, line...); err != nil || len(b) > maxSocket {
			return nil, unclear("this is no header", err)
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return b, nil
		}
	}
}

// ParseSocketRequest reads what asks for an upgrade, and the probe in it.
func ParseSocketRequest(r *bufio.Reader) (key string, probe []byte, err error) {
	b, err := head(r)
	if err != nil {
		return "", nil, err
	}
	q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return "", nil, unclear("this is no request", err)
	}
	path, ok := strings.CutPrefix(q.URL.Path, socketPath)
	if probe, err = hex.DecodeString(path); err != nil || !ok || len(probe) != Size || q.Method != http.MethodGet {
		return "", nil, unclear("this asks for something else", err)
	}
	key = q.Header.Get("Sec-WebSocket-Key")
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 || !strings.EqualFold(q.Header.Get("Upgrade"), "websocket") {
		return "", nil, unclear("this asks for no web socket", err)
	}
	return key, probe, nil
}

// accept is what proves that a key was seen (RFC 6455 section 4.2.2).
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// SocketResponse grants an upgrade.
func SocketResponse(key string) []byte {
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept(key) + "\r\n\r\n")
}

// ParseSocketResponse reads what came of asking for an upgrade.
func ParseSocketResponse(r *bufio.Reader, key string) error {
	b, err := head(r)
	if err != nil {
		return err
	}
	a, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: http.MethodGet})
	switch {
	case err != nil:
		return unclear("this is no response", err)
	case a.StatusCode != http.StatusSwitchingProtocols:
		return unclear(fmt.Sprintf("the upgrade to a web socket is answered with %d", a.StatusCode), nil)
	case a.Header.Get("Sec-WebSocket-Accept") != accept(key):
		return unclear("the upgrade to a web socket is answered by somebody who did not see the question", nil)
	}
	return nil
}

// Frame makes a frame of up to 125 bytes; a client masks it.
func Frame(payload []byte, mask *[4]byte) []byte {
	b := []byte{binary2, byte(len(payload))}
	if mask == nil {
		return append(b, payload...)
	}
	b[1] |= 0x80
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// ParseFrame reads one frame of that kind, masked or not.
func ParseFrame(r io.Reader, masked bool) ([]byte, error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, unclear("the web socket ends", err)
	}
	if h[0] != binary2 || h[1]&0x7f > 125 || (h[1]&0x80 != 0) != masked {
		return nil, unclear("this is no frame of a probe", nil)
	}
	var mask [4]byte
	if masked {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return nil, unclear("the web socket ends", err)
		}
	}
	b := make([]byte, h[1]&0x7f)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, unclear("the web socket ends", err)
	}
	for i := range b {
		b[i] ^= mask[i%4]
	}
	return b, nil
}
