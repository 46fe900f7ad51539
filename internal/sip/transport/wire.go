package transport

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var errQueueFull = errors.New("the peer does not read: its write queue is full")

const (
	drainPiece = 16 << 10        // bytes that must get through within a stall
	lastWords  = 2 * time.Second // how long a closing connection may take to send what it had accepted
)

// tryWriter is a connection that is no socket but can take bytes without waiting; it may take fewer than offered.
type tryWriter interface{ TryWrite([]byte) (int, error) }

// wire is the net.Conn below TLS. Once buffering is on, Write only collects, and flush hands the bytes to the kernel
// without ever blocking.
type wire struct {
	net.Conn
	raw    syscall.RawConn // nil for connections that are not sockets (tests)
	try    tryWriter       // likewise, if it can
	limit  int             // bytes that may wait before the connection is given up
	stall  time.Duration   // how long a drain may make no progress
	spawn  func(func()) bool
	pool   *bufferPool
	queued atomic.Int64 // bytes that the kernel has not taken yet

	into []byte             // where readSome puts what it reads; one goroutine reads
	got  int                // and how much that was
	fail error              // or why it was nothing
	some func(uintptr) bool // readSome and writeSome, bound once
	more func(uintptr) bool

	mu      sync.Mutex
	out     []byte
	sent    int // bytes of out that the kernel has taken
	buffer  bool
	auto    bool // every Write flushes
	drain   bool // a drain goroutine is running
	closing bool // close when everything was sent
	failure error
}

func newWire(c net.Conn, l *Layer) *wire {
	w := &wire{Conn: c, limit: 2 * l.cfg.QueueBytes, stall: l.cfg.HandshakeTimeout, spawn: l.spawn, pool: &l.buffers}
	w.try, _ = c.(tryWriter)
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw, w.some, w.more = raw, w.readSome, w.writeSome
		}
	}
	return w
}

// startBuffering is called when the handshake is over: from then on only flush writes to the socket. With auto, every Write
// flushes, for users that cannot.
func (w *wire) startBuffering(auto bool) {
	w.mu.Lock()
	w.buffer, w.auto = true, auto
	w.mu.Unlock()
}

// SetWriteDeadline is for the handshake. Later, when tls.Conn sets one to say goodbye, it must not reach the socket:
// writing never blocks, and a deadline that has passed would refuse what was collected.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buffer {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
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
	if int(w.queued.Load())+len(p) > w.limit {
		w.failure = errQueueFull
		return 0, w.failure
	}
	if w.out == nil {
		w.out = w.pool.get()
	}
	w.out = append(w.out, p...)
	w.queued.Add(int64(len(p)))
	if w.auto {
		w.push()
	}
	return len(p), w.failure
}

// flush offers the collected bytes to the kernel once and leaves the rest to a drain goroutine.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.push()
	return w.failure
}

// push does the work of flush with mu held.
func (w *wire) push() {
	if w.drain || w.failure != nil || w.sent == len(w.out) {
		return
	}
	switch {
	case w.raw != nil:
		w.writeNow()
	case w.try != nil:
		n, err := w.try.TryWrite(w.out)
		w.sent, w.failure = n, err
		w.queued.Add(-int64(n))
	}
	switch {
	case w.failure != nil:
	case w.sent == len(w.out):
		w.pool.put(w.out)
		w.out, w.sent = nil, 0
	default:
		if w.drain = w.spawn(w.drainAll); !w.drain {
			w.failure = net.ErrClosed
		}
	}
}

// Read reads what has arrived, waiting for it if there is nothing.
func (w *wire) Read(p []byte) (int, error) {
	if w.raw == nil || len(p) == 0 {
		return w.Conn.Read(p)
	}
	w.into, w.got, w.fail = p, 0, nil
	err := w.raw.Read(w.some)
	w.into = nil
	switch {
	case err != nil: // closed, or the deadline passed
		return 0, err
	case w.fail != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: w.Conn.LocalAddr(), Addr: w.Conn.RemoteAddr(), Err: w.fail}
	case w.got == 0:
		return 0, io.EOF
	}
	return w.got, nil
}

// readSome reports false if there is nothing to read yet.
func (w *wire) readSome(fd uintptr) bool {
	for {
		n, err := readFD(fd, w.into)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return false
		}
		w.got, w.fail = n, err
		return true
	}
}

// writeNow makes one non-blocking write. It runs with mu held.
func (w *wire) writeNow() {
	if err := w.raw.Write(w.more); err != nil && w.failure == nil {
		w.failure = err
	}
}

func (w *wire) writeSome(fd uintptr) bool {
	n, err := writeFD(fd, w.out[w.sent:])
	if n > 0 {
		w.sent += n
		w.queued.Add(-int64(n))
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR) {
		w.failure = err
	}
	return true // never wait here
}

// drainAll waits for the kernel to take what it would not take at once, in pieces, each of which must get through in time.
func (w *wire) drainAll() {
	for {
		w.mu.Lock()
		chunk, sent := w.out, w.sent
		w.out, w.sent = nil, 0
		if sent == len(chunk) || w.failure != nil {
			w.drain = false
			_ = w.Conn.SetWriteDeadline(time.Time{}) // or the next write would fail when it passes
			if w.closing {
				_ = w.Conn.Close()
			}
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		for sent < len(chunk) {
			w.mu.Lock()
			if !w.closing {
				_ = w.Conn.SetWriteDeadline(time.Now().Add(w.stall))
			}
			w.mu.Unlock()
			n, err := w.Conn.Write(chunk[sent:min(len(chunk), sent+drainPiece)])
			sent += n
			w.queued.Add(-int64(n))
			if err != nil {
				w.mu.Lock()
				w.failure, w.drain, w.out = err, false, nil
				w.mu.Unlock()
				_ = w.Conn.Close() // the reader sees it and ends the connection
				return
			}
		}
		w.pool.put(chunk)
	}
}

// finish closes the connection, after what was collected has been sent if the peer takes it soon. The reader ends at once.
func (w *wire) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buffer = true // nothing may reach the socket any more except by push
	w.push()
	if w.drain && w.failure == nil {
		w.closing = true
		_ = w.Conn.SetWriteDeadline(time.Now().Add(lastWords))
		_ = w.Conn.SetReadDeadline(time.Unix(1, 0))
		return
	}
	if w.failure == nil {
		w.failure = net.ErrClosed
	}
	_ = w.Conn.Close()
}

// abort closes the connection at once.
func (w *wire) abort() {
	w.mu.Lock()
	if w.failure == nil {
		w.failure = net.ErrClosed
	}
	w.mu.Unlock()
	_ = w.Conn.Close()
}
