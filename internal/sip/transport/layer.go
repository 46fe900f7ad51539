package transport

import (
	"context"
	"crypto/tls"
	"io"
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
	// BeforeFlush, if set, is called before anything that was queued leaves, to put on disk what it acknowledges. It may wait for the disk, and is
	// called often: with nothing to do it costs nothing.
	BeforeFlush func()
	// SentBy is the host[:port] of our Via on a connection whose local address is not known yet; may be empty.
	SentBy string

	HandshakeTimeout    time.Duration // 10 s
	IdleTimeout         time.Duration // 15 min without a byte
	PartialTimeout      time.Duration // 10 s for the rest of a message once it began
	QueueBytes          int           // 256 KiB waiting to be sent to one peer
	MaxConns            int           // 200,000
	MaxConnsPerSource   int           // 20,000: many phones may share one address
	MaxHandshakes       int           // 4,096 unfinished at once
	HandshakesPerSource int           // 512 unfinished at once
	MaxUDPPeers         int           // 4,096 remote addresses remembered for each UDP socket
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
	if c.BeforeFlush == nil {
		c.BeforeFlush = func() {}
	}
	set(&c.QueueBytes, 256<<10)
	set(&c.MaxConns, 200_000)
	set(&c.MaxConnsPerSource, 20_000)
	set(&c.MaxHandshakes, 4096)
	set(&c.HandshakesPerSource, 512)
	set(&c.MaxUDPPeers, 4096)
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
	cfg      Config
	origin   time.Time // tick counts from here
	buffers  bufferPool
	nextID   atomic.Uint64
	maxQueue atomic.Uint64

	mu         sync.Mutex
	conns      map[uint64]*Conn
	bySource   map[netip.Addr]int
	pendingBy  map[netip.Addr]int // unfinished handshakes
	pending    int
	shaking    map[net.Conn]netip.Addr      // accepted, handshake unfinished, and where it came from
	dialling   map[*Conn]context.CancelFunc // dialled, handshake unfinished
	listeners  []io.Closer
	sockets    map[string]*udpSocket // by flow
	stats      Stats
	refusals   []Refusal // the latest last
	closed     bool
	wg         sync.WaitGroup
	stopReaper chan struct{}
}

// New returns a layer without connections; [Layer.Listen] and [Layer.Dial] add them, [Layer.Close] ends them.
func New(cfg Config) *Layer {
	cfg.defaults()
	l := &Layer{cfg: cfg, origin: time.Now(), conns: map[uint64]*Conn{}, bySource: map[netip.Addr]int{}, pendingBy: map[netip.Addr]int{},
		shaking: map[net.Conn]netip.Addr{}, dialling: map[*Conn]context.CancelFunc{}, sockets: map[string]*udpSocket{},
		stopReaper: make(chan struct{})}
	l.wg.Go(l.reap)
	return l
}

// tick is the time since the layer began in milliseconds, at least 1. It goes by the monotonic clock: a step of the wall clock must
// not look like an hour without a byte.
func (l *Layer) tick() int64 { return max(time.Since(l.origin).Milliseconds(), 1) }

func (l *Layer) count(n *uint64) {
	l.mu.Lock()
	*n++
	l.mu.Unlock()
}

// recordQueue keeps the longest queue seen and whose it was.
func (l *Layer) recordQueue(n uint64, c *Conn) {
	c.mu.Lock()
	remote := c.Remote
	c.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n <= l.stats.MaxQueue {
		return
	}
	l.stats.MaxQueue = n
	l.maxQueue.Store(n)
	l.stats.MaxQueueRecorded = remote.String()
}

// spawn runs fn in a goroutine that Close waits for; once the layer is closed it does nothing and returns false.
func (l *Layer) spawn(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(fn)
	return true
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

// start takes a connection whose handshake is over into service. Its reader starts on a fresh, small stack.
func (l *Layer) start(c *Conn, read func()) {
	c.wire.startBuffering(c.ws != nil)
	l.remember(c)
	if !c.open() { // closed meanwhile, perhaps before it could be forgotten
		l.forget(c)
		return
	}
	if !l.spawn(read) {
		c.Close(net.ErrClosed)
		return
	}
	c.Flush()
}

func (l *Layer) remember(c *Conn) {
	l.mu.Lock()
	l.conns[c.ID] = c
	l.bySource[c.Remote.Addr()]++
	l.mu.Unlock()
}

func (l *Layer) forget(c *Conn) {
	if c.udp != nil {
		c.udp.forget(c)
	}
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

// reap closes connections that are idle or stuck in the middle of a message, without a timer for each.
func (l *Layer) reap() {
	tick := time.NewTicker(max(min(l.cfg.PartialTimeout, l.cfg.IdleTimeout)/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-l.stopReaper:
			return
		case <-tick.C:
			now := l.tick()
			for _, c := range l.Conns() {
				l.inspect(c, now)
			}
		}
	}
}

func (l *Layer) inspect(c *Conn, now int64) {
	idle := now - c.lastRead.Load()
	part := c.partial.Load()
	switch {
	case part > 0 && now-part >= l.cfg.PartialTimeout.Milliseconds():
		c.Close(&ringfence.Fault{Op: "transport.read", Kind: ringfence.KindTimeout, Text: "the rest of a message did not arrive in time"})
	case idle >= l.cfg.IdleTimeout.Milliseconds():
		l.count(&l.stats.InactiveAgeouts)
		c.Close(&ringfence.Fault{Op: "transport.read", Kind: ringfence.KindTimeout, Text: "the connection was idle for too long"})
	case c.ws != nil && idle >= l.cfg.IdleTimeout.Milliseconds()/3 && c.pinging.CompareAndSwap(false, true):
		l.spawn(c.ping)
	}
}

// StopListening closes the listeners and keeps the connections, so that calls can end in peace. A UDP socket is listener and
// connection in one and stays open.
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
	var dialled []*Conn
	for c, cancel := range l.dialling {
		cancel()
		dialled = append(dialled, c)
	}
	sockets := l.sockets
	l.mu.Unlock()
	l.StopListening()
	close(l.stopReaper)
	for _, c := range append(l.Conns(), dialled...) {
		c.Close(net.ErrClosed)
	}
	for _, s := range sockets {
		_ = s.pc.Close()
	}
	l.wg.Wait()
}
