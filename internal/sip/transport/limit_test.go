package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

func TestSlowAndIdlePeersAreReaped(t *testing.T) {
	authority()
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, nil)
		defer l.Close()
		slow, idle, half := dialTLS(t, n), dialTLS(t, n), dialRaw(t, n)
		start := time.Now()
		gone := make(chan time.Duration, 1)
		go func() {
			_, _ = slow.Read(make([]byte, 1))
			gone <- time.Since(start)
		}()
		for _, b := range message(1, "drip")[:40] { // a byte a second never makes a message
			if _, err := slow.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := <-gone; d < 10*time.Second || d > 16*time.Second {
			t.Errorf("the slow peer was cut after %v", d)
		}
		if _, err := half.Read(make([]byte, 1)); err == nil || time.Since(start) > 41*time.Second {
			t.Errorf("a handshake that never began ended with %v after %v", err, time.Since(start))
		}
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) < 15*time.Minute || time.Since(start) > 16*time.Minute {
			t.Errorf("the idle peer was cut after %v: %v", time.Since(start), err)
		}
		synctest.Wait() // the peer hears of its end before the table does
		if st := l.Stats(); st.InactiveAgeouts != 1 || st.ServerHandshakes != 1 || len(r.messages()) != 0 || len(l.Conns()) != 0 {
			t.Errorf("%+v, %d left", st, len(l.Conns()))
		}
		for _, c := range []net.Conn{slow, idle, half} {
			_ = c.Close()
		}
	})
}

// stuckPeer floods a peer that does not read, and checks that no call waits for it and that it is disconnected.
func stuckPeer(t *testing.T, r *recorder, conn *Conn, l *Layer) {
	t.Helper()
	body := make([]byte, 8000)
	for i := range body {
		body[i] = 'x'
	}
	var worst time.Duration
	failed := false
	for i := 0; i < 4000 && !failed; i++ {
		start := time.Now()
		_, err := conn.Queue(message(i, string(body)))
		conn.Flush()
		worst = max(worst, time.Since(start))
		failed = err != nil
	}
	if !failed {
		t.Fatal("32 MB went to a peer that does not read")
	}
	if worst > 2*time.Second { // generous: a machine may pause, but a blocked write would wait for the stall time
		t.Errorf("a flush waited for %v", worst)
	}
	r.until(t, "the end of the connection", func() bool { return len(r.causes(conn)) == 1 })
	if !errors.Is(conn.Cause(), errQueueFull) && !errors.Is(conn.Cause(), net.ErrClosed) {
		t.Errorf("cause: %v", conn.Cause())
	}
	if st := l.Stats(); st.SendFailures == 0 || st.MaxQueue == 0 || st.MaxQueueRecorded != conn.Remote.String() {
		t.Errorf("%+v", st)
	}
}

func TestPeerThatStopsReading(t *testing.T) {
	authority()
	t.Run("virtual", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n, l, r := virtual(t, nil)
			defer l.Close()
			c := dialTLS(t, n)
			synctest.Wait()
			stuckPeer(t, r, l.Conns()[0], l)
			_ = c.Close()
		})
	})
	t.Run("pipe", func(t *testing.T) { // net.Pipe has no buffer at all and no non-blocking write
		synctest.Test(t, func(t *testing.T) {
			r := newRecorder()
			near, far := net.Pipe()
			l := newLayer(pipeOpener{near}, r, nil)
			defer l.Close()
			conn := l.Dial(t.Context(), "out", serverPort, nil)
			synctest.Wait()
			stuckPeer(t, r, conn, l)
			_ = far.Close()
		})
	})
	t.Run("loopback", func(t *testing.T) {
		r := newRecorder()
		l := newLayer(loopback{}, r, nil)
		defer l.Close()
		at, err := l.Listen(t.Context(), "sip-tls", anyLocal, authority().Server("sip.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if err := tlsClient(raw).Handshake(); err != nil {
			t.Fatal(err)
		}
		r.until(t, "the connection", func() bool { return len(l.Conns()) == 1 && l.Conns()[0].State() == "Established" })
		stuckPeer(t, r, l.Conns()[0], l)
	})
}

type pipeOpener struct{ end net.Conn }

func (p pipeOpener) Listen(context.Context, string, netip.AddrPort) (net.Listener, error) {
	return nil, errors.ErrUnsupported
}

func (p pipeOpener) ListenUDP(context.Context, string, netip.AddrPort) (net.PacketConn, error) {
	return nil, errors.ErrUnsupported
}

func (p pipeOpener) Dial(context.Context, string, netip.AddrPort) (net.Conn, error) {
	return p.end, nil
}

