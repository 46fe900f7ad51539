package transport

import (
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"ringfence/internal/sip"
)

// readLoop reads messages until the connection ends. Between messages it holds only a small scratch buffer.
func (c *Conn) readLoop() {
	var scratch [1024]byte
	var buf []byte
	var msg sip.Message
	crlf := 0 // bytes of a keep-alive that has not arrived in full
	for {
		n, err := c.fill(&buf, scratch[:], crlf)
		if n > 0 {
			crlf = 0
			c.lastRead.Store(c.layer.tick())
			rest, perr := c.deliver(buf, &msg)
			if perr != nil {
				c.layer.buffers.put(buf)
				c.Close(perr)
				return
			}
			buf, crlf = c.keep(buf, rest)
		}
		if err != nil {
			c.layer.buffers.put(buf)
			c.ended(err)
			return
		}
		// TLS may have answered by itself (key update, alert); that waits in the wire.
		if c.wire.queued.Load() > 0 {
			_ = c.wire.flush()
		}
	}
}

// ended closes the connection because reading failed, and counts it if the peer did it.
func (c *Conn) ended(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		if c.State() != "Closed" {
			c.layer.count(&c.layer.stats.RemoteClosures)
		}
	}
	c.Close(err)
}

// fill reads some bytes behind *buf, which it takes from the pool only when there is something to keep. A new buffer begins
// with the first crlf bytes of "\r\n\r".
func (c *Conn) fill(buf *[]byte, scratch []byte, crlf int) (int, error) {
	b := *buf
	if b == nil {
		n, err := c.stream.Read(scratch)
		if n > 0 {
			b = append(c.layer.buffers.get(), "\r\n\r"[:crlf]...)
			*buf = append(b, scratch[:n]...)
		}
		return n, err
	}
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

// deliver hands every complete message in buf to the receiver and returns the offset of what is left. What the messages cause to be
// sent leaves after the last of them, so that an ACK and a BYE that came together go on together.
func (c *Conn) deliver(buf []byte, msg *sip.Message) (rest int, err error) {
	c.delivery.on = true
	rest, err = c.deliverEach(buf, msg)
	c.delivery.on = false
	if len(c.delivery.behind) > 0 {
		// Whatever has arrived on other connections meanwhile is dealt with first: then all that it causes leaves at once, and a peer
		// that is woken for the first of it is awake for the rest.
		runtime.Gosched()
	}
	c.delivery.flush()
	return rest, err
}

// FlushAfter flushes d once everything that has arrived together with the present message on c, or on the socket of c, was handed
// over. It may be called only within Receiver.Receive for c.
func (c *Conn) FlushAfter(d *Conn) {
	if c.udp != nil {
		c.udp.delivery.after(d)
	} else {
		c.delivery.after(d)
	}
}

// delivery is a reader at work: whether it hands over several messages, and the connections to flush behind them. It is the reader's.
type delivery struct {
	on     bool
	behind []*Conn
}

func (v *delivery) after(d *Conn) {
	switch {
	case !v.on || len(v.behind) >= maxBehind:
		d.Flush()
	case !slices.Contains(v.behind, d):
		v.behind = append(v.behind, d)
	}
}

func (v *delivery) flush() {
	for i, d := range v.behind {
		v.behind[i] = nil
		d.Flush()
	}
	v.behind = v.behind[:0]
}

// maxBehind bounds the connections that wait for the end of a delivery.
const maxBehind = 64

func (c *Conn) deliverEach(buf []byte, msg *sip.Message) (rest int, err error) {
	for rest < len(buf) && halfPing(buf[rest:]) == 0 {
		start, n, pings, err := sip.Frame(buf[rest:], c.layer.cfg.Limits)
		if pings > 0 && !c.Dialled { // whoever dialled asks, the other end answers; a pong is no ping
			c.pong()
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
		c.receive(one, msg)
	}
	return rest, nil
}

func (c *Conn) receive(one []byte, msg *sip.Message) {
	c.messages.Add(1)
	err := msg.Parse(one, c.layer.cfg.Limits)
	if err != nil {
		c.layer.count(&c.layer.stats.Garbage)
	}
	c.layer.cfg.Receiver.Receive(c, msg, err)
}

// keep moves what is left to the front, or gives the buffer back. Half a keep-alive is no unfinished message, so that a
// pong or a stray line break neither holds a buffer nor ends the connection; crlf is its length.
func (c *Conn) keep(buf []byte, rest int) (kept []byte, crlf int) {
	left := buf[rest:]
	if crlf = halfPing(left); crlf == len(left) {
		c.partial.Store(0)
		c.layer.buffers.put(buf)
		return nil, crlf
	}
	if c.partial.Load() == 0 || rest > 0 {
		c.partial.Store(c.layer.tick())
	}
	return buf[:copy(buf, left)], 0
}

// halfPing returns the length of b if b is the beginning of a keep-alive, but not all of it, and otherwise 0.
func halfPing(b []byte) int {
	if n := len(b); n <= 3 && string(b) == "\r\n\r"[:n] {
		return n
	}
	return 0
}

// pong answers keep-alives (RFC 5626 section 4.4.1) with one CRLF, also a burst.
func (c *Conn) pong() {
	if first, err := c.Queue([]byte("\r\n")); err == nil && first {
		c.Flush()
	}
}

// bufferSize holds nearly every message; bigger buffers are not kept.
const bufferSize = 4096

// bufferPool hands out message buffers.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:0]
	}
	return make([]byte, 0, bufferSize)
}

func (p *bufferPool) put(b []byte) {
	if cap(b) == bufferSize {
		p.pool.Put((*[bufferSize]byte)(b[:bufferSize]))
	}
}
