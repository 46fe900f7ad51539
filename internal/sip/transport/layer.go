package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/sip"
)

// Receiver hears what arrives. Calls for one connection come one after the other from its reader.
type Receiver interface {
	// Receive gets a message that lives only until the call returns. parseErr is not nil if it was malformed; then m holds
	// what could be read, perhaps enough to answer.
	Receive(c *Conn, m *sip.Message, parseErr error)
	// Closed tells that a connection ended, also one that never finished its handshake.
	Closed(c *Conn, cause error)
}

// Verifier decides about the peer of a TLS connection and says what was verified. It runs after the cryptographic
// handshake, also on resumption; an error ends the connection.
type Verifier interface {
	Verify(cs tls.ConnectionState) (Peer, *ringfence.TLSProof, error)
}

// Config holds what a Layer needs. Zero limits take the defaults given beside them.
type Config struct {
	Opener   ringfence.Opener
	Receiver Receiver
	Verifier Verifier
	Log      *slog.Logger
	Limits   sip.Limits

	HandshakeTimeout    time.Duration // 10 s
	IdleTimeout         time.Duration // 15 min without a byte
	PartialTimeout      time.Duration // 10 s for the rest of a message once it began
	QueueBytes          int           // 256 KiB waiting to be sent to one peer
	MaxConns            int           // 200,000
	MaxConnsPerSource   int           // 20,000: many phones may share one address
	MaxHandshakes       int           // 4,096 unfinished at once
	HandshakesPerSource int           // 512 unfinished at once
}

func (c *Config) defaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	wait(&c.HandshakeTimeout, 10*time.Second)
	wait(&c.IdleTimeout, 15*time.Minute)
	wait(&c.PartialTimeout, 10*time.Second)
	set(&c.QueueBytes, 256<<10)
	set(&c.MaxConns, 200_000)
	set(&c.MaxConnsPerSource, 20_000)
	set(&c.MaxHandshakes, 4096)
	set(&c.HandshakesPerSource, 512)
}

// Stats counts since start. The names are those of the connection report (docs/guides/cli.md).
type Stats struct {
	Accepted         uint64 `json:"accepted"`
	Dialled          uint64 `json:"dialled"`
	SendFailures     uint64 `json:"send_failures"`
	RemoteClosures   uint64 `json:"remote_closures"`
	ConnFailures     uint64 `json:"conn_failures"`
	InactiveAgeouts  uint64 `json:"inactive_ageouts"`
	ClientHandshakes uint64 `json:"client_handshake_failures"`
	ServerHandshakes uint64 `json:"server_handshake_failures"`
	Refused          uint64 `json:"refused"` // over a connection or handshake limit
	Garbage          uint64 `json:"garbage"` // bytes that are no SIP
	MaxQueue         uint64 `json:"max_queue_bytes"`
	MaxQueueRecorded string `json:"max_queue_peer"`
}

// Layer owns the connections.
type Layer struct {
	cfg     Config
	buffers bufferPool
	nextID  atomic.Uint64

	mu         sync.Mutex
	conns      map[uint64]*Conn
	bySource   map[netip.Addr]int
	pendingBy  map[netip.Addr]int // unfinished handshakes
	pending    int
	shaking    map[net.Conn]struct{} // accepted, handshake unfinished
	listeners  []net.Listener
	stats      Stats
	closed     bool
	wg         sync.WaitGroup
	stopReaper chan struct{}
}

// New returns a layer without connections; [Layer.Serve] and [Layer.Dial] add them, [Layer.Close] ends them.
func New(cfg Config) *Layer {
	cfg.defaults()
	l := &Layer{cfg: cfg, conns: map[uint64]*Conn{}, bySource: map[netip.Addr]int{}, pendingBy: map[netip.Addr]int{}, shaking: map[net.Conn]struct{}{}, stopReaper: make(chan struct{})}
	l.wg.Go(l.reap)
	return l
}

func (l *Layer) count(n *uint64) {
	l.mu.Lock()
	*n++
	l.mu.Unlock()
}

// Stats returns the counters.
func (l *Layer) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Conns returns the connections that exist now, in no order.
func (l *Layer) Conns() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*Conn, 0, len(l.conns))
	for _, c := range l.conns {
		out = append(out, c)
	}
	return out
}

// Conn returns a connection by id, or nil.
func (l *Layer) Conn(id uint64) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[id]
}

// Listen opens the named flow at addr and serves it until Close. conf is asked for its current form by each handshake;
// a nil conf serves plain TCP, which only a flow with a named exception may do.
func (l *Layer) Listen(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config) (netip.AddrPort, error) {
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
	l.mu.Unlock()
	l.wg.Go(func() { l.accept(flow, ln, conf) })
	return addrPort(ln.Addr()), nil
}

func (l *Layer) accept(flow string, ln net.Listener, conf *tls.Config) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || l.isClosed() {
				return
			}
			l.cfg.Log.Warn("accept failed", "flow", flow, "err", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors: wait for some to come back
			continue
		}
		source := addrPort(nc.RemoteAddr()).Addr()
		if !l.admit(source, nc) {
			_ = nc.Close()
			continue
		}
		l.wg.Go(func() { l.shake(l.newConn(flow, nc, conf, false), source, conf) })
	}
}

func (l *Layer) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// admit takes a handshake slot for source, unless a limit is reached.
func (l *Layer) admit(source netip.Addr, nc net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.conns) >= l.cfg.MaxConns || l.bySource[source] >= l.cfg.MaxConnsPerSource ||
		l.pending >= l.cfg.MaxHandshakes || l.pendingBy[source] >= l.cfg.HandshakesPerSource {
		l.stats.Refused++
		return false
	}
	l.pending++
	l.pendingBy[source]++
	l.shaking[nc] = struct{}{}
	l.stats.Accepted++
	return true
}

