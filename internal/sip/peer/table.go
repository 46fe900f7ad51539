package peer

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

// Config holds what a Table needs. Zero durations take the defaults beside them.
type Config struct {
	// Dial opens a connection to where a URI leads, and only to the peer with this name; opened hears that it is up. It does not block.
	Dial func(name, uri string, opened func(*transport.Conn)) *transport.Conn
	// Wanted tells where a peer is that somebody still has no way to.
	Wanted func(name string) (uri string, ok bool)
	// Up hears of a way to a peer, outside every lock.
	Up func(name string, c *transport.Conn)
	// Failed hears that a peer could not be reached, and why; nil: nobody does. It is called with a lock held, and must not call back.
	Failed   func(name string, cause error)
	What     string // what the log calls a peer; empty: proxy
	Log      *slog.Logger
	RetryMin time.Duration // 1 s: pause after the first failure
	RetryMax time.Duration // 1 min
}

// Table knows the ways to peers. Its methods may be called from any goroutine.
type Table struct {
	cfg Config

	mu     sync.Mutex
	peers  map[string]*state
	closed bool
}

// state is what is known of one peer.
type state struct {
	ways     []*transport.Conn // that may be used from here, the latest last
	dialling *transport.Conn
	failures int
	retry    *time.Timer
}

// maxWays bounds what is remembered of one peer.
const maxWays = 64

// New returns a table without peers.
func New(cfg Config) *Table {
	if cfg.RetryMin == 0 {
		cfg.RetryMin = time.Second
	}
	if cfg.RetryMax == 0 {
		cfg.RetryMax = time.Minute
	}
	if cfg.What == "" {
		cfg.What = "proxy"
	}
	if cfg.Failed == nil {
		cfg.Failed = func(string, error) {}
	}
	return &Table{cfg: cfg, peers: map[string]*state{}}
}

func (t *Table) peer(name string) *state {
	p := t.peers[name]
	if p == nil {
		p = &state{}
		t.peers[name] = p
	}
	return p
}

// Heard notes that the peer of a connection offers it for our requests: proven reports whether its certificate has the name that it
// writes into Via (RFC 5923 section 8.2). A connection without a certificate is nobody's.
func (t *Table) Heard(c *transport.Conn, m *sip.Message, proven func(c *transport.Conn, host string) bool) {
	if c.Peer.Name == "" || c.Dialled {
		return
	}
	via, err := m.TopVia()
	if err != nil || !via.Params.Has("alias") || !proven(c, string(via.Host)) {
		return
	}
	t.add(c)
}

// add remembers a way and tells of it, unless it is known.
func (t *Table) add(c *transport.Conn) {
	t.mu.Lock()
	fresh := t.keep(t.peer(c.Peer.Name), c)
	t.mu.Unlock()
	if fresh {
		t.cfg.Up(c.Peer.Name, c)
	}
}

// keep remembers a way and reports whether it is a new one. t.mu is held.
func (t *Table) keep(p *state, c *transport.Conn) bool {
	if slices.Contains(p.ways, c) || t.closed || c.State() != "Established" || len(p.ways) >= maxWays {
		return false
	}
	p.ways = append(p.ways, c)
	return true
}

// Want finds a way to a peer, now if there is one, and opens one otherwise.
func (t *Table) Want(name, uri string) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	p := t.peer(name)
	for i := len(p.ways) - 1; i >= 0; i-- {
		if c := p.ways[i]; c.State() == "Established" {
			t.mu.Unlock()
			t.cfg.Up(name, c)
			return
		}
	}
	if p.dialling == nil {
		if p.retry != nil {
			p.retry.Stop()
			p.retry = nil
		}
		t.dial(name, uri, p)
	}
	t.mu.Unlock()
}

// dial opens a connection. t.mu is held.
func (t *Table) dial(name, uri string, p *state) {
	t.cfg.Log.Info("opening a connection to a "+t.cfg.What, t.cfg.What, name, "uri", uri)
	c := t.cfg.Dial(name, uri, func(c *transport.Conn) { t.opened(name, c) })
	p.dialling = c
	if c.State() == "Closed" { // it failed before we could hear of it
		t.failed(name, p, c.Cause())
	}
}

func (t *Table) opened(name string, c *transport.Conn) {
	t.mu.Lock()
	p := t.peer(name)
	// Of one that is over already Closed is to come, and plans the next attempt. One that is kept is found by it.
	fresh := t.keep(p, c)
	if p.dialling == c && fresh {
		p.dialling, p.failures = nil, 0
	}
	t.mu.Unlock()
	if fresh {
		t.cfg.Up(name, c)
	}
}

// Closed hears that a connection ended.
func (t *Table) Closed(c *transport.Conn, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, p := range t.peers {
		if p.dialling == c {
			t.failed(name, p, cause)
		}
		for i, o := range p.ways {
			if o == c {
				p.ways = append(p.ways[:i], p.ways[i+1:]...)
				break
			}
		}
		if len(p.ways) == 0 && p.dialling == nil && p.retry == nil {
			delete(t.peers, name)
		}
	}
}

// failed plans the next attempt. t.mu is held.
func (t *Table) failed(name string, p *state, cause error) {
	p.dialling = nil
	wait := min(t.cfg.RetryMin<<min(p.failures, 16), t.cfg.RetryMax)
	wait = time.Duration((0.5 + rand.Float64()/2) * float64(wait))
	p.failures++
	if t.closed {
		return
	}
	t.cfg.Log.Warn("a "+t.cfg.What+" cannot be reached", t.cfg.What, name, "cause", cause, "retry", wait)
	t.cfg.Failed(name, cause)
	p.retry = time.AfterFunc(wait, func() { t.again(name, p) })
}

// again opens a connection if it is still wanted.
func (t *Table) again(name string, p *state) {
	uri, ok := t.cfg.Wanted(name)
	t.mu.Lock()
	defer t.mu.Unlock()
	p.retry = nil
	switch {
	case t.closed || t.peers[name] != p || p.dialling != nil:
	case ok:
		t.dial(name, uri, p)
	case len(p.ways) == 0:
		delete(t.peers, name)
	}
}

// Close ends every attempt; the connections are not its own.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, p := range t.peers {
		if p.retry != nil {
			p.retry.Stop()
		}
	}
}
