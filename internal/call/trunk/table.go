package trunk

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/peer"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/trust/profile"
	"ringfence/internal/trust/subject"
)

// Role is the role of a connection whose other end is a trunk.
const Role = "trunk"

// Config holds what a Table needs.
type Config struct {
	Trunks   []Trunk
	Security profile.Security
	// Dial opens a connection to the trunk and to nobody else; opened hears that it is up. It does not block.
	Dial func(t Trunk, opened func(*transport.Conn)) *transport.Conn
	// Anchored reports whether one of some verified chains comes from whom an alias stands for.
	Anchored func(chains [][]*x509.Certificate, alias string) bool
	Shard    *transaction.Shard // where trunks are asked whether they are there
	Domain   string             // ours, as trunks are asked in its name
	Log      *slog.Logger
	Ask      time.Duration // 30 s: how often a trunk is asked by OPTIONS whether it is there
	RetryMin time.Duration // 1 s: pause before a connection that ended is opened again
	RetryMax time.Duration // 1 min
}

// Table knows the trunks of a node. Its methods may be called from any goroutine.
type Table struct {
	cfg  Config
	ways *peer.Table
	all  map[string]*held

	mu     sync.Mutex
	closed bool
}

// held is a trunk and what is known of it now.
type held struct {
	Trunk
	profile profile.Trunk

	// Under Table.mu:
	way    *transport.Conn
	since  time.Time // when it came up or went down
	cause  string    // why it is down
	losses int       // connections in a row that did not last
	retry  *time.Timer
	ask    transaction.Timer // the shard's
}

// New returns a table of trunks that nobody has called yet; see [Table.Start].
func New(c Config) *Table {
	if c.Ask == 0 {
		c.Ask = 30 * time.Second
	}
	if c.RetryMin == 0 {
		c.RetryMin = time.Second
	}
	if c.RetryMax == 0 {
		c.RetryMax = time.Minute
	}
	t := &Table{cfg: c, all: map[string]*held{}}
	for _, one := range c.Trunks {
		p, _ := c.Security.Trunk(one.Security)
		t.all[one.Name] = &held{Trunk: one, profile: p, cause: "not called yet"}
	}
	t.ways = peer.New(peer.Config{Log: c.Log, What: "trunk", RetryMin: c.RetryMin, RetryMax: c.RetryMax,
		Dial: func(name, _ string, opened func(*transport.Conn)) *transport.Conn {
			return c.Dial(t.all[name].Trunk, opened)
		},
		Wanted: func(name string) (string, bool) { h := t.all[name]; return h.URI(), true },
		Up:     t.up, Failed: t.failed})
	return t
}

// Start opens the ways out, which stay up until [Table.Close].
func (t *Table) Start() {
	for name, h := range t.all {
		if h.profile.Outgoing == profile.TLS {
			t.ways.Want(name, h.URI())
		}
	}
}

// Close opens nothing more.
func (t *Table) Close() {
	t.mu.Lock()
	t.closed = true
	for _, h := range t.all {
		if h.retry != nil {
			h.retry.Stop()
		}
	}
	t.mu.Unlock()
	t.ways.Close()
}

// Match says which trunk the other end of a connection is, by the certificate that it showed and that was verified. It is nobody whose certificate would do for two.
func (t *Table) Match(cs tls.ConnectionState) (name string, ok bool) {
	if t == nil || len(cs.PeerCertificates) == 0 {
		return "", false
	}
	for _, h := range t.all {
		if !h.is(cs.PeerCertificates[0]) || !h.from(cs.VerifiedChains, t.cfg.Anchored) {
			continue
		}
		if name != "" {
			t.cfg.Log.Warn("a certificate carries the subjects of two trunks, and is nobody's", "trunk", name, "other", h.Name, "subject", cs.PeerCertificates[0].Subject.String(), "hint", "set other subjects in security.trunks")
			return "", false
		}
		name = h.Name
	}
	return name, name != ""
}

func (h *held) is(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(subjectsOf(h.Trunk, h.profile), func(s string) bool {
		return subject.Matches(leaf, s, true) || strings.EqualFold(leaf.Subject.CommonName, s)
	})
}

func (h *held) from(chains [][]*x509.Certificate, anchored func([][]*x509.Certificate, string) bool) bool {
	anchors := h.profile.Anchors
	if len(anchors) == 0 {
		anchors = []string{"own"}
	}
	return slices.ContainsFunc(anchors, func(alias string) bool { return anchored(chains, alias) })
}

