package transport

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/sip"
)

// Peer is what the other end of a connection proved about itself during the handshake.
type Peer struct {
	Name   string // the certificate's name in our terms, e.g. the device id; empty without a certificate
	Role   string // "device", "trunk", "node" …; empty without a certificate
	Serial string // certificate serial number in hex, for revocation
}

// Conn is one connection that carries SIP. Its exported fields do not change after the handshake.
type Conn struct {
	ID      uint64
	Flow    string // name of the ringfence.Flow it belongs to
	Network string // Via transport: "TLS", "TCP", "UDP", "WS" or "WSS"
	Local   netip.AddrPort
	Remote  netip.AddrPort
	Dialled bool // we opened it
	Peer    Peer
	TLS     *ringfence.TLSProof // nil unless the connection is TLS
	Since   time.Time

	layer    *Layer
	stream   io.ReadWriter // the TLS or plain stream over wire
	wire     *wire
	packet   func([]byte) error // for datagrams and WebSocket: sends one message
	lastRead atomic.Int64       // Unix seconds of the last byte
	partial  atomic.Int64       // Unix seconds since when an unfinished message waits, 0 if none
	messages atomic.Uint64

	mu      sync.Mutex
	pending []byte // messages to send, not yet sealed
	ready   bool   // the handshake is over
	closed  bool
	cause   error
}

// Reliable reports whether the transport retransmits for us.
func (c *Conn) Reliable() bool { return c.Network != "UDP" }

// Secure reports whether the connection is TLS.
func (c *Conn) Secure() bool { return c.TLS != nil }

// Queued returns the bytes waiting to be sent.
func (c *Conn) Queued() int {
	c.mu.Lock()
	n, w := len(c.pending), c.wire
	c.mu.Unlock()
	if w != nil {
		n += w.queued()
	}
	return n
}

// Messages returns how many messages arrived on the connection.
func (c *Conn) Messages() uint64 { return c.messages.Load() }

// LastRead returns when the last byte arrived, to the second; a peer that answers no keep-alive shows here (RFC 5626 section 4.4.1).
func (c *Conn) LastRead() time.Time { return time.Unix(c.lastRead.Load(), 0) }

// State returns "Connecting", "Established" or "Closed".
func (c *Conn) State() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return "Closed"
	case !c.ready:
		return "Connecting"
	}
	return "Established"
}

// Queue adds a message to what the next Flush sends; the bytes are copied. first tells that nothing was waiting, so the
// caller should see to a Flush. It fails if the connection is closed or its queue is full.
func (c *Conn) Queue(msg []byte) (first bool, err error) {
	if c.packet != nil && c.stream == nil {
		return false, c.packet(msg)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false, &ringfence.Fault{Op: "transport.send", Kind: ringfence.KindUnavailable, Text: "the connection is closed", Err: c.cause}
	}
	if len(c.pending)+len(msg) > c.layer.cfg.QueueBytes {
		go c.Close(errQueueFull)
		return false, &ringfence.Fault{Op: "transport.send", Kind: ringfence.KindOverload, Text: errQueueFull.Error()}
	}
	first = len(c.pending) == 0
	if c.pending == nil {
		c.pending = c.layer.buffers.get()[:0]
	}
	c.pending = append(c.pending, msg...)
	return first, nil
}

// Flush seals what is queued and offers it to the kernel without blocking.
func (c *Conn) Flush() {
	c.mu.Lock()
	if len(c.pending) == 0 || !c.ready || c.closed {
		c.mu.Unlock()
		return
	}
	out := c.pending
	c.pending = nil
	// Sealing under the lock keeps the order of messages when two flushes meet.
	_, err := c.stream.Write(out)
	if err == nil {
		err = c.wire.flush()
	}
	c.mu.Unlock()
	c.layer.buffers.put(out)
	if err != nil {
		c.Close(err)
	}
}

