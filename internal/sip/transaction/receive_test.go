package transaction

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

// sink is a connection whose peer says nothing and takes everything.
type sink struct{ closed chan struct{} }

func (s *sink) Read([]byte) (int, error) {
	<-s.closed
	return 0, io.EOF
}

func (s *sink) Close() error {
	close(s.closed)
	return nil
}

func (s *sink) Write(p []byte) (int, error)      { return len(p), nil }
func (s *sink) TryWrite(p []byte) (int, error)   { return len(p), nil }
func (s *sink) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(ours) }
func (s *sink) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(theirs) }
func (s *sink) SetDeadline(time.Time) error      { return nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) Listen(context.Context, string, netip.AddrPort) (net.Listener, error) {
	return nil, net.ErrClosed
}

func (s *sink) ListenUDP(context.Context, string, netip.AddrPort) (net.PacketConn, error) {
	return nil, net.ErrClosed
}

func (s *sink) Dial(context.Context, string, netip.AddrPort) (net.Conn, error) { return s, nil }

// userFunc answers requests and ignores the rest.
type userFunc func(tx *Server)

func (f userFunc) Request(tx *Server)                   { f(tx) }
func (f userFunc) Cancelled(tx *Server, _ *sip.Message) { tx.Reply(487, "", nil) }
func (f userFunc) Closed(*transport.Conn, error)        {}

// established returns a layer with one connection to a sink.
func established(tb testing.TB, cfg Config) (*Layer, *transport.Layer, *transport.Conn) {
	tb.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	l := New(cfg)
	trans := transport.New(transport.Config{Opener: &sink{closed: make(chan struct{})}, Receiver: l, Log: cfg.Log})
	conn := trans.Dial(context.Background(), "x", theirs, nil)
	for conn.State() != "Established" {
		if conn.State() == "Closed" {
			tb.Fatal(conn.Cause())
		}
	}
	return l, trans, conn
}

// A request that is answered at once, from the parser to the connection.
func BenchmarkServerOptions(b *testing.B) {
	l, trans, conn := established(b, Config{User: userFunc(func(tx *Server) { tx.Reply(200, "", nil) })})
	text := []byte(incoming("OPTIONS", "z9hG4bK1234567", "TCP"))
	var m sip.Message
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Parse(text, sip.Limits{}); err != nil {
			b.Fatal(err)
		}
		l.Receive(conn, &m, nil)
	}
	b.StopTimer()
	trans.Close()
	l.Close()
}

// A request of ours and its answer.
func BenchmarkClientOptions(b *testing.B) {
	l, trans, conn := established(b, Config{User: userFunc(func(*Server) {})})
	s := l.Shards()[0]
	id := l.NewCallID(s)
	var m sip.Message
	heard := 0
	b.ReportAllocs()
	for b.Loop() {
		var answer sip.Writer
		s.Do(func() {
			s.Request(conn, sip.OPTIONS, func(w *sip.Writer, via string) {
				w.RequestLine(sip.OPTIONS, "sip:bob@example.com")
				w.Header(sip.HeaderVia, via)
				w.Header(sip.HeaderFrom, "<sip:alice@example.com>;tag=1")
				w.Header(sip.HeaderTo, "<sip:bob@example.com>")
				w.Header(sip.HeaderCallID, id)
				w.CSeq(7, sip.OPTIONS)
				w.Body("", nil)
				_ = m.Parse(w.Bytes(), sip.Limits{})
				answer.Response(&m, 200, "", "x")
				answer.Body("", nil)
			}, func(Answer) { heard++ })
		})
		_ = m.Parse(answer.Bytes(), sip.Limits{})
		l.Receive(conn, &m, nil)
	}
	if heard != b.N {
		b.Errorf("%d answers of %d", heard, b.N)
	}
	trans.Close()
	l.Close()
}

// Whatever comes from a connection, nothing panics and what is remembered stays bounded.
func FuzzReceive(f *testing.F) {
	for _, method := range []string{"INVITE", "ACK", "CANCEL", "OPTIONS", "BYE", "REGISTER", "UNKNOWN"} {
		f.Add([]byte(incoming(method, "z9hG4bK1", "TCP")), uint16(200))
		f.Add([]byte(strings.Replace(incoming(method, "1", "TCP"), ";branch=1", "", 1)), uint16(486))
	}
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK8000000000000000\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\r\n"), uint16(0))
	f.Add([]byte("INVITE sip:a SIP/2.0\r\nVia: x\r\nCall-ID: c\r\nFrom: \r\nTo: \"\r\nCSeq: x\r\n\r\n"), uint16(180))
	f.Fuzz(func(t *testing.T, data []byte, status uint16) {
		l, trans, conn := established(t, Config{MaxTransactions: 1, User: userFunc(func(tx *Server) {
			if status >= 100 && status < 700 {
				tx.Reply(int(status), "", nil)
			}
		})})
		defer l.Close()
		defer trans.Close()
		s := l.Shards()[0]
		var heard int
		s.Do(func() {
			s.Request(conn, sip.INVITE, func(w *sip.Writer, via string) { w.Raw("INVITE sip:a@b SIP/2.0\r\n"); w.Body("", nil) }, func(Answer) { heard++ })
		})
		var m sip.Message
		for _, text := range [][]byte{data, data, []byte(strings.Replace(string(data), "INVITE", "CANCEL", 2)), []byte(strings.Replace(string(data), "z9hG4bK", "z9hG4bK0", 1))} {
			err := m.Parse(append([]byte(nil), text...), sip.Limits{})
			l.Receive(conn, &m, err)
		}
		s.Do(func() {
			if len(s.servers) > 2 || len(s.clients) > 1 || l.Active() > len(s.servers) || int(l.kept.Load()) != len(s.servers)+s.answered.count {
				t.Errorf("%d servers, %d clients, %d active", len(s.servers), len(s.clients), l.Active())
			}
		})
	})
}
