package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
)

// Kinds of records in a journal of calls; see record.go for their frame.
const (
	recordOpen  = 1 // a call was answered, or changed after that: its record as far as it is known
	recordEnded = 2 // its record
	recordKept  = 3 // the database has the record
	recordAlive = 4 // the node was alive at a time
)

// CallJournal keeps what is known of calls where the death of the process cannot reach it: which are up, and the records of those
// that have ended until the database has them. What is said of calls is gathered, and is in the file once Flush has returned: one append
// for all that came together.
//
// The file is written anew with what is still of interest when it has grown to its limit, and whenever it is opened.
type CallJournal struct {
	cfg CallJournalConfig
	// Torn is how many bytes at the end of the file could not be read when it was opened: a record that a crash cut short.
	Torn int64

	mu        sync.Mutex
	file      appendFile
	w         recordWriter                // what is not in the file yet
	waiting   atomic.Bool                 // w holds something; false only once it is in the file
	live      map[ringfence.CallID][]byte // the last record of each call that is up, or that the database does not have
	spare     [][]byte                    // what held records of others
	rewriteAt int64
	lacks     bool // the file lacks something that could not be written
	closed    bool
}

// CallJournalConfig says where a journal of calls is kept.
type CallJournalConfig struct {
	Path  string
	Sync  bool   // flush the disk at each word
	Limit int64  // bytes at which the file is written anew, beyond what must be kept; zero means 32 MiB
	Cause string // the cause of calls whose end nobody saw
}

// OpenCallJournal opens a journal of calls. Records that the database does not have are put there, and so are, as recovered, those
// of calls that were up when the process died: they end when it was last known to be alive.
func (s *Store) OpenCallJournal(ctx context.Context, cfg CallJournalConfig) (j *CallJournal, recovered []CDR, err error) {
	const op = "store.calls.open"
	if cfg.Limit == 0 {
		cfg.Limit = 32 << 20
	}
	b, err := os.ReadFile(cfg.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fault(op, ringfence.KindUnavailable, "the journal "+cfg.Path+" cannot be read", "", err)
	}
	past := callHistory{calls: map[ringfence.CallID]*CDR{}}
	j = &CallJournal{cfg: cfg, live: map[ringfence.CallID][]byte{}, Torn: int64(len(b) - replay(b, past.apply))}
	var ended []CDR
	for _, c := range past.calls {
		if c.End.IsZero() {
			c.Cause, c.End = cfg.Cause, c.Answer
			if past.alive.After(c.End) {
				c.End = past.alive
			}
			recovered = append(recovered, *c)
		}
		ended = append(ended, *c)
	}
	if err := s.KeepCDRs(ctx, ended); err != nil {
		return nil, nil, err
	}
	return j, recovered, j.rewrite()
}

// callHistory is what a journal of calls comes to.
type callHistory struct {
	calls map[ringfence.CallID]*CDR // End is zero for those that are up
	alive time.Time
}

// apply takes one body over; it reports false, without a change, if the body is malformed.
func (h *callHistory) apply(body []byte) bool {
	r := recordReader{b: body[1:]}
	var c CDR
	var at time.Time
	switch body[0] {
	case recordOpen, recordEnded:
		c = r.cdr()
	case recordKept:
		c.Call = ringfence.CallID(r.text())
	case recordAlive:
		at = r.time()
	default:
		return false
	}
	if r.bad || len(r.b) > 0 || body[0] != recordAlive && c.Call == "" || body[0] == recordEnded && c.End.IsZero() {
		return false
	}
	for _, t := range [...]time.Time{c.Start, c.Answer, c.End, at} {
		if t.After(h.alive) {
			h.alive = t
		}
	}
	switch body[0] {
	case recordOpen:
		c.End = time.Time{}
		h.calls[c.Call] = &c
	case recordEnded:
		h.calls[c.Call] = &c
	case recordKept:
		delete(h.calls, c.Call)
	}
	return true
}

// Open notes that a call was answered, or what changed after that. c.End is not looked at.
func (j *CallJournal) Open(c *CDR) error { return j.note(recordOpen, c) }

// End notes the record of a call that has ended. It is kept here until Kept says that the database has it.
func (j *CallJournal) End(c *CDR) error {
	if c.End.IsZero() {
		return fault("store.calls.end", ringfence.KindInvalid, "the record of a call that has ended needs an end", "", nil)
	}
	return j.note(recordEnded, c)
}