// Close ends the connection for the given cause. It may be called more than once; the first cause is kept.
func (c *Conn) Close(cause error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed, c.cause = true, cause
	ready, pending, w, stream := c.ready, c.pending, c.wire, c.stream
	c.pending = nil
	c.mu.Unlock()
	c.layer.buffers.put(pending)
	if w != nil {
		if t, ok := stream.(*tls.Conn); ok && ready {
			_ = t.CloseWrite() // queues close_notify; best effort
			_ = w.flush()
		}
		_ = w.Close()
	}
	c.layer.forget(c)
	c.layer.cfg.Receiver.Closed(c, cause)
}

// Cause returns why the connection was closed, or nil.
func (c *Conn) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

func (c *Conn) setReady() {
	c.mu.Lock()
	c.ready = true
	c.mu.Unlock()
}

// readLoop reads messages until the connection ends. Between messages it holds only a small scratch buffer.
func (c *Conn) readLoop() {
	var scratch [512]byte
	var buf []byte
	var msg sip.Message
	fail := func(err error) {
		c.layer.buffers.put(buf)
		c.Close(err)
	}
	for {
		n, err := c.fill(&buf, scratch[:])
		if n > 0 {
			c.lastRead.Store(time.Now().Unix())
			rest, perr := c.deliver(buf, &msg)
			if perr != nil {
				fail(perr)
				return
			}
			buf = c.keep(buf, rest)
		}
		if err != nil {
			fail(err)
			return
		}
		// TLS may have answered by itself (key update, alert); that waits in the wire.
		if c.wire.queued() > 0 {
			_ = c.wire.flush()
		}
	}
}

// fill reads some bytes behind *buf, which it takes from the pool only when there is something to keep.
func (c *Conn) fill(buf *[]byte, scratch []byte) (int, error) {
	if *buf == nil {
		n, err := c.stream.Read(scratch)
		if n > 0 {
			*buf = append(c.layer.buffers.get()[:0], scratch[:n]...)
			if n == len(scratch) && err == nil {
				// Usually the rest of the same TLS record; if not, the next read would have waited anyway.
				return n, nil
			}
		}
		return n, err
	}
	b := *buf
	if cap(b)-len(b) < 1024 {
		grown := make([]byte, len(b), 2*cap(b)+1024)
		copy(grown, b)
		c.layer.buffers.put(b)
		b = grown
	}
	n, err := c.stream.Read(b[len(b):cap(b)])
	*buf = b[:len(b)+n]
	return n, err
}

// deliver hands every complete message in buf to the receiver and returns the offset of what is left.
func (c *Conn) deliver(buf []byte, msg *sip.Message) (rest int, err error) {
	for rest < len(buf) {
		start, n, pings, err := sip.Frame(buf[rest:], c.layer.cfg.Limits)
		if pings > 0 {
			c.pong(pings)
		}
		if err != nil {
			c.layer.count(&c.layer.stats.Garbage)
			return 0, err
		}
		if n == 0 {
			rest += start
			break
		}
		one := buf[rest+start : rest+start+n : rest+start+n]
		rest += start + n
		c.messages.Add(1)
		perr := msg.Parse(one, c.layer.cfg.Limits)
		if perr != nil {
			c.layer.count(&c.layer.stats.Garbage)
		}
		c.layer.cfg.Receiver.Receive(c, msg, perr)
	}
	return rest, nil
}

// keep moves what is left to the front, or gives the buffer back.
func (c *Conn) keep(buf []byte, rest int) []byte {
	left := len(buf) - rest
	if left == 0 {
		c.partial.Store(0)
		c.layer.buffers.put(buf)
		return nil
	}
	if c.partial.Load() == 0 || rest > 0 {
		c.partial.Store(time.Now().Unix())
	}
	copy(buf, buf[rest:])
	return buf[:left]
}

// pong answers keep-alives (RFC 5626 section 4.4.1) with one CRLF each, at most one for a burst.
func (c *Conn) pong(int) {
	if first, err := c.Queue([]byte("\r\n")); err == nil && first {
		c.Flush()
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	case *net.UDPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	case nil:
		return netip.AddrPort{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap
}
