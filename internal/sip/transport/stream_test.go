package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

func TestTwoLayersTalkOverTLS(t *testing.T) {
	exchange := func(t *testing.T, server, client ringfence.Opener, at netip.AddrPort, wait func(r *recorder, what string, ok func() bool)) {
		sr, cr := newRecorder(), newRecorder()
		sr.on = func(c *Conn, m *sip.Message) {
			_, _ = c.Queue(m.Bytes())
			c.Flush()
		}
		s, c := newLayer(server, sr, nil), newLayer(client, cr, nil)
		defer s.Close()
		defer c.Close()
		at, err := s.Listen(t.Context(), "sip-tls", at, authority().Server("sip.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		conn := c.Dial(t.Context(), "sip-out", at, authority().Client("alice-desk", "sip.example.com"))
		for i := range 3 { // queued while it connects
			if _, err := conn.Queue(message(i, "")); err != nil {
				t.Fatal(err)
			}
		}
		if by := conn.SentBy(); strings.Contains(by, "invalid AddrPort") {
			t.Errorf("sent-by while connecting: %s", by)
		}
		wait(cr, "three echoes", func() bool { return len(cr.messages()) == 3 })
		for i, m := range cr.messages() {
			if m.text != string(message(i, "")) {
				t.Errorf("echo %d is %q", i, m.text)
			}
		}
		got := sr.messages()[0].conn
		if got.Peer.Name != "alice-desk" || got.TLS == nil || got.Network != "TLS" || !got.Reliable() || got.Dialled || got.Remote != conn.Local {
			t.Errorf("server sees %+v", got)
		}
		if s.Conn(got.ID) != got || len(s.Conns()) != 1 || conn.State() != "Established" || conn.SentBy() != conn.Local.String() {
			t.Error("the tables do not show the connection")
		}
		conn.Close(io.EOF)
		wait(sr, "the close", func() bool { return len(sr.causes(got)) == 1 })
		if !errors.Is(got.Cause(), io.EOF) || errors.Is(got.Cause(), io.ErrUnexpectedEOF) {
			t.Errorf("no close_notify came: %v", got.Cause())
		}
		if st := s.Stats(); st.Accepted != 1 || st.RemoteClosures != 1 || len(s.Conns()) != 0 {
			t.Errorf("server stats %+v", st)
		}
		if st := c.Stats(); st.Dialled != 1 || st.RemoteClosures != 0 || st.MaxQueue == 0 || st.MaxQueueRecorded != at.String() {
			t.Errorf("client stats %+v", st)
		}
	}
	t.Run("virtual", func(t *testing.T) {
		authority()
		synctest.Test(t, func(t *testing.T) {
			n := testkit.New(1)
			n.SetShape(testkit.Shape{Latency: 15 * time.Millisecond})
			exchange(t, n.Host(serverAddr), n.Host(clientAddr), serverPort, func(r *recorder, what string, ok func() bool) { r.until(t, what, ok) })
		})
	})
	t.Run("loopback", func(t *testing.T) {
		exchange(t, loopback{}, loopback{}, anyLocal, func(r *recorder, what string, ok func() bool) { r.until(t, what, ok) })
	})
}

func TestFramingSplitAtEveryByte(t *testing.T) {
	authority()
	one, two := message(1, "hello"), message(2, "")
	both := append(append([]byte("\r\n"), one...), two...)
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		c := dialTLS(t, n)
		for cut := 1; cut < len(both); cut++ {
			_, _ = c.Write(both[:cut])
			synctest.Wait()
			_, _ = c.Write(both[cut:])
			synctest.Wait()
			got := r.messages()
			if len(got) != 2*cut || got[2*cut-2].text != string(one) || got[2*cut-1].text != string(two) {
				t.Fatalf("cut at %d: %d messages", cut, len(got))
			}
		}
		for _, b := range both { // every byte in a record of its own
			_, _ = c.Write([]byte{b})
		}
		_, _ = c.Write(append(bytes.Clone(both), both...)) // four messages in one record
		synctest.Wait()
		if got := len(r.messages()); got != 2*(len(both)-1)+6 {
			t.Errorf("%d messages", got)
		}
		if r.messages()[0].conn.Messages() != uint64(len(r.messages())) || l.Stats().Garbage != 0 {
			t.Error("the counters are wrong")
		}
		_ = c.Close()
	})
}

