package store

import (
	"context"
	"math"
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

const cdrColumns = `call_id, started, answered, ended, from_name, to_name, direction, cause, verdict, legs`

func scanCDR(row scanner) (c CDR, err error) {
	var legs string
	var start, answer, end int64
	err = row.Scan(&c.Call, &start, &answer, &end, &c.From, &c.To, &c.Direction, &c.Cause, &c.Verdict, &legs)
	c.Start, c.Answer, c.End = instant(start), instant(answer), instant(end)
	return c, firstOf(err, decode(legs, &c.Legs))
}

// AddCDR keeps the record of a call; a second record of one call is KindConflict.
func (r repos) AddCDR(ctx context.Context, c CDR) error {
	const op = "store.cdr.add"
	legs, err := encode(op, c.Legs)
	if err != nil {
		return err
	}
	_, err = r.exec(ctx, op, `INSERT INTO cdrs (`+cdrColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)`, string(c.Call), micros(c.Start), micros(c.Answer), micros(c.End),
		c.From, c.To, c.Direction, c.Cause, string(c.Verdict), legs)
	return err
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
