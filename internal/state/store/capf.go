package store

import (
	"context"
	"encoding/base64"
	"time"

	"ringfence"
)

// CAPFOrder is what an administrator ordered of a device by CAPF, and what became of it.
type CAPFOrder struct {
	ID          string
	Device      ringfence.DeviceID
	Operation   string
	Auth        string
	String      string // one-time string; empty once the order is over
	Exception   string
	Old         bool
	Key         string
	WeakKey     string
	CompletesBy time.Time
	Created     time.Time
	Attempts    int // that are left

	Open    bool
	Session string    // that has claimed it; empty: none
	Claimed time.Time // until when
	Issued  string    // serial of a certificate that the phone has not confirmed
	CAPFOutcome
}

// CAPFOutcome is what became of an order in a session.
type CAPFOutcome struct {
	Status      string
	Reason      string
	At          time.Time // zero: no session yet
	Source      string
	Serial      string
	Certificate []byte // DER
	Locked      bool
}

const orderColumns = `id, device_id, operation, auth, secret, exception, old, key_kind, weak, completes, created, attempts, open, status, reason, at, source, serial, certificate, locked, session, claimed, issued`

func (r repos) scanOrder(row scanner) (o CAPFOrder, err error) {
	var secret, cert string
	var old, open, locked int
	var completes, created, at, claimed int64
	if err = row.Scan(&o.ID, &o.Device, &o.Operation, &o.Auth, &secret, &o.Exception, &old, &o.Key, &o.WeakKey, &completes, &created, &o.Attempts, &open, &o.Status, &o.Reason, &at, &o.Source, &o.Serial,
		&cert, &locked, &o.Session, &claimed, &o.Issued); err != nil {
		return o, err
	}
	o.Old, o.Open, o.Locked = old != 0, open != 0, locked != 0
	o.CompletesBy, o.Created, o.At, o.Claimed = instant(completes), instant(created), instant(at), instant(claimed)
	if o.Certificate, err = base64.StdEncoding.DecodeString(cert); err != nil || secret == "" {
		return o, err
	}
	plain, err := r.seal.open(secret, "capf_orders", "secret", o.ID)
	o.String = string(plain)
	return o, err
}

