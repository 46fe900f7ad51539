package registrar

import (
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
)

// Identity says which device speaks, for whom, and how it proved that.
type Identity struct {
	Device ringfence.DeviceID
	User   ringfence.UserID
	Auth   ringfence.Auth
	Grant  string    // of an access token: what ends with it
	Until  time.Time // when what was proved is over; zero: with the connection

	token [32]byte // hash of that access token
}

// Identify says who sent a request. If it cannot yet, it has answered the request (401 or 403) or will hand it to Config.Resume, and ok
// is false.
func (r *Registrar) Identify(tx *transaction.Server) (id Identity, ok bool) {
	// Datagrams come from wherever they say, so that nothing is known from one to the next.
	each := !tx.Conn.Reliable() || r.cfg.ChallengeEach && tx.Method == sip.REGISTER
	if tx.Conn.Peer.Role == proxyRole {
		if !slices.Contains(r.cfg.Proxies, tx.Conn.Peer.Name) {
			r.count(&r.stats.Refused)
			tx.Reply(403, "Not A Proxy Of This Node", nil)
			return Identity{}, false
		}
		return r.digest(tx) // whoever is behind it, and each time: a proxy speaks for nobody
	}
	if r.fresh(tx) { // a token is renewed on a connection that is up
		r.bearer(tx)
		return Identity{}, false
	}
	if id, ok := r.Known(tx.Conn); ok && (!each || id.Auth == ringfence.AuthCertificate || id.Auth == ringfence.AuthToken) {
		return r.allowed(tx, id)
	}
	if tx.Conn.Peer.Role != "" {
		r.count(&r.stats.Refused)
		tx.Reply(403, "Not A Device Of This Node", nil)
		return Identity{}, false
	}
	if r.cfg.Tokens != nil && tx.Conn.Flow == bearerFlow {
		r.bearer(tx)
		return Identity{}, false
	}
	return r.digest(tx)
}

// Known returns the identity that a connection has proved already. Of a UDP peer it is who proved to be there last.
func (r *Registrar) Known(c *transport.Conn) (Identity, bool) {
	if c.Peer.Role == "device" {
		d := r.cfg.Roster.Device(ringfence.DeviceID(c.Peer.Name))
		if d == nil {
			return Identity{Device: ringfence.DeviceID(c.Peer.Name), Auth: ringfence.AuthCertificate}, true
		}
		return Identity{Device: d.ID, User: d.User, Auth: ringfence.AuthCertificate}, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.known[c.ID]
	if ok && !id.Until.IsZero() && !time.Now().Before(id.Until) {
		return Identity{}, false
	}
	return id, ok
}

// allowed refuses devices that were removed or revoked since they proved themselves.
func (r *Registrar) allowed(tx *transaction.Server, id Identity) (Identity, bool) {
	d := r.cfg.Roster.Device(id.Device)
	if d == nil || d.State != store.DeviceActive {
		r.count(&r.stats.Refused)
		tx.Reply(403, "Device Is Revoked Or Removed", nil)
		return Identity{}, false
	}
	if !r.profiled(tx, d, id.Auth) {
		return Identity{}, false
	}
	if !tx.Conn.Secure() && !r.excepted(id.Device) {
		r.refusePlain(tx, string(id.Device), "its exception is over")
		return Identity{}, false
	}
	return id, true
}

// profiled refuses a device that proved itself in a way which its security profile does not allow.
func (r *Registrar) profiled(tx *transaction.Server, d *store.Device, by ringfence.Auth) bool {
	if d == nil || r.cfg.MayProve == nil {
		return true
	}
	err := r.cfg.MayProve(d.Profile.Security, by)
	if err == nil {
		return true
	}
	r.count(&r.stats.Refused)
	r.cfg.Log.Warn("a device was refused by its security profile", "device", d.ID, "auth", by, "cause", err, "hint", ringfence.HintOf(err))
	tx.Reply(403, "Not By Its Security Profile", nil)
	return false
}
