package share

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
)

func TestMessages(t *testing.T) {
	w := What{1, 2, 255}
	for _, m := range []Message{{Verb: Ask, Nonce: "0123456789abcdef", What: w}, {Verb: Have, Nonce: "0123456789abcdef", What: w, Size: MaxSize}, {Verb: Get, What: w}, {Verb: OK, Size: 1}, {Verb: No}} {
		if got, err := Parse([]byte(m.String())); err != nil || got != m || len(m.String()) > maxMessage {
			t.Errorf("%q: %+v %v", m, got, err)
		}
	}
	what := w.String()
	for _, s := range []string{"", "\n", "RINGFENCE-FIRMWARE/1\n", "RINGFENCE-FIRMWARE/2 NO\n", "RINGFENCE-FIRMWARE/1 NO", "RINGFENCE-FIRMWARE/1 NO \n", "RINGFENCE-FIRMWARE/1 NO x\n", "RINGFENCE-FIRMWARE/1 PUT " + what + "\n", "RINGFENCE-FIRMWARE/1 GET " + what[1:] + "\n", "RINGFENCE-FIRMWARE/1 GET " + strings.ToUpper(what) + "\n",
		"RINGFENCE-FIRMWARE/1 OK 0\n", "RINGFENCE-FIRMWARE/1 OK -1\n", "RINGFENCE-FIRMWARE/1 OK 01\n", "RINGFENCE-FIRMWARE/1 OK +1\n", "RINGFENCE-FIRMWARE/1 OK 99999999999\n", "RINGFENCE-FIRMWARE/1 ASK 0123456789ABCDEF " + what + "\n", "RINGFENCE-FIRMWARE/1 ASK 0123 " + what + "\n", strings.Repeat("x", maxMessage+1)} {
		if m, err := Parse([]byte(s)); ringfence.KindOf(err) != ringfence.KindInvalid || m != (Message{}) {
			t.Errorf("%q: %+v %v", s, m, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Message{Verb: Have, Nonce: "0123456789abcdef", Size: 5}.String()))
	f.Add([]byte("RINGFENCE-FIRMWARE/1 OK 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := Parse(b); err == nil && m.String() != string(b) { // each message is written in one way
			t.Errorf("%q is read as %q", b, m)
		}
	})
}

// link is a link in memory. Who asks is heard by who joined; streams are pipes.
type link struct {
	mu     sync.Mutex
	joined []*box
	boxes  map[netip.AddrPort]*box
	gives  map[netip.AddrPort]*listener
	port   uint16
}

type letter struct {
	from netip.AddrPort
	b    []byte
}

// host is one phone of the link.
type host struct {
	*link
	at netip.Addr
}

type box struct {
	host
	own    netip.AddrPort
	in     chan letter
	gone   chan struct{}
	once   sync.Once
	expire <-chan time.Time
}

func (h host) open(at netip.AddrPort) *box {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at.Port() == 0 {
		h.port++
		at = netip.AddrPortFrom(at.Addr(), 50_000+h.port)
	}
	b := &box{host: h, own: at, in: make(chan letter, 100), gone: make(chan struct{})}
	h.boxes[at] = b
	return b
}

