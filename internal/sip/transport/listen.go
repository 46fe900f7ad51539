package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"ringfence"
)

// Listen opens the named flow at addr and serves it until Close. conf is asked for its current form by each handshake;
// a nil conf serves plain TCP, which only a flow with a named exception may do.
func (l *Layer) Listen(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config) (netip.AddrPort, error) {
	return l.listen(ctx, flow, addr, conf, func(c *Conn) (func(), error) {
		return c.readLoop, l.handshake(c, conf, l.cfg.HandshakeTimeout)
	})
}

// listen serves streams; shake makes an accepted one ready and returns the loop that reads it.
func (l *Layer) listen(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config, shake func(*Conn) (func(), error)) (netip.AddrPort, error) {
	ln, err := l.cfg.Opener.Listen(ctx, flow, addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		_ = ln.Close()
		return netip.AddrPort{}, net.ErrClosed
	}
	l.listeners = append(l.listeners, ln)
	l.wg.Go(func() { l.accept(flow, ln, conf, shake) })
	l.mu.Unlock()
	return addrPort(ln.Addr()), nil
}

func (l *Layer) accept(flow string, ln net.Listener, conf *tls.Config, shake func(*Conn) (func(), error)) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !l.pause() {
				return
			}
			l.cfg.Log.Warn("accept failed", "flow", flow, "err", err)
			continue
		}
		source := addrPort(nc.RemoteAddr()).Addr()
		if !l.admit(source, nc) {
			_ = nc.Close()
			continue
		}
		l.wg.Go(func() {
			c := l.newConn(flow, nc, conf, false)
			read, err := shake(c)
			l.endHandshake(source, nc)
			if err != nil {
				l.count(&l.stats.ServerHandshakes)
				l.noteRefusal(Refusal{At: time.Now().UTC(), Flow: c.Flow, Remote: c.Remote, Err: err})
				l.cfg.Log.Info("connection refused", "flow", c.Flow, "remote", c.Remote, "cause", err, "hint", ringfence.HintOf(err))
				c.Close(err)
				return
			}
			l.start(c, read)
		})
	}
}

