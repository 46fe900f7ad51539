package testkit

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is one end of a connection: it reads from one half and writes to the other.
type stream struct {
	net           *Net
	local, remote netip.AddrPort
	in, out       *half
	dialler       *stream // the end that Net.streams lists, until both are closed
	closed        bool    // under Net.mu
	peer          *stream
}

func newStreams(n *Net, from, to netip.AddrPort, shape Shape) (near, far *stream) {
	a, b := newHalf(shape), newHalf(shape)
	hole := n.holes[pathOf(from.Addr(), to.Addr())]
	a.hole, b.hole = hole, hole
	near = &stream{net: n, local: from, remote: to, in: a, out: b}
	far = &stream{net: n, local: to, remote: from, in: b, out: a, dialler: near}
	near.dialler, near.peer, far.peer = near, far, near
	return near, far
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) { return s.in.read(p) }

// Write implements net.Conn.
func (s *stream) Write(p []byte) (int, error) { return s.out.write(p) }

// Close implements net.Conn: the other end reads what was written and then EOF.
func (s *stream) Close() error {
	s.in.shut(net.ErrClosed, syscall.EPIPE)
	s.out.shut(io.EOF, net.ErrClosed)
	s.forget()
	return nil
}

func (s *stream) reset() {
	s.in.kill(syscall.ECONNRESET)
	s.out.kill(syscall.ECONNRESET)
	s.forget()
	s.peer.forget()
}

func (s *stream) forget() {
	s.net.mu.Lock()
	s.closed = true
	if s.peer.closed {
		delete(s.net.streams, s.dialler)
	}
	s.net.mu.Unlock()
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.local) }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.readBy.set(&s.in.wake, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.writeBy.set(&s.out.wake, t)
	return nil
}

// half carries bytes one way.
type half struct {
	latency time.Duration
	limit   int

	mu      sync.Mutex
	wake    sync.Cond
	chunks  []chunk
	size    int
	hole    bool
	readErr error // what a reader gets once the bytes are used up (or at once, if they were dropped)
	sendErr error // what a writer gets
	readBy  deadline
	writeBy deadline
	arrival *time.Timer
}

type chunk struct {
	at   time.Time
	data []byte
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

// set wakes who waits, now and when t has come. It runs with wake's lock held.
func (d *deadline) set(wake *sync.Cond, t time.Time) {
	d.stop()
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() { broadcast(wake) })
	}
	wake.Broadcast()
}

func broadcast(wake *sync.Cond) {
	wake.L.Lock()
	wake.Broadcast()
	wake.L.Unlock()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func newHalf(shape Shape) *half {
	h := &half{latency: shape.Latency, limit: shape.Buffer}
	if h.limit == 0 {
		h.limit = 64 << 10
	}
	h.wake.L = &h.mu
	return h
}

func (h *half) setHole(on bool) {
	h.mu.Lock()
	h.hole = on
	h.wake.Broadcast()
	h.mu.Unlock()
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.readBy.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		if h.readErr == net.ErrClosed {
			return 0, h.readErr
		}
		if len(h.chunks) > 0 && !h.hole {
			c := &h.chunks[0]
			if wait := time.Until(c.at); wait > 0 {
				if h.arrival == nil {
					h.arrival = time.AfterFunc(wait, func() {
						h.mu.Lock()
						h.arrival = nil
						h.wake.Broadcast()
						h.mu.Unlock()
					})
				}
			} else {
				n := copy(p, c.data)
				if c.data = c.data[n:]; len(c.data) == 0 {
					h.chunks = h.chunks[1:]
				}
				h.size -= n
				h.wake.Broadcast()
				return n, nil
			}
		} else if len(h.chunks) == 0 && h.readErr != nil && (!h.hole || h.readErr != io.EOF) {
			return 0, h.readErr
		}
		if len(p) == 0 {
			return 0, nil
		}
		h.wake.Wait()
	}
}

func (h *half) write(p []byte) (sent int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 {
		switch {
		case h.sendErr != nil:
			return sent, h.sendErr
		case h.writeBy.passed():
			return sent, os.ErrDeadlineExceeded
		case h.size >= h.limit:
			h.wake.Wait()
			continue
		}
		n := min(len(p), h.limit-h.size)
		h.chunks = append(h.chunks, chunk{time.Now().Add(h.latency), append([]byte(nil), p[:n]...)})
		h.size += n
		sent += n
		p = p[n:]
		h.wake.Broadcast()
	}
	return sent, nil
}

// shut ends the half in order: bytes already written can still be read, unless the reader itself closed.
func (h *half) shut(readErr, sendErr error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErr == nil || readErr == net.ErrClosed {
		h.readErr = readErr
	}
	if h.sendErr == nil || sendErr == net.ErrClosed {
		h.sendErr = sendErr
	}
	if readErr == net.ErrClosed {
		h.chunks, h.size = nil, 0
		h.readBy.stop()
		if h.arrival != nil {
			h.arrival.Stop()
			h.arrival = nil
		}
	} else {
		h.writeBy.stop()
	}
	h.wake.Broadcast()
}

// kill ends the half at once and drops what is on the way.
func (h *half) kill(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chunks, h.size = nil, 0
	if h.readErr == nil || h.readErr == io.EOF {
		h.readErr = err
	}
	if h.sendErr == nil {
		h.sendErr = err
	}
	h.readBy.stop()
	h.writeBy.stop()
	h.wake.Broadcast()
}

// TryWrite takes as many bytes of p as there is room for, without waiting.
func (s *stream) TryWrite(p []byte) (int, error) {
	s.out.mu.Lock()
	room := s.out.limit - s.out.size
	s.out.mu.Unlock()
	if room <= 0 {
		return 0, nil
	}
	return s.out.write(p[:min(len(p), room)])
}