func (h host) ListenMulticast(_ context.Context, flow string, group netip.AddrPort) (net.PacketConn, error) {
	if flow != flowHear || group != Group() {
		return nil, errors.New("another group")
	}
	b := h.open(netip.AddrPortFrom(h.at, 0))
	h.mu.Lock()
	h.joined = append(h.joined, b)
	h.mu.Unlock()
	return b, nil
}
func (h host) ListenUDP(_ context.Context, _ string, at netip.AddrPort) (net.PacketConn, error) {
	return h.open(at), nil
}
func (h host) Listen(_ context.Context, _ string, at netip.AddrPort) (net.Listener, error) {
	ln := &listener{at: at, in: make(chan net.Conn), gone: make(chan struct{})}
	h.mu.Lock()
	h.gives[at] = ln
	h.mu.Unlock()
	return ln, nil
}
func (h host) Dial(ctx context.Context, _ string, at netip.AddrPort) (net.Conn, error) {
	h.mu.Lock()
	ln := h.gives[at]
	h.mu.Unlock()
	if ln == nil {
		return nil, errors.New("refused")
	}
	here, there := net.Pipe()
	select {
	case ln.in <- named{there, h.at}:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *box) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case l := <-b.in:
		return copy(p, l.b), net.UDPAddrFromAddrPort(l.from), nil
	case <-b.gone:
		return 0, nil, net.ErrClosed
	case <-b.expire:
		return 0, nil, errors.New("the time is over")
	}
}
func (b *box) WriteTo(p []byte, to net.Addr) (int, error) {
	at, _ := netip.ParseAddrPort(to.String())
	b.mu.Lock()
	defer b.mu.Unlock()
	l := letter{b.own, bytes.Clone(p)}
	if at == Group() {
		for _, o := range b.joined {
			o.in <- l
		}
	} else if o := b.boxes[at]; o != nil {
		o.in <- l
	}
	return len(p), nil
}
func (b *box) Close() error                       { b.once.Do(func() { close(b.gone) }); return nil }
func (b *box) LocalAddr() net.Addr                { return net.UDPAddrFromAddrPort(b.own) }
func (b *box) SetDeadline(time.Time) error        { return nil }
func (b *box) SetWriteDeadline(time.Time) error   { return nil }
func (b *box) SetReadDeadline(at time.Time) error { b.expire = time.After(time.Until(at)); return nil }

type listener struct {
	at   netip.AddrPort
	in   chan net.Conn
	gone chan struct{}
	once sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { l.once.Do(func() { close(l.gone) }); return nil }
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

type named struct {
	net.Conn
	from netip.Addr
}

func (n named) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.from, 40_000))
}

func (l *link) host(n byte) host { return host{l, netip.AddrFrom4([4]byte{10, 0, 0, n})} }

// liar answers that it has what is asked for, and says something of its own to whoever fetches it.
func (h host) liar(t *testing.T, ctx context.Context, size int64, says func(net.Conn)) {
	t.Helper()
	hear, _ := h.ListenMulticast(ctx, flowHear, Group())
	out, _ := h.ListenUDP(ctx, "", netip.AddrPortFrom(h.at, 0))
	ln, _ := h.Listen(ctx, "", netip.AddrPortFrom(h.at, filePort))
	context.AfterFunc(ctx, func() { _, _, _ = hear.Close(), out.Close(), ln.Close() })
	go func() {
		b := make([]byte, 200)
		for {
			n, from, err := hear.ReadFrom(b)
			if err != nil {
				return
			}
			m, err := Parse(b[:n])
			if err != nil {
				t.Error(err)
			}
			for range 3 { // once would do
				_, _ = out.WriteTo([]byte(Message{Verb: Have, Nonce: m.Nonce, What: m.What, Size: size}.String()), from)
			}
			_, _ = out.WriteTo([]byte(Message{Verb: Have, Nonce: "ffffffffffffffff", What: m.What, Size: size}.String()), from)
		}
	}()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { _ = c.Close() })
			go func() {
				_, _ = io.ReadFull(c, make([]byte, len(Message{Verb: Get}.String())))
				says(c)
			}()
		}
	}()
}

