package store

import (
	"context"
	"fmt"
	"time"

	"ringfence"
)

// Lease says that a process runs as a node. A node has one at a time.
type Lease struct {
	Node    string
	Holder  string // identifier of the data directory: whoever has it may take over at once, as after a crash
	Session string // identifier of the process: random
	Place   string // where it runs, for people
	Reach   string // ADDRESS:PORT where other nodes reach its SIP; empty: nowhere
}

// clock is the database's own time in microseconds: hosts whose clocks differ agree on it.
func (s *Store) clock() string {
	if s.postgr {
		return `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`
	}
	return `CAST(unixepoch('subsec') * 1000000 AS INTEGER)`
}

// TakeLease makes l.Session the process of l.Node. While another data directory has renewed the lease within stale, that is KindConflict.
func (s *Store) TakeLease(ctx context.Context, l Lease, stale time.Duration) error {
	const op, tries = "store.lease.take", 3
	for range tries {
		n, err := s.exec(ctx, op, `INSERT INTO node_leases (node, holder, session, place, reach, renewed) VALUES ($1,$2,$3,$4,$5,`+s.clock()+`)
			ON CONFLICT (node) DO UPDATE SET holder=excluded.holder, session=excluded.session, place=excluded.place, reach=excluded.reach, renewed=excluded.renewed
			WHERE node_leases.holder=excluded.holder OR node_leases.renewed < excluded.renewed - $6`, l.Node, l.Holder, l.Session, l.Place, l.Reach, stale.Microseconds())
		if err != nil || n > 0 {
			return err
		}
		type other struct {
			place string
			age   time.Duration
		}
		o, err := selectOne(ctx, s.r, op, "", func(row scanner) (o other, err error) {
			var us int64
			err = row.Scan(&o.place, &us)
			o.age = time.Duration(us) * time.Microsecond
			return o, err
		}, `SELECT place, `+s.clock()+` - renewed FROM node_leases WHERE node=$1`, l.Node)
		switch {
		case ringfence.KindOf(err) == ringfence.KindNotFound && err != nil:
			continue // it was given back in between
		case err != nil:
			return err
		}
		return fault(op, ringfence.KindConflict, fmt.Sprintf("another node called %s uses this database: %s, seen %s ago", l.Node, o.place, max(o.age, 0).Round(time.Second)),
			fmt.Sprintf("give this one a name of its own by `node` in its configuration; if the other is gone for good, its name is free %s after it was last seen", stale), nil)
	}
	return fault(op, ringfence.KindOverload, "the name "+l.Node+" is taken and given back all the time", "see who else starts as that node", nil)
}

// RenewLease keeps a lease. When another process has it, that is KindConflict.
func (s *Store) RenewLease(ctx context.Context, l Lease) error {
	const op = "store.lease.renew"
	n, err := s.exec(ctx, op, `UPDATE node_leases SET renewed=`+s.clock()+` WHERE node=$1 AND session=$2`, l.Node, l.Session)
	if err != nil || n > 0 {
		return err
	}
	place, err := selectOne(ctx, s.r, op, "", func(row scanner) (v string, err error) { return v, row.Scan(&v) }, `SELECT place FROM node_leases WHERE node=$1`, l.Node)
	if err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
		return err
	}
	if place == "" {
		place = "nobody any more"
	}
	return fault(op, ringfence.KindConflict, "the name "+l.Node+" belongs to "+place+" in this database", "run one node of a name: if both are needed, give one another name by `node` in its configuration", nil)
}

// Reach returns where a node that was seen within stale is reached by others. One that is not there, or says nothing of that, is KindNotFound.
func (s *Store) Reach(ctx context.Context, node string, stale time.Duration) (string, error) {
	return selectOne(ctx, s.r, "store.lease.reach", "no node "+node+" can be reached", func(row scanner) (v string, err error) { return v, row.Scan(&v) },
		`SELECT reach FROM node_leases WHERE node=$1 AND reach<>'' AND renewed >= `+s.clock()+` - $2`, node, stale.Microseconds())
}

// DropLease gives a lease back, so that another may take it at once. It is no error if another has it.
func (s *Store) DropLease(ctx context.Context, l Lease) error {
	_, err := s.exec(ctx, "store.lease.drop", `DELETE FROM node_leases WHERE node=$1 AND session=$2`, l.Node, l.Session)
	return err
}