func TestManySendersKeepTheirOrder(t *testing.T) {
	const senders, each = 8, 500
	sr, cr := newRecorder(), newRecorder()
	s, c := newLayer(loopback{}, sr, nil), newLayer(loopback{}, cr, nil)
	defer s.Close()
	defer c.Close()
	at, err := s.Listen(t.Context(), "sip-tls", anyLocal, authority().Server("sip.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	conn := c.Dial(t.Context(), "out", at, authority().Client("", "sip.example.com"))
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range each {
				for {
					if conn.Queued() > 100<<10 { // the test is about order, not about a queue that is full
						conn.Flush()
						continue
					}
					break
				}
				first, err := conn.Queue(message(g*each+i, ""))
				if err != nil {
					t.Error(err)
					return
				}
				if first {
					conn.Flush()
				}
			}
		})
	}
	wg.Wait()
	sr.until(t, "all messages", func() bool { return len(sr.messages()) == senders*each })
	last := map[uint32]uint32{}
	for _, h := range sr.messages() {
		var m sip.Message
		if err := m.Parse([]byte(h.text), sip.Limits{}); err != nil {
			t.Fatal(err)
		}
		seq, _, _ := m.CSeq()
		if prev, ok := last[seq/each]; ok && seq != prev+1 {
			t.Fatalf("%d came after %d", seq, prev)
		}
		last[seq/each] = seq
	}
}

// countingConn counts the TLS records that are written.
type countingConn struct {
	net.Conn
	mu      sync.Mutex
	records int
	in      []byte
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, p[:n]...)
	for len(c.in) >= 5 {
		size := 5 + int(c.in[3])<<8 + int(c.in[4])
		if len(c.in) < size {
			break
		}
		c.records++
		c.in = c.in[size:]
	}
	return n, err
}

func TestQueuedMessagesShareARecord(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		counted := &countingConn{Conn: dialRaw(t, n)}
		conf := authority().Client("", "sip.example.com")
		c := tls.Client(counted, conf)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(message(0, ""))
		synctest.Wait()
		conn := r.messages()[0].conn
		// Read what TLS 1.3 sends by itself (session tickets) together with a first message.
		buf := make([]byte, 64<<10)
		_, _ = conn.Queue(message(1, ""))
		conn.Flush()
		_, _ = c.Read(buf)
		before := counted.records
		var want []byte
		for i := range 4 { // crypto/tls begins with records of one packet, about 1,200 bytes
			first, err := conn.Queue(message(i, "x"))
			if err != nil || first != (i == 0) {
				t.Errorf("queue %d: %v %v", i, first, err)
			}
			want = append(want, message(i, "x")...)
		}
		conn.Flush()
		k, err := io.ReadFull(c, buf[:len(want)])
		if err != nil || !bytes.Equal(buf[:k], want) {
			t.Errorf("read %d bytes, %v", k, err)
		}
		if got := counted.records - before; got != 1 {
			t.Errorf("%d records for four messages", got)
		}
		_ = c.Close()
	})
}

func TestKeepAlives(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		c := dialTLS(t, n)
		for _, part := range []string{"\r\n\r\n", "\r", "\n\r", "\n"} {
			_, _ = io.WriteString(c, part)
			synctest.Wait()
		}
		b := make([]byte, 10)
		_, _ = io.ReadFull(c, b[:4])
		if string(b[:4]) != "\r\n\r\n" {
			t.Errorf("two pings gave %q", b[:4])
		}
		_, _ = io.WriteString(c, "\r\n") // half a ping, or a stray line break: no unfinished message
		time.Sleep(time.Minute)
		_, _ = c.Write(message(1, ""))
		synctest.Wait()
		if len(r.messages()) != 1 {
			t.Error("a stray CRLF ended the connection")
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if k, err := c.Read(b); err == nil {
			t.Errorf("a message was answered with %q", b[:k])
		}
		_ = c.Close()
	})
}

