package transaction

import (
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

// User is the transaction user: what stands above transactions (RFC 3261 section 5).
type User interface {
	// Request hears each new request once, on its shard; the server transaction is not finished until it was answered.
	// For ACK to a 2xx, tx.Respond does nothing. tx.Request lives only until the call returns unless tx.Keep is called.
	Request(tx *Server)
	// Cancelled hears that the INVITE of tx was cancelled (RFC 3261 section 9.2) before it had a final response. The CANCEL has
	// been answered; the user answers the INVITE with 487.
	Cancelled(tx *Server, cancel *sip.Message)
	// Closed hears that a connection ended, outside any shard.
	Closed(c *transport.Conn, cause error)
}

// Config holds what a Layer needs.
type Config struct {
	User   User
	Log    *slog.Logger
	Shards int    // number of shards, rounded up to a power of two; 0 means 1
	Timers Timers // zero means DefaultTimers
	Server string // product name for the Server field of responses made here; may be empty
	// Trace, if set, hears every message: received ones before they are handled, sent ones when they are queued. callID is nil where
	// it is not at hand.
	Trace func(c *transport.Conn, callID, msg []byte, sent bool)
	// MaxTransactions bounds server transactions without a final response over all shards; above it new INVITEs get 503 with Retry-After,
	// and above twice as many all requests do. So they do while ten times as many are kept, those included that were answered and only
	// wait for retransmissions. 0 means 100,000.
	MaxTransactions int
}

// Layer matches messages with transactions. It is the Receiver of the transport layer.
type Layer struct {
	cfg    Config
	timers Timers
	shards []*Shard
	seed   maphash.Seed
	trace  func(c *transport.Conn, callID, msg []byte, sent bool)
	late   func(s *Shard, c *transport.Conn, m *sip.Message)
	active atomic.Int64 // server transactions without a final response
	kept   atomic.Int64 // all that are stored

	stats struct{ retransmissions, timeouts, overload, stray atomic.Uint64 }
}

// New returns a layer whose user is cfg.User.
func New(cfg Config) *Layer {
	l := &Layer{cfg: cfg, timers: cfg.Timers, seed: maphash.MakeSeed(), trace: cfg.Trace}
	if l.timers == (Timers{}) {
		l.timers = DefaultTimers()
	}
	if l.cfg.MaxTransactions == 0 {
		l.cfg.MaxTransactions = 100_000
	}
	n := 1
	for n < cfg.Shards {
		n *= 2
	}
	for i := range n {
		l.shards = append(l.shards, newShard(i, l))
	}
	return l
}

// HearLate names who hears, on the shard, a 2xx to an INVITE whose dialog is over: it was repeated, or comes from another branch of a
// fork. Call it before anything is sent.
func (l *Layer) HearLate(f func(s *Shard, c *transport.Conn, m *sip.Message)) { l.late = f }

// Timers returns the base timer values in use.
func (l *Layer) Timers() Timers { return l.timers }

// Shards returns the shards in order.
func (l *Layer) Shards() []*Shard { return l.shards }

// Shard returns the shard that owns a Call-ID.
func (l *Layer) Shard(callID []byte) *Shard {
	if len(l.shards) == 1 {
		return l.shards[0]
	}
	return l.shards[maphash.Bytes(l.seed, callID)&uint64(len(l.shards)-1)]
}

// NewCallID returns a fresh Call-ID that belongs to shard s.
func (l *Layer) NewCallID(s *Shard) string {
	var few [26]byte
	for {
		id := strconv.AppendUint(strconv.AppendUint(few[:0], rand.Uint64(), 36), rand.Uint64(), 36)
		if l.Shard(id) == s {
			return string(id)
		}
	}
}

// Active returns the number of server transactions that have no final response yet.
func (l *Layer) Active() int { return int(l.active.Load()) }

// Counters returns totals since start, by name.
func (l *Layer) Counters() map[string]uint64 {
	return map[string]uint64{
		"retransmissions": l.stats.retransmissions.Load(), "timeouts": l.stats.timeouts.Load(),
		"overload": l.stats.overload.Load(), "stray": l.stats.stray.Load(),
	}
}

// Receive implements transport.Receiver.
func (l *Layer) Receive(c *transport.Conn, m *sip.Message, parseErr error) {
	if l.trace != nil && len(m.Bytes()) > 0 {
		l.trace(c, m.CallID(), m.Bytes(), false)
	}
	if parseErr != nil {
		l.refuse(c, m, parseErr)
		return
	}
	if len(m.CallID()) == 0 {
		l.refuse(c, m, &sip.ParseError{Status: 400, Reason: "Missing Call-ID"})
		return
	}
	l.Shard(m.CallID()).receive(c, m)
}

// refuse answers a malformed request without any state, as far as it can be answered at all (RFC 3261 section 8.2).
func (l *Layer) refuse(c *transport.Conn, m *sip.Message, err error) {
	pe, ok := err.(*sip.ParseError)
	if !ok || !m.IsRequest() || m.Method() == sip.ACK || !m.Has(sip.HeaderVia) || !m.Has(sip.HeaderFrom) || !m.Has(sip.HeaderTo) ||
		!m.Has(sip.HeaderCallID) || !m.Has(sip.HeaderCSeq) {
		return
	}
	l.Shard(m.CallID()).Do(func() {
		s := l.Shard(m.CallID())
		var w sip.Writer
		w.ResponseTo(m, pe.Status, pe.Reason, "malformed", c.Remote)
		l.sign(&w)
		w.Body("", nil)
		s.Write(c, &w)
	})
}

func (l *Layer) sign(w *sip.Writer) {
	if l.cfg.Server != "" {
		w.Header(sip.HeaderServer, l.cfg.Server)
	}
}

// Closed implements transport.Receiver: transactions that wait for the connection fail at once instead of timing out.
func (l *Layer) Closed(c *transport.Conn, cause error) {
	for _, s := range l.shards {
		s.Post(func() { s.connClosed(c, cause) })
	}
	l.cfg.User.Closed(c, cause)
}

// Close stops the timers. Nothing may be received any more.
func (l *Layer) Close() {
	for _, s := range l.shards {
		s.mu.Lock()
		s.closed = true
		s.alarm.Stop()
		s.mu.Unlock()
	}
}

func (t Timers) linger() time.Duration { return 64 * t.T1 }
