package transaction

import (
	"sync"
	"sync/atomic"
	"time"

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
	wakeAt  time.Time
	servers map[uint64]*Server
	clients map[uint64]*Client
	dirty   []*transport.Conn
	scratch []byte

	postMu sync.Mutex
	posted []func()
	waits  atomic.Int32 // posted but not yet run
}

func newShard(index int, layer *Layer) *Shard {
	s := &Shard{Index: index, layer: layer, wheel: newWheel(time.Now()), servers: map[uint64]*Server{}, clients: map[uint64]*Client{}}
	s.alarm = time.AfterFunc(time.Hour, func() { s.Do(func() { s.wakeAt = time.Time{} }) })
	s.alarm.Stop()
	return s
}

// Do runs fn as work on the shard, waiting for work that runs already, then whatever was posted, and then sends what it caused.
// It must not be called from within work on any shard; use Post there.
func (s *Shard) Do(fn func()) {
	s.mu.Lock()
	s.run(fn)
	s.drain()
}

// Post arranges for fn to run on the shard soon, from anywhere. Order between posts is kept.
func (s *Shard) Post(fn func()) {
	s.postMu.Lock()
	s.posted = append(s.posted, fn)
	s.postMu.Unlock()
	s.waits.Add(1)
	if s.mu.TryLock() { // otherwise who holds the shard will see it
		s.run(nil)
		s.drain()
	}
}

// drain runs posts that arrived while the lock was being given back, so that none is forgotten.
func (s *Shard) drain() {
	for s.waits.Load() > 0 && s.mu.TryLock() {
		s.run(nil)
	}
}

// run is entered with mu held and leaves it unlocked.
func (s *Shard) run(fn func()) {
	if s.wheel.count > 0 {
		s.wheel.advance(time.Now())
	}
	if fn != nil {
		fn()
	}
	for s.waits.Load() > 0 {
		s.postMu.Lock()
		posted := s.posted
		s.posted = nil
		s.postMu.Unlock()
		s.waits.Add(-int32(len(posted)))
		for _, f := range posted {
			f()
		}
	}
	s.arm()
	dirty := s.dirty
	s.dirty = nil
	s.mu.Unlock()
	for _, c := range dirty {
		c.Flush()
	}
}

// arm sets the one time.Timer of the shard to the next occupied slot of the wheel.
func (s *Shard) arm() {
	now := time.Now()
	d, ok := s.wheel.wake(now)
	if !ok {
		if !s.wakeAt.IsZero() {
			s.alarm.Stop()
			s.wakeAt = time.Time{}
		}
		return
	}
	at := now.Add(d)
	if s.wakeAt.IsZero() || at.Before(s.wakeAt) {
		s.wakeAt = at
		s.alarm.Reset(d)
	}
}

// After starts t to run fire on this shard after d. Starting a running timer moves it.
func (s *Shard) After(t *Timer, d time.Duration, fire func()) { s.wheel.add(t, time.Now(), d, fire) }

// Send queues a message for a connection; it leaves when the present work is over. A failure to queue is reported to the
// transactions of the connection by its closing, so there is no error to handle here.
func (s *Shard) Send(c *transport.Conn, msg []byte) {
	first, err := c.Queue(msg)
	if err == nil && first {
		s.dirty = append(s.dirty, c)
	}
	if s.layer.trace != nil {
		s.layer.trace(c, msg, true)
	}
}

// takeScratch lends the shard's message buffer; until it is put back, others start with a new one.
func (s *Shard) takeScratch() []byte {
	b := s.scratch
	s.scratch = nil
	return b
}

// Layer returns the layer the shard belongs to.
func (s *Shard) Layer() *Layer { return s.layer }
