package control

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/roster"
	"ringfence/internal/call/trunk"
	"ringfence/internal/media/player"
	"ringfence/internal/media/relay"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/profile"
)

// Config holds what Control needs.
type Config struct {
	Domain    string
	Dialogs   *dialog.Layer
	Shard     *transaction.Shard // where calls live
	Media     *relay.Engine
	Registrar *registrar.Registrar
	Roster    *roster.Roster
	Plan      func() dialplan.Plan
	Log       *slog.Logger
	Records   Records // nil: none are kept
	Events    Events  // nil: nobody hears
	// Elsewhere, if set, adds to the contacts that a user has here those at other nodes, each with a connection to its node. It may take a moment, and is called off the shard.
	Elsewhere func(user ringfence.UserID, here []registrar.Contact) []registrar.Contact
	// NextHop, if set, returns a connection to another server of the proxy at the other end of c, which has said 503 and is to be left alone for a while, or nil. It may
	// take a moment, and is called off the shard.
	NextHop func(c *transport.Conn, wait time.Duration) *transport.Conn
	// Changed, if set, hears that the lines of a user changed, on the shard; Watched says whether it wants to.
	Changed func(ringfence.UserID)
	Watched func(ringfence.UserID) bool
	Sounds  Sounds // recordings; nil: there are none
	Trunks  Trunks // ways to other telephone systems
	// MediaAddr says which address a peer on this connection reaches our media at; nil: the connection's own.
	MediaAddr func(c *transport.Conn) netip.Addr
	// Port returns where SIP over TLS listens, for the Contact on connections that we opened; nil: nothing is opened.
	Port     func() uint16
	MaxCalls int           // 10,000; above it new calls get 503 with Retry-After
	RingTime time.Duration // 2 min without an answer
	Silence  time.Duration // 90 s without a packet from a phone that should be heard; then the call is over
}

// Trunks knows the ways to other telephone systems; *trunk.Table is one, also if it is nil.
type Trunks interface {
	// Way returns a connection by which calls go to a trunk, nil while there is none, and the trunk.
	Way(name string) (*transport.Conn, trunk.Trunk)
	// Accepts reports whether the profile of a trunk lets the other side make a kind of request.
	Accepts(name string, r profile.Request) bool
}

// Control owns the calls. Methods are called on its shard unless they say otherwise.
type Control struct {
	cfg      Config
	calls    map[ringfence.CallID]*Call
	nextID   uint64
	answered store.CDR                      // what Records.Answered was told last, whose room is used again
	prefix   string                         // tells the ids of this start from those of others
	idle     map[ringfence.UserID]time.Time // since when a user has had no call
	lines    map[ringfence.UserID][]*Leg    // what each user has now: legs that are not over
	byTrunk  map[string]int                 // how many legs each trunk has that are not over
	robin    map[ringfence.Number]int       // last member of a round-robin group
	parked   map[int]*Call
	music    *player.Recording // on hold, for codecs that cost much to encode; nil until somebody is held
	refused  atomic.Uint64
	draining atomic.Bool
}

// New returns a Control without calls.
func New(cfg Config) *Control {
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = 10_000
	}
	if cfg.RingTime == 0 {
		cfg.RingTime = 2 * time.Minute
	}
	if cfg.Silence == 0 {
		cfg.Silence = 90 * time.Second
	}
	if cfg.Events == nil {
		cfg.Events = deaf{}
	}
	if cfg.Trunks == nil {
		cfg.Trunks = (*trunk.Table)(nil)
	}
	return &Control{cfg: cfg, calls: map[ringfence.CallID]*Call{}, prefix: fmt.Sprintf("c%08x-", rand.Uint32()), idle: map[ringfence.UserID]time.Time{},
		lines: map[ringfence.UserID][]*Leg{}, byTrunk: map[string]int{}, robin: map[ringfence.Number]int{}, parked: map[int]*Call{}}
}

// Refused returns how many calls were refused because a leg could not be sealed. It may be called from anywhere.
func (c *Control) Refused() uint64 { return c.refused.Load() }

// Drain refuses new calls from now on. It may be called from anywhere.
func (c *Control) Drain() { c.draining.Store(true) }

// Count returns the number of calls, from anywhere.
func (c *Control) Count() (n int) {
	c.cfg.Shard.Do(func() { n = len(c.calls) })
	return n
}

// EndAll ends every call, e.g. when draining takes too long. It may be called from anywhere.
func (c *Control) EndAll(reason string) {
	c.cfg.Shard.Do(func() {
		for _, call := range c.calls {
			call.end(nil, dialog.Reason(41, reason), "node stopped")
		}
	})
}

