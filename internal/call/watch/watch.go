package watch

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/call/registrar"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// Lines says which dialogs a user has now; call control is one.
type Lines interface {
	Lines(user ringfence.UserID) []control.Line
}

// Mailboxes says how many messages a user has.
type Mailboxes interface {
	Messages(user ringfence.UserID) (fresh, heard int)
}

// Config holds what a Watch needs.
type Config struct {
	Domain    string
	Shard     *transaction.Shard
	Lines     Lines
	Mailboxes Mailboxes
	Owner     func(n ringfence.Number) (ringfence.UserID, bool) // whose number or name it is
	// Group returns the members of a hunt group by its number; nil: there are none.
	Group func(n ringfence.Number) ([]ringfence.UserID, bool)
	// Known returns who has proved to be at the other end of a connection.
	Known  func(c *transport.Conn) (registrar.Identity, bool)
	Log    *slog.Logger
	Max    int // subscriptions in all; 0 means 100,000
	MaxPer int // subscriptions of one device; 0 means 200
}

// Watch holds the subscriptions. Methods are called on its shard unless they say otherwise.
type Watch struct {
	cfg  Config
	subs map[string]*subscription // by local tag
	by   map[ringfence.UserID]map[*subscription]bool
	per  map[ringfence.DeviceID]int
}

type subscription struct {
	w        *Watch
	conn     *transport.Conn
	pack     string
	target   ringfence.UserID
	group    ringfence.Number   // of a list, which has no target
	members  []ringfence.UserID // of it
	owner    registrar.Identity
	entity   string // what was subscribed to, as the subscriber wrote it
	callID   string
	local    string // our To value with tag
	remote   string // their From value with tag
	tag      string
	contact  string // ours
	uri      string // their Contact
	routes   []string
	seq      uint32
	theirSeq uint32
	version  uint64
	expires  time.Time
	timer    transaction.Timer
	waiting  bool // a NOTIFY is under way
	again    bool // and another one is due after it
}

// New returns a Watch without subscriptions.
func New(cfg Config) *Watch {
	if cfg.Max == 0 {
		cfg.Max = 100_000
	}
	if cfg.MaxPer == 0 {
		cfg.MaxPer = 200
	}
	return &Watch{cfg: cfg, subs: map[string]*subscription{}, by: map[ringfence.UserID]map[*subscription]bool{}, per: map[ringfence.DeviceID]int{}}
}

const (
	packDialog   = "dialog"
	packMessages = "message-summary"
	eventlist    = "eventlist"
	maxMembers   = 24 // of a list: then what is told fits into 32 KiB, with long names as well,
	maxCalls     = 2  // and so many calls of each
	minExpires   = 60 * time.Second
	maxExpires   = time.Hour
)

// Subscribe handles a SUBSCRIBE that starts a subscription, from an identified device.
func (w *Watch) Subscribe(tx *transaction.Server, id registrar.Identity) {
	m := tx.Request
	pack := eventOf(m)
	if pack != packDialog && pack != packMessages {
		tx.Reply(489, "", allowEvents)
		return
	}
	uri, err := sip.ParseURI(m.RequestURI())
	contact, cerr := m.Contact()
	if err != nil || cerr != nil {
		tx.Reply(400, "Bad Target", nil)
		return
	}
	number := ringfence.Number(sip.Unescape(uri.User))
	target, ok := w.cfg.Owner(number)
	var members []ringfence.UserID
	group := false
	if !ok && pack == packDialog && w.cfg.Group != nil {
		members, group = w.cfg.Group(number)
	}
	switch {
	case group && !m.HasOption(sip.HeaderSupported, eventlist): // RFC 4662 section 4.2
		tx.Reply(421, "", func(w *sip.Writer) { w.Header(sip.HeaderRequire, eventlist) })
		return
	case len(members) > maxMembers:
		tx.Reply(403, "Too Many In This List", nil)
		return
	case !ok && !group:
		tx.Reply(404, "", nil)
		return
	case pack == packMessages && target != id.User:
		tx.Reply(403, "Only One's Own Mailbox", nil)
		return
	case len(w.subs) >= w.cfg.Max || w.per[id.Device] >= w.cfg.MaxPer:
		tx.Reply(503, "Too Many Subscriptions", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, 60) })
		return
	}
	d, ok := interval(tx)
	if !ok {
		return
	}
	s := &subscription{w: w, conn: tx.Conn, pack: pack, target: target, owner: id, entity: uri.String(), callID: string(m.CallID()),
		tag: strconv.FormatUint(rand.Uint64()|1<<63, 16), remote: string(m.Get(sip.HeaderFrom)), uri: contact.URI.String(),
		contact: "<sip:" + tx.Conn.Local.String() + ";transport=tls>"}
	s.local = string(m.Get(sip.HeaderTo)) + ";tag=" + s.tag
	s.theirSeq, _, _ = m.CSeq()
	for line := range m.All(sip.HeaderRecordRoute) {
		for v := range sip.Values(line) {
			s.routes = append(s.routes, string(v))
		}
	}
	tx.SetToTag(s.tag)
	if group {
		s.group, s.members = number, members
	}
	w.add(s)
	s.accept(tx, d)
}