// A drain sets a write deadline; once it is over, later messages must not meet that deadline when it has passed.
func TestWritesAfterADrain(t *testing.T) {
	const stall = 300 * time.Millisecond
	r := newRecorder()
	l := newLayer(loopback{}, r, func(c *Config) { c.HandshakeTimeout, c.QueueBytes = stall, 64<<20 })
	defer l.Close()
	at, err := l.Listen(t.Context(), "plain", anyLocal, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	r.until(t, "the connection", func() bool { return len(l.Conns()) == 1 && l.Conns()[0].State() == "Established" })
	conn := l.Conns()[0]
	total := 0
	for conn.Queued() == 0 { // fill what the kernel takes, until something is left to drain
		m := message(total, string(make([]byte, 30000)))
		_, _ = conn.Queue(m)
		conn.Flush()
		total += len(m)
	}
	if _, err := io.CopyN(io.Discard, raw, int64(total)); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the end of the drain", func() bool { return conn.Queued() == 0 })
	time.AfterFunc(2*stall, r.wake)
	start := time.Now()
	r.until(t, "the old deadline to pass", func() bool { return time.Since(start) > 2*stall })
	last := message(1, "after")
	_, _ = conn.Queue(last)
	conn.Flush()
	_ = raw.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, len(last))
	if _, err := io.ReadFull(raw, b); err != nil || string(b) != string(last) {
		t.Errorf("read %q, %v; the connection is %s (%v)", b, err, conn.State(), conn.Cause())
	}
}

func TestUnfinishedHandshakesAreBounded(t *testing.T) {
	authority()
	t.Run("virtual", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n, l, r := virtual(t, func(c *Config) { c.MaxHandshakes, c.HandshakesPerSource = 1000, 300 })
			defer l.Close()
			var all []net.Conn
			for i := range 5000 {
				from := netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 2)})
				c, err := n.Host(from).Dial(t.Context(), "x", serverPort)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, c)
			}
			synctest.Wait()
			l.mu.Lock()
			pending := l.pending
			l.mu.Unlock()
			if pending != 600 || l.Stats().Refused != 4400 {
				t.Errorf("%d unfinished, %+v", pending, l.Stats())
			}
			good := dialTLS(t, n) // another source is served meanwhile
			_, _ = good.Write(message(1, ""))
			synctest.Wait()
			if len(r.messages()) != 1 {
				t.Error("others were not served")
			}
			time.Sleep(11 * time.Second)
			l.mu.Lock()
			if l.pending != 0 || len(l.pendingBy) != 0 || len(l.shaking) != 0 {
				t.Errorf("left after the timeout: %d %d %d", l.pending, len(l.pendingBy), len(l.shaking))
			}
			l.mu.Unlock()
			if l.Stats().ServerHandshakes != 600 || len(l.Conns()) != 1 {
				t.Errorf("%+v, %d connections", l.Stats(), len(l.Conns()))
			}
			for _, c := range append(all, good) {
				_ = c.Close()
			}
		})
	})
	t.Run("loopback", func(t *testing.T) {
		r := newRecorder()
		l := newLayer(loopback{}, r, func(c *Config) { c.HandshakesPerSource = 50 })
		defer l.Close()
		at, err := l.Listen(t.Context(), "sip-tls", anyLocal, authority().Server("sip.example.com"))
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			c, err := net.Dial("tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		r.until(t, "the flood", func() bool { return l.Stats().Accepted == 50 && l.Stats().Refused == 50 })
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := d.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := tlsClient(c).Handshake(); err != nil {
			t.Errorf("another source is not served: %v", err)
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testkit.New(1)
		r := newRecorder()
		l := newLayer(n.Host(serverAddr), r, func(c *Config) { c.MaxConns, c.MaxConnsPerSource = 5, 3 })
		defer l.Close()
		if _, err := l.Listen(t.Context(), "plain", serverPort, nil); err != nil {
			t.Fatal(err)
		}
		var all []net.Conn
		for i := range 8 {
			c, err := n.Host(netip.AddrFrom4([4]byte{198, 51, 100, byte(i / 4)})).Dial(t.Context(), "x", serverPort)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			all = append(all, c)
		}
		if len(l.Conns()) != 5 || l.Stats().Refused != 3 {
			t.Errorf("%d connections, %+v", len(l.Conns()), l.Stats())
		}
		_ = all[0].Close()
		synctest.Wait()
		c, _ := n.Host(netip.AddrFrom4([4]byte{198, 51, 100, 0})).Dial(t.Context(), "x", serverPort)
		_, _ = c.Write(message(1, ""))
		synctest.Wait()
		if len(r.messages()) != 1 {
			t.Error("a place that became free was not given away")
		}
		for _, c := range append(all, c) {
			_ = c.Close()
		}
	})
}

func TestLongestQueueIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testkit.New(1)
		n.SetShape(testkit.Shape{Latency: time.Millisecond}) // none of what is dialled fails before this has queued
		r := newRecorder()
		l := newLayer(n.Host(clientAddr), r, nil)
		defer l.Close()
		a := l.Dial(t.Context(), "out", serverPort, nil)
		b := l.Dial(t.Context(), "out", netip.AddrPortFrom(serverAddr, 1), nil)
		_, _ = a.Queue(make([]byte, 100))
		_, _ = b.Queue(make([]byte, 200))
		_, _ = a.Queue(make([]byte, 50))
		if st := l.Stats(); st.MaxQueue != 200 || st.MaxQueueRecorded != b.Remote.String() {
			t.Errorf("%+v", st)
		}
		if _, err := a.Queue(make([]byte, 300<<10)); err == nil {
			t.Error("a message above the limit was taken")
		}
		synctest.Wait()
		if a.State() != "Closed" || l.Stats().SendFailures != 1 {
			t.Errorf("%s, %+v", a.State(), l.Stats())
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("\r\n\r\n"), 1)
	f.Add(message(1, "hello"), 7)
	f.Add(append([]byte("\r\n"), append(message(1, ""), message(2, "x")...)...), 100)
	f.Add([]byte("INVITE sip:a SIP/2.0\r\nContent-Length: 99999999999\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		r := newRecorder()
		l := newLayer(nil, r, nil)
		defer l.Close()
		c := &Conn{layer: l, Network: "TCP", framed: func([]byte, []int) error { return nil }}
		c.ready.Store(true)
		step = 1 + step&0xff
		var buf []byte
		var msg sip.Message
		crlf := 0
		for len(data) > 0 {
			k := min(step, len(data))
			if buf == nil {
				buf = append([]byte(nil), "\r\n\r"[:crlf]...)
			}
			buf = append(buf, data[:k]...)
			data = data[k:]
			rest, err := c.deliver(buf, &msg)
			if err != nil {
				return
			}
			if buf, crlf = c.keep(buf, rest); len(buf) > sip.DefaultLimits().Message+step {
				t.Fatalf("%d bytes are kept", len(buf))
			}
		}
	})
}