func TestDialledEndDoesNotAnswerPongs(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n := testkit.New(1)
		r := newRecorder()
		l := newLayer(n.Host(clientAddr), r, nil)
		defer l.Close()
		ln, err := n.Host(serverAddr).Listen(t.Context(), "x", serverPort)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		conn := l.Dial(t.Context(), "out", serverPort, nil)
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Queue([]byte("\r\n\r\n"))
		synctest.Wait()
		conn.Flush()
		b := make([]byte, 10)
		if k, _ := far.Read(b); string(b[:k]) != "\r\n\r\n" {
			t.Errorf("ping is %q", b[:k])
		}
		_, _ = io.WriteString(far, "\r\n\r\n") // two pongs at once
		_ = far.SetReadDeadline(time.Now().Add(time.Minute))
		if k, err := far.Read(b); err == nil {
			t.Errorf("pongs were answered with %q", b[:k])
		}
		if conn.State() != "Established" {
			t.Error("pongs ended the connection")
		}
		_ = far.Close()
	})
}

func TestGarbageEndsOnlyItsConnection(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		good, bad := dialTLS(t, n), dialTLS(t, n)
		_, _ = io.WriteString(bad, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the garbage connection reads %v", err)
		}
		_, _ = good.Write(message(1, ""))
		synctest.Wait()
		if len(r.messages()) != 1 || len(l.Conns()) != 1 || l.Stats().Garbage != 1 || l.Stats().RemoteClosures != 0 {
			t.Errorf("%d messages, %d connections, %+v", len(r.messages()), len(l.Conns()), l.Stats())
		}
		// A message whose frame is sound but whose content is not reaches the receiver with its fault.
		_, _ = io.WriteString(good, "MESSAGE sip:a SIP/2.0\r\nbad header\r\nContent-Length: 0\r\n\r\n")
		synctest.Wait()
		if got := r.messages(); len(got) != 2 || got[1].err == nil || l.Stats().Garbage != 2 || len(l.Conns()) != 1 {
			t.Errorf("%d messages, %+v", len(got), l.Stats())
		}
		_, _ = good.Close(), bad.Close()
	})
}

func TestTooLongMessagesAreRefusedEarly(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, func(c *Config) {
			c.Limits = sip.Limits{Message: 4000, Headers: 50, Header: 1000, Body: 1000}
		})
		defer l.Close()
		c := dialTLS(t, n)
		_, _ = io.WriteString(c, "MESSAGE sip:a SIP/2.0\r\nContent-Length: 1001\r\n\r\n") // none of the body is awaited
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		c2 := dialTLS(t, n)
		_, _ = io.WriteString(c2, "MESSAGE sip:a SIP/2.0\r\nX: "+strings.Repeat("x", 4000))
		if _, err := c2.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		if len(r.messages()) != 0 || l.Stats().Garbage != 2 {
			t.Errorf("%+v", l.Stats())
		}
		_, _ = c.Close(), c2.Close()
	})
}

