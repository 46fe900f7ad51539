package token

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// Grants keeps grants; *store.Store is one.
type Grants interface {
	CreateGrant(ctx context.Context, g store.Grant) error
	Grant(ctx context.Context, id string) (store.Grant, error)
	GrantByRefresh(ctx context.Context, hash string) (store.Grant, error)
	RotateGrant(ctx context.Context, id, old, fresh string, now time.Time) error
	RevokeGrant(ctx context.Context, id string, now time.Time) error
	PurgeGrants(ctx context.Context, before time.Time) (int, error)
	Device(ctx context.Context, id ringfence.DeviceID) (store.Device, error)
	DevicesOf(ctx context.Context, user ringfence.UserID) ([]store.Device, error)
	AppendAudit(ctx context.Context, a store.AuditEntry) error
}

// Secrets keeps the signing keys, sealed; *store.Store is one.
type Secrets interface {
	Secret(ctx context.Context, name string) ([]byte, error)
	CreateSecret(ctx context.Context, name string, secret []byte) error
	ReplaceSecret(ctx context.Context, name string, old, secret []byte) error
}

var (
	_ Grants  = (*store.Store)(nil)
	_ Secrets = (*store.Store)(nil)
)

// Client is a program that may be signed in. All are public clients (RFC 6749 section 2.1): they keep no secret.
type Client struct {
	ID string
	// Redirects are where an authorization code may be sent, compared as a whole. Any port of a loopback address is allowed where one is
	// listed without a port (RFC 8252 section 7.3).
	Redirects []string
}

// Config holds what a Server needs. Zero durations take the defaults beside them.
type Config struct {
	Issuer func() string // its address, such as https://ringfence.internal:8443
	// Registrar is where access tokens are good over TLS, for programs to be told; nil: they are not.
	Registrar func() (host string, port uint16)
	Audience  string // whom access tokens are for: the SIP domain
	Clients   func() []Client
	Grants    Grants
	Secrets   Secrets
	// Redeem uses up an activation code that somebody at a remote address typed, and returns whose it was. It limits tries.
	Redeem func(ctx context.Context, remote, code string) (ringfence.DeviceID, error)
	// Outside is where people may prove who they are instead of typing an activation code; nil: nowhere.
	Outside Outside
	// Inspector returns who asks, if they may look at tokens; nil: nobody may. The fault is KindUnauthenticated or KindDenied, or says that
	// it could not be told.
	Inspector func(r *http.Request) (who string, err error)
	// Ended hears that a grant was revoked, after that is on disk.
	Ended func(g store.Grant)
	Log   *slog.Logger
	Now   func() time.Time // time.Now

	AccessLife  time.Duration // of an access token: 1 h
	RefreshLife time.Duration // of a grant: 90 days
}

const (
	codeLife   = time.Minute
	deviceLife = 10 * time.Minute
	interval   = 5 * time.Second
	keepEnded  = 30 * 24 * time.Hour
	// Scope is the only one: to register and call as the device.
	Scope = "sip"
)

// Server is the authorization server. Its methods may be called from any goroutine.
type Server struct {
	c      Config
	keys   atomic.Pointer[keySet]
	reload pace

	mu      sync.Mutex
	codes   map[string]*authorization // by hash of the authorization code
	devices map[string]*pairing       // by hash of the device code
	byUser  map[string]*pairing       // by user code
	visits  map[string]*visit         // by hash of the state
}

// New loads the signing keys, making the first one if there is none.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.Issuer == nil || c.Audience == "" || c.Grants == nil || c.Secrets == nil || c.Redeem == nil {
		return nil, fault("token.config", ringfence.KindInvalid, "signing in needs an address, an audience, grants, secrets and activation codes", "", nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.AccessLife == 0 {
		c.AccessLife = time.Hour
	}
	if c.RefreshLife == 0 {
		c.RefreshLife = 90 * 24 * time.Hour
	}
	if c.Ended == nil {
		c.Ended = func(store.Grant) {}
	}
	if c.Clients == nil {
		c.Clients = func() []Client { return nil }
	}
	s := &Server{c: c, codes: map[string]*authorization{}, devices: map[string]*pairing{}, byUser: map[string]*pairing{}, visits: map[string]*visit{}}
	return s, s.loadKeys(ctx)
}

