package registrar

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/call/roster"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
)

// Ledger keeps bindings on disk; *store.Journal is one. It must give up by itself if the disk or a server does not answer.
type Ledger interface {
	ApplyBindings(ctx context.Context, put []store.Binding, remove []store.BindingKey) error
	// ExpireBindings removes those of the keys that have expired at now: another node may have refreshed one.
	ExpireBindings(ctx context.Context, keys []store.BindingKey, now time.Time) error
	AllBindings(ctx context.Context, now time.Time, each func(store.Binding) error) error
}

// Config holds what a Registrar needs. Zero durations take the defaults beside them.
type Config struct {
	Domain  string // the domain of every address-of-record here
	Node    string // whose connections reach the phones, for the other nodes of a shared ledger; empty: there are none
	Ledger  Ledger
	Quick   bool // the ledger is a file: it is written by whoever brings a REGISTER; otherwise by one goroutine, in groups
	Roster  *roster.Roster
	Secrets Secrets // digest secrets; nil: certificates only
	Tokens  Tokens  // access tokens; nil: none are taken
	// Resume handles a request anew whose sender is known now. It runs on the request's shard.
	Resume     func(tx *transaction.Server)
	Log        *slog.Logger
	Min        time.Duration // 60 s
	Max        time.Duration // 1 h
	FlowTimer  time.Duration // 120 s: how often a phone must send something (RFC 5626 section 4.4)
	MaxPerUser int           // 20 bindings of one address-of-record
	Events     Events        // nil: nobody hears
	// ChallengeEach asks for credentials at each REGISTER of a device without a certificate. Without it, an answered challenge
	// counts for as long as the TLS connection lasts.
	ChallengeEach bool
	// Proxies are the names of the edge proxies that may carry requests of devices. A device behind one is known by digest alone.
	Proxies []string
	// MayProve says whether devices of a security profile may prove themselves in a way; nil: all may.
	MayProve func(profile string, by ringfence.Auth) error
}

// Contact is one way to reach a user now.
type Contact struct {
	store.Binding
	Conn *transport.Conn // the flow; nil if the phone has not come back since its connection ended
	// Others, as Locate fills it, are the phone's other flows (RFC 5626), the latest first: to be tried if this one fails.
	Others []Contact
}

// Live reports whether the contact can be called now.
func (c *Contact) Live() bool { return c.Conn != nil && c.Conn.State() == "Established" }

// Registrar holds the bindings. Its methods may be called from any goroutine, except that Register and Identify are called on
// the request's shard.
type Registrar struct {
	cfg    Config
	commit *committer
	auth   *authenticator

	mu     sync.Mutex
	byUser map[ringfence.UserID][]*Contact
	byConn map[uint64][]*Contact
	known  map[uint64]Identity // connections whose peer answered a digest challenge

	plainLogged time.Time // when a refusal of plain SIP was logged last

	stats Stats
}

// Stats counts since start.
type Stats struct {
	Registered   uint64 `json:"registered"`   // REGISTERs that made or refreshed a binding
	Unregistered uint64 `json:"unregistered"` // that removed one
	Refused      uint64 `json:"refused"`      // requests of devices that could not prove themselves, or may not
	Challenged   uint64 `json:"challenged"`
	PlainServed  uint64 `json:"plain_served"`  // challenges answered in the clear by devices with an exception
	PlainRefused uint64 `json:"plain_refused"` // requests in the clear of everybody else; Refused counts them too
}

// Open loads the bindings that were on disk; their flows are gone until the phones come back.
func Open(ctx context.Context, cfg Config) (*Registrar, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&cfg.Min, time.Minute)
	set(&cfg.Max, time.Hour)
	set(&cfg.FlowTimer, 2*time.Minute)
	if cfg.MaxPerUser == 0 {
		cfg.MaxPerUser = 20
	}
	if cfg.Events == nil {
		cfg.Events = deaf{}
	}
	auth, err := newAuthenticator()
	if err != nil {
		return nil, err
	}
	r := &Registrar{cfg: cfg, auth: auth, commit: newCommitter(cfg.Ledger), byUser: map[ringfence.UserID][]*Contact{}, byConn: map[uint64][]*Contact{}, known: map[uint64]Identity{}}
	now := time.Now()
	err = cfg.Ledger.AllBindings(ctx, now, func(b store.Binding) error {
		if d := cfg.Roster.Device(b.Device); d != nil && d.State == store.DeviceActive {
			r.byUser[d.User] = append(r.byUser[d.User], &Contact{Binding: b})
		}
		return nil
	})
	if err != nil {
		r.commit.close()
		return nil, err
	}
	return r, nil
}