func TestDialFailures(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, s, _ := virtual(t, nil)
		defer s.Close()
		r := newRecorder()
		l := newLayer(n.Host(clientAddr), r, nil)
		defer l.Close()
		third := netip.MustParseAddr("192.0.2.3")
		n.Blackhole(clientAddr, third)
		failures := uint64(4) // one message each after the end
		for _, tc := range []struct {
			what string
			to   netip.AddrPort
			conf *tls.Config
			kind ringfence.Kind
		}{
			{"nobody listens", netip.AddrPortFrom(serverAddr, 1), authority().Client("", "sip.example.com"), ringfence.KindUnavailable},
			{"nobody answers", netip.AddrPortFrom(third, 1), authority().Client("", "sip.example.com"), ringfence.KindUnavailable},
			{"another name", serverPort, authority().Client("", "other.example.com"), ringfence.KindInsecure},
			{"another authority", serverPort, testkit.NewAuthority("stranger").Client("", "sip.example.com"), ringfence.KindInsecure},
		} {
			conn := l.Dial(t.Context(), "out", tc.to, tc.conf)
			if _, err := conn.Queue(message(1, "")); err != nil {
				failures++ // it had failed already
			}
			time.Sleep(time.Minute)
			causes := r.causes(conn)
			if len(causes) != 1 || ringfence.KindOf(causes[0]) != tc.kind || conn.State() != "Closed" {
				t.Errorf("%s: %v, %s", tc.what, causes, conn.State())
			}
			if _, err := conn.Queue(message(2, "")); ringfence.KindOf(err) != ringfence.KindUnavailable {
				t.Errorf("%s: queue after the end: %v", tc.what, err)
			}
		}
		if st := l.Stats(); st.ConnFailures != 2 || st.ClientHandshakes != 2 || st.SendFailures != failures || st.Dialled != 0 {
			t.Errorf("%+v", st)
		}
		if n.Streams() != 0 || len(l.Conns()) != 0 {
			t.Errorf("%d streams and %d connections left", n.Streams(), len(l.Conns()))
		}
	})
}

func TestRefusedByTheVerifier(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		c := tls.Client(dialRaw(t, n), authority().Client("revoked", "sip.example.com"))
		_ = c.Handshake()
		_, _ = c.Write(message(1, ""))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a revoked peer was served")
		}
		synctest.Wait()
		if len(r.messages()) != 0 || len(l.Conns()) != 0 || l.Stats().ServerHandshakes != 1 {
			t.Errorf("%+v", l.Stats())
		}
		_ = c.Close()
	})
}

func TestCloseSendsWhatWasQueued(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		c := dialTLS(t, n)
		_, _ = c.Write(message(0, ""))
		synctest.Wait()
		conn := r.messages()[0].conn
		_, _ = conn.Queue(message(1, "goodbye"))
		conn.Close(net.ErrClosed)
		got, err := io.ReadAll(c)
		if string(got) != string(message(1, "goodbye")) || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		_ = c.Close()
	})
}

func TestCloseEndsHandshakesAndDials(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		var idle []net.Conn
		for range 5 {
			idle = append(idle, dialRaw(t, n)) // never say hello
		}
		quiet := netip.MustParseAddr("192.0.2.9")
		ln, err := n.Host(quiet).Listen(t.Context(), "x", netip.AddrPortFrom(quiet, 1))
		if err != nil {
			t.Fatal(err)
		}
		dialled := l.Dial(context.Background(), "out", netip.AddrPortFrom(quiet, 1), authority().Client("", "x"))
		far, _ := ln.Accept()
		n.Blackhole(serverAddr, clientAddr)
		connecting := l.Dial(context.Background(), "out", netip.AddrPortFrom(clientAddr, 1), authority().Client("", "x"))
		synctest.Wait()
		start := time.Now()
		l.Close() // and the bubble sees that no goroutine is left
		if time.Since(start) > 0 {
			t.Errorf("closing took %v", time.Since(start))
		}
		if len(r.causes(dialled)) != 1 || len(r.causes(connecting)) != 1 {
			t.Errorf("closed: %v %v", r.causes(dialled), r.causes(connecting))
		}
		if c := l.Dial(context.Background(), "out", serverPort, nil); c.State() != "Closed" {
			t.Error("dialled after the end")
		}
		for _, c := range append(idle, far) {
			_ = c.Close()
		}
		_ = ln.Close()
	})
}

func TestStopListeningKeepsConnections(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		c := dialTLS(t, n)
		synctest.Wait()
		l.StopListening()
		_, _ = c.Write(message(1, ""))
		synctest.Wait()
		if len(r.messages()) != 1 {
			t.Error("the connection ended with the listener")
		}
		if _, err := n.Host(clientAddr).Dial(t.Context(), "x", serverPort); err == nil {
			t.Error("the listener is still there")
		}
		_ = c.Close()
	})
}

func Example_sentBy() {
	c := &Conn{Local: netip.MustParseAddrPort("[2001:db8::1]:5061")}
	fmt.Println(c.SentBy())
	// Output: [2001:db8::1]:5061
}
