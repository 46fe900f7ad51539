package store

import (
	"context"
	"math"
	"strconv"
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
func (r repos) AddCDR(ctx context.Context, c CDR) error { return r.AddCDRs(ctx, []CDR{c}) }

// AddCDRs keeps several records in one transaction, which costs little more than one record does: all of them or none.
func (r repos) AddCDRs(ctx context.Context, cs []CDR) error {
	const op = "store.cdr.add"
	if len(cs) > r.rows && len(cs) > 1 {
		return r.atomically(ctx, func(r repos) error {
			for n := max(r.rows, 1); len(cs) > 0; cs = cs[min(n, len(cs)):] {
				if err := r.AddCDRs(ctx, cs[:min(n, len(cs))]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if len(cs) == 0 {
		return nil
	}
	args := make([]any, 0, 10*len(cs))
	for _, c := range cs {
		legs, err := encode(op, c.Legs)
		if err != nil {
			return err
		}
		args = append(args, string(c.Call), micros(c.Start), micros(c.Answer), micros(c.End), c.From, c.To, c.Direction, c.Cause, string(c.Verdict), legs)
	}
	_, err := r.exec(ctx, op, `INSERT INTO cdrs (`+cdrColumns+`) VALUES `+placeholders(len(cs), 10), args...)
	return err
}

// placeholders returns rows of numbered placeholders: ($1,$2),($3,$4).
func placeholders(rows, columns int) string {
	b := make([]byte, 0, 5*rows*columns)
	for i := range rows * columns {
		switch {
		case i == 0:
			b = append(b, '(')
		case i%columns == 0:
			b = append(b, "),("...)
		default:
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, '$'), int64(i+1), 10)
	}
	return string(append(b, ')'))
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
