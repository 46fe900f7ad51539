package store

import (
	"context"
	"slices"
	"time"

	"ringfence"
)

// DeviceState says whether a device may be used.
type DeviceState string

// The states of a device.
const (
	DeviceActive  DeviceState = "active"
	DeviceRevoked DeviceState = "revoked"
)

// DeviceProfile says how a device may prove itself, strongest first, and whether it may speak in the clear for a while.
type DeviceProfile struct {
	Auth  []ringfence.Auth `json:"auth"`            // which ways are allowed; none means certificate only
	Plain *PlainException  `json:"plain,omitempty"` // nil: never in the clear
	// Security is the name of its security profile; empty: it has none, and goes by the security mode of the cluster.
	Security string `json:"security,omitempty"`
}

// PlainException allows plain SIP or RTP until a time, for a stated reason.
type PlainException struct {
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Device is one phone of a user.
type Device struct {
	ID      ringfence.DeviceID
	User    ringfence.UserID
	Kind    string // model or application, e.g. "softphone"
	Profile DeviceProfile
	State   DeviceState
	Created time.Time
}

// Certifiable reports whether the device may have certificates: it is active, and they are a way in which it may prove itself.
func (d Device) Certifiable() bool {
	return d.State == DeviceActive && (len(d.Profile.Auth) == 0 || slices.Contains(d.Profile.Auth, ringfence.AuthCertificate))
}

const deviceColumns = `id, user_id, kind, profile, state, created`

func scanDevice(row scanner) (d Device, err error) {
	var profile string
	var created int64
	if err = row.Scan(&d.ID, &d.User, &d.Kind, &profile, &d.State, &created); err != nil {
		return d, err
	}
	d.Created = instant(created)
	return d, decode(profile, &d.Profile)
}

// CreateDevice adds a device to a user who exists. An empty state means active.
func (r repos) CreateDevice(ctx context.Context, d Device) error {
	const op = "store.device.create"
	if d.ID == "" {
		return fault(op, ringfence.KindInvalid, "a device needs an id", "", nil)
	}
	if d.State == "" {
		d.State = DeviceActive
	}
	profile, err := encode(op, d.Profile)
	if err != nil {
		return err
	}
	_, err = r.exec(ctx, op, `INSERT INTO devices (`+deviceColumns+`) VALUES ($1,$2,$3,$4,$5,$6)`, string(d.ID), string(d.User), d.Kind, profile, string(d.State), micros(d.Created))
	return err
}

// UpdateDevice replaces owner, kind, profile and state of a device.
func (r repos) UpdateDevice(ctx context.Context, d Device) error {
	const op = "store.device.update"
	profile, err := encode(op, d.Profile)
	if err != nil {
		return err
	}
	return r.execOne(ctx, op, "there is no device "+string(d.ID), `UPDATE devices SET user_id=$2, kind=$3, profile=$4, state=$5 WHERE id=$1`,
		string(d.ID), string(d.User), d.Kind, profile, string(d.State))
}

// DeleteDevice removes a device with its digest secrets and activation codes.
func (r repos) DeleteDevice(ctx context.Context, id ringfence.DeviceID) error {
	return r.execOne(ctx, "store.device.delete", "there is no device "+string(id), `DELETE FROM devices WHERE id=$1`, string(id))
}

// Device returns one device.
func (r repos) Device(ctx context.Context, id ringfence.DeviceID) (Device, error) {
	return selectOne(ctx, r.r, "store.device", "there is no device "+string(id), scanDevice, `SELECT `+deviceColumns+` FROM devices WHERE id=$1`, string(id))
}

// Devices returns up to limit devices whose id is above after, by id; start with "".
func (r repos) Devices(ctx context.Context, after ringfence.DeviceID, limit int) ([]Device, error) {
	return selectAll(ctx, r.r, "store.devices", scanDevice, `SELECT `+deviceColumns+` FROM devices WHERE id > $1 ORDER BY id LIMIT $2`, string(after), limit)
}

// DevicesOf returns all devices of a user, by id.
func (r repos) DevicesOf(ctx context.Context, u ringfence.UserID) ([]Device, error) {
	return selectAll(ctx, r.r, "store.devices", scanDevice, `SELECT `+deviceColumns+` FROM devices WHERE user_id=$1 ORDER BY id`, string(u))
}
