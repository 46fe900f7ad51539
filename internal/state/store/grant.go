package store

import (
	"context"
	"time"

	"ringfence"
)

// Grant is what a device was given when somebody signed in for it: the right to fresh access tokens. Of its refresh token only the hash
// is kept (HashToken).
type Grant struct {
	ID       string
	Device   ringfence.DeviceID
	Client   string // the program that was signed in
	Scope    string // separated by spaces
	Refresh  string // hash of the refresh token in use
	Previous string // and of the one before it; empty: there was none
	Created  time.Time
	Used     time.Time // when the last access token was made
	Expires  time.Time
	Revoked  time.Time // zero: it holds
}

// Holds reports whether access tokens of the grant count at now.
func (g Grant) Holds(now time.Time) bool { return g.Revoked.IsZero() && now.Before(g.Expires) }

const grantColumns = `id, device_id, client, scope, refresh, previous, created, used, expires, revoked`

func scanGrant(row scanner) (g Grant, err error) {
	var created, used, expires, revoked int64
	err = row.Scan(&g.ID, &g.Device, &g.Client, &g.Scope, &g.Refresh, &g.Previous, &created, &used, &expires, &revoked)
	g.Created, g.Used, g.Expires, g.Revoked = instant(created), instant(used), instant(expires), instant(revoked)
	return g, err
}

// CreateGrant adds a grant to a device that exists.
func (r repos) CreateGrant(ctx context.Context, g Grant) error {
	_, err := r.exec(ctx, "store.grant.create", `INSERT INTO grants (`+grantColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)`, g.ID, string(g.Device), g.Client, g.Scope,
		g.Refresh, g.Previous, micros(g.Created), micros(g.Used), micros(g.Expires), micros(g.Revoked))
	return err
}

// Grant returns a grant, whether it holds or not.
func (r repos) Grant(ctx context.Context, id string) (Grant, error) {
	return selectOne(ctx, r.r, "store.grant", "there is no such grant", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE id=$1`, id)
}

// GrantByRefresh returns the grant that a refresh token with this hash belongs to, as the present one or the one before it.
func (r repos) GrantByRefresh(ctx context.Context, hash string) (Grant, error) {
	return selectOne(ctx, r.r, "store.grant", "there is no such refresh token", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE refresh=$1 OR previous=$1 AND previous<>''`, hash)
}

// Grants returns all grants, the latest first; those of one device if it is not empty.
func (r repos) Grants(ctx context.Context, device ringfence.DeviceID) ([]Grant, error) {
	return selectAll(ctx, r.r, "store.grants", scanGrant, `SELECT `+grantColumns+` FROM grants WHERE $1='' OR device_id=$1 ORDER BY created DESC, id`, string(device))
}

// RotateGrant replaces the refresh token of a grant that holds at now and whose present one is old. Of several callers exactly one
// succeeds and the others get KindConflict.
func (r repos) RotateGrant(ctx context.Context, id, old, fresh string, now time.Time) error {
	const op = "store.grant.rotate"
	n, err := r.exec(ctx, op, `UPDATE grants SET refresh=$3, previous=$2, used=$4 WHERE id=$1 AND refresh=$2 AND revoked=0 AND expires>$4`, id, old, fresh, micros(now))
	if err == nil && n == 0 {
		return fault(op, ringfence.KindConflict, "the refresh token was used already, or its grant is over", "sign in again", nil)
	}
	return err
}

// RevokeGrant ends a grant; it stays to tell why. Revoking it again changes nothing.
func (r repos) RevokeGrant(ctx context.Context, id string, now time.Time) error {
	return r.execOne(ctx, "store.grant.revoke", "there is no such grant", `UPDATE grants SET revoked=CASE WHEN revoked=0 THEN $2 ELSE revoked END WHERE id=$1`, id, micros(now))
}

// PurgeGrants removes grants that ended before a time, and returns how many.
func (r repos) PurgeGrants(ctx context.Context, before time.Time) (int, error) {
	n, err := r.exec(ctx, "store.grant.purge", `DELETE FROM grants WHERE expires<$1 OR revoked<>0 AND revoked<$1`, micros(before))
	return int(n), err
}
