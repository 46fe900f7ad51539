package relay

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// Config says how an engine works.
type Config struct {
	Opener ringfence.Opener    // opens the sockets
	Flow   string              // name of the declared flow that covers them
	Addr   netip.Addr          // local address to bind
	Ports  ringfence.PortRange // UDP ports; each leg takes two
	DSCP   uint8               // mark for what is sent, 0 to 63; 46 (EF) for voice (RFC 4594)
	Shards int                 // loops that wait for packets; 0: one per processor
	Rest   time.Duration       // how long a closed port rests; 0: 300 ms
	Now    func() time.Time    // the clock; nil: time.Now
	Log    *slog.Logger        // nil: discards
}

// Validate reports the first contradiction in c, as a KindInvalid fault.
func (c Config) Validate() error {
	bad := func(text string) error {
		return &ringfence.Fault{Op: "relay.config", Kind: ringfence.KindInvalid, Text: text}
	}
	switch {
	case c.Opener == nil:
		return bad("the relay needs an opener")
	case c.Flow == "":
		return bad("the relay needs the name of its flow")
	case !c.Addr.IsValid():
		return bad("the relay needs a local address")
	case c.Ports.First == 0 || uint32(c.Ports.First)+uint32(c.Ports.First)&1+1 > uint32(c.Ports.Last):
		return bad(fmt.Sprintf("the media port range %s has no room for an even port and the one above it", c.Ports))
	case c.DSCP > 63:
		return bad(fmt.Sprintf("DSCP %d is above 63", c.DSCP))
	case c.Shards < 0 || c.Shards > 256:
		return bad(fmt.Sprintf("%d shards; 0 to 256 make sense", c.Shards))
	}
	return nil
}

// Flows declares what the relay needs of the network.
func (c Config) Flows() []ringfence.Flow {
	return []ringfence.Flow{{
		Name: c.Flow, Purpose: "carries the sound of calls, sealed by SRTP, and the reports on it", Room: "media/relay",
		Direction: ringfence.Listens, Transport: "udp", Addr: c.Addr, Ports: c.Ports, Peers: "any phone or trunk",
		DSCP: c.DSCP, TLS: ringfence.MediaSRTP,
	}}
}

// Engine owns the media sockets of a node. Its methods may be called from any goroutine.
type Engine struct {
	cfg    Config
	origin time.Time // arrival times are counted from here
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	ports  *ports
	legs   map[ringfence.LegID]*Endpoint
	loops  []*loop       // made when the first kernel socket is opened
	shelf  queue[parked] // oldest first
	room   int           // of the shelf

	players players
}

// New returns an engine. It opens no socket yet.
func New(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Rest == 0 {
		cfg.Rest = 300 * time.Millisecond // late packets of the call before do no harm: they do not authenticate
	}
	if cfg.Shards == 0 {
		cfg.Shards = runtime.GOMAXPROCS(0)
	}
	e := &Engine{cfg: cfg, origin: cfg.Now(), ports: newPorts(cfg.Ports, cfg.Rest), legs: map[ringfence.LegID]*Endpoint{}}
	e.room = min(maxParked, descriptors()/3) // two thirds of them, after a second of very many calls
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.wg.Go(e.watch)
	return e, nil
}

