package outbox

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
)

// maxWrite bounds the bytes of one write to a stream, so that records are gathered but not hoarded.
const maxWrite = 64 << 10

// Config says where records go. Zero values take the defaults named beside them.
type Config[T any] struct {
	Name string // what is at the other end, for log lines, e.g. "syslog"
	// Dial opens the way to the collector. If what it returns can be read, it is: what the collector says is ignored, and its end
	// ends the connection.
	Dial func(ctx context.Context) (io.WriteCloser, error)
	// Encode appends a record as the collector wants it. It runs on the outbox's goroutine.
	Encode func(dst []byte, record T) []byte
	// Lost, if set, appends a record that says how many were dropped.
	Lost      func(dst []byte, n uint64) []byte
	Queue     int           // records that may wait: 1,024
	Hold      time.Duration // how long the first record of a batch waits for company: 20 ms
	Datagrams bool          // each record is a write of its own
	Log       *slog.Logger  // must not lead back here
}

// Outbox sends records of type T. Its methods may be called from any goroutine.
type Outbox[T any] struct {
	cfg   Config[T]
	queue chan T
	stop  context.CancelFunc
	done  chan struct{}

	sent, dropped, untold, connects atomic.Uint64
	up                              atomic.Bool
	once                            sync.Once
}

// Stats counts since start.
type Stats struct {
	Sent     uint64 `json:"sent"`     // records written
	Dropped  uint64 `json:"dropped"`  // records that found the queue full
	Connects uint64 `json:"connects"` // connections made
	Up       bool   `json:"up"`       // connected now
}

// New starts an outbox; it connects when there is something to send.
func New[T any](cfg Config[T]) *Outbox[T] {
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	if cfg.Hold == 0 {
		cfg.Hold = 20 * time.Millisecond
	}
	ctx, stop := context.WithCancel(context.Background())
	o := &Outbox[T]{cfg: cfg, queue: make(chan T, cfg.Queue), stop: stop, done: make(chan struct{})}
	go o.run(ctx)
	return o
}

// Put hands over a record. It never waits; false means that the queue was full and the record is lost.
func (o *Outbox[T]) Put(record T) bool {
	select {
	case o.queue <- record:
		return true
	default:
		o.dropped.Add(1)
		o.untold.Add(1)
		return false
	}
}

// Stats returns the counters.
func (o *Outbox[T]) Stats() Stats {
	return Stats{Sent: o.sent.Load(), Dropped: o.dropped.Load(), Connects: o.connects.Load(), Up: o.up.Load()}
}

// Close sends what waits, if there is a connection or one can be made within a second, and stops.
func (o *Outbox[T]) Close() {
	o.once.Do(o.stop)
	<-o.done
}

func (o *Outbox[T]) run(ctx context.Context) {
	defer close(o.done)
	var w *wire
	defer func() {
		if w != nil {
			w.Close()
		}
	}()
	var buf []byte
	for {
		var first T
		select {
		case first = <-o.queue:
			pause(ctx, o.cfg.Hold) // cut short by the stop, the batch is still sent
		case <-ctx.Done():
			select {
			case first = <-o.queue:
			default:
				return
			}
		}
		buf = buf[:0]
		n := uint64(0)
		add := func(record T) {
			buf = o.cfg.Encode(buf, record)
			n++
		}
		add(first)
		for !o.cfg.Datagrams && len(buf) < maxWrite && len(o.queue) > 0 {
			add(<-o.queue)
		}
		if w = o.deliver(ctx, w, buf); w != nil {
			o.sent.Add(n)
			continue
		}
		return // stopped, and the collector is out of reach
	}
}

// deliver writes until it worked; a connection that failed is replaced. It returns nil once stopped without success.
func (o *Outbox[T]) deliver(ctx context.Context, w *wire, buf []byte) *wire {
	delay := time.Second
	for warned := false; ; {
		if w != nil && !w.dead.Load() {
			if w.write(buf) == nil {
				return w
			}
		}
		if w != nil {
			w.Close()
			o.up.Store(false)
		}
		dial, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if ctx.Err() != nil {
			cancel()
			dial, cancel = context.WithTimeout(context.Background(), time.Second)
		}
		c, err := o.cfg.Dial(dial)
		cancel()
		if err == nil {
			o.connects.Add(1)
			o.up.Store(true)
			w = newWire(c)
			if n := o.untold.Swap(0); n > 0 && o.cfg.Lost != nil {
				if w.write(o.cfg.Lost(nil, n)) != nil {
					o.untold.Add(n)
				}
			}
			if warned {
				o.cfg.Log.Info("a collector is back", "collector", o.cfg.Name, "dropped", o.dropped.Load())
			}
			if w.write(buf) == nil {
				return w
			}
			continue
		}
		w = nil
		if !warned {
			o.cfg.Log.Warn("a collector cannot be reached; records wait", "collector", o.cfg.Name, "err", err, "hint", ringfence.HintOf(err))
			warned = true
		}
		if !pause(ctx, delay+time.Duration(rand.Int64N(int64(delay/4)))) {
			return nil
		}
		delay = min(delay*2, 30*time.Second)
	}
}

// pause waits and reports whether it was not stopped meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wire is one connection, watched for its end.
type wire struct {
	w    io.WriteCloser
	dead atomic.Bool
	gone chan struct{}
}

func newWire(c io.WriteCloser) *wire {
	w := &wire{w: c, gone: make(chan struct{})}
	r, ok := c.(io.Reader)
	if !ok {
		close(w.gone)
		return w
	}
	go func() {
		defer close(w.gone)
		_, _ = io.Copy(io.Discard, r)
		w.dead.Store(true)
	}()
	return w
}

// write writes all of b; a collector that does not read for 10 s is given up.
func (w *wire) write(b []byte) error {
	if d, ok := w.w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		if err := d.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
	}
	_, err := w.w.Write(b)
	return err
}

// Close ends the connection and waits for its reader.
func (w *wire) Close() {
	_ = w.w.Close()
	<-w.gone
}
