package store

import (
	"context"
	"time"

	"ringfence"
)

// Exception allows one subject to do without a seal until a time, for a stated reason. It ends by itself.
type Exception struct {
	Subject string // a device, trunk or flow
	Until   time.Time
	Reason  string
}

// PutException adds or replaces the exception of a subject; it must have an end and a reason.
func (r repos) PutException(ctx context.Context, e Exception) error {
	const op = "store.exception.put"
	if e.Subject == "" || e.Reason == "" || e.Until.IsZero() {
		return fault(op, ringfence.KindInvalid, "an exception needs a subject, a reason and an end", "", nil)
	}
	_, err := r.exec(ctx, op, `INSERT INTO exceptions (subject, until_time, reason) VALUES ($1,$2,$3)
		ON CONFLICT (subject) DO UPDATE SET until_time=excluded.until_time, reason=excluded.reason`, e.Subject, micros(e.Until), e.Reason)
	return err
}

// Exceptions returns the exceptions in force at now, by subject.
func (r repos) Exceptions(ctx context.Context, now time.Time) ([]Exception, error) {
	return selectAll(ctx, r.r, "store.exceptions", func(row scanner) (e Exception, err error) {
		var until int64
		err = row.Scan(&e.Subject, &until, &e.Reason)
		e.Until = instant(until)
		return e, err
	}, `SELECT subject, until_time, reason FROM exceptions WHERE until_time>$1 ORDER BY subject`, micros(now))
}

// DeleteException ends an exception at once.
func (r repos) DeleteException(ctx context.Context, subject string) error {
	return r.execOne(ctx, "store.exception.delete", "there is no exception for "+subject, `DELETE FROM exceptions WHERE subject=$1`, subject)
}
