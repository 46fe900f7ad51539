package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"ringfence"
	"ringfence/internal/sip"
)

const (
	upgradeBytes = 16 << 10 // the longest HTTP request for an upgrade
	pongWait     = 10 * time.Second
)

// ListenWS opens the named flow at addr for SIP over WebSocket (RFC 7118): WSS, or WS if conf is nil, which only a flow with a
// named exception may do. A browser is served if its page came from this host or from one of origins, which are host names
// or "scheme://host" with * for any run of characters.
func (l *Layer) ListenWS(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config, origins []string) (netip.AddrPort, error) {
	return l.listen(ctx, flow, addr, conf, func(c *Conn) (func(), error) {
		if err := l.handshake(c, conf, l.cfg.HandshakeTimeout); err != nil {
			return nil, err
		}
		_ = c.wire.Conn.SetDeadline(time.Now().Add(l.cfg.HandshakeTimeout))
		if err := c.upgrade(origins); err != nil {
			return nil, err
		}
		_ = c.wire.Conn.SetDeadline(time.Time{})
		return c.readFrames, nil
	})
}

// upgrade answers the HTTP request that asks for SIP over WebSocket (RFC 7118 section 4).
func (c *Conn) upgrade(origins []string) error {
	limited := &io.LimitedReader{R: c.stream, N: upgradeBytes}
	br := bufio.NewReader(limited)
	req, err := http.ReadRequest(br)
	if err != nil {
		return &ringfence.Fault{Op: "transport.upgrade", Kind: ringfence.KindInvalid, Text: "no WebSocket request", Err: err}
	}
	rw := &upgradeWriter{conn: c, reader: br, header: http.Header{}}
	if !offersSIP(req) {
		http.Error(rw, `the WebSocket subprotocol "sip" is required (RFC 7118)`, http.StatusBadRequest)
		return &ringfence.Fault{Op: "transport.upgrade", Kind: ringfence.KindInvalid, Text: "the WebSocket subprotocol sip was not offered"}
	}
	ws, err := websocket.Accept(rw, req, &websocket.AcceptOptions{
		Subprotocols: []string{"sip"}, OriginPatterns: origins, CompressionMode: websocket.CompressionDisabled,
		OnPingReceived: func(context.Context, []byte) bool {
			c.lastRead.Store(c.layer.tick())
			return true
		},
	})
	if err != nil {
		return &ringfence.Fault{Op: "transport.upgrade", Kind: ringfence.KindDenied, Text: "the WebSocket request was refused", Err: err,
			Hint: "list the page's origin, or load the page from this host"}
	}
	limit := c.layer.cfg.Limits.Message
	if limit == 0 {
		limit = sip.DefaultLimits().Message
	}
	ws.SetReadLimit(int64(limit))
	c.ws = ws
	if c.Network == "TLS" {
		c.Network = "WSS"
	} else {
		c.Network = "WS"
	}
	c.framed = oneByOne(func(msg []byte) error {
		kind := websocket.MessageText
		if !utf8.Valid(msg) {
			kind = websocket.MessageBinary
		}
		return ws.Write(context.Background(), kind, msg) // never waits: the wire only collects
	})
	return nil
}

func offersSIP(req *http.Request) bool {
	for _, line := range req.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(p), "sip") {
				return true
			}
		}
	}
	return false
}

// readFrames reads one message a frame until the connection ends (RFC 7118 section 5).
func (c *Conn) readFrames() {
	var msg sip.Message
	buf := c.layer.buffers.get()
	defer func() { c.layer.buffers.put(buf) }()
	for {
		_, r, err := c.ws.Reader(context.Background())
		if err == nil {
			c.partial.Store(c.layer.tick())
			buf, err = appendAll(buf[:0], r)
			c.partial.Store(0)
		}
		if err != nil {
			if status := websocket.CloseStatus(err); status != -1 {
				err = fmt.Errorf("%w: the peer closed the WebSocket, status %d", io.EOF, status)
			}
			c.ended(err)
			return
		}
		c.lastRead.Store(c.layer.tick())
		if isKeepAlive(buf) {
			c.pong() // RFC 7118 section 6 leaves this to RFC 5626
			continue
		}
		c.receive(buf, &msg)
	}
}

// appendAll reads r to its end behind b. The read limit of the WebSocket bounds it.
func appendAll(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF { // not errors.Is: a connection that ended in the middle says EOF too, wrapped
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// ping asks an idle browser whether it is still there; one that is there is not idle.
func (c *Conn) ping() {
	defer c.pinging.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), pongWait)
	defer cancel()
	c.mu.Lock()
	c.stopPing = cancel
	closed := c.closed.Load()
	c.mu.Unlock()
	if closed {
		return
	}
	if err := c.ws.Ping(ctx); err != nil {
		c.Close(&ringfence.Fault{Op: "transport.ping", Kind: ringfence.KindTimeout, Text: "the browser did not answer a ping", Err: err})
		return
	}
	c.lastRead.Store(c.layer.tick())
}

// upgradeWriter is the http.ResponseWriter for one answer on a connection that no http.Server owns, so that our own limits
// and deadlines hold for it.
type upgradeWriter struct {
	conn   *Conn
	reader *bufio.Reader
	header http.Header
	wrote  bool
}

// Header implements http.ResponseWriter.
func (u *upgradeWriter) Header() http.Header { return u.header }

// WriteHeader implements http.ResponseWriter.
func (u *upgradeWriter) WriteHeader(status int) {
	if u.wrote {
		return
	}
	u.wrote = true
	if status != http.StatusSwitchingProtocols {
		u.header.Set("Connection", "close")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	_ = u.header.Write(&b)
	b.WriteString("\r\n")
	_, _ = io.WriteString(u.conn.stream, b.String())
}

// Write implements http.ResponseWriter.
func (u *upgradeWriter) Write(p []byte) (int, error) {
	u.WriteHeader(http.StatusOK)
	return u.conn.stream.Write(p)
}

// Hijack implements http.Hijacker.
func (u *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, ok := u.conn.stream.(net.Conn)
	if !ok {
		return nil, nil, errors.ErrUnsupported
	}
	return nc, bufio.NewReadWriter(u.reader, bufio.NewWriter(nc)), nil
}
