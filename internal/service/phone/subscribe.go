package phone

import (
	"bytes"
	"context"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
)

// ListType is the type of what a server says of a list of resources. A subscription that accepts it may be to a list (RFC 4662).
const ListType = "application/rlmi+xml"

// Notice is one NOTIFY of a subscription.
type Notice struct {
	State       string // "active", "pending" or "terminated"
	ContentType string
	Body        []byte
}

// Subscription is a subscription of ours to an event package, e.g. "message-summary" (RFC 3842) or "dialog" (RFC 4235).
// It is refreshed until it is closed, also over a new connection.
type Subscription struct {
	phone   *Phone
	pkg     string
	uri     string
	accept  string
	notices chan Notice

	// on the home shard
	callID    string
	local     string // our tag
	remote    string // theirs, empty until they chose one
	target    string
	routes    []string
	seq       uint32
	remoteSeq uint32
	wanted    time.Duration
	tries     int
	failures  int
	closed    bool
	timer     transaction.Timer
	done      func(error) // hears how the first SUBSCRIBE went
}

// Subscribe subscribes to an event package of target (a number, a user or a sip: address; empty means our own address) and
// waits for the server to agree. accept lists content types and may be empty.
func (p *Phone) Subscribe(ctx context.Context, pkg, target, accept string) (*Subscription, error) {
	uri := p.Address()
	if target != "" {
		var err error
		if uri, err = p.target(target); err != nil {
			return nil, err
		}
	}
	if pkg == "" || strings.ContainsAny(pkg, " \r\n;") {
		return nil, &ringfence.Fault{Op: "phone.subscribe", Kind: ringfence.KindInvalid, Text: "this is no event package"}
	}
	s := &Subscription{phone: p, pkg: strings.ToLower(pkg), uri: uri, accept: accept, notices: make(chan Notice, 32), wanted: time.Hour}
	result := make(chan error, 1)
	p.home.Do(func() {
		s.done = func(err error) { result <- err }
		if p.stopping {
			s.settle(&ringfence.Fault{Op: "phone.subscribe", Kind: ringfence.KindUnavailable, Text: "the phone is closed"})
			return
		}
		s.begin()
	})
	select {
	case err := <-result:
		if err != nil {
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		p.home.Do(func() { s.done = nil; s.drop(nil) })
		return nil, &ringfence.Fault{Op: "phone.subscribe", Kind: ringfence.KindTimeout, Text: "the server did not answer in time", Err: ctx.Err()}
	}
}

// Notices delivers what the server reports; it is closed with the subscription. If nobody reads it, the oldest are dropped.
func (s *Subscription) Notices() <-chan Notice { return s.notices }

// Close ends the subscription.
func (s *Subscription) Close() {
	s.phone.home.Do(func() {
		if s.closed {
			return
		}
		s.wanted = 0
		if s.remote != "" {
			s.send()
		}
		s.drop(nil)
	})
}

func (s *Subscription) settle(err error) {
	if s.done != nil {
		s.done(err)
		s.done = nil
	}
}

// drop forgets the subscription. It runs on the home shard, as everything below.
func (s *Subscription) drop(err error) {
	if s.closed {
		return
	}
	s.closed = true
	s.timer.Stop()
	delete(s.phone.outSubs, s.local)
	if err == nil {
		err = &ringfence.Fault{Op: "phone.subscribe", Kind: ringfence.KindCancelled, Text: "the subscription was closed"}
	}
	s.settle(err)
	close(s.notices)
}

// begin makes a new dialog and subscribes in it.
func (s *Subscription) begin() {
	delete(s.phone.outSubs, s.local)
	s.callID, s.local, s.remote = s.phone.stack.txs.NewCallID(s.phone.home), newTag(), ""
	s.phone.mu.Lock()
	s.target, s.routes = s.uri, s.phone.routes
	s.phone.mu.Unlock()
	s.seq, s.remoteSeq = 0, 0
	s.phone.outSubs[s.local] = s
	s.send()
}

func (s *Subscription) send() {
	p := s.phone
	conn := p.currentConn()
	if conn == nil {
		return // sent again when the phone is registered
	}
	s.seq++
	s.timer.Stop()
	wanted, local := s.wanted, s.local
	p.home.Request(conn, sip.SUBSCRIBE, func(w *sip.Writer, via string) {
		w.RequestLine(sip.SUBSCRIBE, s.target)
		w.Header(sip.HeaderVia, via)
		w.Uint(sip.HeaderMaxForwards, 70)
		for _, r := range s.routes {
			w.Header(sip.HeaderRoute, r)
		}
		w.Header(sip.HeaderFrom, p.nameAddr()+";tag="+s.local)
		to := "<" + s.uri + ">"
		if s.remote != "" {
			to += ";tag=" + s.remote
		}
		w.Header(sip.HeaderTo, to)
		w.Header(sip.HeaderCallID, s.callID)
		w.CSeq(s.seq, sip.SUBSCRIBE)
		w.Header(sip.HeaderContact, p.contactNow())
		w.Header(sip.HeaderEvent, s.pkg)
		w.Uint(sip.HeaderExpires, uint64(wanted/time.Second))
		if s.accept != "" {
			w.Header(sip.HeaderAccept, s.accept)
			if strings.Contains(s.accept, ListType) {
				w.Header(sip.HeaderSupported, "eventlist")
			}
		}
		w.Header(sip.HeaderUserAgent, p.stack.cfg.UserAgent)
		p.authorize(w, sip.SUBSCRIBE, s.target)
		p.agreement.Write(w, sip.SUBSCRIBE)
		w.Body("", nil)
	}, func(a transaction.Answer) {
		if !s.closed && local == s.local {
			s.answered(a)
		}
	})
}

func (s *Subscription) answered(a transaction.Answer) {
	switch status := a.Status(); {
	case status < 200:
	case a.Message == nil && s.done != nil:
		s.drop(a.Err)
	case a.Message == nil: // the next registration brings it back
	case status < 300:
		s.tries, s.failures = 0, 0
		s.learn(a.Message)
		granted := s.wanted
		if n, ok := a.Uint(sip.HeaderExpires, 1<<31); ok {
			granted = time.Duration(n) * time.Second
		}
		s.settle(nil)
		if granted > 0 {
			s.phone.home.After(&s.timer, spread(granted, 0.7, 0.9), s.send)
		}
	case (status == 401 || status == 407) && s.phone.challenged(a.Message, &s.tries):
		s.send()
	case status == 423:
		if n, ok := a.Uint(sip.HeaderMinExpires, 86400); ok && time.Duration(n)*time.Second > s.wanted {
			s.wanted = time.Duration(n) * time.Second
			s.send()
			return
		}
		s.drop(refusal("phone.subscribe", "the server refused the subscription", a.Message))
	case s.done != nil:
		s.drop(refusal("phone.subscribe", "the server refused the subscription", a.Message))
	default: // e.g. 481: it forgot the subscription
		s.again(0)
	}
}

// again subscribes anew after a wait that grows with each failure in a row.
func (s *Subscription) again(floor time.Duration) {
	wait := max(spread(min(time.Second<<min(s.failures, 10), s.phone.cfg.RetryMax), 0.5, 1), floor)
	s.failures++
	s.phone.home.After(&s.timer, wait, s.begin)
}

func (s *Subscription) learn(m *sip.Message) {
	tag := m.ToTag()
	if m.IsRequest() {
		tag = m.FromTag()
	}
	if s.remote == "" && len(tag) > 0 {
		s.remote = string(tag)
		var routes []string
		for line := range m.All(sip.HeaderRecordRoute) {
			for v := range sip.Values(line) {
				if m.IsRequest() {
					routes = append(routes, string(v))
				} else {
					routes = append([]string{string(v)}, routes...)
				}
			}
		}
		if len(routes) > 0 {
			s.routes = routes
		}
	}
	if c, err := m.Contact(); err == nil && c.URI.IsSIP() {
		s.target = c.URI.String()
	}
}

// subscribed takes a NOTIFY of a subscription and reports whether it was one.
func (p *Phone) subscribed(tx *transaction.Server) bool {
	m := tx.Request
	if tx.Method != sip.NOTIFY || tx.Shard != p.home {
		return false
	}
	s := p.outSubs[string(m.ToTag())]
	if s == nil || s.callID != string(m.CallID()) || s.remote != "" && s.remote != string(m.FromTag()) ||
		eventPackage(m.Get(sip.HeaderEvent)) != s.pkg {
		return false
	}
	seq, _, _ := m.CSeq()
	if seq <= s.remoteSeq && s.remoteSeq != 0 {
		tx.Reply(500, "CSeq Out Of Order", nil)
		return true
	}
	s.remoteSeq = seq
	s.learn(m)
	tx.Reply(200, "", nil)
	value := string(m.Get(sip.HeaderSubscriptionState))
	state, params, _ := strings.Cut(value, ";")
	state = strings.ToLower(strings.TrimSpace(state))
	offer(s.notices, Notice{State: state, ContentType: string(m.Get(sip.HeaderContentType)), Body: bytes.Clone(m.Body())})
	if state != "terminated" {
		return true
	}
	reason, _ := sip.Params(params).Get("reason")
	switch strings.ToLower(string(reason)) { // RFC 6665 section 4.1.3
	case "rejected", "noresource", "invariant":
		s.drop(&ringfence.Fault{Op: "phone.subscribe", Kind: ringfence.KindNotFound, Text: "the server ended the subscription: " + string(reason)})
	case "deactivated", "timeout":
		s.begin()
	default:
		s.again(5 * time.Second)
	}
	return true
}