// When all slots are taken, a newcomer displaces a handshake of the source that has the most, and never makes it worse off than itself.
func TestFullSlotsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, l, r := virtual(t, func(c *Config) { c.MaxHandshakes, c.HandshakesPerSource = 100, 60 })
		defer l.Close()
		var all []net.Conn
		for i := range 1000 {
			from := netip.AddrFrom4([4]byte{198, 51, 100, byte(i % 4)})
			c, err := n.Host(from).Dial(t.Context(), "x", serverPort)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		synctest.Wait()
		l.mu.Lock()
		if l.pending != 100 || len(l.shaking) != 100 || len(l.pendingBy) != 4 {
			t.Errorf("%d unfinished of %d sources", l.pending, len(l.pendingBy))
		}
		for from, n := range l.pendingBy {
			if n < 20 || n > 30 {
				t.Errorf("%s has %d slots of 100, among four", from, n)
			}
		}
		l.mu.Unlock()
		good := dialTLS(t, n)
		_, _ = good.Write(message(1, ""))
		synctest.Wait()
		if len(r.messages()) != 1 {
			t.Error("a fifth source was not served")
		}
		for _, c := range append(all, good) {
			_ = c.Close()
		}
	})
}

// A step of the wall clock must neither age connections nor cut off messages: whatever is compared goes by the monotonic clock.
func TestTheWallClockDoesNotAgeConnections(t *testing.T) {
	l := New(Config{Receiver: newRecorder()})
	defer l.Close()
	c := &Conn{layer: l}
	c.lastRead.Store(l.tick())
	if at := c.LastRead(); !strings.Contains(at.String(), "m=+") || time.Since(at) > time.Minute {
		t.Errorf("%v has no monotonic reading", at)
	}
	if !strings.Contains(l.origin.String(), "m=") {
		t.Errorf("%v has no monotonic reading", l.origin)
	}
	// The wall clock an hour ahead or behind, the monotonic one untouched: what a step looks like from the layer.
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		l.origin = time.Now().Add(-time.Second)
		c.lastRead.Store(l.tick())
		c.partial.Store(l.tick())
		wall := time.Now().Add(step).UnixMilli()
		l.inspect(c, l.tick())
		if c.State() == "Closed" || wall-c.lastRead.Load() < l.cfg.IdleTimeout.Milliseconds() {
			t.Errorf("after a step of %v the connection is %s", step, c.State())
		}
	}
}
