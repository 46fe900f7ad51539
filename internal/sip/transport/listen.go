package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"ringfence"
)

// Listen opens the named flow at addr and serves it until Close. conf is asked for its current form by each handshake;
// a nil conf serves plain TCP, which only a flow with a named exception may do.
func (l *Layer) Listen(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config) (netip.AddrPort, error) {
	return l.listen(ctx, flow, addr, conf, func(c *Conn) (func(), error) {
		return c.readLoop, l.handshake(c, conf)
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

func (l *Layer) handshake(c *Conn, conf *tls.Config) error {
	if conf == nil {
		return nil
	}
	_ = c.wire.Conn.SetDeadline(time.Now().Add(l.cfg.HandshakeTimeout))
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

// Dial opens a connection of the named flow and returns at once; messages may be queued while it connects. conf must
// check the server's name. If it cannot be opened, the Receiver hears Closed.
func (l *Layer) Dial(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config) *Conn {
	c := &Conn{ID: l.nextID.Add(1), Flow: flow, Network: "TLS", Remote: addr, Dialled: true, Since: time.Now(), layer: l}
	if conf == nil {
		c.Network = "TCP"
	}
	if !l.spawn(func() { l.connect(ctx, c, conf) }) {
		c.Close(net.ErrClosed)
	}
	return c
}

func (l *Layer) connect(ctx context.Context, c *Conn, conf *tls.Config) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.HandshakeTimeout)
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
	nc, err := l.cfg.Opener.Dial(ctx, c.Flow, c.Remote)
	if err != nil {
		l.count(&l.stats.ConnFailures)
		c.Close(&ringfence.Fault{Op: "transport.dial", Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("no connection to %s", c.Remote), Err: err})
		return
	}
	made := l.newConn(c.Flow, nc, conf, true)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		_ = nc.Close()
		return
	}
	c.Local, c.wire, c.stream = made.Local, made.wire, made.stream
	c.lastRead.Store(l.tick())
	c.mu.Unlock()
	if err := l.handshake(c, conf); err != nil {
		l.count(&l.stats.ClientHandshakes)
		c.Close(&ringfence.Fault{Op: "transport.dial", Kind: ringfence.KindInsecure, Text: fmt.Sprintf("no verified TLS with %s", c.Remote), Err: err})
		return
	}
	l.count(&l.stats.Dialled)
	l.start(c, c.readLoop)
}
