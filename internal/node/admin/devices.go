package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/sip"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/profile"
)

type (
	devicePath struct {
		ID ringfence.DeviceID `path:"id" maxLength:"64" doc:"id of the device" example:"alice-desk"`
	}
	devicesIn struct {
		After ringfence.DeviceID `query:"after" maxLength:"64" doc:"list what comes after this id"`
		Limit int                `query:"limit" minimum:"1" maximum:"1000" default:"1000"`
		User  ringfence.UserID   `query:"user" maxLength:"64" doc:"only the devices of this user"`
	}
	newDeviceIn struct{ Body api.NewDevice }
	whyIn       struct {
		ID   ringfence.DeviceID `path:"id" maxLength:"64" doc:"id of the device" example:"alice-desk"`
		Body api.Why
	}
)

func (s *Server) routesDevices() {
	target := func(in *devicePath) string { return "device " + string(in.ID) }
	look(s, op("device.list", http.MethodGet, "/devices", "List devices, by id"), s.listDevices)
	look(s, op("device.show", http.MethodGet, "/devices/{id}", "Show a device with its certificates"), s.showDevice)
	add := op("device.add", http.MethodPost, "/devices", "Add a device; its activation code or password is shown once")
	add.DefaultStatus = http.StatusCreated
	act(s, add, api.ScopeWrite, func(in *newDeviceIn) string { return "device " + string(in.Body.ID) }, s.addDevice)
	act(s, op("device.code", http.MethodPost, "/devices/{id}/code", "Make a new activation code or password; the old one stops working"), api.ScopeWrite, target, s.renewDevice)
	act(s, op("device.revoke", http.MethodPost, "/devices/{id}/revoke", "Revoke a device: its certificates, registrations, connections and calls end at once"), api.ScopeWrite,
		func(in *whyIn) string { return "device " + string(in.ID) }, s.revokeDevice)
	act(s, op("device.activate", http.MethodPost, "/devices/{id}/activate", "Let a revoked device be enrolled again; its old certificates stay revoked"), api.ScopeWrite, target, s.activateDevice)
	act(s, op("device.profile", http.MethodPut, "/devices/{id}/profile", "Give a device a security profile, or none"), api.ScopeWrite,
		func(in *profileIn) string { return "device " + string(in.ID) + " " + clip(in.Body.Security) }, s.setProfile)
	act(s, op("device.remove", http.MethodDelete, "/devices/{id}", "Remove a device; its certificates are revoked and its calls end"), api.ScopeWrite, target, s.removeDevice)
}

// reachable returns the devices that can be called now.
func (s *Server) reachable() map[ringfence.DeviceID]bool {
	m := map[ringfence.DeviceID]bool{}
	for _, c := range s.c.Registrar.All() {
		if c.Live() {
			m[c.Device] = true
		}
	}
	return m
}

func (s *Server) deviceOut(d store.Device, live bool) api.Device {
	out := api.Device{ID: d.ID, User: d.User, Kind: d.Kind, Auth: d.Profile.Auth, Security: d.Profile.Security, State: string(d.State), Created: d.Created, Registered: live}
	if len(out.Auth) == 0 {
		out.Auth = []ringfence.Auth{ringfence.AuthCertificate}
	}
	if p := d.Profile.Plain; p != nil && s.c.Now().Before(p.Until) {
		out.Exception = &api.Plain{Until: p.Until, Reason: p.Reason}
	}
	return out
}

func (s *Server) listDevices(ctx context.Context, in *devicesIn) (*body[[]api.Device], error) {
	var ds []store.Device
	var err error
	if in.User != "" {
		if _, err = s.c.Store.User(ctx, in.User); err != nil {
			return nil, unknown(err, "user", string(in.User))
		}
		ds, err = s.c.Store.DevicesOf(ctx, in.User)
	} else {
		ds, err = s.c.Store.Devices(ctx, in.After, in.Limit)
	}
	live := s.reachable()
	out := make([]api.Device, 0, len(ds))
	for _, d := range ds {
		out = append(out, s.deviceOut(d, live[d.ID]))
	}
	return answer(out), err
}

func (s *Server) showDevice(ctx context.Context, in *devicePath) (*body[api.Device], error) {
	d, err := s.c.Store.Device(ctx, in.ID)
	if err != nil {
		return nil, unknown(err, "device", string(in.ID))
	}
	out := s.deviceOut(d, s.reachable()[d.ID])
	certs, err := s.c.Store.CertificatesOf(ctx, in.ID)
	for _, c := range certs {
		out.Certificates = append(out.Certificates, api.Certificate{Serial: c.Serial, Subject: c.Subject, NotBefore: c.NotBefore, NotAfter: c.NotAfter, RevokedAt: c.RevokedAt, Reason: c.Reason})
	}
	return answer(out), err
}