// pause waits for descriptors to come back; it reports false if the layer closes meanwhile.
func (l *Layer) pause() bool {
	select {
	case <-l.stopReaper:
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

// admit takes a handshake slot for source, unless a limit is reached.
func (l *Layer) admit(source netip.Addr, nc net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.conns) >= l.cfg.MaxConns || l.bySource[source] >= l.cfg.MaxConnsPerSource ||
		l.pendingBy[source] >= l.cfg.HandshakesPerSource || l.pending >= l.cfg.MaxHandshakes && !l.displace(source) {
		l.stats.Refused++
		return false
	}
	l.pending++
	l.pendingBy[source]++
	l.shaking[nc] = source
	l.stats.Accepted++
	return true
}

// displace ends an unfinished handshake of the source that has the most, so that a few sources with many connections that never
// finish cannot keep everybody else out. It reports false if that would be no fairer than to refuse a newcomer from source. It is
// called with mu held.
func (l *Layer) displace(source netip.Addr) bool {
	var most netip.Addr
	for from, n := range l.pendingBy {
		if n > l.pendingBy[most] {
			most = from
		}
	}
	if l.pendingBy[most] <= l.pendingBy[source]+1 {
		return false
	}
	for nc, from := range l.shaking {
		if from == most {
			_ = nc.Close() // its handshake fails
			l.forgetHandshake(from, nc)
			l.stats.Refused++
			return true
		}
	}
	return false
}

func (l *Layer) endHandshake(source netip.Addr, nc net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgetHandshake(source, nc)
}

// forgetHandshake gives a slot back, unless it was given back before. It is called with mu held.
func (l *Layer) forgetHandshake(source netip.Addr, nc net.Conn) {
	if _, ok := l.shaking[nc]; !ok {
		return
	}
	l.pending--
	delete(l.shaking, nc)
	if l.pendingBy[source]--; l.pendingBy[source] <= 0 {
		delete(l.pendingBy, source)
	}
}

func (l *Layer) newConn(flow string, nc net.Conn, conf *tls.Config, dialled bool) *Conn {
	w := newWire(nc, l)
	c := &Conn{ID: l.nextID.Add(1), Flow: flow, Network: "TCP", Local: addrPort(nc.LocalAddr()), Remote: addrPort(nc.RemoteAddr()),
		Dialled: dialled, Since: time.Now(), layer: l, wire: w, stream: w}
	if conf != nil {
		c.Network = "TLS"
		if dialled {
			c.stream = tls.Client(w, conf)
		} else {
			c.stream = tls.Server(w, conf)
		}
	}
	c.lastRead.Store(l.tick())
	return c
}

func (l *Layer) handshake(c *Conn, conf *tls.Config, patience time.Duration) error {
	if conf == nil {
		return nil
	}
	_ = c.wire.Conn.SetDeadline(time.Now().Add(patience))
	t := c.stream.(*tls.Conn)
	if err := t.Handshake(); err != nil {
		return err
	}
	_ = c.wire.Conn.SetDeadline(time.Time{})
	peer, proof, err := l.cfg.Verifier.Verify(t.ConnectionState())
	if err != nil {
		return err
	}
	c.Peer, c.TLS = peer, proof
	return nil
}

// Candidate is one place that a connection may be opened to.
type Candidate struct {
	Addr   netip.AddrPort
	TLS    *tls.Config     // must check the name of whoever answers
	Failed func(err error) // hears that this place did not do; may be nil
}

// Dial opens a connection of the named flow and returns at once; messages may be queued while it connects. conf must
// check the server's name. If it cannot be opened, the Receiver hears Closed, but for a layer that is closed: then the connection
// is so at once, and nobody hears of it.
func (l *Layer) Dial(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config) *Conn {
	c := &Conn{ID: l.nextID.Add(1), Flow: flow, Network: "TLS", Remote: addr, Dialled: true, Since: time.Now(), layer: l}
	if conf == nil {
		c.Network = "TCP"
	}
	l.dial(ctx, c, func(context.Context) ([]Candidate, error) { return []Candidate{{Addr: addr, TLS: conf}}, nil }, nil)
	return c
}

// DialFirst is Dial to the first candidate that answers and proves its name (RFC 3263 section 4.3). find is asked for them, best
// first, and opened, if not nil, hears that the connection is up; both are called on a goroutine of the connection. Until then its
// Remote may not be read either.
func (l *Layer) DialFirst(ctx context.Context, flow string, find func(context.Context) ([]Candidate, error), opened func(*Conn)) *Conn {
	c := &Conn{ID: l.nextID.Add(1), Flow: flow, Network: "TLS", Dialled: true, Since: time.Now(), layer: l}
	l.dial(ctx, c, func(ctx context.Context) ([]Candidate, error) {
		found, err := find(ctx)
		for _, at := range found {
			if at.TLS == nil {
				return nil, &ringfence.Fault{Op: "transport.dial", Kind: ringfence.KindInsecure, Text: fmt.Sprintf("%s would not be sealed", at.Addr)}
			}
		}
		return found, err
	}, opened)
	return c
}

// DialPlain is DialFirst over TCP in the clear: for who is told to by name, and tells of it. Nothing on it is secret, and nobody proves a name.
func (l *Layer) DialPlain(ctx context.Context, flow string, find func(context.Context) ([]Candidate, error), opened func(*Conn)) *Conn {
	c := &Conn{ID: l.nextID.Add(1), Flow: flow, Network: "TCP", Dialled: true, Since: time.Now(), layer: l}
	l.dial(ctx, c, func(ctx context.Context) ([]Candidate, error) {
		found, err := find(ctx)
		for i := range found {
			found[i].TLS = nil
		}
		return found, err
	}, opened)
	return c
}

func (l *Layer) dial(ctx context.Context, c *Conn, find func(context.Context) ([]Candidate, error), opened func(*Conn)) {
	if !l.spawn(func() { l.connect(ctx, c, find, opened) }) {
		c.mu.Lock()
		c.cause = net.ErrClosed
		c.closed.Store(true)
		c.mu.Unlock()
	}
}

func (l *Layer) connect(ctx context.Context, c *Conn, find func(context.Context) ([]Candidate, error), opened func(*Conn)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	closed := l.closed
	l.dialling[c] = cancel
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.dialling, c)
		l.mu.Unlock()
	}()
	if closed {
		c.Close(net.ErrClosed)
		return
	}
	looking, done := context.WithTimeout(ctx, l.cfg.HandshakeTimeout)
	places, err := find(looking)
	done()
	if err == nil && len(places) == 0 {
		err = &ringfence.Fault{Op: "transport.dial", Kind: ringfence.KindUnavailable, Text: "there is nowhere to connect to"}
	}
	for i, at := range places {
		patience := l.cfg.HandshakeTimeout
		if i < len(places)-1 {
			patience /= 2 // there is another one
		}
		failed := l.attempt(ctx, c, at, patience)
		if failed == nil {
			l.count(&l.stats.Dialled)
			l.start(c, c.readLoop)
			if opened != nil {
				opened(c)
			}
			return
		}
		if at.Failed != nil {
			at.Failed(failed)
		}
		if ringfence.KindOf(err) != ringfence.KindInsecure { // a false name tells more than a dead host
			err = failed
		}
		if c.State() == "Closed" || ctx.Err() != nil {
			break
		}
	}
	c.Close(err)
}

// attempt connects to one place.
func (l *Layer) attempt(ctx context.Context, c *Conn, at Candidate, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	nc, err := l.cfg.Opener.Dial(ctx, c.Flow, at.Addr)
	if err != nil {
		l.count(&l.stats.ConnFailures)
		return &ringfence.Fault{Op: "transport.dial", Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("no connection to %s", at.Addr), Err: err}
	}
	made := l.newConn(c.Flow, nc, at.TLS, true)
	c.mu.Lock()
	if c.closed.Load() {
		c.mu.Unlock()
		_ = nc.Close()
		return net.ErrClosed
	}
	if c.Remote != at.Addr {
		c.Remote = at.Addr
	}
	c.Local, c.wire, c.stream = made.Local, made.wire, made.stream
	c.lastRead.Store(l.tick())
	c.mu.Unlock()
	if err := l.handshake(c, at.TLS, patience); err != nil {
		l.count(&l.stats.ClientHandshakes)
		made.wire.abort()
		return &ringfence.Fault{Op: "transport.dial", Kind: ringfence.KindInsecure, Text: fmt.Sprintf("no verified TLS with %s", at.Addr), Err: err}
	}
	return nil
}

// Refusal is a connection that was not let in: its handshake failed, or what the peer proved was not enough.
type Refusal struct {
	At     time.Time
	Flow   string
	Remote netip.AddrPort
	Err    error
}

// maxRefusals is how many are remembered.
const maxRefusals = 50

func (l *Layer) noteRefusal(r Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.refusals) == maxRefusals {
		copy(l.refusals, l.refusals[1:])
		l.refusals = l.refusals[:maxRefusals-1]
	}
	l.refusals = append(l.refusals, r)
}

// Refusals returns the last connections that were not let in, the latest first.
func (l *Layer) Refusals() []Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.refusals)
	slices.Reverse(out)
	return out
}
