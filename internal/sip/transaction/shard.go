package transaction

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

// Shard runs work that must not overlap: the transactions and dialogs of the Call-IDs that hash to it. All its methods
// except Do and Post must be called from within work on the shard.
type Shard struct {
	Index int

	layer   *Layer
	mu      sync.Mutex
	wheel   *wheel
	alarm   *time.Timer
	armed   int64         // tick for which the alarm is set; never if it is not
	rearm   bool          // armed changed during the present work
	origin  time.Time     // the time of the wheel counts from here
	now     time.Duration // of the present work, as the wheel counts; 0 until somebody asks
	closed  bool
	servers map[uint64]*Server
	clients map[uint64]*Client
	// What there was: server transactions, whose requests may be repeated, and client transactions, whose responses may.
	answered, heard past
	byConn          map[*transport.Conn]*Client // first of a list
	dirty           []*transport.Conn
	asides          []aside     // Aside
	spare           *sip.Writer // see takeWriter

	postMu sync.Mutex
	posted []func()
	waits  atomic.Int32 // posted but not yet taken
}

const never = math.MaxInt64

func newShard(index int, layer *Layer) *Shard {
	s := &Shard{Index: index, layer: layer, wheel: newWheel(), origin: time.Now(), armed: never, servers: map[uint64]*Server{},
		clients: map[uint64]*Client{}, byConn: map[*transport.Conn]*Client{}}
	s.answered = newPast(layer.timers.linger(), func(n int) { layer.kept.Add(-int64(n)) })
	s.heard = newPast(layer.timers.linger(), func(int) {})
	s.alarm = time.AfterFunc(time.Hour, s.ring)
	s.alarm.Stop()
	return s
}

// Do runs fn as work on the shard, waiting for work that runs already, then whatever was posted, and then sends what it caused.
// It must not be called from within work on any shard; use Post there.
func (s *Shard) Do(fn func()) {
	s.enter()
	fn()
	s.leave(nil)
}

// receive is Do for a message that arrived; it allocates nothing.
func (s *Shard) receive(c *transport.Conn, m *sip.Message) {
	s.enter()
	if m.IsRequest() {
		s.request(c, m)
	} else {
		s.response(c, m)
	}
	s.leave(c)
}

// Post arranges for fn to run on the shard soon, from anywhere. Order between posts is kept.
func (s *Shard) Post(fn func()) {
	s.postMu.Lock()
	s.posted = append(s.posted, fn)
	s.waits.Add(1)
	s.postMu.Unlock()
	s.drain() // unless somebody holds the shard, who will then see it
}

// drain runs posts unless somebody else holds the shard. Whoever gives the shard back calls it, so that no post is forgotten
// that arrived just then.
func (s *Shard) drain() {
	for s.waits.Load() > 0 && s.mu.TryLock() {
		s.now = 0
		s.finish(nil)
	}
}

func (s *Shard) enter() {
	s.mu.Lock()
	s.now = 0
}

func (s *Shard) leave(arrived *transport.Conn) {
	s.finish(arrived)
	s.drain()
}

// finish runs what was posted, gives the shard back and sends what the work caused: at once, or behind everything that came with
// the message that arrived on a connection.
func (s *Shard) finish(arrived *transport.Conn) {
	for s.waits.Load() > 0 {
		s.postMu.Lock()
		posted := s.posted
		s.posted = nil
		s.waits.Add(-int32(len(posted)))
		s.postMu.Unlock()
		for _, f := range posted {
			f()
		}
	}
	if s.rearm {
		s.rearm = false
		if !s.closed {
			s.alarm.Reset(max(s.wheel.at(s.armed)-s.Clock(), 0))
		}
	}
	var few [8]*transport.Conn // most work writes to one or two connections
	dirty := append(few[:0], s.dirty...)
	clear(s.dirty)
	s.dirty = s.dirty[:0]
	asides := s.asides
	s.asides = nil
	s.mu.Unlock()
	for _, c := range dirty {
		if arrived != nil {
			arrived.FlushAfter(c)
		} else {
			c.Flush()
		}
	}
	for _, a := range asides {
		err := a.work()
		s.enter()
		a.then(err)
		s.finish(arrived)
	}
}

// ring is called by the one time.Timer of the shard, which is set to the next occupied slot of the wheel.
func (s *Shard) ring() {
	s.enter()
	s.armed = never
	if !s.closed {
		s.wheel.advance(s.Clock())
		if tick, ok := s.wheel.next(); ok {
			s.wakeAt(tick)
		}
	}
	s.leave(nil)
}

func (s *Shard) wakeAt(tick int64) {
	if tick < s.armed {
		s.armed, s.rearm = tick, true
	}
}

// Clock returns the time at which the present work began, near enough, since the shard was made. It asks for it only once, and goes by
// the monotonic clock alone, which takes half as long to read as both.
func (s *Shard) Clock() time.Duration {
	if s.now == 0 {
		s.now = time.Since(s.origin)
	}
	return s.now
}

// After starts t to run fire on this shard after d. Starting a running timer moves it.
func (s *Shard) After(t *Timer, d time.Duration, fire func()) { s.Wake(t, d, call(fire)) }

// Wake is After for who is woken by more than one timer.
func (s *Shard) Wake(t *Timer, d time.Duration, a Alarm) {
	s.wheel.add(t, s.Clock(), d, a)
	s.wakeAt(t.due)
}

// aside is work away from the shard, and what follows on it.
type aside struct {
	work func() error
	then func(error)
}

// Aside runs work when the present work has given the shard back, on the same goroutine, and then hands its result to then, on the
// shard again. The request at hand stays as it is until then has returned. work may wait for the disk, but not for a network: what
// arrives on the same connection waits with it.
func (tx *Server) Aside(work func() error, then func(error)) {
	tx.aside = true
	tx.Shard.asides = append(tx.Shard.asides, aside{work, then})
}

// Send queues a message for a connection; it leaves when the present work is over. A failure to queue is reported to the
// transactions of the connection by its closing, so there is no error to handle here.
func (s *Shard) Send(c *transport.Conn, msg []byte) { s.send(c, nil, msg) }

// Write is Send for the finished message in w.
func (s *Shard) Write(c *transport.Conn, w *sip.Writer) { s.send(c, w.CallID(), w.Bytes()) }

func (s *Shard) send(c *transport.Conn, callID, msg []byte) {
	first, err := c.Queue(msg)
	if err == nil && first {
		s.dirty = append(s.dirty, c)
	}
	if s.layer.trace != nil {
		s.layer.trace(c, callID, msg, true)
	}
}

// takeWriter lends the shard's writer with its buffer, empty; until it is put back as spare, others get a new one.
func (s *Shard) takeWriter() *sip.Writer {
	w := s.spare
	s.spare = nil
	if w == nil {
		w = &sip.Writer{}
		w.Reset(make([]byte, 0, 1024))
	} else {
		w.Reset(w.Bytes())
	}
	return w
}

// Clients returns how many client transactions are not finished. Call it on the shard.
func (s *Shard) Clients() int { return len(s.clients) }

// Layer returns the layer the shard belongs to.
func (s *Shard) Layer() *Layer { return s.layer }
