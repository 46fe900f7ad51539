package bus

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
)

// Config says which bus to join.
type Config struct {
	Node ringfence.NodeID
	// Server is an embedded NATS server to use; URL is one outside, "tls://host:port". With neither, events stay in this node.
	Server *Server
	URL    string
	// Opener opens the way to an outside server by the flow "bus", which the node declares; TLS says how it proves its name, and how we prove ours.
	Opener ringfence.Opener
	TLS    *tls.Config
	// Credentials names a NATS credentials file (user JWT and key); empty: the certificate is enough.
	Credentials string
	Log         *slog.Logger
	Queue       int // events that wait for one subscriber, and for the wire: 1,024
}

// Bus delivers events. Its methods may be called from any goroutine.
type Bus struct {
	cfg  Config
	link *link // nil: this node alone
	out  chan Event
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	mu   sync.Mutex
	subs map[Kind]map[*subscriber]struct{}
	shut bool

	running sync.WaitGroup // subscribers

	stats struct{ published, received, dropped, unsent, rejected atomic.Uint64 }
}

// Stats counts since start.
type Stats struct {
	Published uint64 `json:"published"` // events of this node
	Received  uint64 `json:"received"`  // events of other nodes
	Dropped   uint64 `json:"dropped"`   // deliveries that found a subscriber's queue full
	Unsent    uint64 `json:"unsent"`    // events that other nodes were not told
	Rejected  uint64 `json:"rejected"`  // messages from the wire that were no events
	Connected bool   `json:"connected"` // to NATS
}

// Open joins the bus. An outside server that is out of reach is no error: the bus works within the node, and connects when it can.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	if cfg.Node == "" {
		return nil, &ringfence.Fault{Op: "bus.open", Kind: ringfence.KindInvalid, Text: "a bus needs the name of its node"}
	}
	b := &Bus{cfg: cfg, out: make(chan Event, cfg.Queue), stop: make(chan struct{}), subs: map[Kind]map[*subscriber]struct{}{}}
	if cfg.Server == nil && cfg.URL == "" {
		return b, nil
	}
	var err error
	if b.link, err = b.connect(ctx); err != nil {
		return nil, err
	}
	b.wg.Go(b.send)
	return b, nil
}

// Close tells other nodes what was published, leaves the bus, and waits until no subscriber is called any more. A subscriber may
// not call it.
func (b *Bus) Close() {
	b.once.Do(func() {
		close(b.stop)
		b.wg.Wait()
		if b.link != nil {
			b.link.close()
		}
		b.mu.Lock()
		b.shut = true
		for _, set := range b.subs {
			for s := range set {
				s.end()
			}
		}
		clear(b.subs)
		b.mu.Unlock()
		b.running.Wait()
	})
}

// Publish tells everybody here and on other nodes. It never waits for any of them; ctx is only asked whether it is over already.
func (b *Bus) Publish(ctx context.Context, e Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.Node = b.cfg.Node
	if e.At.IsZero() {
		e.At = time.Now().UTC()
	}
	if err := e.check(); err != nil {
		return err
	}
	b.stats.published.Add(1)
	b.deliver(e)
	if b.link != nil && e.Kind != Lost && !b.cfg.Server.alone() {
		select {
		case b.out <- e:
		default:
			b.stats.unsent.Add(1)
		}
	}
	return nil
}

// Subscribe calls fn for each event of a kind, one after the other, on a goroutine of its own. Events that find its queue full are
// dropped and counted, and fn hears Lost in their place. cancel returns at once: fn may be at its last event then.
func (b *Bus) Subscribe(kind Kind, fn func(Event)) (cancel func()) {
	s := &subscriber{queue: make(chan Event, b.cfg.Queue), gone: make(chan struct{}), fn: fn}
	b.mu.Lock()
	if b.shut {
		b.mu.Unlock()
		return func() {}
	}
	if b.subs[kind] == nil {
		b.subs[kind] = map[*subscriber]struct{}{}
	}
	b.subs[kind][s] = struct{}{}
	b.running.Go(s.run)
	b.mu.Unlock()
	return func() {
		b.mu.Lock()
		delete(b.subs[kind], s)
		b.mu.Unlock()
		s.end()
	}
}

// deliver hands an event to every subscriber here. Lost goes to the subscribers of every kind.
func (b *Bus) deliver(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Kind != Lost {
		b.tell(b.subs[e.Kind], e)
		return
	}
	for _, set := range b.subs {
		b.tell(set, e)
	}
}

// tell is called with mu held.
func (b *Bus) tell(set map[*subscriber]struct{}, e Event) {
	for s := range set {
		if !s.put(e) {
			b.stats.dropped.Add(1)
		}
	}
}

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	return Stats{Published: b.stats.published.Load(), Received: b.stats.received.Load(), Dropped: b.stats.dropped.Load(), Unsent: b.stats.unsent.Load(),
		Rejected: b.stats.rejected.Load(), Connected: b.link != nil && b.link.nc.IsConnected()}
}

// heard takes a message from the wire.
func (b *Bus) heard(text []byte) {
	e, err := Decode(text)
	switch {
	case err != nil:
		if n := b.stats.rejected.Add(1); n&(n-1) == 0 { // the first, and ever more seldom
			b.cfg.Log.Warn("a message on the bus is no event", "rejected", n, "err", err)
		}
	case e.Node != b.cfg.Node:
		b.stats.received.Add(1)
		b.deliver(e)
	}
}

// lost tells everybody here that events of other nodes may be missing.
func (b *Bus) lost(why string) {
	b.deliver(Event{Kind: Lost, Node: b.cfg.Node, At: time.Now().UTC(), Cause: why})
}

// send takes events to the wire, apart from those who publish.
func (b *Bus) send() {
	for {
		select {
		case e := <-b.out:
			b.post(e)
		case <-b.stop:
			for {
				select {
				case e := <-b.out:
					b.post(e)
				default:
					return
				}
			}
		}
	}
}

func (b *Bus) post(e Event) {
	text, err := Encode(e)
	if err == nil {
		err = b.link.publish(e.Kind, text)
	}
	if err != nil {
		b.stats.unsent.Add(1)
	}
}

// subscriber is one function with its queue.
type subscriber struct {
	queue  chan Event
	missed atomic.Bool
	gone   chan struct{}
	once   sync.Once
	fn     func(Event)
}

func (s *subscriber) put(e Event) bool {
	select {
	case s.queue <- e:
		return true
	default:
		s.missed.Store(true)
		return false
	}
}

func (s *subscriber) end() { s.once.Do(func() { close(s.gone) }) }

func (s *subscriber) run() {
	for {
		select {
		case e := <-s.queue:
			s.fn(e)
			if len(s.queue) == 0 && s.missed.Swap(false) {
				s.fn(Event{Kind: Lost, Node: e.Node, At: time.Now().UTC(), Cause: "the subscriber was too slow"})
			}
		case <-s.gone:
			return
		}
	}
}

// dialer opens the way to the server by the declared flow.
type dialer struct {
	opener ringfence.Opener
}

// Dial implements the dialer of the NATS client; address is an address and a port.
func (d dialer) Dial(_, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return d.opener.Dial(ctx, "bus", at)
}