func TestShare(t *testing.T) {
	good := bytes.Repeat([]byte("good"), 1000)
	lies := map[string]func(net.Conn){
		"another file": func(c net.Conn) {
			_, _ = io.WriteString(c, Message{Verb: OK, Size: int64(len(good))}.String()+strings.Repeat("evil", 1000))
		},
		"less": func(c net.Conn) {
			_, _ = io.WriteString(c, Message{Verb: OK, Size: int64(len(good))}.String()+"goodgood")
			_ = c.Close()
		},
		"another size":   func(c net.Conn) { _, _ = io.WriteString(c, Message{Verb: OK, Size: MaxSize}.String()) },
		"no":             func(c net.Conn) { _, _ = io.WriteString(c, Message{Verb: No}.String()) },
		"a long line":    func(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("x", 10_000)) },
		"nothing at all": func(net.Conn) {},
	}
	for name, says := range lies {
		for _, honest := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				l := &link{boxes: map[netip.AddrPort]*box{}, gives: map[netip.AddrPort]*listener{}}
				l.host(66).liar(t, ctx, int64(len(good)), says)
				l.host(67).liar(t, ctx, 7, says) // it offers another file
				if honest {
					if _, err := Give(ctx, Config{Opener: l.host(2), Local: l.host(2).at, What: What{1}, File: good}); err != nil {
						t.Fatal(err)
					}
				}
				began, refused := time.Now(), 0
				b, from, err := Take(ctx, Wanted{Opener: l.host(1), Local: l.host(1).at, What: What{1}, Size: int64(len(good)), Say: func(string, ...any) { refused++ }, Check: func(b []byte) error {
					if !bytes.Equal(b, good) {
						return errors.New("not signed")
					}
					return nil
				}})
				switch {
				case honest && (err != nil || !bytes.Equal(b, good) || from != l.host(2).at):
					t.Errorf("%s: %d bytes from %s, %v", name, len(b), from, err)
				case !honest && (ringfence.KindOf(err) != ringfence.KindNotFound || b != nil || refused != 1):
					t.Errorf("%s: %d bytes from %s, %v, %d refused", name, len(b), from, err, refused)
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("%s: a liar held it up for %s", name, took)
				}
				cancel()
				synctest.Wait()
			})
		}
	}
}

// TestGives has many phones ask and fetch at once.
func TestGives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &link{boxes: map[netip.AddrPort]*box{}, gives: map[netip.AddrPort]*listener{}}
		if _, err := Give(ctx, Config{Opener: l.host(2), Local: l.host(2).at, What: What{1}}); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("nothing is given: %v", err)
		}
		file := make([]byte, 3<<20)
		if _, err := Give(ctx, Config{Opener: l.host(2), Local: l.host(2).at, What: What{1}, File: file}); err != nil {
			t.Fatal(err)
		}
		asker := l.host(9).open(netip.AddrPortFrom(l.host(9).at, 4051))
		for range 3 * maxAnswers {
			_, _ = asker.WriteTo([]byte(Message{Verb: Ask, Nonce: "0123456789abcdef", What: What{1}}.String()), net.UDPAddrFromAddrPort(Group()))
			_, _ = asker.WriteTo([]byte("nonsense"), net.UDPAddrFromAddrPort(Group()))
			synctest.Wait()
		}
		if n := len(asker.in); n != maxAnswers {
			t.Errorf("%d answers in a second", n)
		}
		var open []net.Conn
		fetch := func(n byte) bool { // begins to fetch, and stops reading
			c, err := l.host(n).Dial(ctx, flowTake, netip.AddrPortFrom(l.host(2).at, filePort))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
			_, _ = io.WriteString(c, Message{Verb: Get, What: What{1}}.String())
			_, err = io.ReadFull(c, make([]byte, 10))
			return err == nil
		}
		for n := range byte(maxGiving) {
			if !fetch(10+n) || n == 0 && fetch(10) {
				t.Errorf("peer %d", n)
			}
		}
		if fetch(30) {
			t.Error("it gives to more than it should")
		}
		<-time.After(within(int64(len(file))) + time.Second) // who does not read is given up
		if !fetch(30) {
			t.Error("it gives no more")
		}
		if c, err := l.host(40).Dial(ctx, flowTake, netip.AddrPortFrom(l.host(2).at, filePort)); err != nil {
			t.Error(err)
		} else if open = append(open, c); true { // says nothing
			<-time.After(patience + time.Second)
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("it waits for who says nothing")
			}
		}
		for _, c := range open {
			_ = c.Close()
		}
		cancel()
		synctest.Wait()
	})
}
