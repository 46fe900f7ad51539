package cti

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/trust/quota"
)

// Calls is where calls are.
type Calls interface {
	// Do runs f at once, while no call changes.
	Do(f func())
	// Of returns the calls of a user. It is called within Do.
	Of(user ringfence.UserID) []Call
}

// Users are the people of the house.
type Users interface {
	// Find returns who has an id or a number.
	Find(target string) (ringfence.UserID, bool)
	// DoNotDisturb reports whether a user does not want to be called.
	DoNotDisturb(user ringfence.UserID) bool
}

// Config is what a server needs. Zero values of the limits mean what is said there.
type Config struct {
	Domain  string
	Clients func() []Client                      // who may connect now
	Matches func(*x509.Certificate, string) bool // whether a certificate carries a name
	Proof   func(tls.ConnectionState) *ringfence.TLSProof
	Calls   Calls
	Users   Users
	Log     *slog.Logger
	Beat    time.Duration // after this silence of ours a heartbeat is sent; 15 s
	Quiet   time.Duration // after this silence of the client's the channel is over; 60 s
	MaxConn int           // connections in all, 200
	MaxEach int           // of one client, 10
	MaxSubs int           // subscriptions of a connection, 10,000
	MaxWait int           // events that a client has not taken yet, 10,000
}

// Bounds of a subscription and a channel.
const (
	minExpires = time.Minute
	maxExpires = time.Hour
	handshake  = 10 * time.Second
	patience   = 10 * time.Second // for a client that does not read
)

// Server serves the interface.
type Server struct {
	cfg      Config
	refused  atomic.Uint64
	mu       sync.Mutex
	sessions map[*session]bool
	waiting  map[string]int           // connections that have not proved who they are, by where they come from
	by       map[ringfence.UserID]int // subscriptions to calls
}

// New makes a server.
func New(c Config) *Server {
	c.Beat, c.Quiet = cmp.Or(c.Beat, 15*time.Second), cmp.Or(c.Quiet, time.Minute)
	c.MaxConn, c.MaxEach, c.MaxSubs, c.MaxWait = cmp.Or(c.MaxConn, 200), cmp.Or(c.MaxEach, 10), cmp.Or(c.MaxSubs, 10_000), cmp.Or(c.MaxWait, 10_000)
	return &Server{cfg: c, sessions: map[*session]bool{}, waiting: map[string]int{}, by: map[ringfence.UserID]int{}}
}

// Session is a client that is connected.
type Session struct {
	Identity      string              `json:"identity"`
	Remote        netip.AddrPort      `json:"remote"`
	Since         time.Time           `json:"since"`
	Channel       string              `json:"channel,omitempty"`
	Subscriptions int                 `json:"subscriptions"`
	Sent          uint64              `json:"sent"`
	Unanswered    int                 `json:"unanswered"` // events that the client has not answered
	TLS           *ringfence.TLSProof `json:"tls"`
}

type session struct {
	s        *Server
	conn     net.Conn
	client   Client // may change, by s.mu
	serial   string // of the certificate, in lower-case hexadecimal
	about    Session
	channel  string
	set      string
	subs     map[string]*subscription
	queue    [][]byte
	wake     chan struct{}
	over     error
	sequence int
	events   int
	waits    map[string]bool // events without an answer
}

type subscription struct {
	id, pack string
	target   string // as the client wrote it
	user     ringfence.UserID
	before   []Call
	active   bool // do-not-disturb, as it was told last
	until    time.Time
}

// The event packages that there are. Those of calls bring the same events here.
const packDND = "Do Not Disturb"

func packages() []string {
	return []string{"Basic Call", "Standard Call", "Advanced Call", packDND}
}

// Refused returns how many connections were turned away.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Sessions returns who is connected, the longest first.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Session{}
	for c := range s.sessions {
		a := c.about
		a.Channel, a.Subscriptions, a.Unanswered = c.channel, len(c.subs), len(c.waits)
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Or(a.Since.Compare(b.Since), a.Remote.Compare(b.Remote)) })
	return out
}