func (l *Layer) endHandshake(source netip.Addr, nc net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending--
	delete(l.shaking, nc)
	if l.pendingBy[source]--; l.pendingBy[source] <= 0 {
		delete(l.pendingBy, source)
	}
}

func (l *Layer) newConn(flow string, nc net.Conn, conf *tls.Config, dialled bool) *Conn {
	w := newWire(nc, 2*l.cfg.QueueBytes, l.cfg.HandshakeTimeout)
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
	c.lastRead.Store(c.Since.Unix())
	return c
}

// shake finishes the handshake of an accepted connection and then reads on a fresh, small stack.
func (l *Layer) shake(c *Conn, source netip.Addr, conf *tls.Config) {
	err := l.handshake(c, conf)
	l.endHandshake(source, c.wire.Conn)
	if err != nil {
		l.count(&l.stats.ServerHandshakes)
		l.cfg.Log.Info("connection refused", "flow", c.Flow, "remote", c.Remote, "cause", err, "hint", ringfence.HintOf(err))
		c.Close(err)
		return
	}
	l.start(c)
}

func (l *Layer) handshake(c *Conn, conf *tls.Config) error {
	if conf == nil {
		return nil
	}
	deadline := time.Now().Add(l.cfg.HandshakeTimeout)
	_ = c.wire.SetDeadline(deadline)
	t := c.stream.(*tls.Conn)
	if err := t.Handshake(); err != nil {
		return err
	}
	_ = c.wire.SetDeadline(time.Time{})
	peer, proof, err := l.cfg.Verifier.Verify(t.ConnectionState())
	if err != nil {
		return err
	}
	c.Peer, c.TLS = peer, proof
	return nil
}

func (l *Layer) start(c *Conn) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		c.Close(net.ErrClosed)
		return
	}
	l.conns[c.ID] = c
	l.bySource[c.Remote.Addr()]++
	l.wg.Go(c.readLoop)
	l.mu.Unlock()
	c.wire.startBuffering()
	c.setReady()
	c.Flush()
}

func (l *Layer) forget(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.conns[c.ID]; !ok {
		return
	}
	delete(l.conns, c.ID)
	if l.bySource[c.Remote.Addr()]--; l.bySource[c.Remote.Addr()] <= 0 {
		delete(l.bySource, c.Remote.Addr())
	}
}

// Dial opens a connection of the named flow and returns at once; messages may be queued while it connects. conf must
// check the server's name. If it cannot be opened, the Receiver hears Closed.
func (l *Layer) Dial(ctx context.Context, flow string, addr netip.AddrPort, conf *tls.Config) *Conn {
	c := &Conn{ID: l.nextID.Add(1), Flow: flow, Network: "TLS", Remote: addr, Dialled: true, Since: time.Now(), layer: l}
	if conf == nil {
		c.Network = "TCP"
	}
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.wg.Go(func() { l.connect(ctx, c, conf) })
	}
	l.mu.Unlock()
	if closed {
		c.Close(net.ErrClosed)
	}
	return c
}

func (l *Layer) connect(ctx context.Context, c *Conn, conf *tls.Config) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.HandshakeTimeout)
	defer cancel()
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
	c.lastRead.Store(time.Now().Unix())
	c.mu.Unlock()
	if err := l.handshake(c, conf); err != nil {
		l.count(&l.stats.ClientHandshakes)
		c.Close(&ringfence.Fault{Op: "transport.dial", Kind: ringfence.KindInsecure, Text: fmt.Sprintf("no verified TLS with %s", c.Remote), Err: err})
		return
	}
	l.count(&l.stats.Dialled)
	l.start(c)
}

// reap closes connections that are idle or stuck in the middle of a message, without a timer for each.
func (l *Layer) reap() {
	tick := time.NewTicker(min(l.cfg.PartialTimeout, l.cfg.IdleTimeout) / 2)
	defer tick.Stop()
	for {
		select {
		case <-l.stopReaper:
			return
		case now := <-tick.C:
			for _, c := range l.Conns() {
				part := c.partial.Load()
				switch {
				case part > 0 && now.Unix()-part >= int64(l.cfg.PartialTimeout/time.Second):
					c.Close(&ringfence.Fault{Op: "transport.read", Kind: ringfence.KindTimeout, Text: "the rest of a message did not arrive in time"})
				case now.Unix()-c.lastRead.Load() >= int64(l.cfg.IdleTimeout/time.Second):
					l.count(&l.stats.InactiveAgeouts)
					c.Close(&ringfence.Fault{Op: "transport.read", Kind: ringfence.KindTimeout, Text: "the connection was idle for too long"})
				}
			}
		}
	}
}

// StopListening closes the listeners and keeps the connections, so that calls can end in peace.
func (l *Layer) StopListening() {
	l.mu.Lock()
	listeners := l.listeners
	l.listeners = nil
	l.mu.Unlock()
	for _, ln := range listeners {
		_ = ln.Close()
	}
}

// Close ends everything and waits for it.
func (l *Layer) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	for nc := range l.shaking {
		_ = nc.Close()
	}
	l.mu.Unlock()
	l.StopListening()
	close(l.stopReaper)
	for _, c := range l.Conns() {
		c.Close(net.ErrClosed)
	}
	l.wg.Wait()
}

// bufferPool hands out message buffers; big ones are not kept.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, 4096)
}

func (p *bufferPool) put(b []byte) {
	if cap(b) >= 4096 && cap(b) <= 16384 {
		b = b[:0]
		p.pool.Put(&b)
	}
}
