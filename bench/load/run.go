package load

import (
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Work counts what was done in a run.
type Work struct {
	ops    atomic.Int64
	errs   atomic.Int64
	again  atomic.Int64
	mu     sync.Mutex
	first  error
	stop   atomic.Bool
	tokens chan struct{} // nil: as fast as it goes
}

func (w *Work) fail(err error) {
	if w.stop.Load() {
		return
	}
	w.errs.Add(1)
	w.mu.Lock()
	if w.first == nil {
		w.first = err
	}
	w.mu.Unlock()
}

// Ops returns what was done so far.
func (w *Work) Ops() int64 { return w.ops.Load() }

// Resent returns how many requests were sent again, because a datagram or its answer was lost.
func (w *Work) Resent() int64 { return w.again.Load() }

// Err returns the first failure, with how many there were.
func (w *Work) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		return nil
	}
	return fmt.Errorf("%d failures, the first: %w", w.errs.Load(), w.first)
}

// pace hands out tokens at a rate, evenly: it sleeps in the kernel, because the runtime's timers are coarser than a millisecond.
func (w *Work) pace(rate int) {
	if rate == 0 {
		return
	}
	w.tokens = make(chan struct{}, rate)
	go func() {
		defer close(w.tokens)
		start := time.Now()
		for n := int64(1); !w.stop.Load(); n++ {
			if d := time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(rate))); d > 0 {
				ts := syscall.NsecToTimespec(int64(d))
				_ = syscall.Nanosleep(&ts, nil)
			}
			select {
			case w.tokens <- struct{}{}:
			default: // a second behind: the server cannot do it
				w.fail(fmt.Errorf("the server does not keep up with %d/s", rate))
			}
		}
	}()
}

// turn waits for the next operation's time; it reports false when the run is over.
func (w *Work) turn() bool {
	if w.tokens == nil {
		return !w.stop.Load()
	}
	_, ok := <-w.tokens
	return ok && !w.stop.Load()
}

// Fleet connects phones u<from> … and registers each once.
func Fleet(t *Target, from, n int) ([]*Phone, error) {
	phones := make([]*Phone, n)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	slots := make(chan struct{}, 32)
	for i := range phones {
		phones[i] = NewPhone(t, from+i)
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := phones[i].Connect()
			if err == nil {
				err = phones[i].Refresh()
			}
			if err != nil {
				err = fmt.Errorf("phone %d: %w", from+i, err)
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		Hangup(phones)
		return nil, *err
	}
	return phones, nil
}

// Hangup unregisters phones and closes their connections. A phone whose connection is gone already is left to expire.
func Hangup(phones []*Phone) {
	for _, p := range phones {
		if p.tc != nil {
			_ = p.tc.SetDeadline(time.Now().Add(2 * time.Second))
			_ = p.Unregister()
		}
		p.Close()
	}
}

// Leave closes the connections of phones, which may have something unread, without unregistering.
func Leave(phones []*Phone) {
	for _, p := range phones {
		p.Close()
	}
}

// Job is a running load.
type Job struct {
	*Work
	wg sync.WaitGroup
	// wake ends what waits for the network
	wake func()
}

// Stop ends the load and waits for what is under way.
func (j *Job) Stop() {
	j.stop.Store(true)
	if j.wake != nil {
		j.wake()
	}
	j.wg.Wait()
}

// Registers registers over and over on live connections, rate times a second or as fast as it goes with one outstanding each.
func Registers(phones []*Phone, rate int) *Job {
	j := &Job{Work: &Work{}}
	j.pace(rate)
	for _, p := range phones {
		j.wg.Go(func() {
			for j.turn() {
				if err := p.Register(); err != nil {
					j.fail(err)
					return
				}
				j.ops.Add(1)
			}
		})
	}
	return j
}

// Handshakes registers over and over, each time on a new connection; resumed says what the handshake must be.
func Handshakes(t *Target, workers, rate int, resumed bool) *Job {
	j := &Job{Work: &Work{}}
	j.pace(rate)
	for i := range workers {
		j.wg.Go(func() {
			mine := *t
			if resumed {
				mine.Sessions = tls.NewLRUClientSessionCache(4)
			}
			p := NewPhone(&mine, i)
			p.roams = true
			for first := true; j.turn(); {
				err := p.Connect()
				if err == nil {
					err = p.Register()
				}
				p.Close()
				switch {
				case err != nil:
					j.fail(err)
					time.Sleep(10 * time.Millisecond)
					continue
				case p.Resumed != (resumed && !first):
					if !first {
						j.fail(fmt.Errorf("handshake resumed: %v, want %v", p.Resumed, resumed))
					}
				}
				first = false
				j.ops.Add(1)
			}
		})
	}
	return j
}