// Follows reports whether anybody follows the calls of a user.
func (s *Server) Follows(user ringfence.UserID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[user] > 0
}

// Changed hears that the calls of a user changed, within [Calls.Do].
func (s *Server) Changed(user ringfence.UserID) {
	if !s.Follows(user) {
		return
	}
	now, at := s.cfg.Calls.Of(user), time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		for _, sub := range c.subs {
			if sub.user == user && sub.pack != packDND {
				for _, e := range changes(sub.before, now, at) {
					call := e.call.out(s.address(e.call.User), e.released)
					c.tell(sub, "SubscriptionEvent", &dataOut{Type: e.kind, Call: &call})
				}
				sub.before = now
			}
		}
	}
}

// UsersChanged hears that something about users changed. Whoever may follow a user no more does not.
func (s *Server) UsersChanged() {
	clients := s.cfg.Clients()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		i := slices.IndexFunc(clients, func(x Client) bool { return x.Identity == c.about.Identity })
		if i < 0 {
			c.end(denied("the identity " + c.about.Identity + " is known no more"))
			continue
		}
		c.client = clients[i]
		for _, sub := range c.subs {
			if who, ok := s.cfg.Users.Find(sub.target); !ok || who != sub.user || !c.client.may(sub.user) {
				c.drop(sub, "the user is there no more, or may not be followed")
				continue
			}
			if active := s.cfg.Users.DoNotDisturb(sub.user); sub.pack == packDND && active != sub.active {
				sub.active = active
				c.tell(sub, "SubscriptionEvent", &dataOut{Type: "DoNotDisturbEvent", Active: &active})
			}
		}
	}
}

// Cut ends the connections whose certificate does not hold any more, and says how many they were.
func (s *Server) Cut(gone func(serial string) bool) (closed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		if c.over == nil && gone(c.serial) {
			c.end(denied("the certificate of " + c.about.Identity + " was revoked"))
			closed++
		}
	}
	return closed
}

// Close ends everything.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		c.end(net.ErrClosed)
	}
}

// textOf words an error for the other end, without what is only for our log.
func textOf(err error) string {
	if f, ok := errors.AsType[*ringfence.Fault](err); ok {
		return f.Text
	}
	return "the node is stopping, or the connection broke"
}

func denied(text string) error {
	return &ringfence.Fault{Op: "cti", Kind: ringfence.KindDenied, Text: text}
}

// address is how a user of ours is written.
func (s *Server) address(user ringfence.UserID) string {
	if user == "" {
		return ""
	}
	return string(user) + "@" + s.cfg.Domain
}

// Serve serves one connection until it ends. The TLS configuration has asked for a certificate, verified it, and believes no one without.
func (s *Server) Serve(ctx context.Context, c *tls.Conn) error {
	defer c.Close()
	source := quota.Source(c.RemoteAddr().String())
	if !s.enter(source) {
		s.refused.Add(1)
		return &ringfence.Fault{Op: "cti", Kind: ringfence.KindOverload, Text: "too many connections that have not proved who they are"}
	}
	hand, stop := context.WithTimeout(ctx, handshake)
	err := c.HandshakeContext(hand)
	stop()
	s.proved(source)
	if err != nil {
		s.refused.Add(1)
		return err
	}
	state := c.ConnectionState()
	if len(state.PeerCertificates) == 0 {
		s.refused.Add(1)
		return denied("a client without a certificate")
	}
	leaf := state.PeerCertificates[0]
	client, ok := s.known(leaf)
	if !ok {
		s.refused.Add(1)
		return &ringfence.Fault{Op: "cti", Kind: ringfence.KindDenied, Text: "the certificate of " + name(leaf) + " carries no identity that may connect", Hint: "add one under cti.clients: its common name, or one of its alternative names"}
	}
	remote, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	var cancel context.CancelFunc
	ctx, cancel = context.WithDeadlineCause(ctx, leaf.NotAfter, denied("the certificate of "+client.Identity+" has ended"))
	defer cancel()
	return s.run(ctx, c, client, fmt.Sprintf("%x", leaf.SerialNumber), Session{Identity: client.Identity, Remote: remote, Since: time.Now().UTC(),
		TLS: s.cfg.Proof(state)})
}

