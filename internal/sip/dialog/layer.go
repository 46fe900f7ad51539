package dialog

import (
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// Config holds what a Layer needs.
type Config struct {
	Log       *slog.Logger
	UserAgent string // for User-Agent of requests; may be empty
	// SessionExpires is the interval asked for (RFC 4028); 0 means 1800 s. Peers may shorten it to MinSE, 90 s.
	SessionExpires time.Duration
	// Flow finds a connection to the session's peer when the one it used has ended, e.g. the device's new registration flow;
	// nil or a nil result means there is none.
	Flow func(s *Session) *transport.Conn
	// Owns reports whether a connection speaks for the peer that the session was made with, when a request for the session comes over
	// another connection than before; nil compares certificates, and addresses where there are none.
	Owns func(c *transport.Conn, s *Session) bool
	// Extra, if set, adds fields to each request inside a dialog that the other side knows.
	Extra func(s *Session, method sip.Method, w *sip.Writer)
}

// Layer holds the sessions of all shards.
type Layer struct {
	cfg    Config
	tables []map[string]*Session // by shard, then by local tag
}

// New returns a layer for the shards of txs.
func New(cfg Config, txs *transaction.Layer) *Layer {
	if cfg.SessionExpires == 0 {
		cfg.SessionExpires = 30 * time.Minute
	}
	l := &Layer{cfg: cfg}
	for range txs.Shards() {
		l.tables = append(l.tables, map[string]*Session{})
	}
	txs.HearLate(l.dropFork)
	return l
}

// Find returns the session on shard that a request or a Replaces value names: Call-ID, our tag and theirs.
// Call it on the shard.
func (l *Layer) Find(shard *transaction.Shard, callID, localTag, remoteTag []byte) *Session {
	s := l.tables[shard.Index][string(localTag)]
	if s == nil || s.CallID != string(callID) || s.RemoteTag != "" && s.RemoteTag != string(remoteTag) {
		return nil
	}
	return s
}

// Count returns the number of sessions on a shard. Call it on the shard.
func (l *Layer) Count(shard *transaction.Shard) int { return len(l.tables[shard.Index]) }

func (l *Layer) add(s *Session) { l.tables[s.Shard.Index][s.LocalTag] = s }

func (l *Layer) remove(s *Session) { delete(l.tables[s.Shard.Index], s.LocalTag) }

func newTag() string {
	var few [16]byte
	return string(appendTag(few[:0]))
}

func appendTag(b []byte) []byte { return strconv.AppendUint(b, rand.Uint64()|1<<63, 16) }

// Request handles a request that belongs to a dialog (it has a To tag) and reports whether it did; otherwise the caller
// answers, usually with 481.
func (l *Layer) Request(tx *transaction.Server) bool {
	m := tx.Request
	s := l.Find(tx.Shard, m.CallID(), m.ToTag(), m.FromTag())
	if s == nil {
		return false
	}
	if s.state == Ended {
		return false
	}
	// A dialog belongs to whoever it was made with: another device may not end or change it, even if it learned its tags.
	if tx.Conn != s.Conn && !l.owns(tx.Conn, s) {
		return false
	}
	s.request(tx)
	return true
}

func (l *Layer) owns(c *transport.Conn, s *Session) bool {
	if l.cfg.Owns != nil && c.Reliable() {
		return l.cfg.Owns(c, s)
	}
	return samePeer(c, s.Conn)
}

func samePeer(a, b *transport.Conn) bool {
	if a.Peer.Name != "" || b.Peer.Name != "" {
		return a.Peer.Name == b.Peer.Name && a.Peer.Role == b.Peer.Role
	}
	if !a.Reliable() || !b.Reliable() { // datagrams prove nothing but where they come from
		return a.Network == b.Network && a.Remote == b.Remote
	}
	return a.Secure() == b.Secure() && a.Remote.Addr() == b.Remote.Addr()
}

// allow lists the methods a session understands.
const allow = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, INFO, REFER, NOTIFY"

func (l *Layer) identify(w *sip.Writer) {
	if l.cfg.UserAgent != "" {
		w.Header(sip.HeaderUserAgent, l.cfg.UserAgent)
	}
}
