package store

import (
	"context"
	"database/sql"
	"math"
	"strconv"
	"sync"
	"time"

	"ringfence"
)

// CDR is the record of one call that has ended.
type CDR struct {
	Call      ringfence.CallID
	Start     time.Time
	Answer    time.Time // zero: never answered
	End       time.Time
	From, To  string
	Direction string // "in", "out" or "internal"
	Cause     string // why it ended, in words
	Verdict   ringfence.Verdict
	Legs      []ringfence.Proof
}

const cdrColumns = `call_id, started, answered, ended, from_name, to_name, direction, cause, verdict, proofs, legs`

func scanCDR(row scanner) (c CDR, err error) {
	var legs string
	var proofs []byte
	var start, answer, end int64
	err = row.Scan(&c.Call, &start, &answer, &end, &c.From, &c.To, &c.Direction, &c.Cause, &c.Verdict, &proofs, &legs)
	c.Start, c.Answer, c.End = instant(start), instant(answer), instant(end)
	if err == nil && proofs != nil {
		r := recordReader{b: proofs}
		if c.Legs = r.proofs(); r.bad || len(r.b) > 0 {
			err = fault("store.cdr", ringfence.KindInternal, "the proof of call "+string(c.Call)+" is damaged", "", nil)
		}
		return c, err
	}
	return c, firstOf(err, decode(legs, &c.Legs))
}

// KeepCDRs puts records into the database in one transaction: all of them or none. One whose call has a record already is left out,
// so that it may be called again with the same records after a crash.
func (s *Store) KeepCDRs(ctx context.Context, cs []CDR) error {
	const op = "store.cdrs.keep"
	if len(cs) == 0 {
		return nil
	}
	values := make([]any, 0, len(cs)*cdrWidth)
	w := recordWriter{b: make([]byte, 0, 256*len(cs))}
	for i := range cs {
		c := &cs[i]
		if len(c.Legs) > maxRecordList {
			return fault(op, ringfence.KindInvalid, "a call cannot have so many legs", "", nil)
		}
		start := len(w.b)
		w.proofs(c.Legs)
		proofs := w.b[start:len(w.b):len(w.b)]
		values = append(values, string(c.Call), micros(c.Start), micros(c.Answer), micros(c.End), c.From, c.To, c.Direction, c.Cause, string(c.Verdict), proofs)
		if err := checkText(op, values[len(values)-cdrWidth:]); err != nil {
			return err
		}
	}
	// Two statements, prepared once: taking one apart would cost more than the row. Many rows at a time cost less each.
	into := func(rows int) string {
		return `INSERT INTO cdrs (` + cdrColumns + `) VALUES ` + s.cdrRows(rows) + ` ON CONFLICT (call_id) DO NOTHING`
	}
	one, err := s.keepCDR.on(ctx, s.writer, into(1))
	if err != nil {
		return mapError(op, err)
	}
	many, err := s.keepMany.on(ctx, s.writer, into(cdrsAtOnce))
	if err != nil {
		return mapError(op, err)
	}
	return s.Tx(ctx, func(tx *Tx) error {
		st, width := tx.tx.StmtContext(ctx, many), cdrsAtOnce*cdrWidth
		for values := values; len(values) > 0; values = values[width:] {
			if len(values) < width {
				st, width = tx.tx.StmtContext(ctx, one), cdrWidth
			}
			if _, err := st.ExecContext(ctx, values[:width]...); err != nil {
				return mapError(op, err)
			}
		}
		return nil
	})
}

const (
	cdrWidth   = 10 // columns
	cdrsAtOnce = 16 // rows of one statement
)

// statement is prepared when it is first used.
type statement struct {
	mu   sync.Mutex
	stmt *sql.Stmt
}

func (s *statement) on(ctx context.Context, db *sql.DB, q string) (_ *sql.Stmt, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stmt == nil {
		s.stmt, err = db.PrepareContext(ctx, q)
	}
	return s.stmt, err
}

// cdrRows returns rows of placeholders: a parameter for each column, and an empty text, since nothing is written into legs any more. Those
// of SQLite have no numbers, because its driver looks each of them up by name.
func (s *Store) cdrRows(rows int) string {
	b := make([]byte, 0, 6*rows*cdrWidth)
	for i := range rows * cdrWidth {
		switch {
		case i == 0:
			b = append(b, '(')
		case i%cdrWidth == 0:
			b = append(b, ",''),("...)
		default:
			b = append(b, ',')
		}
		if s.postgr {
			b = strconv.AppendInt(append(b, '$'), int64(i+1), 10)
		} else {
			b = append(b, '?')
		}
	}
	return string(append(b, ",'')"...))
}

// CDR returns the record of one call.
func (r repos) CDR(ctx context.Context, id ringfence.CallID) (CDR, error) {
	return selectOne(ctx, r.r, "store.cdr", "there is no record of call "+string(id), scanCDR, `SELECT `+cdrColumns+` FROM cdrs WHERE call_id=$1`, string(id))
}

// CDRs returns up to limit records of calls that began at from or later and before to, latest first. A zero to means no end.
func (r repos) CDRs(ctx context.Context, from, to time.Time, limit int) ([]CDR, error) {
	end := micros(to)
	if to.IsZero() {
		end = math.MaxInt64
	}
	return selectAll(ctx, r.r, "store.cdrs", scanCDR, `SELECT `+cdrColumns+` FROM cdrs WHERE started>=$1 AND started<$2 ORDER BY started DESC, call_id LIMIT $3`, micros(from), end, limit)
}

// PurgeCDRs removes the records of calls that began before a time and returns how many.
func (r repos) PurgeCDRs(ctx context.Context, before time.Time) (int, error) {
	n, err := r.exec(ctx, "store.cdrs.purge", `DELETE FROM cdrs WHERE started<$1`, micros(before))
	return int(n), err
}