func (j *CallJournal) note(kind byte, c *CDR) error {
	const op = "store.calls.note"
	if c.Call == "" || len(c.Legs) > maxRecordList {
		return fault(op, ringfence.KindInvalid, "a call needs an id, and cannot have so many legs", "", nil)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return j.ended(op)
	}
	start := len(j.w.b)
	j.w.err = nil
	j.w.begin(kind)
	j.w.cdr(c)
	if j.w.end(); j.w.err != nil {
		return j.w.err
	}
	b, known := j.live[c.Call]
	if n := len(j.spare); !known && n > 0 {
		b, j.spare = j.spare[n-1], j.spare[:n-1]
	}
	j.live[c.Call] = append(b[:0], j.w.b[start:]...)
	j.waiting.Store(true)
	return nil
}

// Flush puts into the file what was noted. If it cannot, what was noted is in the next file that is written anew.
func (j *CallJournal) Flush() error {
	if !j.waiting.Load() {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.flush("store.calls.flush")
}

// maxSpare is how many buffers wait for the next calls: a second of many.
const maxSpare = 8192

// Kept notes that the database has the records of calls.
func (j *CallJournal) Kept(calls ...ringfence.CallID) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, id := range calls {
		if b, known := j.live[id]; known && len(j.spare) < maxSpare {
			j.spare = append(j.spare, b)
		}
		delete(j.live, id)
		j.w.begin(recordKept)
		j.w.text(string(id))
		j.w.end()
	}
	return j.flush("store.calls.kept") // a failure is harmless: the record is put into the database again, which has it
}

// Alive notes that the node is alive: how wrong the end of a call can be whose end nobody saw.
func (j *CallJournal) Alive(now time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.w.begin(recordAlive)
	j.w.time(now)
	j.w.end()
	return j.flush("store.calls.alive")
}

// flush writes what w holds, and the file anew if that is due. It is called with mu held.
func (j *CallJournal) flush(op string) error {
	if j.closed {
		return j.ended(op)
	}
	var err error
	if j.lacks {
		err = j.rewrite()
	}
	if err == nil {
		err = j.file.write(j.w.b, j.cfg.Sync)
	}
	j.lacks = err != nil
	j.w.b = j.w.b[:0]
	j.waiting.Store(false)
	if err == nil && j.file.size >= j.rewriteAt {
		err = j.rewrite()
	}
	return err
}

func (j *CallJournal) ended(op string) error {
	return fault(op, ringfence.KindUnavailable, "the journal of calls is closed", "", nil)
}

// rewrite replaces the file by one with what is still of interest. If it fails, the file goes on as it was, and the next attempt is
// as far away. It is called with mu held, or before anybody knows j.
func (j *CallJournal) rewrite() error {
	j.rewriteAt = j.file.size + j.cfg.Limit
	next := j.cfg.Path + ".new"
	_ = os.Remove(next) // left by a crash
	f, err := createAppend(next)
	if err != nil {
		return err
	}
	var all []byte
	for _, b := range j.live {
		all = append(all, b...)
	}
	if err = f.write(all, j.cfg.Sync); err == nil {
		if err = os.Rename(next, j.cfg.Path); err != nil {
			err = fault("store.calls.rewrite", ringfence.KindUnavailable, "the journal of calls cannot be replaced", "", err)
		}
	}
	if err != nil {
		_ = f.close()
		_ = os.Remove(next)
		return err
	}
	_ = j.file.close()
	j.file = f
	j.rewriteAt = f.size + j.cfg.Limit
	return nil
}

// Calls returns how many calls the journal keeps: those that are up, and those whose record the database does not have yet.
func (j *CallJournal) Calls() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.live)
}

// Close ends the journal; what it keeps is there when it is opened again.
func (j *CallJournal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	err := j.flush("store.calls.close")
	j.closed = true
	return firstOf(err, j.file.close())
}

func (w *recordWriter) cdr(c *CDR) {
	for _, s := range [...]string{string(c.Call), c.From, c.To, c.Direction, c.Cause, string(c.Verdict)} {
		w.text(s)
	}
	for _, t := range [...]time.Time{c.Start, c.Answer, c.End} {
		w.time(t)
	}
	w.proofs(c.Legs)
}

func (w *recordWriter) proofs(legs []ringfence.Proof) {
	w.uint(uint64(len(legs)))
	for i := range legs {
		w.proof(&legs[i])
	}
}

func (r *recordReader) cdr() (c CDR) {
	c.Call = ringfence.CallID(r.text())
	c.From, c.To, c.Direction, c.Cause = r.text(), r.text(), r.text(), r.text()
	c.Verdict = ringfence.Verdict(r.text())
	c.Start, c.Answer, c.End = r.time(), r.time(), r.time()
	c.Legs = r.proofs()
	return c
}

func (r *recordReader) proofs() (legs []ringfence.Proof) {
	for n := r.upTo(maxRecordList); n > 0 && !r.bad; n-- {
		legs = append(legs, r.proof())
	}
	return legs
}