// Open gives a leg its two ports. Faults: KindConflict if the leg has them already, KindOverload if none is free,
// KindUnavailable if the engine is closed, or what the opener answers.
func (e *Engine) Open(id ringfence.LegID) (*Endpoint, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, &ringfence.Fault{Op: "relay.open", Kind: ringfence.KindUnavailable, Text: "the media relay is stopping"}
	}
	if _, taken := e.legs[id]; taken {
		e.mu.Unlock()
		return nil, &ringfence.Fault{Op: "relay.open", Kind: ringfence.KindConflict, Text: fmt.Sprintf("leg %q has media already", id)}
	}
	e.legs[id] = nil // claims the name while sockets are opened without the lock
	e.mu.Unlock()

	p := &Endpoint{engine: e, id: id}
	err := e.bind(p)
	e.mu.Lock()
	gone := e.closed
	if err != nil || gone {
		delete(e.legs, id)
	} else {
		e.legs[id] = p
	}
	e.mu.Unlock()
	if err == nil && gone {
		p.Close()
		err = &ringfence.Fault{Op: "relay.open", Kind: ringfence.KindUnavailable, Text: "the media relay is stopping"}
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// bind finds a free pair of ports. A port that somebody else holds is put back to rest and the next one is tried.
func (e *Engine) bind(p *Endpoint) error {
	const tries = 1024 // another program may hold a long run of the range; trying one costs microseconds
	if e.unpark(p, e.cfg.Now()) {
		return nil
	}
	var last error
	for range tries {
		now := e.cfg.Now()
		e.mu.Lock()
		port, ok := e.ports.take(now)
		e.mu.Unlock()
		if !ok {
			if last != nil {
				return last
			}
			return noPorts(e.cfg.Ports)
		}
		if last = e.bindPair(p, port); last == nil {
			return nil
		}
		e.mu.Lock()
		e.ports.give(port, now)
		e.mu.Unlock()
	}
	return last
}

// parker is a socket that can stay open between two legs: opening one takes a dozen system calls.
type parker interface {
	socket
	park()
	unpark(*Endpoint)
}

const (
	// maxParked is how many pairs of sockets stay open without a leg, unless a process may not have so many: those of 13,000 calls a
	// second, while they rest.
	maxParked = 8192
	// parkFor is how long a pair waits for a leg, after its rest, before it is closed.
	parkFor = time.Minute
)

// parked is a pair of sockets that rests.
type parked struct {
	resting
	pair [2]parker
}

// park puts the sockets of a closed leg on the shelf, where they rest with their port, and reports whether it could.
func (e *Engine) park(port uint16, socks [2]socket) bool {
	a, ok1 := socks[0].(parker)
	b, ok2 := socks[1].(parker)
	if !ok1 || !ok2 {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.shelf.len() >= e.room {
		return false
	}
	a.park()
	b.park()
	e.shelf.push(parked{resting{port, e.cfg.Now().Add(e.cfg.Rest)}, [2]parker{a, b}})
	return true
}

// unpark gives a leg the pair of sockets that has rested longest on the shelf, if one has rested enough.
func (e *Engine) unpark(p *Endpoint, now time.Time) bool {
	e.mu.Lock()
	if e.shelf.len() == 0 || e.shelf.first().until.After(now) {
		e.mu.Unlock()
		return false
	}
	s := e.shelf.pop()
	e.mu.Unlock()
	p.init(s.port, now)
	for i, sock := range s.pair {
		p.setSocket(sock, i == 1)
		sock.unpark(p)
	}
	return true
}

// trim closes the pairs that no leg has wanted for long.
func (e *Engine) trim(now time.Time) {
	var old []parked
	e.mu.Lock()
	for e.shelf.len() > 0 && now.Sub(e.shelf.first().until) > parkFor {
		old = append(old, e.shelf.pop())
	}
	e.mu.Unlock()
	for _, s := range old {
		s.pair[0].close()
		s.pair[1].close()
		e.mu.Lock()
		e.ports.give(s.port, now)
		e.mu.Unlock()
	}
}

func (e *Engine) bindPair(p *Endpoint, port uint16) error {
	var conns [2]net.PacketConn
	for i := range conns {
		c, err := e.cfg.Opener.ListenUDP(e.ctx, e.cfg.Flow, netip.AddrPortFrom(e.cfg.Addr, port+uint16(i)))
		if err != nil {
			if i == 1 {
				_ = conns[0].Close()
			}
			return &ringfence.Fault{Op: "relay.open", Kind: ringfence.KindUnavailable,
				Text: fmt.Sprintf("media port %d could not be opened", port+uint16(i)), Err: err}
		}
		conns[i] = c
	}
	p.init(port, e.cfg.Now())
	for i, c := range conns {
		if err := e.attach(p, c, i == 1); err != nil {
			if i == 0 {
				_ = conns[1].Close()
			}
			_, _ = p.shutSockets(false)
			return err
		}
	}
	return nil
}

// attach makes a socket of the leg out of an opened conn: in a loop if the kernel owns it, else with a goroutine.
func (e *Engine) attach(p *Endpoint, c net.PacketConn, control bool) error {
	if s, ok, err := e.adopt(p, c, control); err != nil {
		_ = c.Close()
		return err
	} else if ok {
		p.setSocket(s, control)
		return nil
	}
	s := &goSocket{conn: c, mark: e.cfg.DSCP}
	if m, ok := c.(interface{ DSCP() uint8 }); ok {
		s.mark = m.DSCP()
	}
	p.setSocket(s, control)
	e.wg.Go(func() { s.run(p, control) }) // ends when the leg closes its socket
	return nil
}

// Legs returns how many legs are open.
func (e *Engine) Legs() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.legs)
}

