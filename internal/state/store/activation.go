package store

import (
	"context"
	"encoding/base64"
	"time"

	"ringfence"
)

// Activation is what is kept of a one-time activation code: never the code, only a verifier derived from it, which is sealed.
type Activation struct {
	Lookup       string // the part of the code that finds it
	Device       ringfence.DeviceID
	Verifier     []byte
	Salt         []byte
	Params       string // how the verifier was derived, as the enrolment room wrote it
	Expires      time.Time
	AttemptsLeft int
	UsedAt       time.Time // zero: not used
}

// Live reports whether the code can still be used.
func (a Activation) Live(now time.Time) bool {
	return a.UsedAt.IsZero() && a.AttemptsLeft > 0 && now.Before(a.Expires)
}

// CreateActivation adds a code and withdraws the codes that its device had before. A lookup that belongs to a live code of
// another device is KindConflict; one of a dead code is taken over.
func (r repos) CreateActivation(ctx context.Context, a Activation, now time.Time) error {
	const op = "store.activation.create"
	sealed := r.seal.seal(a.Verifier, "activations", "sealed", a.Lookup, string(a.Device))
	return r.atomically(ctx, func(r repos) error {
		if _, err := r.exec(ctx, op, `DELETE FROM activations WHERE device_id=$1`, string(a.Device)); err != nil {
			return err
		}
		n, err := r.exec(ctx, op, `INSERT INTO activations (lookup, device_id, sealed, salt, params, expires, attempts_left, used_at) VALUES ($1,$2,$3,$4,$5,$6,$7,0)
			ON CONFLICT (lookup) DO UPDATE SET device_id=excluded.device_id, sealed=excluded.sealed, salt=excluded.salt, params=excluded.params,
				expires=excluded.expires, attempts_left=excluded.attempts_left, used_at=0
			WHERE activations.used_at<>0 OR activations.attempts_left=0 OR activations.expires<=$8`,
			a.Lookup, string(a.Device), sealed, base64.RawStdEncoding.EncodeToString(a.Salt), a.Params, micros(a.Expires), a.AttemptsLeft, micros(now))
		if err == nil && n == 0 {
			return fault(op, ringfence.KindConflict, "a live activation code has this lookup", "", nil)
		}
		return err
	})
}

// Activation returns the code with this lookup, live or not.
func (r repos) Activation(ctx context.Context, lookup string) (Activation, error) {
	const op = "store.activation"
	var sealed string
	a, err := selectOne(ctx, r.r, op, "there is no such activation code", func(row scanner) (a Activation, err error) {
		var salt string
		var expires, used int64
		if err = row.Scan(&a.Lookup, &a.Device, &sealed, &salt, &a.Params, &expires, &a.AttemptsLeft, &used); err != nil {
			return a, err
		}
		a.Expires, a.UsedAt = instant(expires), instant(used)
		a.Salt, err = base64.RawStdEncoding.DecodeString(salt)
		return a, err
	}, `SELECT lookup, device_id, sealed, salt, params, expires, attempts_left, used_at FROM activations WHERE lookup=$1`, lookup)
	if err != nil {
		return Activation{}, err
	}
	if a.Verifier, err = r.seal.open(sealed, "activations", "sealed", a.Lookup, string(a.Device)); err != nil {
		return Activation{}, err
	}
	return a, nil
}

// UseActivation marks the device's code used, if it is unused and has not expired at now. The caller has spent an attempt on it
// first (SpendAttempt). Of several callers exactly one succeeds and the others get
// KindConflict.
func (r repos) UseActivation(ctx context.Context, lookup string, device ringfence.DeviceID, now time.Time) error {
	const op = "store.activation.use"
	n, err := r.exec(ctx, op, `UPDATE activations SET used_at=$3 WHERE lookup=$1 AND device_id=$2 AND used_at=0 AND expires>$3`,
		lookup, string(device), micros(now))
	if err == nil && n == 0 {
		return fault(op, ringfence.KindConflict, "the activation code was used or has expired", "ask for a new code", nil)
	}
	return err
}

// ReleaseActivation takes back a use at the given time, when what it was used for did not happen.
func (r repos) ReleaseActivation(ctx context.Context, lookup string, device ringfence.DeviceID, usedAt time.Time) error {
	return r.execOne(ctx, "store.activation.release", "the activation code was not used at that time", `UPDATE activations SET used_at=0 WHERE lookup=$1 AND device_id=$2 AND used_at=$3`,
		lookup, string(device), micros(usedAt))
}

// SpendAttempt takes one attempt from a code and reports whether there was one left. Spend it before looking at what was tried,
// so that guesses made at the same time are all counted.
func (r repos) SpendAttempt(ctx context.Context, lookup string) (bool, error) {
	n, err := r.exec(ctx, "store.activation.spend", `UPDATE activations SET attempts_left=attempts_left-1 WHERE lookup=$1 AND attempts_left>0`, lookup)
	return n > 0, err
}

// PurgeActivations removes codes that expired before a time and returns how many. Keep them for a while: who comes late is told why.
func (r repos) PurgeActivations(ctx context.Context, before time.Time) (int, error) {
	n, err := r.exec(ctx, "store.activation.purge", `DELETE FROM activations WHERE expires<$1`, micros(before))
	return int(n), err
}