// name is who a certificate is of, for the log.
func name(c *x509.Certificate) string {
	text := cmp.Or(c.Subject.CommonName, strings.Join(c.DNSNames, " "))
	return fmt.Sprintf("%.80q", text)
}

// waitEach bounds the connections of one source that have not proved who they are. In all there may be as many as there may be clients.
const waitEach = 8

func (s *Server) enter(source string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, n := range s.waiting {
		all += n
	}
	if all >= s.cfg.MaxConn || s.waiting[source] >= waitEach {
		return false
	}
	s.waiting[source]++
	return true
}

func (s *Server) proved(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[source]--; s.waiting[source] == 0 {
		delete(s.waiting, source)
	}
}

func (s *Server) known(leaf *x509.Certificate) (Client, bool) {
	for _, c := range s.cfg.Clients() {
		if s.cfg.Matches(leaf, c.Identity) {
			return c, true
		}
	}
	return Client{}, false
}

// run serves a client that is known.
func (s *Server) run(ctx context.Context, conn net.Conn, client Client, serial string, about Session) error {
	c := &session{s: s, conn: conn, client: client, serial: serial, about: about, subs: map[string]*subscription{}, wake: make(chan struct{}, 1), waits: map[string]bool{}}
	if err := s.join(c); err != nil {
		s.refused.Add(1)
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.end(context.Cause(ctx))
	})
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	c.read()
	<-written
	return s.leave(c)
}

func (s *Server) join(c *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	each := 0
	for x := range s.sessions {
		if x.client.Identity == c.about.Identity {
			each++
		}
	}
	if len(s.sessions) >= s.cfg.MaxConn || each >= s.cfg.MaxEach {
		return &ringfence.Fault{Op: "cti", Kind: ringfence.KindOverload, Text: "too many connections of " + c.about.Identity}
	}
	s.sessions[c] = true
	return nil
}

func (s *Server) leave(c *session) error {
	_ = c.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range c.subs {
		c.forget(sub)
	}
	delete(s.sessions, c)
	return c.over
}

// end ends a session. s.mu is held, as in all that follows until the next line.
func (c *session) end(why error) {
	if c.over != nil {
		return
	}
	c.over = why
	if c.channel != "" {
		c.put(marshal(eventOut{Instance: instance, Type: "ChannelTerminatedEvent", EventID: "end", SequenceNumber: c.sequence + 1, ClientID: c.about.Identity, ChannelID: c.channel, Reason: textOf(why)}))
	}
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // whoever reads hears of it
	c.poke()
}

func (c *session) put(b []byte) {
	c.queue = append(c.queue, b)
	c.poke()
}

func (c *session) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// tell sends an event of a subscription. A client that does not take its events loses the channel, not single ones.
func (c *session) tell(sub *subscription, kind string, data *dataOut) {
	if c.over != nil {
		return
	}
	if len(c.queue) >= c.s.cfg.MaxWait || len(c.waits) >= c.s.cfg.MaxWait {
		c.end(&ringfence.Fault{Op: "cti", Kind: ringfence.KindOverload, Text: "the client does not take its events"})
		return
	}
	c.sequence++
	c.events++
	id := fmt.Sprintf("%s-%d", c.channel, c.events)
	c.waits[id] = true
	c.put(marshal(eventOut{Instance: instance, Type: kind, EventID: id, SequenceNumber: c.sequence, ClientID: c.about.Identity, SubscriptionID: sub.id, ChannelID: c.channel, TargetID: sub.target, Data: data}))
}

func (c *session) forget(sub *subscription) {
	delete(c.subs, sub.id)
	if sub.pack != packDND {
		if c.s.by[sub.user]--; c.s.by[sub.user] == 0 {
			delete(c.s.by, sub.user)
		}
	}
}