// Join connects two legs: what either receives is sent to the other. A leg joined to somebody else leaves them first.
// Joining a leg to itself is a KindInvalid fault.
func (e *Engine) Join(a, b *Endpoint) error {
	if a == nil || b == nil || a == b || a.engine != e || b.engine != e {
		return &ringfence.Fault{Op: "relay.join", Kind: ringfence.KindInvalid, Text: "a join needs two different legs of this relay"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range []*Endpoint{a, b} {
		if old := p.peer.Swap(nil); old != nil {
			old.peer.CompareAndSwap(p, nil)
		}
	}
	a.peer.Store(b)
	b.peer.Store(a)
	return nil
}

// Unjoin separates a leg from the one it is joined to, if any.
func (e *Engine) Unjoin(a *Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := a.peer.Swap(nil); old != nil {
		old.peer.CompareAndSwap(a, nil)
	}
}

// release forgets a closed leg and lets its ports rest, unless they rest on the shelf already.
func (e *Engine) release(p *Endpoint, parked bool) {
	e.Unjoin(p)
	now := e.cfg.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.legs[p.id] == p {
		delete(e.legs, p.id)
	}
	if !parked {
		e.ports.give(p.port, now)
	}
}

// watch looks four times a second for legs that have gone silent or are owed a report.
func (e *Engine) watch() {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	var legs []*Endpoint
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-t.C:
		}
		legs = legs[:0]
		e.mu.Lock()
		for _, p := range e.legs {
			if p != nil {
				legs = append(legs, p)
			}
		}
		e.mu.Unlock()
		now := e.cfg.Now()
		e.trim(now)
		for _, p := range legs {
			p.checkSilence(now)
			p.report(now)
		}
		clear(legs)
	}
}

// Close closes every leg and waits until the engine's goroutines have ended.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	legs := make([]*Endpoint, 0, len(e.legs))
	for _, p := range e.legs {
		if p != nil {
			legs = append(legs, p)
		}
	}
	e.mu.Unlock()
	for _, p := range legs {
		p.Close()
	}
	e.cancel()
	e.mu.Lock()
	for e.shelf.len() > 0 {
		s := e.shelf.pop()
		s.pair[0].close()
		s.pair[1].close()
	}
	loops := e.loops
	e.mu.Unlock()
	for _, l := range loops {
		l.stop()
	}
	e.wg.Wait()
	for _, l := range loops {
		l.free()
	}
}

// scratch is the working memory of one receiving goroutine.
type scratch struct {
	in      [2048]byte // room for the longest packet and what sealing adds
	alt     [2048]byte // where a packet is opened while two keys are tried
	header  rtp.Header
	control rtp.Control
}