// Invite handles an INVITE that starts a dialog, from an identified device.
func (c *Control) Invite(tx *transaction.Server, id registrar.Identity) {
	uri, ok := c.invited(tx, func(dialled string) bool { return c.decide(id.User, dialled).Action == dialplan.ToEmergency })
	if !ok {
		return
	}
	dialled := string(sip.Unescape(uri.User))
	call := c.newCall()
	call.spent, _ = spent(tx.Request)
	leg := call.newLeg("caller", id.Device, id.User)
	leg.auth = id.Auth
	leg.except()
	call.Dialled = dialled
	call.instance = instanceOf(&uri)
	leg.session = c.cfg.Dialogs.Accept(tx, c.contact(tx.Conn), leg)
	call.caller = leg
	if user := c.cfg.Roster.User(id.User); user != nil {
		call.From, call.fromName = string(user.ID), user.Name
		if len(user.Numbers) > 0 {
			call.From = string(user.Numbers[0])
		}
	}
	call.private = wantsPrivacy(tx.Request)
	who := call.from()
	leg.who = &who
	leg.opened()
	if err := leg.hear(tx.Request.Body()); err != nil {
		call.refuse(err)
		return
	}
	if v := tx.Request.Get(sip.HeaderReplaces); len(v) > 0 {
		if err := call.replace(string(v)); err != nil {
			call.refuse(err)
		}
		return
	}
	call.route(call.Dialled, id.User)
}

// invited returns what an INVITE that starts a dialog asks for. If it cannot be taken it was answered; always says which calls are taken whatever the load is.
func (c *Control) invited(tx *transaction.Server, always func(dialled string) bool) (sip.URI, bool) {
	uri, err := sip.ParseURI(tx.Request.RequestURI())
	if err != nil || !uri.IsSIP() && !sip.EqualFold(uri.Scheme, "tel") {
		tx.Reply(416, "", nil)
		return uri, false
	}
	if (len(c.calls) >= c.cfg.MaxCalls || c.draining.Load()) && !always(string(sip.Unescape(uri.User))) {
		tx.Reply(503, "", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, uint64(5+rand.IntN(10))) })
		return uri, false
	}
	return uri, acceptable(tx)
}

// acceptable reports whether an INVITE that starts a dialog has hops left and requires nothing unheard of; otherwise it was answered.
func acceptable(tx *transaction.Server) bool {
	if _, ok := spent(tx.Request); !ok {
		tx.Reply(483, "", nil)
		return false
	}
	if tag := unsupported(tx.Request); tag != "" {
		tx.Reply(420, "", func(w *sip.Writer) { w.Header(sip.HeaderUnsupported, tag) })
		return false
	}
	return true
}

// spent returns how many hops a request has behind it once we have sent it on, and false if it has none left. A call that goes round through other systems ends by that
// (RFC 7332 section 4), since it is a new one each time to everybody on the way.
func spent(m *sip.Message) (n int, ok bool) {
	left, there := m.Uint(sip.HeaderMaxForwards, 255)
	if !there {
		left = dialog.MaxForwards
	}
	return dialog.MaxForwards - min(int(left), dialog.MaxForwards) + 1, left > 0
}

// wantsPrivacy reports whether the caller withholds its identity (RFC 3323, RFC 3325).
func wantsPrivacy(m *sip.Message) bool {
	for line := range m.All(sip.HeaderPrivacy) {
		for v := range strings.SplitSeq(string(line), ";") {
			switch strings.ToLower(strings.TrimSpace(v)) {
			case "id", "user", "header":
				return true
			}
		}
	}
	return false
}

// unsupported returns the first required option that is not known here.
func unsupported(m *sip.Message) string {
	for line := range m.All(sip.HeaderRequire) {
		for v := range sip.Values(line) {
			switch string(v) {
			case "100rel", "timer", "replaces", "outbound", "gruu":
			default:
				return string(v)
			}
		}
	}
	return ""
}

// contact is our Contact value on a connection. For WebSocket the parameter is ws, secure or not (RFC 7118 section 5.2.4).
func (c *Control) contact(conn *transport.Conn) string {
	var scheme string
	switch conn.Network {
	case "UDP":
		scheme = "udp"
	case "TLS":
		scheme = "tls"
	case "WSS":
		scheme = "ws"
	default:
		scheme = strings.ToLower(conn.Network)
	}
	at := conn.SentBy()
	if conn.Dialled && c.cfg.Port != nil { // the peer must find us when this connection is gone
		at = netip.AddrPortFrom(conn.Local.Addr(), c.cfg.Port()).String()
	}
	return "<sip:" + at + ";transport=" + scheme + ">"
}

func (c *Control) newCall() *Call {
	c.nextID++
	call := &Call{ID: ringfence.CallID(c.prefix + strconv.FormatUint(c.nextID, 10)), ctl: c, Start: time.Now()}
	c.calls[call.ID] = call
	return call
}

// busy returns how many calls a user has now.
func (c *Control) busy(user ringfence.UserID) int { return len(c.lines[user]) }

// hungUp takes a leg that is over off its user's lines.
func (c *Control) hungUp(l *Leg) {
	if l.Trunk != "" {
		if c.byTrunk[l.Trunk]--; c.byTrunk[l.Trunk] == 0 {
			delete(c.byTrunk, l.Trunk)
		}
	}
	if l.User == "" {
		return
	}
	c.lines[l.User] = slices.DeleteFunc(c.lines[l.User], func(x *Leg) bool { return x == l }) // whoever called once will call again
}

func (c *Control) mediaAddr(conn *transport.Conn, port uint16) netip.AddrPort {
	addr := conn.Local.Addr()
	if c.cfg.MediaAddr != nil {
		if a := c.cfg.MediaAddr(conn); a.IsValid() {
			addr = a
		}
	}
	return netip.AddrPortFrom(addr, port)
}