func allowEvents(w *sip.Writer) { w.Header(sip.HeaderAllowEvents, packDialog+", "+packMessages) }

func eventOf(m *sip.Message) string {
	v := m.Get(sip.HeaderEvent)
	for i, c := range v {
		if c == ';' || c == ' ' {
			return string(v[:i])
		}
	}
	return string(v)
}

// interval reads how long the subscription shall last; it has answered if that is too short.
func interval(tx *transaction.Server) (time.Duration, bool) {
	n, ok := tx.Request.Uint(sip.HeaderExpires, 1<<32-1)
	if !ok {
		n = 3600
	}
	d := min(time.Duration(n)*time.Second, maxExpires)
	if d > 0 && d < minExpires {
		tx.Reply(423, "", func(w *sip.Writer) { w.Uint(sip.HeaderMinExpires, uint64(minExpires/time.Second)) })
		return 0, false
	}
	return d, true
}

// Refresh handles a SUBSCRIBE inside a subscription; it reports whether there is one.
func (w *Watch) Refresh(tx *transaction.Server) bool {
	m := tx.Request
	s := w.subs[string(m.ToTag())]
	if s == nil || s.callID != string(m.CallID()) || !s.madeBy(tx.Conn) {
		return false
	}
	seq, _, _ := m.CSeq()
	if seq <= s.theirSeq {
		tx.Reply(500, "CSeq Out Of Order", nil)
		return true
	}
	d, ok := interval(tx)
	if !ok {
		return true
	}
	s.theirSeq, s.conn = seq, tx.Conn
	s.renew()
	if c, err := m.Contact(); err == nil {
		s.uri = c.URI.String()
	}
	s.accept(tx, d)
	return true
}

// madeBy reports whether a connection is that of who made the subscription: the very one, another one of the same certificate, or one on which the same device has proved itself.
func (s *subscription) madeBy(c *transport.Conn) bool {
	if c == s.conn {
		return true
	}
	if was := s.conn.Peer; was.Role != "" {
		return was.Role == c.Peer.Role && was.Name == c.Peer.Name
	}
	id, known := s.w.cfg.Known(c)
	return known && id.Device == s.owner.Device
}

func (s *subscription) accept(tx *transaction.Server, d time.Duration) {
	tx.Reply(200, "", func(w *sip.Writer) {
		w.Copy(tx.Request, sip.HeaderRecordRoute)
		w.Header(sip.HeaderContact, s.contact)
		if s.group != "" {
			w.Header(sip.HeaderRequire, eventlist)
		}
		w.Uint(sip.HeaderExpires, uint64(d/time.Second))
	})
	if d == 0 {
		s.notify("terminated;reason=timeout")
		s.w.remove(s)
		return
	}
	s.expires = time.Now().Add(d)
	s.w.cfg.Shard.After(&s.timer, d, func() {
		s.notify("terminated;reason=timeout")
		s.w.remove(s)
	})
	s.tell()
}