// Close waits until what was accepted is on disk.
func (r *Registrar) Close() { r.commit.close() }

// AOR returns the address-of-record of a user.
func (r *Registrar) AOR(user ringfence.UserID) string {
	return "sip:" + string(user) + "@" + r.cfg.Domain
}

// Stats returns the counters.
func (r *Registrar) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

func (r *Registrar) count(n *uint64) {
	r.mu.Lock()
	*n++
	r.mu.Unlock()
}

// Locate returns the user's contacts that can be called now, the latest first, one for each device and instance: several flows of one
// phone (RFC 5626) are one place to ring.
func (r *Registrar) Locate(user ringfence.UserID) []Contact {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var out []Contact
	for _, c := range r.byUser[user] {
		if !c.Live() || !c.Expires.After(now) || c.Proof.Verdict != ringfence.Sealed && !r.excepted(c.Device) {
			continue
		}
		out = Group(out, *c)
	}
	return out
}

// Group adds a contact to those of a user, as another flow of its phone if that is among them.
func Group(contacts []Contact, c Contact) []Contact {
	if i := slices.IndexFunc(contacts, c.samePhone); i >= 0 {
		contacts[i].Others = append(contacts[i].Others, c)
		return contacts
	}
	return append(contacts, c)
}

// samePhone reports whether two contacts are flows of one phone.
func (c *Contact) samePhone(o Contact) bool {
	return c.Device == o.Device && c.Instance == o.Instance && (c.Instance != "" || c.Contact == o.Contact)
}

// All returns every binding that has not expired.
func (r *Registrar) All() []Contact {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var out []Contact
	for _, list := range r.byUser {
		for _, c := range list {
			if c.Expires.After(now) {
				out = append(out, *c)
			}
		}
	}
	return out
}

// FlowOf returns a live connection of the device, or nil.
func (r *Registrar) FlowOf(device ringfence.DeviceID) *transport.Conn {
	d := r.cfg.Roster.Device(device)
	if d == nil {
		return nil
	}
	for _, c := range r.Locate(d.User) {
		if c.Device == device {
			return c.Conn
		}
	}
	return nil
}

// Closed forgets the flow of a connection that ended. The binding stays: the phone may come back before it expires.
func (r *Registrar) Closed(conn *transport.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, conn.ID)
	for _, c := range r.byConn[conn.ID] {
		if c.Conn == conn {
			c.Conn = nil
		}
	}
	delete(r.byConn, conn.ID)
}

// Drop ends every binding and connection of a device that was revoked or removed, and returns how many connections it closed.
func (r *Registrar) Drop(ctx context.Context, device ringfence.DeviceID, cause error) (int, error) {
	r.mu.Lock()
	var conns []*transport.Conn
	var keys []store.BindingKey
	var gone []Change
	for user, list := range r.byUser {
		kept := list[:0]
		for _, c := range list {
			if c.Device != device {
				kept = append(kept, c)
				continue
			}
			keys = append(keys, c.Key())
			gone = append(gone, Change{User: user, Device: c.Device, Contact: c.Contact, Why: "dropped"})
			if c.Conn != nil && c.Conn.Peer.Role != proxyRole { // behind a proxy there are others
				conns = append(conns, c.Conn)
			}
		}
		r.set(user, kept)
	}
	r.mu.Unlock()
	r.tell(gone)
	for _, c := range conns {
		c.Close(cause)
	}
	return len(conns), r.cfg.Ledger.ApplyBindings(ctx, nil, keys)
}

// set is called with mu held.
func (r *Registrar) set(user ringfence.UserID, list []*Contact) {
	if len(list) == 0 {
		delete(r.byUser, user)
		return
	}
	r.byUser[user] = list
}

// Expire removes bindings whose time is over; call it now and then.
func (r *Registrar) Expire(ctx context.Context) error {
	r.mu.Lock()
	now := time.Now()
	var keys []store.BindingKey
	var gone []Change
	for user, list := range r.byUser {
		kept := list[:0]
		for _, c := range list {
			if c.Expires.After(now) {
				kept = append(kept, c)
			} else {
				keys = append(keys, c.Key())
				gone = append(gone, Change{User: user, Device: c.Device, Contact: c.Contact, Why: "expired"})
			}
		}
		r.set(user, kept)
	}
	r.mu.Unlock()
	r.tell(gone)
	if len(keys) == 0 {
		return nil
	}
	return r.cfg.Ledger.ExpireBindings(ctx, keys, now)
}
