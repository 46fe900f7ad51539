package store

import (
	"context"
	"encoding/base64"
	"time"

	"ringfence"
)

// TrustList is one version of the trust lists of enterprise phones, in its three forms.
type TrustList struct {
	Version  int64
	ITL, CTL []byte
	JSON     []byte
	Made     time.Time
	Note     string // why it was made
}

// ListHolder says which version of a list a device fetched last.
type ListHolder struct {
	Device  ringfence.DeviceID
	Kind    string // itl, ctl or json
	Version int64
	Fetched time.Time
	Proved  bool // it showed its certificate; otherwise it is known by the name of the file alone
}

const listColumns = `version, itl, ctl, json, made, note`

func scanTrustList(row scanner) (l TrustList, err error) {
	var itl, ctl, js string
	var made int64
	if err = row.Scan(&l.Version, &itl, &ctl, &js, &made, &l.Note); err != nil {
		return l, err
	}
	l.JSON, l.Made = []byte(js), instant(made)
	if l.ITL, err = base64.StdEncoding.DecodeString(itl); err != nil {
		return l, err
	}
	l.CTL, err = base64.StdEncoding.DecodeString(ctl)
	return l, err
}

// AddTrustList keeps a new version; KindConflict if its number is taken.
func (r repos) AddTrustList(ctx context.Context, l TrustList) error {
	_, err := r.exec(ctx, "store.trustlist.add", `INSERT INTO trust_lists (`+listColumns+`) VALUES ($1,$2,$3,$4,$5,$6)`, l.Version, base64.StdEncoding.EncodeToString(l.ITL),
		base64.StdEncoding.EncodeToString(l.CTL), string(l.JSON), micros(l.Made), l.Note)
	return err
}

// TrustList returns a version, or with 0 the latest.
func (r repos) TrustList(ctx context.Context, version int64) (TrustList, error) {
	return selectOne(ctx, r.r, "store.trustlist", "there is no such trust list", scanTrustList, `SELECT `+listColumns+` FROM trust_lists WHERE version=$1 OR $1=0 ORDER BY version DESC LIMIT 1`, version)
}

// PurgeTrustLists removes the versions before one that no device holds, and returns how many.
func (r repos) PurgeTrustLists(ctx context.Context, before int64) (int, error) {
	n, err := r.exec(ctx, "store.trustlist.purge", `DELETE FROM trust_lists WHERE version<$1 AND version NOT IN (SELECT version FROM list_holders)`, before)
	return int(n), err
}

// proofHolds is for how long nobody's word counts against what a device proved by its certificate.
const proofHolds = 30 * 24 * time.Hour

// HoldList remembers which version a device fetched. What was proved by a certificate is for a month not replaced by what was not: anybody can ask in the
// name of a device, and a device that is taken to hold what it does not is lost by the next list. After that the device has no certificate any more, or it would have
// shown it, and its word is all there will be.
func (r repos) HoldList(ctx context.Context, h ListHolder) error {
	_, err := r.exec(ctx, "store.holder.put", `INSERT INTO list_holders (device_id, kind, version, fetched, proved) VALUES ($1,$2,$3,$4,$5)
		ON CONFLICT (device_id, kind) DO UPDATE SET version=excluded.version, fetched=excluded.fetched, proved=excluded.proved
		WHERE excluded.proved>=list_holders.proved OR excluded.fetched>=list_holders.fetched+$6`, string(h.Device), h.Kind, h.Version, micros(h.Fetched), btoi(h.Proved), proofHolds.Microseconds())
	return err
}

// ListHolders returns who holds what, by device and kind.
func (r repos) ListHolders(ctx context.Context) ([]ListHolder, error) {
	return selectAll(ctx, r.r, "store.holders", func(row scanner) (h ListHolder, err error) {
		var fetched int64
		var proved int
		err = row.Scan(&h.Device, &h.Kind, &h.Version, &fetched, &proved)
		h.Fetched, h.Proved = instant(fetched), proved != 0
		return h, err
	}, `SELECT device_id, kind, version, fetched, proved FROM list_holders ORDER BY device_id, kind`)
}
