package tlspolicy

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"
)

// stream is one direction of a connection in memory. Writing never waits: in TLS both ends may write at once.
type stream struct {
	mu     sync.Mutex
	more   *sync.Cond
	buf    bytes.Buffer
	closed bool
}

func newStream() *stream {
	s := &stream{}
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.buf.Len() == 0 {
		if s.closed {
			return 0, io.EOF
		}
		s.more.Wait()
	}
	return s.buf.Read(p)
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	s.more.Broadcast()
	return s.buf.Write(p)
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.more.Broadcast()
}

// end is one end of a connection in memory.
type end struct{ in, out *stream }

// pair returns both ends of a connection.
func pair() (net.Conn, net.Conn) {
	a, b := newStream(), newStream()
	return &end{a, b}, &end{b, a}
}

func (e *end) Read(p []byte) (int, error)  { return e.in.Read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.Write(p) }

// Close ends both directions.
func (e *end) Close() error {
	e.out.close()
	e.in.close()
	return nil
}

func (e *end) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "memory"} }
func (e *end) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "memory"} }
func (e *end) SetDeadline(time.Time) error      { return nil }
func (e *end) SetReadDeadline(time.Time) error  { return nil }
func (e *end) SetWriteDeadline(time.Time) error { return nil }
