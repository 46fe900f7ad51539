package store

import (
	"context"
	"database/sql"
	"strings"
	"time"
	"unicode/utf8"

	"ringfence"
)

// execer is what *sql.DB and *sql.Tx have in common.
type execer interface {
	ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

// repos carries the methods of all kinds of fact, for a Store and for a Tx alike.
type repos struct {
	r, w  execer
	seal  *sealer
	store *Store // nil inside a transaction
	rows  int    // how many rows one INSERT best carries
}

// Tx is an open transaction; its methods see what it has written so far.
type Tx struct {
	repos
	tx *sql.Tx
}

// Tx runs fn in one serializable transaction: if fn returns nil all of its writes are kept, otherwise none. On PostgreSQL fn is
// run again when another transaction interfered, so it must have no effect outside the Tx.
func (s *Store) Tx(ctx context.Context, fn func(*Tx) error) error {
	const op, tries = "store.tx", 8
	opts := &sql.TxOptions{}
	if s.postgr {
		opts.Isolation = sql.LevelSerializable
	}
	var err error
	for range tries {
		if err = s.once(ctx, opts, fn); err == nil || !interfered(err) {
			return err
		}
	}
	return fault(op, ringfence.KindOverload, "other transactions kept interfering", "try again", err)
}

func (s *Store) once(ctx context.Context, opts *sql.TxOptions, fn func(*Tx) error) error {
	var tx *sql.Tx
	err := again(s.writer, func() (err error) {
		tx, err = s.writer.BeginTx(ctx, opts)
		return err
	})
	if err != nil {
		return mapError("store.tx", err)
	}
	defer tx.Rollback() // no effect once committed; a panic in fn leaves nothing behind
	if err := fn(&Tx{repos{r: tx, w: tx, seal: s.seal, rows: s.rows}, tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return mapError("store.tx", err)
	}
	return nil
}

// atomically runs fn in the transaction at hand, or in one of its own on a Store.
func (r repos) atomically(ctx context.Context, fn func(repos) error) error {
	if r.store == nil {
		return fn(r)
	}
	return r.store.Tx(ctx, func(tx *Tx) error { return fn(tx.repos) })
}

// exec runs one write and returns the number of rows it touched.
func (r repos) exec(ctx context.Context, op, q string, args ...any) (int64, error) {
	if err := checkText(op, args); err != nil {
		return 0, err
	}
	res, err := r.w.ExecContext(ctx, q, args...)
	if err != nil {
		return 0, mapError(op, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, mapError(op, err)
	}
	return n, nil
}

// execOne is exec for a write that must touch a row: none is KindNotFound, worded as missing.
func (r repos) execOne(ctx context.Context, op, missing, q string, args ...any) error {
	n, err := r.exec(ctx, op, q, args...)
	if err == nil && n == 0 {
		err = fault(op, ringfence.KindNotFound, missing, "", nil)
	}
	return err
}

// scanner is a row under the cursor.
type scanner interface{ Scan(dest ...any) error }

// selectAll returns all rows of a query, scanned one by one.
func selectAll[T any](ctx context.Context, x execer, op string, scan func(scanner) (T, error), q string, args ...any) ([]T, error) {
	if err := checkText(op, args); err != nil {
		return nil, err
	}
	var rows *sql.Rows
	err := again(x, func() (err error) {
		rows, err = x.QueryContext(ctx, q, args...)
		return err
	})
	if err != nil {
		return nil, mapError(op, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, mapError(op, err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, mapError(op, err)
	}
	return out, nil
}

// selectOne returns the first row of a query; none is KindNotFound, worded as missing.
func selectOne[T any](ctx context.Context, x execer, op, missing string, scan func(scanner) (T, error), q string, args ...any) (T, error) {
	var zero T
	all, err := selectAll(ctx, x, op, scan, q, args...)
	if err != nil {
		return zero, err
	}
	if len(all) == 0 {
		return zero, fault(op, ringfence.KindNotFound, missing, "", nil)
	}
	return all[0], nil
}

// checkText refuses what PostgreSQL cannot hold, on both databases, so that they accept the same facts.
func checkText(op string, args []any) error {
	for _, a := range args {
		if s, ok := a.(string); ok && !isText(s) {
			return badText(op)
		}
	}
	return nil
}

func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func badText(op string) error {
	return fault(op, ringfence.KindInvalid, "a text is not valid UTF-8 or holds a zero byte", "", nil)
}

// micros is the stored form of a time; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// instant is the time of a stored form.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
