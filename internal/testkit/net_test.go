package testkit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	left  = netip.MustParseAddr("192.0.2.1")
	right = netip.MustParseAddr("192.0.2.2")
)

func pair(t *testing.T, n *Net) (near, far net.Conn) {
	t.Helper()
	ln, err := n.Host(right).Listen(context.Background(), "test", netip.AddrPortFrom(right, 5061))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err = n.Host(left).Dial(context.Background(), "test", netip.AddrPortFrom(right, 5061))
	if err != nil {
		t.Fatal(err)
	}
	far, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func TestStreamIsBufferedBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t, New(1))
		for _, c := range []net.Conn{near, far} { // neither write waits for a reader
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		if near.LocalAddr().String() != far.RemoteAddr().String() || near.RemoteAddr().String() != "192.0.2.2:5061" {
			t.Errorf("addresses: %v %v", near.LocalAddr(), near.RemoteAddr())
		}
		_ = near.Close()
		got, err := io.ReadAll(far)
		if string(got) != "hello" || err != nil {
			t.Errorf("far read %q, %v", got, err)
		}
		if _, err := far.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed peer: %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
}

func TestStreamLatencyAndDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetShape(Shape{Latency: 30 * time.Millisecond, Buffer: 8})
		start := time.Now()
		near, far := pair(t, n)
		defer near.Close()
		defer far.Close()
		if d := time.Since(start); d != 60*time.Millisecond {
			t.Errorf("dial took %v, want a round trip", d)
		}
		start = time.Now()
		_, _ = near.Write([]byte("12345678"))
		b := make([]byte, 16)
		if k, err := far.Read(b); k != 8 || err != nil || time.Since(start) != 30*time.Millisecond {
			t.Errorf("read %d, %v after %v", k, err, time.Since(start))
		}
		_ = far.SetReadDeadline(time.Now().Add(time.Second))
		start = time.Now()
		if _, err := far.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("read deadline: %v after %v", err, time.Since(start))
		}
		_ = near.SetWriteDeadline(time.Now().Add(time.Second))
		if k, err := near.Write([]byte("123456789")); k != 8 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write into a full buffer: %d, %v", k, err)
		}
		_ = near.SetWriteDeadline(time.Time{})
		_ = far.SetReadDeadline(time.Time{})
		if k, err := far.Read(b); k != 8 || err != nil {
			t.Errorf("read after the deadline was lifted: %d, %v", k, err)
		}
	})
}

func TestCutBlackholeAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		near, far := pair(t, n)
		n.Blackhole(left, right)
		_, _ = near.Write([]byte("late"))
		_ = far.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := far.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a blackhole let something through: %v", err)
		}
		_ = far.SetReadDeadline(time.Time{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := n.Host(left).Dial(ctx, "test", netip.AddrPortFrom(right, 5061)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial into a blackhole: %v", err)
		}
		n.Heal(left, right)
		b := make([]byte, 4)
		if _, err := io.ReadFull(far, b); err != nil || string(b) != "late" {
			t.Errorf("after healing: %q, %v", b, err)
		}
		n.Cut(right, left)
		if _, err := far.Read(b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read over a cut: %v", err)
		}
		if _, err := near.Write(b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write over a cut: %v", err)
		}
		if n.Streams() != 0 {
			t.Errorf("%d streams left", n.Streams())
		}
	})
}

func TestListenerRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		h := n.Host(right)
		at := netip.AddrPortFrom(right, 5061)
		ctx := context.Background()
		ln, err := h.Listen(ctx, "a", at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Listen(ctx, "b", at); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		if _, err := n.Host(left).Listen(ctx, "c", at); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("another host's address: %v", err)
		}
		if _, err := n.Host(left).Dial(ctx, "d", netip.AddrPortFrom(right, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial without listener: %v", err)
		}
		near, err := n.Host(left).Dial(ctx, "e", at)
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close() // resets what was not accepted
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
	})
}

func TestDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(7)
		ctx := context.Background()
		a, err := n.Host(left).ListenUDP(ctx, "a", netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.Host(right).ListenUDP(ctx, "b", netip.AddrPortFrom(netip.IPv4Unspecified(), 5060))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		defer b.Close()
		read := func() (got []string) {
			buf := make([]byte, 100)
			for {
				_ = b.SetReadDeadline(time.Now().Add(time.Second))
				k, from, err := b.ReadFrom(buf)
				if err != nil {
					return got
				}
				if from.String() != a.LocalAddr().String() {
					t.Errorf("from %v", from)
				}
				got = append(got, string(buf[:k]))
			}
		}
		send := func(count int) {
			for i := range count {
				_, _ = a.WriteTo(fmt.Append(nil, i), b.LocalAddr())
				time.Sleep(time.Millisecond)
			}
		}
		if send(100); len(read()) != 100 {
			t.Error("a perfect network lost datagrams")
		}
		n.SetShape(Shape{Loss: 0.3})
		send(1000)
		if k := len(read()); k < 600 || k > 800 {
			t.Errorf("%d of 1000 arrived with 30%% loss", k)
		}
		n.SetShape(Shape{Reorder: 0.2, Latency: time.Millisecond})
		send(100)
		swapped, last := 0, -1
		for _, s := range read() {
			var i int
			_, _ = fmt.Sscan(s, &i)
			if i < last {
				swapped++
			}
			last = max(last, i)
		}
		if swapped == 0 {
			t.Error("nothing was reordered")
		}
	})
}

func TestAuthorityServesTLSInTheBubble(t *testing.T) {
	authority := NewAuthority("test root")
	server, client := authority.Server("sip.example.com"), authority.Client("alice-desk", "sip.example.com")
	synctest.Test(t, func(t *testing.T) {
		near, far := pair(t, New(1))
		done := make(chan error, 1)
		s := tls.Server(far, server)
		go func() { done <- s.Handshake() }()
		c := tls.Client(near, client)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := s.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "alice-desk" {
			t.Errorf("client is %q", got)
		}
		_, _ = near.Close(), far.Close()
	})
}
