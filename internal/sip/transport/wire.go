package transport

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

var errQueueFull = errors.New("the peer does not read: its write queue is full")

// wire is the net.Conn below TLS. Once buffering is on, Write only collects, and flush hands the bytes to the kernel
// without ever blocking.
type wire struct {
	net.Conn
	raw     syscall.RawConn // nil for connections that are not sockets (tests)
	limit   int             // bytes that may wait before the connection is given up
	stall   time.Duration   // how long a drain may make no progress
	mu      sync.Mutex
	out     []byte
	buffer  bool
	drain   bool // a drain goroutine is running
	failure error
}

func newWire(c net.Conn, limit int, stall time.Duration) *wire {
	w := &wire{Conn: c, limit: limit, stall: stall}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	return w
}

// startBuffering is called when the handshake is over: from then on only flush writes to the socket.
func (w *wire) startBuffering() {
	w.mu.Lock()
	w.buffer = true
	w.mu.Unlock()
}

// Write collects p, or writes it at once while the handshake is going on.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	if !w.buffer {
		w.mu.Unlock()
		return w.Conn.Write(p)
	}
	defer w.mu.Unlock()
	if w.failure != nil {
		return 0, w.failure
	}
	if len(w.out)+len(p) > w.limit {
		w.failure = errQueueFull
		return 0, w.failure
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// queued returns the bytes that the kernel has not taken yet.
func (w *wire) queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.out)
}

// flush offers the collected bytes to the kernel once and leaves the rest to a drain goroutine.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.drain || len(w.out) == 0 {
		return w.failure
	}
	if w.raw != nil {
		w.writeNow()
	}
	switch {
	case w.failure != nil:
	case len(w.out) == 0:
		w.out = nil
	default:
		w.drain = true
		go w.drainAll()
	}
	return w.failure
}

// writeNow makes one non-blocking write. It runs with mu held.
func (w *wire) writeNow() {
	err := w.raw.Write(func(fd uintptr) bool {
		n, err := syscall.Write(int(fd), w.out)
		if n > 0 {
			w.out = w.out[n:]
		}
		if err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR) {
			w.failure = err
		}
		return true // never wait here
	})
	if err != nil && w.failure == nil {
		w.failure = err
	}
}

func (w *wire) drainAll() {
	for {
		w.mu.Lock()
		chunk := w.out
		w.out = nil
		if len(chunk) == 0 || w.failure != nil {
			w.drain = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		_ = w.SetWriteDeadline(time.Now().Add(w.stall))
		if _, err := w.Conn.Write(chunk); err != nil {
			w.mu.Lock()
			w.failure, w.drain, w.out = err, false, nil
			w.mu.Unlock()
			_ = w.Close() // the reader sees it and ends the connection
			return
		}
	}
}