// AddCAPFOrder keeps a new open order in the place of one that is open and not claimed at now; KindConflict if a session has that one.
func (r repos) AddCAPFOrder(ctx context.Context, o CAPFOrder, now time.Time) error {
	const op = "store.capf.add"
	return r.atomically(ctx, func(r repos) error {
		if _, err := r.exec(ctx, op, `DELETE FROM capf_orders WHERE device_id=$1 AND open=1 AND session=''`, string(o.Device)); err != nil {
			return err
		}
		busy, err := selectAll(ctx, r.r, op, func(row scanner) (id string, err error) { return id, row.Scan(&id) }, `SELECT id FROM capf_orders WHERE device_id=$1 AND open=1`, string(o.Device))
		if err != nil {
			return err
		}
		if len(busy) > 0 {
			return fault(op, ringfence.KindConflict, "the device is at its order just now", "wait a minute, and see what became of it", nil)
		}
		secret := ""
		if o.String != "" {
			secret = r.seal.seal([]byte(o.String), "capf_orders", "secret", o.ID)
		}
		_, err = r.exec(ctx, op, `INSERT INTO capf_orders (`+orderColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,1,$13,'',0,'','','',0,'',0,'')`, o.ID, string(o.Device), o.Operation, o.Auth, secret, o.Exception, btoi(o.Old),
			o.Key, o.WeakKey, micros(o.CompletesBy), micros(now), o.Attempts, o.Status)
		return err
	})
}

// OpenCAPFOrder returns the open order of a device, or KindNotFound.
func (r repos) OpenCAPFOrder(ctx context.Context, device ringfence.DeviceID) (CAPFOrder, error) {
	return selectOne(ctx, r.r, "store.capf.open", "the device has no open order", r.scanOrder, `SELECT `+orderColumns+` FROM capf_orders WHERE device_id=$1 AND open=1`, string(device))
}

// CAPFOrders returns the orders of a device, or of all if it is empty: the latest first, at most limit.
func (r repos) CAPFOrders(ctx context.Context, device ringfence.DeviceID, limit int) ([]CAPFOrder, error) {
	return selectAll(ctx, r.r, "store.capf.list", r.scanOrder, `SELECT `+orderColumns+` FROM capf_orders WHERE $1='' OR device_id=$1 ORDER BY created DESC, id LIMIT $2`, string(device), limit)
}

// SpendCAPFAttempt takes one of the attempts of an order, and returns how many are left; ok is false if there was none.
func (r repos) SpendCAPFAttempt(ctx context.Context, id string) (left int, ok bool, err error) {
	const op = "store.capf.spend"
	err = r.atomically(ctx, func(r repos) error {
		n, err := r.exec(ctx, op, `UPDATE capf_orders SET attempts=attempts-1 WHERE id=$1 AND attempts>0`, id)
		if err != nil || n == 0 {
			return err
		}
		ok = true
		left, err = selectOne(ctx, r.r, op, "there is no such order", func(row scanner) (v int, err error) { return v, row.Scan(&v) }, `SELECT attempts FROM capf_orders WHERE id=$1`, id)
		return err
	})
	return left, ok, err
}

const setOutcome = `status=$2, reason=$3, at=$4, source=$5, serial=$6, certificate=$7, locked=$8, open=$9, secret=CASE WHEN $9=0 THEN '' ELSE secret END, session='', claimed=0, issued=''`

func outcomeArgs(id string, o CAPFOutcome, open bool) []any {
	return []any{id, o.Status, o.Reason, micros(o.At), o.Source, o.Serial, base64.StdEncoding.EncodeToString(o.Certificate), btoi(o.Locked), btoi(open)}
}

// RefuseCAPFOrder notes what became of an order that no session has claimed; one that is claimed or over stays as it is.
func (r repos) RefuseCAPFOrder(ctx context.Context, id string, o CAPFOutcome, open bool) error {
	_, err := r.exec(ctx, "store.capf.refuse", `UPDATE capf_orders SET `+setOutcome+` WHERE id=$1 AND open=1 AND session=''`, outcomeArgs(id, o, open)...)
	return err
}

// ClaimCAPFOrder gives an order to one session until a time; KindConflict if another has it at now, or if it is over. orphan is what a session before it issued and
// never recorded.
func (r repos) ClaimCAPFOrder(ctx context.Context, id, session string, until, now time.Time) (orphan string, err error) {
	const op = "store.capf.claim"
	err = r.atomically(ctx, func(r repos) error {
		n, err := r.exec(ctx, op, `UPDATE capf_orders SET session=$2, claimed=$3 WHERE id=$1 AND open=1 AND (session='' OR claimed<=$4)`, id, session, micros(until), micros(now))
		if err != nil {
			return err
		}
		if n == 0 {
			return fault(op, ringfence.KindConflict, "another session has the order, or it is over", "", nil)
		}
		orphan, err = selectOne(ctx, r.r, op, "there is no such order", func(row scanner) (v string, err error) { return v, row.Scan(&v) }, `SELECT issued FROM capf_orders WHERE id=$1`, id)
		return err
	})
	return orphan, err
}

// NoteCAPFIssued notes the serial of a certificate before the phone gets it; KindConflict if the session does not have the order.
func (r repos) NoteCAPFIssued(ctx context.Context, id, session, serial string) error {
	const op = "store.capf.issued"
	n, err := r.exec(ctx, op, `UPDATE capf_orders SET issued=$3 WHERE id=$1 AND session=$2 AND open=1`, id, session, serial)
	if err == nil && n == 0 {
		err = fault(op, ringfence.KindConflict, "the session does not have the order", "", nil)
	}
	return err
}

// RecordCAPFOrder ends the claim of a session, and the order with it unless it is to stay open; KindConflict if the session does not have it.
func (r repos) RecordCAPFOrder(ctx context.Context, id, session string, o CAPFOutcome, open bool) error {
	const op = "store.capf.record"
	n, err := r.exec(ctx, op, `UPDATE capf_orders SET `+setOutcome+` WHERE id=$1 AND session=$10 AND open=1`, append(outcomeArgs(id, o, open), session)...)
	if err == nil && n == 0 {
		err = fault(op, ringfence.KindConflict, "the session does not have the order", "", nil)
	}
	return err
}

// StaleCAPFOrders returns the open orders whose claim was over at now, and those without a claim that were to be completed before now.
func (r repos) StaleCAPFOrders(ctx context.Context, now time.Time) ([]CAPFOrder, error) {
	return selectAll(ctx, r.r, "store.capf.stale", r.scanOrder, `SELECT `+orderColumns+` FROM capf_orders WHERE open=1 AND (session<>'' AND claimed<=$1 OR session='' AND completes<=$1) ORDER BY id`, micros(now))
}