func (s *Server) addDevice(ctx context.Context, in *newDeviceIn) (*body[api.DeviceAdded], error) {
	b := in.Body
	d := store.Device{ID: b.ID, User: b.User, Kind: b.Kind, State: store.DeviceActive, Created: s.c.Now()}
	switch b.Auth {
	case ringfence.AuthDigestSHA256:
		d.Profile.Auth = []ringfence.Auth{ringfence.AuthDigestSHA256}
	case ringfence.AuthDigestMD5: // a phone that learns SHA-256 by an update uses it from then on
		d.Profile.Auth = []ringfence.Auth{ringfence.AuthDigestSHA256, ringfence.AuthDigestMD5}
	case ringfence.AuthToken:
		d.Profile.Auth = []ringfence.Auth{ringfence.AuthToken}
	default:
		d.Profile.Auth = []ringfence.Auth{ringfence.AuthCertificate}
	}
	if _, err := s.c.Store.User(ctx, d.User); err != nil {
		return nil, unknown(err, "user", string(d.User))
	}
	d.Profile.Security = b.Security
	if err := s.fitsProfile(d); err != nil {
		return nil, err
	}
	// The database ties codes and secrets to a device that exists, so it is made first, and taken back if it cannot have one.
	if err := s.c.Store.CreateDevice(ctx, d); err != nil {
		return nil, taken(err, "the device "+string(d.ID)+" is there already")
	}
	out, err := s.credentials(ctx, d)
	if err != nil {
		if undone := s.c.Store.DeleteDevice(ctx, d.ID); undone != nil {
			s.c.Log.Error("a device without credentials could not be taken back", "device", d.ID, "err", undone)
		}
		return nil, err
	}
	return answer(out), s.c.Roster.Reload(ctx)
}

// fitsProfile says whether a device can have its security profile: the profile is there, and lets it prove itself as it does.
func (s *Server) fitsProfile(d store.Device) error {
	const op = "admin.profile"
	name := d.Profile.Security
	if name == "" {
		return nil
	}
	all := s.c.Host.Security()
	if _, ok := all.Phone(name); !ok {
		if why := profile.WhyNot(name); why != "" {
			return fault(op, ringfence.KindUnsupported, why, "see `ringfence profile list`")
		}
		return fault(op, ringfence.KindNotFound, "there is no phone security profile "+clip(name), "see `ringfence profile list`")
	}
	for _, by := range s.deviceOut(d, false).Auth {
		if err := all.MayProve(name, by); err == nil {
			return nil
		}
	}
	return fault(op, ringfence.KindConflict, "the security profile "+clip(name)+" allows none of the ways in which "+string(d.ID)+" proves itself", "see `ringfence profile list`, or add the device with another --auth")
}

// because returns what an error says, without where it was said.
func because(err error) string {
	var f *ringfence.Fault
	if errors.As(err, &f) {
		return f.Text
	}
	return err.Error()
}

type profileIn struct {
	ID   ringfence.DeviceID `path:"id" maxLength:"64" doc:"id of the device" example:"alice-desk"`
	Body api.DeviceProfile
}

// setProfile gives a device a security profile. One that may not have the exception which it has would end it behind the back of who made it.
func (s *Server) setProfile(ctx context.Context, in *profileIn) (*body[api.Device], error) {
	var out store.Device
	changed := false
	err := s.c.Store.Tx(ctx, func(tx *store.Tx) error {
		d, err := tx.Device(ctx, in.ID)
		if err != nil {
			return unknown(err, "device", string(in.ID))
		}
		changed = d.Profile.Security != in.Body.Security
		d.Profile.Security = in.Body.Security
		if err := s.fitsProfile(d); err != nil {
			return err
		}
		if p := d.Profile.Plain; p != nil && s.c.Now().Before(p.Until) {
			if err := s.c.Host.Security().MayBeExcepted(d.Profile.Security); err != nil {
				return fault("admin.profile", ringfence.KindConflict, "the device "+string(d.ID)+" has an exception until "+p.Until.UTC().Format(time.RFC3339)+", and "+because(err), "end it first: ringfence device exception "+string(d.ID)+" --end")
			}
		}
		out = d
		return tx.UpdateDevice(ctx, d)
	})
	if err != nil {
		return nil, err
	}
	if err := s.c.Roster.Reload(ctx); err != nil {
		return nil, err
	}
	if changed { // it comes back at once, and by what the new profile allows
		if _, err := s.c.Registrar.Drop(ctx, out.ID, fault("admin.profile", ringfence.KindDenied, "the device "+string(out.ID)+" has another security profile now", "")); err != nil {
			return nil, err
		}
	}
	return answer(s.deviceOut(out, s.reachable()[out.ID])), nil
}