// Issuer returns the address of the authorization server.
func (s *Server) Issuer() string { return s.c.Issuer() }

// client returns a program that may be signed in.
func (s *Server) client(id string) (Client, bool) {
	all := s.c.Clients()
	i := slices.IndexFunc(all, func(c Client) bool { return c.ID == id })
	if i < 0 {
		return Client{}, false
	}
	return all[i], true
}

// allows reports whether a code may be sent there.
func (c Client) allows(redirect string) bool {
	if len(redirect) > 512 {
		return false
	}
	u, err := url.Parse(redirect)
	if err != nil || u.Scheme == "" || u.Fragment != "" || u.User != nil {
		return false
	}
	for _, r := range c.Redirects {
		if r == redirect {
			return true
		}
		known, err := url.Parse(r)
		if err != nil || known.Scheme != "http" || known.Port() != "" {
			continue
		}
		if ip, err := netip.ParseAddr(known.Hostname()); err == nil && ip.IsLoopback() && u.Scheme == "http" && u.Hostname() == known.Hostname() && u.Path == known.Path && u.RawQuery == known.RawQuery {
			return true
		}
	}
	return false
}

// device returns a device that may sign in by token.
func (s *Server) device(ctx context.Context, id ringfence.DeviceID) (store.Device, error) {
	d, err := s.c.Grants.Device(ctx, id)
	switch {
	case err != nil && ringfence.KindOf(err) != ringfence.KindNotFound:
		return d, err
	case err != nil || d.State != store.DeviceActive:
		return d, refused("the device was revoked or removed")
	case !slices.Contains(d.Profile.Auth, ringfence.AuthToken):
		return d, fault("token.device", ringfence.KindDenied, "the device "+string(id)+" does not sign in by token", "add one that does: ringfence device add ID --user USER --auth token", nil)
	}
	return d, nil
}

// grant makes a grant for a device that somebody proved to have, with its first tokens.
func (s *Server) grant(ctx context.Context, id ringfence.DeviceID, client string) (answer, error) {
	d, err := s.device(ctx, id)
	if err != nil {
		return answer{}, err
	}
	now := s.c.Now()
	refresh := randomText(32)
	g := store.Grant{ID: "g" + randomText(12), Device: d.ID, Client: client, Scope: Scope, Refresh: store.HashToken(refresh), Created: now, Used: now, Expires: now.Add(s.c.RefreshLife)}
	if err := s.c.Grants.CreateGrant(ctx, g); err != nil {
		return answer{}, err
	}
	if err := s.audit(ctx, "token.grant", "device "+string(d.ID)+" by "+client, "done"); err != nil {
		return answer{}, err
	}
	return s.answer(g, d.User, refresh, now)
}

// Revoke ends a grant at once: its refresh token and its access tokens stop working.
func (s *Server) Revoke(ctx context.Context, id, why string) error {
	g, err := s.c.Grants.Grant(ctx, id)
	if err != nil {
		return err
	}
	if err := s.c.Grants.RevokeGrant(ctx, id, s.c.Now()); err != nil {
		return err
	}
	s.c.Ended(g)
	return s.audit(ctx, "token.revoke", "grant "+id+" of device "+string(g.Device), why)
}

func (s *Server) audit(ctx context.Context, what, target, outcome string) error {
	return s.c.Grants.AppendAudit(context.WithoutCancel(ctx), store.AuditEntry{At: s.c.Now(), Who: "trust/token", What: what, Target: target, Outcome: outcome})
}

// forget drops what was begun and never finished.
func (s *Server) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h, a := range s.codes {
		if now.After(a.expires) {
			delete(s.codes, h)
		}
	}
	for h, p := range s.devices {
		if now.After(p.expires) {
			delete(s.devices, h)
			delete(s.byUser, p.userCode)
		}
	}
	for h, v := range s.visits {
		if now.After(v.expires) {
			delete(s.visits, h)
		}
	}
}

// randomText returns n random bytes as base64url.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// pace lets something happen once a second.
type pace struct {
	mu   sync.Mutex
	last time.Time
}

func (p *pace) allow(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := now.Sub(p.last); d >= 0 && d < time.Second {
		return false
	}
	p.last = now
	return true
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