// Changed tells everybody who watches a user's lines, from the shard.
func (w *Watch) Changed(user ringfence.UserID) {
	for s := range w.by[user] {
		if s.pack == packDialog {
			s.tell()
		}
	}
}

// Watches reports whether anybody watches a user, from the shard.
func (w *Watch) Watches(user ringfence.UserID) bool { return len(w.by[user]) > 0 }

// MessagesChanged tells the user's phones that the mailbox changed.
func (w *Watch) MessagesChanged(user ringfence.UserID) {
	for s := range w.by[user] {
		if s.pack == packMessages {
			s.tell()
		}
	}
}

// Count returns the number of subscriptions.
func (w *Watch) Count() int { return len(w.subs) }

// Closed forgets the subscriptions of a connection that ended, from anywhere; the phone subscribes again when it comes back.
func (w *Watch) Closed(conn *transport.Conn) {
	w.cfg.Shard.Post(func() {
		for _, s := range w.subs {
			if s.conn == conn {
				w.remove(s)
			}
		}
	})
}

func (w *Watch) add(s *subscription) {
	w.subs[s.tag] = s
	for _, u := range s.watched() {
		if w.by[u] == nil {
			w.by[u] = map[*subscription]bool{}
		}
		w.by[u][s] = true
	}
	w.per[s.owner.Device]++
}

// watched are those whose calls a subscription tells of.
func (s *subscription) watched() []ringfence.UserID {
	if s.group != "" {
		return s.members
	}
	return []ringfence.UserID{s.target}
}

// renew takes the present members of a list. One that is no more has none.
func (s *subscription) renew() {
	if s.group == "" {
		return
	}
	members, _ := s.w.cfg.Group(s.group)
	if len(members) > maxMembers {
		members = members[:maxMembers]
	}
	if slices.Equal(members, s.members) {
		return
	}
	s.w.remove(s)
	s.members = members
	s.w.add(s)
}

func (w *Watch) remove(s *subscription) {
	if w.subs[s.tag] != s {
		return
	}
	s.timer.Stop()
	delete(w.subs, s.tag)
	for _, u := range s.watched() {
		if delete(w.by[u], s); len(w.by[u]) == 0 {
			delete(w.by, u)
		}
	}
	if w.per[s.owner.Device]--; w.per[s.owner.Device] <= 0 {
		delete(w.per, s.owner.Device)
	}
}

// tell sends the present state, or remembers to when the NOTIFY under way is answered: a slow phone gets the latest state, not a queue.
func (s *subscription) tell() {
	if s.waiting {
		s.again = true
		return
	}
	left := max(int(time.Until(s.expires).Round(time.Second)/time.Second), 1)
	s.notify("active;expires=" + strconv.Itoa(left))
}

func (s *subscription) notify(state string) {
	s.seq++
	seq := s.seq
	contentType, body := s.body()
	s.waiting = true
	s.w.cfg.Shard.Request(s.conn, sip.NOTIFY, func(w *sip.Writer, via string) {
		w.RequestLine(sip.NOTIFY, s.uri)
		w.Header(sip.HeaderVia, via)
		w.Uint(sip.HeaderMaxForwards, 70)
		for _, r := range s.routes {
			w.Header(sip.HeaderRoute, r)
		}
		w.Header(sip.HeaderFrom, s.local)
		w.Header(sip.HeaderTo, s.remote)
		w.Header(sip.HeaderCallID, s.callID)
		w.CSeq(seq, sip.NOTIFY)
		w.Header(sip.HeaderContact, s.contact)
		w.Header(sip.HeaderEvent, s.pack)
		if s.group != "" {
			w.Header(sip.HeaderRequire, eventlist)
		}
		w.Header(sip.HeaderSubscriptionState, state)
		w.Body(contentType, body)
	}, s.notified)
}

func (s *subscription) notified(a transaction.Answer) {
	status := a.Status()
	if status < 200 {
		return
	}
	s.waiting = false
	if status == 481 || status == 489 || status == 408 || a.Message == nil {
		s.w.remove(s) // RFC 6665 section 4.2.2: the subscriber is gone
		return
	}
	if s.again && s.w.subs[s.tag] == s {
		s.again = false
		s.tell()
	}
}