// credentials gives a device what it enrols or registers with; what it had before stops working.
func (s *Server) credentials(ctx context.Context, d store.Device) (api.DeviceAdded, error) {
	out := api.DeviceAdded{Device: s.deviceOut(d, false)}
	node := net.JoinHostPort(s.c.Host.Reach(), strconv.Itoa(int(s.c.Host.HTTPSAddr().Port())))
	switch out.Device.Auth[0] {
	case ringfence.AuthCertificate:
		code, expires, err := s.c.Codes.NewCode(ctx, d.ID)
		out.Activation = &api.Activation{Code: code, Expires: expires.UTC(), URI: "ringfence://enrol?node=" + url.QueryEscape(node) + "&code=" + code}
		return out, err
	case ringfence.AuthToken:
		code, expires, err := s.c.Codes.NewCode(ctx, d.ID)
		out.Activation = &api.Activation{Code: code, Expires: expires.UTC(), URI: s.c.SignIns.Issuer() + "/oauth/device"}
		return out, err
	}
	password := randomText(20)
	err := s.c.Store.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.DeleteDigestSecrets(ctx, d.ID); err != nil {
			return err
		}
		for _, alg := range d.Profile.Auth {
			hash := sip.DigestSHA256
			if alg == ringfence.AuthDigestMD5 {
				hash = sip.DigestMD5
			}
			secret := store.DigestSecret{Device: d.ID, Username: string(d.ID), Realm: s.c.Domain, Algorithm: alg, HA1: sip.HA1(hash, string(d.ID), s.c.Domain, password)}
			if err := tx.PutDigestSecret(ctx, secret); err != nil {
				return err
			}
		}
		return nil
	})
	s.c.Registrar.Forget(d.ID)
	out.Account = &api.SIPAccount{Username: string(d.ID), Password: password, AOR: s.c.Registrar.AOR(d.User),
		Server: hostPort(s.c.Host.Reach(), s.c.Host.SIPAddr()), Anchor: "https://" + node + "/anchor.pem"}
	return out, err
}

func hostPort(host string, at netip.AddrPort) string {
	return net.JoinHostPort(host, strconv.Itoa(int(at.Port())))
}

func (s *Server) renewDevice(ctx context.Context, in *devicePath) (*body[api.DeviceAdded], error) {
	d, err := s.c.Store.Device(ctx, in.ID)
	if err != nil {
		return nil, unknown(err, "device", string(in.ID))
	}
	if d.State != store.DeviceActive {
		return nil, fault("admin.device", ringfence.KindConflict, "the device "+string(d.ID)+" is revoked", "first: ringfence device activate "+string(d.ID))
	}
	out, err := s.credentials(ctx, d)
	return answer(out), err
}

// setState changes the state of a device and lets the roster know.
func (s *Server) setState(ctx context.Context, id ringfence.DeviceID, to store.DeviceState) error {
	err := s.c.Store.Tx(ctx, func(tx *store.Tx) error {
		d, err := tx.Device(ctx, id)
		if err != nil {
			return unknown(err, "device", string(id))
		}
		if d.State == to {
			return fault("admin.device", ringfence.KindConflict, fmt.Sprintf("the device %s is %s already", id, to), "")
		}
		d.State = to
		if to == store.DeviceRevoked { // as its certificates, its password never works again
			if _, err := tx.DeleteDigestSecrets(ctx, id); err != nil {
				return err
			}
		}
		return tx.UpdateDevice(ctx, d)
	})
	return firstOf(err, s.c.Roster.Reload(ctx))
}

func (s *Server) revokeDevice(ctx context.Context, in *whyIn) (*body[api.Ended], error) {
	if err := s.setState(ctx, in.ID, store.DeviceRevoked); err != nil {
		return nil, err
	}
	reason := in.Body.Reason
	if reason == "" {
		reason = "privilege withdrawn"
	}
	e, err := s.c.Host.Cut(ctx, in.ID, reason)
	return answer(e), err
}

func (s *Server) activateDevice(ctx context.Context, in *devicePath) (*none, error) {
	return nil, s.setState(ctx, in.ID, store.DeviceActive)
}