// drop ends a subscription and says so.
func (c *session) drop(sub *subscription, why string) {
	c.sequence++
	c.put(marshal(eventOut{Instance: instance, Type: "SubscriptionTerminatedEvent", EventID: fmt.Sprintf("%s-end-%s", c.channel, sub.id), SequenceNumber: c.sequence, ClientID: c.about.Identity, SubscriptionID: sub.id, ChannelID: c.channel, TargetID: sub.target, Reason: why}))
	c.forget(sub)
}

// The two halves of a session.

func (c *session) fail(err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.end(err)
}

// write sends what is queued, heartbeats, and looks which subscriptions are over.
func (c *session) write() {
	beat := time.NewTicker(c.s.cfg.Beat)
	defer beat.Stop()
	for {
		c.s.mu.Lock()
		queue, over := c.queue, c.over
		c.queue = nil
		c.about.Sent += uint64(len(queue))
		c.s.mu.Unlock()
		for _, b := range queue {
			_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
			if err := WriteMessage(c.conn, b); err != nil {
				c.fail(err)
				return
			}
		}
		if over != nil {
			_ = c.conn.Close()
			return
		}
		if len(queue) > 0 {
			beat.Reset(c.s.cfg.Beat)
			continue
		}
		select {
		case <-c.wake:
		case now := <-beat.C:
			c.s.mu.Lock()
			for _, sub := range c.subs {
				if !now.Before(sub.until) {
					c.drop(sub, "nobody renewed it")
				}
			}
			if c.channel != "" && len(c.queue) == 0 {
				c.queue = append(c.queue, marshal(heartBeatOut{}))
			}
			c.s.mu.Unlock()
		}
	}
}

// read does what the client says.
func (c *session) read() {
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(c.s.cfg.Quiet))
		c.s.mu.Lock()
		over := c.over
		c.s.mu.Unlock()
		if over != nil {
			return
		}
		b, err := ReadMessage(c.conn)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			err = &ringfence.Fault{Op: "cti", Kind: ringfence.KindTimeout, Text: "nothing was heard of the client for " + c.s.cfg.Quiet.String()}
		}
		var m received
		if err == nil {
			m, err = parse(b)
		}
		if err == nil {
			err = c.do(m)
		}
		if err != nil {
			if ringfence.KindOf(err) == ringfence.KindInvalid {
				c.complain(400, err)
			}
			c.fail(err)
			return
		}
	}
}

// complain tells what was wrong with a message.
func (c *session) complain(code int, err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.put(marshal(errorOut{Code: code, Summary: textOf(err), English: textOf(err)}))
}

func (c *session) do(m received) error {
	kind := m.XMLName.Local
	if kind != "Channel" && c.channel == "" {
		return invalid("there is no channel yet", "the first message is a Channel")
	}
	switch kind {
	case "Channel":
		return c.open(m)
	case "Subscription":
		if err := c.subscribe(m); err != nil { // it costs the subscription, not the channel
			code := 403
			switch ringfence.KindOf(err) {
			case ringfence.KindNotFound:
				code = 404
			case ringfence.KindInvalid:
				code = 400
			case ringfence.KindOverload:
				code = 503
			}
			c.complain(code, err)
		}
	case "EventResponse":
		c.s.mu.Lock()
		delete(c.waits, m.EventID)
		c.s.mu.Unlock()
		if m.StatusCode != "" && !strings.HasPrefix(m.StatusCode, "2") {
			c.s.cfg.Log.Warn("a CTI client could not do with an event", "client", c.about.Identity, "event", m.EventID, "status", m.StatusCode, "reason", m.Reason)
		}
	case "ChannelHeartBeat":
	default:
		return invalid(fmt.Sprintf("%.40q is no message", kind), "there are Channel, Subscription, EventResponse and ChannelHeartBeat")
	}
	return nil
}

func expires(text string) (time.Duration, error) {
	if text == "" {
		return maxExpires, nil
	}
	var seconds int
	if _, err := fmt.Sscanf(text, "%d", &seconds); err != nil || seconds < 0 || fmt.Sprint(seconds) != text {
		return 0, invalid(fmt.Sprintf("%.20q is no number of seconds", text), "")
	}
	if seconds == 0 {
		return 0, nil
	}
	return min(max(time.Duration(min(seconds, 1<<20))*time.Second, minExpires), maxExpires), nil
}