// Way returns a connection by which calls go to a trunk, and the trunk; nil while there is none.
func (t *Table) Way(name string) (*transport.Conn, Trunk) {
	if t == nil {
		return nil, Trunk{}
	}
	h := t.all[name]
	if h == nil {
		return nil, Trunk{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.way != nil && h.way.State() == "Established" {
		return h.way, h.Trunk
	}
	return nil, h.Trunk
}

// Calls returns the trunk whose calls come over a connection, if its profile lets them come.
func (t *Table) Calls(c *transport.Conn) (Trunk, bool) {
	if t == nil || c.Peer.Role != Role {
		return Trunk{}, false
	}
	h := t.all[c.Peer.Name]
	if h == nil || h.profile.Incoming != profile.TLS {
		return Trunk{}, false
	}
	return h.Trunk, true
}

// Accepts reports whether the profile of a trunk lets the other side make a kind of request.
func (t *Table) Accepts(name string, r profile.Request) bool {
	if t == nil {
		return false
	}
	h := t.all[name]
	return h != nil && accepts(h.profile, r)
}

// up hears of a way to a trunk.
func (t *Table) up(name string, c *transport.Conn) {
	h := t.all[name]
	t.mu.Lock()
	h.way, h.since, h.cause = c, time.Now(), ""
	t.mu.Unlock()
	if c.State() != "Established" { // and nobody hears of that again
		t.down(c, c.Cause())
		return
	}
	t.cfg.Log.Info("trunk is up", "trunk", name, "remote", c.Remote)
	t.cfg.Shard.Post(func() { t.askLater(h, c) })
}

// failed hears that a trunk cannot be reached.
func (t *Table) failed(name string, cause error) {
	h := t.all[name]
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.way == nil && cause != nil {
		h.cause = cause.Error()
	}
}

// askLater asks a trunk now and then whether it is there; a connection over which nobody answers is closed.
func (t *Table) askLater(h *held, c *transport.Conn) {
	t.cfg.Shard.After(&h.ask, t.cfg.Ask, func() {
		if c.State() != "Established" {
			return
		}
		t.cfg.Shard.Request(c, sip.OPTIONS, func(w *sip.Writer, via string) {
			w.RequestLine(sip.OPTIONS, "sip:"+h.HostPort())
			w.Header(sip.HeaderVia, via)
			w.Uint(sip.HeaderMaxForwards, 70)
			w.Header(sip.HeaderFrom, "<sip:"+t.cfg.Domain+">;tag="+strconv.FormatUint(rand.Uint64(), 36))
			w.Header(sip.HeaderTo, "<sip:"+h.HostPort()+">")
			w.Header(sip.HeaderCallID, t.cfg.Shard.Layer().NewCallID(t.cfg.Shard))
			w.CSeq(1, sip.OPTIONS)
			w.Body("", nil)
		}, func(a transaction.Answer) {
			switch {
			case a.Err != nil && c.State() == "Established":
				c.Close(&ringfence.Fault{Op: "trunk.ask", Kind: ringfence.KindTimeout, Text: "the trunk " + h.Name + " does not answer OPTIONS"})
			case a.Err == nil && a.Status() >= 200: // whatever it says, it is there
				t.askLater(h, c)
			}
		})
	})
}

// lasted is how long a connection must have been up for its end to be no sign of a trunk that does not want us.
const lasted = time.Minute

// Closed hears that a connection ended.
func (t *Table) Closed(c *transport.Conn, cause error) {
	if t == nil {
		return
	}
	t.ways.Closed(c, cause)
	t.down(c, cause)
}

// down plans the next connection to the trunk whose way this one was.
func (t *Table) down(c *transport.Conn, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, h := range t.all {
		if h.way != c {
			continue
		}
		if time.Since(h.since) < lasted {
			h.losses++
		} else {
			h.losses = 0
		}
		h.way, h.since, h.cause = nil, time.Now(), "the connection ended"
		if cause != nil {
			h.cause = cause.Error()
		}
		t.cfg.Log.Warn("trunk is down", "trunk", name, "cause", h.cause)
		if !t.closed {
			wait := min(t.cfg.RetryMin<<min(h.losses, 16), t.cfg.RetryMax)
			h.retry = time.AfterFunc(time.Duration((0.5+rand.Float64()/2)*float64(wait)), func() { t.ways.Want(name, h.URI()) })
		}
	}
}

// State is what can be told about a trunk.
type State struct {
	Trunk
	Profile profile.Trunk
	Way     *transport.Conn // nil: calls cannot go out
	Since   time.Time       // since when that is so; zero: from the start
	Cause   string          // why calls cannot go out; empty: they can
}

// States returns all trunks, by name.
func (t *Table) States() (out []State) {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.all {
		s := State{Trunk: h.Trunk, Profile: h.profile, Way: h.way, Since: h.since, Cause: h.cause}
		s.Profile.Subjects = subjectsOf(h.Trunk, h.profile)
		if h.profile.Outgoing == profile.Off {
			s.Cause = "calls do not go out here"
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return out
}