func (s *Server) removeDevice(ctx context.Context, in *devicePath) (*body[api.Ended], error) {
	if err := s.c.Store.DeleteDevice(ctx, in.ID); err != nil {
		return nil, unknown(err, "device", string(in.ID))
	}
	if err := s.dropException(ctx, in.ID); err != nil {
		return nil, err
	}
	e, err := s.c.Host.Cut(ctx, in.ID, "cessation of operation")
	return answer(e), err
}

// exceptionSubject is what the exception of a device is listed as.
func exceptionSubject(id ringfence.DeviceID) string { return "device " + string(id) }

const longestException = 30 * 24 * time.Hour

type exceptionIn struct {
	ID   ringfence.DeviceID `path:"id" maxLength:"64" doc:"id of the device" example:"door-1"`
	Body api.NewException
}

func (s *Server) routesExceptions() {
	look(s, op("exception.list", http.MethodGet, "/exceptions", "List the named exceptions in force"), func(ctx context.Context, _ *none) (*body[[]api.Exception], error) {
		return answer(s.exceptions()), nil
	})
	act(s, op("device.exception", http.MethodPut, "/devices/{id}/exception", "Let a device speak in the clear until a time, for a stated reason"), api.ScopeAdmin,
		func(in *exceptionIn) string {
			return fmt.Sprintf("device %s until %s: %s", in.ID, in.Body.Until.UTC().Format(time.RFC3339), in.Body.Reason)
		}, s.putException)
	act(s, op("device.exception.end", http.MethodDelete, "/devices/{id}/exception", "End the exception of a device at once"), api.ScopeWrite,
		func(in *devicePath) string { return "device " + string(in.ID) }, s.endException)
}

// exceptions lists what the calls go by: the profiles of devices, as the roster has them.
func (s *Server) exceptions() []api.Exception {
	all := s.c.Roster.Exceptions(s.c.Now())
	out := make([]api.Exception, 0, len(all))
	for _, e := range all {
		out = append(out, api.Exception{Subject: exceptionSubject(e.Device), Until: e.Until.UTC(), Reason: e.Reason})
	}
	slices.SortFunc(out, func(a, b api.Exception) int { return cmp.Compare(a.Subject, b.Subject) })
	return out
}

func (s *Server) putException(ctx context.Context, in *exceptionIn) (*body[api.Exception], error) {
	left := in.Body.Until.Sub(s.c.Now())
	if left <= 0 || left > longestException {
		return nil, fault("admin.exception", ringfence.KindInvalid, "an exception ends within 30 days, and not in the past", "give --until as 48h or as 2030-01-31T12:00:00Z")
	}
	e := store.Exception{Subject: exceptionSubject(in.ID), Until: in.Body.Until.UTC(), Reason: in.Body.Reason}
	err := s.c.Store.Tx(ctx, func(tx *store.Tx) error {
		d, err := tx.Device(ctx, in.ID)
		if err != nil {
			return unknown(err, "device", string(in.ID))
		}
		if err := s.c.Host.Security().MayBeExcepted(d.Profile.Security); err != nil {
			return fault("admin.exception", ringfence.KindConflict, "the device "+string(d.ID)+" cannot have an exception: "+because(err), ringfence.HintOf(err))
		}
		d.Profile.Plain = &store.PlainException{Until: e.Until, Reason: e.Reason}
		return firstOf(tx.UpdateDevice(ctx, d), tx.PutException(ctx, e))
	})
	if err == nil {
		s.c.Log.Warn("an exception was made", "subject", e.Subject, "until", e.Until, "reason", e.Reason, "who", whoOf(ctx).Name)
	}
	return answer(api.Exception{Subject: e.Subject, Until: e.Until, Reason: e.Reason}), firstOf(err, s.c.Roster.Reload(ctx))
}

// dropException ends the exception of a device that is removed, if it has one.
func (s *Server) dropException(ctx context.Context, id ringfence.DeviceID) error {
	err := s.c.Store.DeleteException(ctx, exceptionSubject(id))
	if ringfence.KindOf(err) == ringfence.KindNotFound {
		return nil
	}
	return err
}

func (s *Server) endException(ctx context.Context, in *devicePath) (*none, error) {
	err := s.c.Store.Tx(ctx, func(tx *store.Tx) error {
		d, err := tx.Device(ctx, in.ID)
		if err != nil {
			return unknown(err, "device", string(in.ID))
		}
		d.Profile.Plain = nil
		if err := tx.DeleteException(ctx, exceptionSubject(in.ID)); err != nil {
			return fault("admin.exception", ringfence.KindNotFound, "the device "+string(in.ID)+" has no exception", "")
		}
		return tx.UpdateDevice(ctx, d)
	})
	return nil, firstOf(err, s.c.Roster.Reload(ctx))
}
