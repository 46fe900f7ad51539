package store

import (
	"context"
	"math"
	"time"
)

// AuditEntry says who did what to which thing, and how it ended. Entries are only ever added: the database refuses to change
// or remove one.
type AuditEntry struct {
	ID      int64 // counts up; set by the store
	At      time.Time
	Who     string // a person, token, device or room
	What    string // the operation, e.g. "certificate.issue"
	Target  string
	Outcome string // "done", or why not
}

func scanAudit(row scanner) (a AuditEntry, err error) {
	var at int64
	err = row.Scan(&a.ID, &at, &a.Who, &a.What, &a.Target, &a.Outcome)
	a.At = instant(at)
	return a, err
}

// AppendAudit adds an entry; its ID is ignored.
func (r repos) AppendAudit(ctx context.Context, a AuditEntry) error {
	_, err := r.exec(ctx, "store.audit.append", `INSERT INTO audit (at, who, what, target, outcome) VALUES ($1,$2,$3,$4,$5)`, micros(a.At), a.Who, a.What, a.Target, a.Outcome)
	return err
}

// Audit returns up to limit entries whose id is below before, latest first; start with 0.
func (r repos) Audit(ctx context.Context, before int64, limit int) ([]AuditEntry, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	return selectAll(ctx, r.r, "store.audit", scanAudit, `SELECT id, at, who, what, target, outcome FROM audit WHERE id<$1 ORDER BY id DESC LIMIT $2`, before, limit)
}
