package registrar

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/state/store"
)

// Secrets finds digest secrets; *store.Store is one.
type Secrets interface {
	DigestSecret(ctx context.Context, username, realm string, alg ringfence.Auth) (store.DigestSecret, error)
}

// authenticator checks digest credentials (RFC 8760, RFC 7616).
type authenticator struct {
	nonces *sip.Nonces
	decoy  [64]byte // what unknown users are checked against, so that they cost as much as known ones

	mu    sync.Mutex
	cache map[secretKey][]byte
}

type secretKey struct {
	device ringfence.DeviceID
	alg    ringfence.Auth
}

func newAuthenticator() (*authenticator, error) {
	nonces, err := sip.NewNonces(time.Now, rand.Reader, 5*time.Minute)
	if err != nil {
		return nil, err
	}
	a := &authenticator{nonces: nonces, cache: map[secretKey][]byte{}}
	_, err = rand.Read(a.decoy[:])
	return a, err
}

// Forget drops what is remembered of a device's secrets, after they changed.
func (r *Registrar) Forget(device ringfence.DeviceID) {
	r.auth.mu.Lock()
	defer r.auth.mu.Unlock()
	delete(r.auth.cache, secretKey{device, ringfence.AuthDigestSHA256})
	delete(r.auth.cache, secretKey{device, ringfence.AuthDigestMD5})
}

// digest identifies a device without a certificate. The username is the device id. Known and unknown users get the same
// answers. In the clear everybody is challenged alike, and only a device with an exception passes.
func (r *Registrar) digest(tx *transaction.Server) (Identity, bool) {
	m, plain := tx.Request, !tx.Conn.Secure()
	cred, ok := m.CredentialsFor(sip.HeaderAuthorization, r.cfg.Domain)
	if !ok {
		r.challenge(tx, false)
		return Identity{}, false
	}
	state := r.auth.nonces.Check(cred.Nonce)
	if state != sip.NonceGood {
		r.challenge(tx, state == sip.NonceStale)
		return Identity{}, false
	}
	id, secret := r.secret(&cred)
	right := cred.Verify(secret, string(m.MethodText()))
	if !right || id.Device == "" || !cred.MatchesURI(m.RequestURI()) {
		if plain {
			r.refusePlain(tx, string(cred.Username), "its credentials are wrong")
			return Identity{}, false
		}
		r.count(&r.stats.Refused)
		r.challenge(tx, false)
		return Identity{}, false
	}
	if state := r.auth.nonces.Use(cred.Nonce, cred.NC); state != sip.NonceGood {
		r.challenge(tx, state == sip.NonceStale)
		return Identity{}, false
	}
	if plain && !r.excepted(id.Device) {
		r.refusePlain(tx, string(id.Device), "it has no exception")
		return Identity{}, false
	}
	if tx.Conn.Peer.Role == proxyRole {
		return r.allowed(tx, id)
	}
	if !r.profiled(tx, r.cfg.Roster.Device(id.Device), id.Auth) {
		return Identity{}, false
	}
	r.mu.Lock()
	r.known[tx.Conn.ID] = id // from now on this connection speaks for the device; but see Identify for datagrams
	if plain {
		r.stats.PlainServed++
	}
	r.mu.Unlock()
	return id, true
}

// secret returns who the username is and the hash to check against; for anybody unknown, a decoy.
func (r *Registrar) secret(cred *sip.Credentials) (Identity, []byte) {
	decoy := r.auth.decoy[:max(cred.Algorithm.Size(), 16)]
	alg := ringfence.AuthDigestSHA256
	switch cred.Algorithm {
	case sip.DigestSHA256:
	case sip.DigestMD5:
		alg = ringfence.AuthDigestMD5
	default:
		return Identity{}, decoy
	}
	d := r.cfg.Roster.Device(ringfence.DeviceID(cred.Username))
	if d == nil || d.State != store.DeviceActive || !slices.Contains(d.Profile.Auth, alg) || r.cfg.Secrets == nil {
		return Identity{}, decoy
	}
	key := secretKey{d.ID, alg}
	r.auth.mu.Lock()
	ha1 := r.auth.cache[key]
	r.auth.mu.Unlock()
	if ha1 == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		s, err := r.cfg.Secrets.DigestSecret(ctx, string(d.ID), r.cfg.Domain, alg)
		if err != nil {
			return Identity{}, decoy
		}
		ha1 = s.HA1
		r.auth.mu.Lock()
		r.auth.cache[key] = ha1
		r.auth.mu.Unlock()
	}
	return Identity{Device: d.ID, User: d.User, Auth: alg}, ha1
}

// challenge asks for credentials: SHA-256 first, and MD5 too if any device here is allowed it, whoever asks.
func (r *Registrar) challenge(tx *transaction.Server, stale bool) {
	r.count(&r.stats.Challenged)
	nonce := r.auth.nonces.New()
	md5 := r.cfg.Roster.AnyMD5()
	algs := []sip.DigestAlgorithm{sip.DigestSHA256}
	switch {
	case md5 && onlyMD5(tx.Request.Get(sip.HeaderUserAgent)):
		algs[0] = sip.DigestMD5
	case md5:
		algs = append(algs, sip.DigestMD5)
	}
	tx.Reply(401, "", func(w *sip.Writer) {
		var space [512]byte
		for _, alg := range algs {
			c := sip.Challenge{Realm: r.cfg.Domain, Nonce: nonce, Algorithm: alg, QOP: true, Stale: stale}
			w.Value(sip.HeaderWWWAuthenticate, c.Append(space[:0]))
		}
	})
}

// onlyMD5 reports whether a program is known to give up when it is challenged with anything beside MD5, where RFC 8760 section
// 2.4 wants it to pass over what it does not know. What it says of itself weakens nobody else: the profile of a device decides
// whether an answer with MD5 counts.
func onlyMD5(agent []byte) bool {
	for _, old := range [...]string{"baresip v0.", "baresip v1."} {
		if bytes.HasPrefix(agent, []byte(old)) {
			return true
		}
	}
	return false
}
