package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"ringfence"
)

// Peer is what the other end of a connection proved about itself during the handshake.
type Peer struct {
	Name   string // the certificate's name in our terms, e.g. the device id; empty without a certificate
	Role   string // "device", "trunk", "node" …; empty without a certificate
	Serial string // certificate serial number in hex, for revocation
}

// Conn is one connection that carries SIP. Its exported fields do not change after the handshake; until State says
// "Established", Local, Peer and TLS of a dialled connection may not be read.
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
	stream   io.ReadWriter // the TLS or plain stream over wire; nil for datagrams
	wire     *wire
	ws       *websocket.Conn
	udp      *udpSocket
	framed   writer       // where messages are framed: datagrams and WebSocket
	lastRead atomic.Int64 // when the last byte came, as Layer.tick counts
	partial  atomic.Int64 // since when an unfinished message waits, as Layer.tick counts; 0 if none
	messages atomic.Uint64
	pinging  atomic.Bool
	sentBy   atomic.Pointer[string] // once Local is known

	delivery delivery // of a stream

	mu      sync.Mutex
	pending []byte      // messages to send, not yet sealed
	frames  []int       // their lengths, where messages are framed
	ready   atomic.Bool // the handshake is over; this and closed change with mu held
	closed  atomic.Bool
	cause   error
	fresh   int64 // when the last byte came that put it at the front of udpSocket.order, whose mu guards it

	stopPing func() // ends a WebSocket ping that waits
}

// writer sends messages that lie one behind the other in b, each with one of the lengths.
type writer func(b []byte, lengths []int) error

// oneByOne is a writer that hands each message to write, and tells of the last failure.
func oneByOne(write func(msg []byte) error) writer {
	return func(b []byte, lengths []int) (err error) {
		for _, n := range lengths {
			if e := write(b[:n]); e != nil {
				err = e
			}
			b = b[n:]
		}
		return err
	}
}

// Reliable reports whether the transport retransmits for us.
func (c *Conn) Reliable() bool { return c.Network != "UDP" }

// Secure reports whether the connection is TLS.
func (c *Conn) Secure() bool { return c.TLS != nil }

// SentBy returns the sent-by of our Via on this connection (RFC 3261 section 18.1.1): its local address, or while that is
// not known the name from Config.SentBy. Responses come back on the connection whatever it says.
func (c *Conn) SentBy() string {
	if known := c.sentBy.Load(); known != nil {
		return *known
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch local := c.Local; {
	case local.IsValid():
		s := netip.AddrPortFrom(local.Addr().WithZone(""), local.Port()).String()
		c.sentBy.Store(&s)
		return s
	case c.layer != nil && c.layer.cfg.SentBy != "":
		return c.layer.cfg.SentBy
	}
	return "c" + strconv.FormatUint(c.ID, 10) + ".invalid"
}

// Queued returns the bytes waiting to be sent.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting()
}

func (c *Conn) waiting() int {
	n := len(c.pending)
	if c.wire != nil {
		n += int(c.wire.queued.Load())
	}
	return n
}

// Messages returns how many messages arrived on the connection.
func (c *Conn) Messages() uint64 { return c.messages.Load() }

// LastRead returns when the last byte arrived; a peer that answers no keep-alive shows here (RFC 5626 section 4.4.1).
func (c *Conn) LastRead() time.Time {
	return c.layer.origin.Add(time.Duration(c.lastRead.Load()) * time.Millisecond)
}

// State returns "Connecting", "Established" or "Closed".
func (c *Conn) State() string {
	switch {
	case c.closed.Load():
		return "Closed"
	case !c.ready.Load():
		return "Connecting"
	}
	return "Established"
}

// Queue adds a message to what the next Flush sends; the bytes are copied. first tells that nothing was waiting, so the
// caller should see to a Flush. It fails if the connection is closed or its queue is full; a full queue ends the connection.
func (c *Conn) Queue(msg []byte) (first bool, err error) {
	c.mu.Lock()
	if c.closed.Load() {
		cause := c.cause
		c.mu.Unlock()
		c.layer.count(&c.layer.stats.SendFailures)
		return false, &ringfence.Fault{Op: "transport.send", Kind: ringfence.KindUnavailable, Text: "the connection is closed", Err: cause}
	}
	waiting := c.waiting() + len(msg)
	if waiting > c.layer.cfg.QueueBytes {
		c.mu.Unlock()
		c.layer.count(&c.layer.stats.SendFailures)
		c.layer.spawn(func() { c.Close(errQueueFull) }) // not here: the caller may hold what Closed needs
		return false, &ringfence.Fault{Op: "transport.send", Kind: ringfence.KindOverload, Text: errQueueFull.Error()}
	}
	first = len(c.pending) == 0
	if c.pending == nil {
		c.pending = c.layer.buffers.get()
	}
	c.pending = append(c.pending, msg...)
	if c.framed != nil {
		c.frames = append(c.frames, len(msg))
	}
	c.mu.Unlock()
	if uint64(waiting) > c.layer.maxQueue.Load() {
		c.layer.recordQueue(uint64(waiting), c)
	}
	return first, nil
}

// Flush seals what is queued and offers it to the kernel without blocking.
func (c *Conn) Flush() {
	c.layer.cfg.BeforeFlush()
	c.mu.Lock()
	if len(c.pending) == 0 || !c.ready.Load() || c.closed.Load() {
		c.mu.Unlock()
		return
	}
	err := c.seal() // under the lock, to keep the order of messages when two flushes meet
	if err == nil && c.wire != nil {
		err = c.wire.flush()
	}
	c.mu.Unlock()
	if err != nil {
		c.layer.count(&c.layer.stats.SendFailures)
		if c.udp == nil { // a datagram that cannot be sent says nothing about the next one
			c.Close(err)
		}
	}
}

// seal hands the pending bytes to the stream. It runs with mu held and never blocks, because the wire only collects.
func (c *Conn) seal() (err error) {
	out := c.pending
	c.pending = nil
	if c.framed == nil {
		_, err = c.stream.Write(out)
	} else {
		err = c.framed(out, c.frames)
		c.frames = c.frames[:0]
	}
	c.layer.buffers.put(out)
	return err
}

// Close ends the connection for the given cause, after sending what was queued if the peer takes it without delay. It may be
// called more than once; the first cause is kept.
func (c *Conn) Close(cause error) {
	c.layer.cfg.BeforeFlush()
	c.mu.Lock()
	if c.closed.Load() {
		c.mu.Unlock()
		return
	}
	stuck := errors.Is(cause, errQueueFull)
	if c.ready.Load() && len(c.pending) > 0 && !stuck {
		_ = c.seal()
	}
	c.cause = cause
	c.closed.Store(true)
	ready, w, stream := c.ready.Load(), c.wire, c.stream
	if c.stopPing != nil {
		c.stopPing()
	}
	c.layer.buffers.put(c.pending)
	c.pending, c.frames = nil, nil
	c.mu.Unlock()
	switch {
	case w == nil:
	case stuck || !ready:
		w.abort()
	default:
		if t, ok := stream.(*tls.Conn); ok {
			_ = t.CloseWrite() // collects close_notify; best effort
		}
		w.finish()
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

// open marks the handshake as over; it reports false if the connection was closed meanwhile.
func (c *Conn) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := !c.closed.Load()
	c.ready.Store(ok)
	return ok
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