// open opens the channel of the connection, or tells about it again.
func (c *session) open(m received) error {
	if _, err := expires(m.Expires); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.channel == "" {
		c.channel, c.set = rand.Text(), m.ChannelSetID
	}
	c.put(marshal(channelOut{ChannelID: c.channel, ChannelSetID: c.set, Expires: int(maxExpires / time.Second)}))
	return nil
}

// subscribe begins, renews or ends a subscription.
func (c *session) subscribe(m received) error {
	d, err := expires(m.Expires)
	if err != nil {
		return err
	}
	if m.SubscriptionID != "" {
		return c.renew(m.SubscriptionID, d)
	}
	if id := cmp.Or(m.ClientID, m.SubscriberID); id != "" && id != c.about.Identity {
		return denied(fmt.Sprintf("%.80q is not who connected", id))
	}
	if m.TargetIDType != "" && m.TargetIDType != "User" {
		return invalid(fmt.Sprintf("a subscription to a %.40q", m.TargetIDType), "subscriptions are to users, one by one")
	}
	if !slices.Contains(packages(), m.Event) {
		return invalid(fmt.Sprintf("there is no event package %.60q", m.Event), "there are "+strings.Join(packages(), ", "))
	}
	c.s.mu.Lock()
	client := c.client
	c.s.mu.Unlock()
	// Whether somebody is there is told to those only who may follow him.
	user, ok := c.s.cfg.Users.Find(m.TargetID)
	if !ok && slices.Contains(client.Users, Everybody) {
		return &ringfence.Fault{Op: "cti", Kind: ringfence.KindNotFound, Text: fmt.Sprintf("there is no user %.80q", m.TargetID)}
	}
	if !ok || !client.may(user) {
		return denied(fmt.Sprintf("%s may not follow %.80q", c.about.Identity, m.TargetID))
	}
	c.s.cfg.Calls.Do(func() { err = c.begin(m, user, cmp.Or(d, maxExpires)) })
	return err
}

// begin begins a subscription, within [Calls.Do]: what is told first is what the changes are from.
func (c *session) begin(m received, user ringfence.UserID, d time.Duration) error {
	sub := &subscription{id: rand.Text(), pack: m.Event, target: m.TargetID, user: user, until: time.Now().Add(d)}
	data := &dataOut{Type: "CallSubscriptionEvent", Calls: &callsOut{}}
	if sub.pack == packDND {
		sub.active = c.s.cfg.Users.DoNotDisturb(user)
		data = &dataOut{Type: "DoNotDisturbEvent", Active: &sub.active}
	} else {
		sub.before = c.s.cfg.Calls.Of(user)
		for _, call := range sub.before {
			data.Calls.Call = append(data.Calls.Call, call.out(c.s.address(call.User), time.Time{}))
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.subs) >= c.s.cfg.MaxSubs {
		return &ringfence.Fault{Op: "cti", Kind: ringfence.KindOverload, Text: "there are too many subscriptions on this channel"}
	}
	c.subs[sub.id] = sub
	if sub.pack != packDND {
		c.s.by[user]++
	}
	c.put(marshal(subscriptionOut{SubscriptionID: sub.id, TargetIDType: "User", TargetID: sub.target, Event: sub.pack, Expires: int(d / time.Second), ChannelSetID: c.set}))
	c.tell(sub, "SubscriptionEvent", data)
	return nil
}

func (c *session) renew(id string, d time.Duration) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	sub := c.subs[id]
	switch {
	case sub == nil:
		return &ringfence.Fault{Op: "cti", Kind: ringfence.KindNotFound, Text: fmt.Sprintf("there is no subscription %.60q on this channel", id)}
	case d == 0:
		c.drop(sub, "the client ended it")
	default:
		sub.until = time.Now().Add(d)
		c.put(marshal(subscriptionOut{SubscriptionID: sub.id, TargetIDType: "User", TargetID: sub.target, Event: sub.pack, Expires: int(d / time.Second), ChannelSetID: c.set}))
	}
	return nil
}
