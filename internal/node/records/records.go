package records

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

const (
	// maxBatch is how many records one transaction writes.
	maxBatch = 1024
	// gatherFor is how long a record waits for others to be written with: a transaction costs much more than a row, and who asks for
	// records does not wait for it (Settle).
	gatherFor = time.Second
	// aliveEvery is how often a node notes that it is alive: how wrong the end of a call can be whose node was killed.
	aliveEvery = 10 * time.Second
	// retryEvery is when records that the database did not take are tried again, and maxWaiting how many of them wait.
	retryEvery = 2 * time.Second
	maxWaiting = 100_000
	// killed is the cause of calls whose end nobody saw.
	killed = "the node stopped unexpectedly"
)

// Database is where records end up; *store.Store is one.
type Database interface {
	KeepCDRs(ctx context.Context, cs []store.CDR) error
}

// Keeper keeps the records of one node. Its methods may be called from any goroutine.
type Keeper struct {
	db      Database
	journal *store.CallJournal
	log     *slog.Logger

	mu      sync.Mutex
	waiting []store.CDR   // not in the database yet, oldest first
	taken   uint64        // records ever put into waiting, and
	done    uint64        // how many of them have left it
	tried   chan struct{} // closed when the database was tried; nil if nobody waits for that
	awake   chan struct{} // something waits
	hurry   chan struct{} // somebody waits for it
}

// Open opens the journal at path and gives the calls that were up when this node was killed their records.
func Open(ctx context.Context, s *store.Store, path string, log *slog.Logger) (*Keeper, error) {
	j, recovered, err := s.OpenCallJournal(ctx, store.CallJournalConfig{Path: path, Cause: killed})
	if err != nil {
		return nil, err
	}
	if j.Torn > 0 {
		log.Warn("the end of the journal of calls was torn by a crash; what was acknowledged before it is kept", "bytes", j.Torn)
	}
	if len(recovered) > 0 {
		log.Warn("calls ended because the node stopped unexpectedly; their records are kept", "calls", len(recovered))
	}
	return &Keeper{db: s, journal: j, log: log, awake: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}, nil
}

// Keep puts on disk what was said of calls. With nothing to do it costs nothing.
func (k *Keeper) Keep() {
	if err := k.journal.Flush(); err != nil {
		k.log.Error("what is known of calls could not be put on disk; should the node be killed, they leave no record", "err", err, "hint", ringfence.HintOf(err))
	}
}

// Answered hears of each call that was answered, or got other parties after that. It is on disk once Keep has returned.
func (k *Keeper) Answered(c *store.CDR) {
	if err := k.journal.Open(c); err != nil {
		k.log.Error("a call that is up could not be noted; should the node be killed, it leaves no record", "call", c.Call, "err", err, "hint", ringfence.HintOf(err))
	}
}

// Ended hears of each call that has ended. Its record is on disk once Keep has returned.
func (k *Keeper) Ended(c *store.CDR) {
	if err := k.journal.End(c); err != nil {
		k.log.Warn("a call record could not be noted at once", "call", c.Call, "err", err, "hint", ringfence.HintOf(err))
	}
	k.mu.Lock()
	full := len(k.waiting) >= maxWaiting
	if !full {
		k.waiting = append(k.waiting, *c)
		k.taken++
	}
	k.mu.Unlock()
	if full {
		k.log.Error("a call record was lost: the database takes none and too many wait", "call", c.Call)
		_ = k.journal.Kept(c.Call)
		return
	}
	signal(k.awake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Open returns how many calls and records the journal keeps that the database does not have.
func (k *Keeper) Open() int { return k.journal.Calls() }

// Settle waits until the database has the records of calls that have ended before, or has been tried twice.
func (k *Keeper) Settle(ctx context.Context) {
	k.mu.Lock()
	want := k.taken
	k.mu.Unlock()
	for range 2 {
		k.mu.Lock()
		if k.done >= want {
			k.mu.Unlock()
			return
		}
		if k.tried == nil {
			k.tried = make(chan struct{})
		}
		tried := k.tried
		k.mu.Unlock()
		signal(k.hurry)
		select {
		case <-tried:
		case <-ctx.Done():
			return
		}
	}
}

// Run puts records into the database until ctx is over, and then what is left.
func (k *Keeper) Run(ctx context.Context) {
	background := context.WithoutCancel(ctx)
	beat := time.NewTicker(aliveEvery)
	defer beat.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case <-k.awake:
			moment := time.NewTimer(gatherFor)
			select {
			case <-moment.C:
			case <-k.hurry:
			case <-ctx.Done():
			}
			moment.Stop()
			k.write(background)
		case <-k.hurry:
			k.write(background)
		case <-retry.C:
			k.write(background)
		case <-beat.C:
			if err := k.journal.Alive(time.Now()); err != nil {
				k.log.Warn("the node's sign of life could not be kept", "err", err)
			}
		case <-ctx.Done():
			k.write(background)
			return
		}
	}
}

// Close closes the journal, after Run has returned. What the database did not take is read at the next start.
func (k *Keeper) Close() {
	if err := k.journal.Close(); err != nil {
		k.log.Error("the journal of calls could not be closed", "err", err)
	}
}

// write puts what waits into the database, as long as that takes it, and tells who waits for that.
func (k *Keeper) write(ctx context.Context) {
	for {
		k.mu.Lock()
		batch := k.waiting[:min(len(k.waiting), maxBatch)]
		k.mu.Unlock()
		ok := len(batch) > 0 && k.keep(ctx, batch)
		k.mu.Lock()
		if ok {
			clear(batch)
			k.waiting = k.waiting[len(batch):]
			k.done += uint64(len(batch))
		}
		if len(k.waiting) == 0 {
			k.waiting = nil
		}
		if k.tried != nil {
			close(k.tried)
			k.tried = nil
		}
		k.mu.Unlock()
		if !ok {
			return
		}
	}
}

// keep puts a batch into the database, and reports false if that takes nothing now. A record that it will never take costs no other.
func (k *Keeper) keep(ctx context.Context, batch []store.CDR) bool {
	err := k.db.KeepCDRs(ctx, batch)
	switch kind := ringfence.KindOf(err); {
	case err == nil:
		ids := make([]ringfence.CallID, len(batch))
		for i, c := range batch {
			ids[i] = c.Call
		}
		if err := k.journal.Kept(ids...); err != nil {
			k.log.Warn("the journal of calls could not be shortened", "err", err, "hint", ringfence.HintOf(err))
		}
	case kind == ringfence.KindOverload || kind == ringfence.KindUnavailable:
		k.log.Error("call records could not be kept; they wait until they can", "waiting", len(batch), "err", err, "hint", ringfence.HintOf(err))
		return false
	case len(batch) > 1:
		for i := range batch {
			if !k.keep(ctx, batch[i:i+1]) {
				return false // those before are put there again with the next attempt, which changes nothing
			}
		}
	default:
		k.log.Error("a call record could not be kept", "call", batch[0].Call, "err", err, "hint", ringfence.HintOf(err))
		_ = k.journal.Kept(batch[0].Call)
	}
	return true
}
