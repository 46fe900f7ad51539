package registrar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
)

// bearerFlow is the flow on which everybody has a token (SIP OAuth).
const bearerFlow = "sip-oauth"

// Tokens checks access tokens.
type Tokens interface {
	// Access returns what a token says if it is good. It may look into the store.
	Access(ctx context.Context, token string) (Access, error)
	// Server is the address where a token is to be had.
	Server() string
}

// Access is what a good access token says.
type Access struct {
	Device ringfence.DeviceID
	User   ringfence.UserID
	Grant  string
	Until  time.Time
}

// tokenPatience bounds how long a token may take to be checked.
const tokenPatience = 5 * time.Second

// fresh reports whether a request carries a token that the connection has not shown before.
func (r *Registrar) fresh(tx *transaction.Server) bool {
	token := tx.Request.Bearer()
	if r.cfg.Tokens == nil || token == nil || !tx.Conn.Secure() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[tx.Conn.ID].token != sha256.Sum256(token)
}

// bearer identifies a device by an access token (RFC 8898). Checking it takes the store, so the request waits aside and then starts
// again, on a connection that is known.
func (r *Registrar) bearer(tx *transaction.Server) {
	token := tx.Request.Bearer()
	if token == nil {
		r.challengeBearer(tx, "")
		return
	}
	var a Access
	text, sum := string(token), sha256.Sum256(token)
	tx.Aside(func() (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), tokenPatience)
		defer cancel()
		a, err = r.cfg.Tokens.Access(ctx, text)
		return err
	}, func(err error) {
		d := r.cfg.Roster.Device(a.Device)
		kind := ringfence.KindOf(err)
		switch {
		case err != nil && kind != ringfence.KindUnauthenticated && kind != ringfence.KindDenied:
			r.cfg.Log.Error("an access token could not be checked", "err", err, "hint", ringfence.HintOf(err))
			tx.Reply(503, "", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, 5) })
		case err != nil:
			r.cfg.Log.Info("an access token was refused", "remote", tx.Conn.Remote, "cause", err)
			r.count(&r.stats.Refused)
			r.challengeBearer(tx, "invalid_token")
		case d == nil || d.State != store.DeviceActive || time.Until(a.Until) < r.cfg.Min:
			r.count(&r.stats.Refused)
			r.challengeBearer(tx, "invalid_token")
		default:
			r.mu.Lock()
			r.known[tx.Conn.ID] = Identity{Device: d.ID, User: d.User, Auth: ringfence.AuthToken, Grant: a.Grant, Until: a.Until, token: sum}
			r.mu.Unlock()
			r.cfg.Resume(tx)
		}
	})
}

// challengeBearer asks for a token. Clients that know the scheme from before the RFC expect to be asked as by a proxy.
func (r *Registrar) challengeBearer(tx *transaction.Server, problem string) {
	r.count(&r.stats.Challenged)
	c := sip.BearerChallenge{Realm: r.cfg.Domain, Server: r.cfg.Tokens.Server(), Scope: "sip", Error: problem}
	status, header := 401, sip.HeaderWWWAuthenticate
	if bytes.Contains(tx.Request.Get(sip.HeaderContact), []byte("+u.sip!devicename")) {
		status, header = 407, sip.HeaderProxyAuthenticate
	}
	tx.Reply(status, "", func(w *sip.Writer) { w.Value(header, c.Append(nil)) })
}

// EndGrant ends the registrations that were made on a connection with tokens of a grant, and forgets who is on it; the caller closes it.
// It reports whether there was such a connection.
func (r *Registrar) EndGrant(ctx context.Context, c *transport.Conn, grant string) (bool, error) {
	r.mu.Lock()
	id, ok := r.known[c.ID]
	if !ok || id.Grant != grant {
		r.mu.Unlock()
		return false, nil
	}
	delete(r.known, c.ID)
	var keys []store.BindingKey
	var gone []Change
	kept := r.byUser[id.User][:0]
	for _, b := range r.byUser[id.User] {
		if b.Conn != c {
			kept = append(kept, b)
			continue
		}
		keys = append(keys, b.Key())
		gone = append(gone, Change{User: id.User, Device: b.Device, Contact: b.Contact, Why: "dropped"})
	}
	r.set(id.User, kept)
	r.mu.Unlock()
	r.tell(gone)
	return true, r.cfg.Ledger.ApplyBindings(ctx, nil, keys)
}
