package store

import (
	"context"
	"time"

	"ringfence"
)

// KeepCalls writes, in one transaction, notes of calls of a node that were answered and the records of calls that have ended, and
// takes away the notes of the latter. A call may be noted again, e.g. after a transfer. It also notes that the node was alive at
// now. A call whose record is kept already is KindConflict, and then nothing is written.
func (r repos) KeepCalls(ctx context.Context, node ringfence.NodeID, now time.Time, answered, ended []CDR) error {
	const op = "store.calls.keep"
	return r.atomically(ctx, func(r repos) error {
		for _, c := range answered {
			legs, err := encode(op, c.Legs)
			if err != nil {
				return err
			}
			if _, err := r.exec(ctx, op, `INSERT INTO open_calls (call_id, node, started, answered, from_name, to_name, direction, verdict, legs)
				VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9) ON CONFLICT (call_id) DO UPDATE SET from_name=excluded.from_name, to_name=excluded.to_name,
				verdict=excluded.verdict, legs=excluded.legs`,
				string(c.Call), string(node), micros(c.Start), micros(c.Answer), c.From, c.To, c.Direction, string(c.Verdict), legs); err != nil {
				return err
			}
		}
		for _, c := range ended {
			if err := r.AddCDR(ctx, c); err != nil {
				return err
			}
			if _, err := r.exec(ctx, op, `DELETE FROM open_calls WHERE call_id=$1`, string(c.Call)); err != nil {
				return err
			}
		}
		return r.alive(ctx, node, now)
	})
}

// Alive notes that a node is alive at now.
func (r repos) Alive(ctx context.Context, node ringfence.NodeID, now time.Time) error {
	return r.alive(ctx, node, now)
}

func (r repos) alive(ctx context.Context, node ringfence.NodeID, now time.Time) error {
	_, err := r.exec(ctx, "store.node.alive", `INSERT INTO nodes_alive (node, at) VALUES ($1,$2) ON CONFLICT (node) DO UPDATE SET at=excluded.at`, string(node), micros(now))
	return err
}

// OpenCalls returns the notes of a node's calls that have not ended, by call. End is zero and Cause empty.
func (r repos) OpenCalls(ctx context.Context, node ringfence.NodeID) ([]CDR, error) {
	return selectAll(ctx, r.r, "store.calls.open", func(row scanner) (c CDR, err error) {
		var legs string
		var start, answer int64
		err = row.Scan(&c.Call, &start, &answer, &c.From, &c.To, &c.Direction, &c.Verdict, &legs)
		c.Start, c.Answer = instant(start), instant(answer)
		return c, firstOf(err, decode(legs, &c.Legs))
	}, `SELECT call_id, started, answered, from_name, to_name, direction, verdict, legs FROM open_calls WHERE node=$1 ORDER BY call_id`, string(node))
}

// EndOpenCalls turns what a node that was killed left in OpenCalls into records with the given cause, in one transaction, and
// returns them. They end when the node last said that it was alive, or when they were answered if that is later. Call it before
// the node takes calls.
func (r repos) EndOpenCalls(ctx context.Context, node ringfence.NodeID, cause string) (ended []CDR, err error) {
	const op = "store.calls.recover"
	err = r.atomically(ctx, func(r repos) error {
		var last time.Time
		at, err := selectAll(ctx, r.r, op, func(row scanner) (at int64, err error) { return at, row.Scan(&at) }, `SELECT at FROM nodes_alive WHERE node=$1`, string(node))
		if err != nil {
			return err
		}
		if len(at) > 0 {
			last = instant(at[0])
		}
		if ended, err = r.OpenCalls(ctx, node); err != nil {
			return err
		}
		for i := range ended {
			c := &ended[i]
			c.Cause, c.End = cause, c.Answer
			if last.After(c.End) {
				c.End = last
			}
			if err := r.AddCDR(ctx, *c); err != nil {
				return err
			}
		}
		_, err = r.exec(ctx, op, `DELETE FROM open_calls WHERE node=$1`, string(node))
		return err
	})
	return ended, err
}
