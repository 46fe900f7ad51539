package dialog

import (
	"bytes"
	"strconv"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// State is the state of a session.
type State uint8

// The states, in order.
const (
	Early     State = iota // INVITE sent or received, no final answer yet
	Confirmed              // answered with 2xx
	Ended
)

// User decides what a session cannot. Every method is called on the session's shard. Messages live until the call returns.
type User interface {
	// Progress hears a provisional response above 100 to our INVITE; its body may hold an answer or early offer.
	Progress(s *Session, m *sip.Message)
	// Answered hears the 2xx to our INVITE; the ACK has been sent.
	Answered(s *Session, m *sip.Message)
	// Confirmed hears that the ACK to our 2xx arrived; its body may hold an answer if the INVITE had no offer.
	Confirmed(s *Session, m *sip.Message)
	// Offered hears a new offer (or, with an empty body, the wish for one) in a re-INVITE or UPDATE of the peer, which o answers,
	// now or later.
	Offered(s *Session, o *Offer)
	// Requested hears any other request of the peer inside the dialog: REFER, NOTIFY, INFO, MESSAGE, OPTIONS.
	Requested(s *Session, tx *transaction.Server)
	// Ended hears once that the session is over, whoever ended it.
	Ended(s *Session, e End)
}

// End says how a session ended.
type End struct {
	Status int    // final response to the INVITE if it was not answered, else 0
	Phrase string // its reason phrase
	Reason string // Reason field (RFC 3326) of whoever ended it, as received or sent; may be empty
	Remote bool   // the peer ended it
	Err    error  // no answer, or the connection was lost; otherwise nil
	// Contacts of a 3xx; may be empty.
	Contacts []string
	// Message is the peer's final response that refused our INVITE, with its Warning or challenge; it lives until
	// [User.Ended] returns, and is nil in every other case.
	Message *sip.Message
}

// Session is one INVITE dialog. Exported fields are set by the layer; read them only.
type Session struct {
	Shard     *transaction.Shard
	Conn      *transport.Conn // the flow that requests leave on
	CallID    string
	LocalTag  string
	RemoteTag string // empty until the peer chose one
	Local     string // our name-addr, as in From of our requests, without tag
	Remote    string // the peer's name-addr, without tag
	Target    string // remote target: Request-URI of our requests
	Routes    []string
	Contact   string // our Contact value
	UAC       bool   // we sent the INVITE
	Data      any    // for the user

	layer      *Layer
	user       User
	state      State
	localSeq   uint32
	remoteSeq  uint32
	server     *transaction.Server // the unanswered initial INVITE, if we are UAS
	client     *transaction.Client // the unanswered initial INVITE, if we are UAC
	answered   *transaction.Client // the same once it was answered; it waits for further 2xx
	extra      func(*sip.Writer)   // further fields of the initial INVITE
	spent      int                 // hops that it has behind it
	ackSeq     uint32
	ack        []byte // to answer a repeated 2xx
	ok         okState
	rel        relState
	lastRSeq   uint32
	localSDP   []byte
	in         *Offer        // the peer's offer we have not answered
	out        *modification // our offer they have not answered
	refresh    sessionTimer
	peerUpdate bool // the peer allows UPDATE
	peer100rel bool
	peerTimer  bool
	endSent    bool
	negotiated bool // the first offer was answered
}

// State returns where the session stands.
func (s *Session) State() State { return s.state }

// User returns who decides for the session; nil once it has ended.
func (s *Session) User() User { return s.user }

// SetUser hands the session to another user, e.g. when a transfer moves it to another call.
func (s *Session) SetUser(u User) { s.user = u }

// Heard reports whether the peer has said anything to our INVITE, a 100 included.
func (s *Session) Heard() bool { return s.client == nil || s.client.Heard() }

// LocalSDP returns the last description we sent, or nil.
func (s *Session) LocalSDP() []byte { return s.localSDP }

// learn takes over what a message tells of the peer: its abilities and, for a target refresh, its Contact.
func (s *Session) learn(m *sip.Message) {
	// Most messages of a dialog have the Contact that is known already, and nothing but a URI in it.
	if v := m.Get(sip.HeaderContact); len(v) != len(s.Target)+2 || string(v[1:len(v)-1]) != s.Target || v[0] != '<' || v[len(v)-1] != '>' {
		if c, err := m.Contact(); err == nil && c.URI.IsSIP() {
			s.Target = c.URI.String()
		}
	}
	if m.Has(sip.HeaderAllow) {
		s.peerUpdate = m.HasOption(sip.HeaderAllow, "UPDATE")
	}
	if m.HasOption(sip.HeaderSupported, "100rel") || m.HasOption(sip.HeaderRequire, "100rel") {
		s.peer100rel = true
	}
	if m.HasOption(sip.HeaderSupported, "timer") {
		s.peerTimer = true
	}
}

func routes(m *sip.Message, reverse bool) []string {
	var out []string
	for line := range m.All(sip.HeaderRecordRoute) {
		for v := range sip.Values(line) {
			out = append(out, string(v))
		}
	}
	if reverse {
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

// bare returns a From or To value without its tag and other parameters.
func bare(v []byte) []byte {
	if end := bytes.IndexByte(v, '>'); end > 0 && v[0] == '<' {
		return v[:end+1] // as nearly always
	}
	a, err := sip.ParseNameAddr(v)
	if err != nil {
		return v
	}
	out := "<" + a.URI.String() + ">"
	if len(a.Display) > 0 {
		out = `"` + string(a.Display) + `" ` + out
	}
	return []byte(out)
}

// conn returns the flow to use now.
func (s *Session) conn() *transport.Conn {
	if s.Conn.State() == "Closed" && s.layer.cfg.Flow != nil {
		if c := s.layer.cfg.Flow(s); c != nil {
			s.Conn = c
		}
	}
	return s.Conn
}

// MaxForwards is how many hops a request has (RFC 3261 section 8.1.1.6).
const MaxForwards = 70

// head writes the fields every request in the dialog begins with (RFC 3261 section 12.2.1.1).
func (s *Session) head(w *sip.Writer, via string, method sip.Method, seq uint32) {
	w.RequestLine(method, s.Target)
	w.Header(sip.HeaderVia, via)
	hops := MaxForwards
	if s.RemoteTag == "" { // within the dialog each request has its own
		hops -= min(s.spent, hops)
	}
	w.Uint(sip.HeaderMaxForwards, uint64(hops))
	for _, r := range s.Routes {
		w.Header(sip.HeaderRoute, r)
	}
	w.Tagged(sip.HeaderFrom, s.Local, s.LocalTag)
	w.Tagged(sip.HeaderTo, s.Remote, s.RemoteTag)
	w.Header(sip.HeaderCallID, s.CallID)
	w.CSeq(seq, method)
	s.layer.identify(w)
	if s.layer.cfg.Extra != nil && s.RemoteTag != "" {
		s.layer.cfg.Extra(s, method, w)
	}
}

// Send sends a request inside the dialog: REFER, NOTIFY, INFO and the like. extra adds fields and may be nil; heard gets every
// answer and may be nil.
func (s *Session) Send(method sip.Method, extra func(*sip.Writer), contentType string, body []byte, heard func(transaction.Answer)) {
	s.localSeq++
	seq := s.localSeq
	s.Shard.Request(s.conn(), method, func(w *sip.Writer, via string) {
		s.head(w, via, method, seq)
		if method == sip.INVITE || method == sip.UPDATE || method == sip.REFER || method == sip.NOTIFY {
			w.Header(sip.HeaderContact, s.Contact)
		}
		if extra != nil {
			extra(w)
		}
		w.Body(contentType, body)
	}, s.hears(method, heard))
}

// hears returns who hears the answers to a request inside the dialog.
func (s *Session) hears(method sip.Method, heard func(transaction.Answer)) func(transaction.Answer) {
	if method == sip.BYE || method == sip.PRACK {
		if heard == nil {
			return func(transaction.Answer) {}
		}
		return heard
	}
	return func(a transaction.Answer) {
		// RFC 5057: the dialog is gone on the other side.
		if a.Message != nil && a.Status() == 481 && s.state == Confirmed {
			s.finish(End{Remote: true, Err: &ringfence.Fault{Op: "dialog", Kind: ringfence.KindNotFound, Text: "the peer no longer knows the call"}})
		}
		if heard != nil {
			heard(a)
		}
	}
}

// rings is a session as its timers know it.
type rings Session

// Due implements [transaction.Alarm].
func (r *rings) Due(t *transaction.Timer) {
	switch s := (*Session)(r); {
	case t == &s.ok.timer:
		s.repeatOK()
	case t == &s.rel.timer:
		s.repeatProgress()
	case s.refresh.ours:
		s.refresh.refresh(s)
	default:
		s.refresh.expire(s)
	}
}

// request handles a request inside the dialog.
func (s *Session) request(tx *transaction.Server) {
	m := tx.Request
	seq, _, _ := m.CSeq()
	if tx.Method == sip.ACK {
		s.acked(m, seq)
		return
	}
	if seq <= s.remoteSeq && s.remoteSeq != 0 {
		tx.Reply(500, "CSeq Out Of Order", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, 1) })
		return
	}
	s.remoteSeq = seq
	s.Conn = tx.Conn // the peer may have come back over a new connection
	switch tx.Method {
	case sip.BYE:
		tx.Reply(200, "", nil)
		s.finish(End{Remote: true, Reason: string(m.Get(sip.HeaderReason))})
	case sip.INVITE:
		s.reinvited(tx)
	case sip.UPDATE:
		s.updated(tx)
	case sip.PRACK:
		s.pracked(tx)
	default:
		s.user.Requested(s, tx)
	}
}

// Bye ends the session: CANCEL or rejection if it is not answered yet, BYE otherwise. reason is a Reason value (RFC 3326)
// or empty. The user hears Ended.
func (s *Session) Bye(reason string) {
	switch {
	case s.state == Ended:
	case s.state == Early && s.UAC:
		s.Cancel(reason)
	case s.state == Early:
		s.Reject(480, "", reason)
	default:
		s.bye(reason)
		s.finish(End{Reason: reason})
	}
}

func (s *Session) bye(reason string) {
	if s.endSent {
		return
	}
	s.endSent = true
	s.Send(sip.BYE, func(w *sip.Writer) {
		if reason != "" {
			w.Header(sip.HeaderReason, reason)
		}
	}, "", nil, nil)
}

func (s *Session) finish(e End) {
	if s.state == Ended {
		return
	}
	s.state = Ended
	s.ok.timer.Stop()
	s.rel.timer.Stop()
	s.refresh.timer.Stop()
	if s.in != nil && s.in.tx != nil && !s.in.tx.Finished() {
		s.in.tx.Reply(487, "", nil)
	}
	s.in = nil
	if tx := s.server; tx != nil { // ended by a BYE before it was answered (RFC 3261 section 15.1.2)
		s.server = nil
		tx.Reply(487, "", nil)
	}
	if out := s.out; out != nil {
		s.out = nil
		out.timer.Stop()
		out.done(nil, &ringfence.Fault{Op: "dialog", Kind: ringfence.KindCancelled, Text: "the call ended first"})
	}
	s.layer.remove(s)
	user := s.user
	user.Ended(s, e)
	// The transaction of our INVITE holds the session for a while yet, to end what a fork may still answer. It needs no more than that.
	s.user, s.extra, s.localSDP, s.ok.msg, s.rel.msg = nil, nil, nil, nil, nil
	if s.answered != nil {
		// Proxies on the way may fork; a phone at the other end of the connection has hardly reason to.
		wait := s.Shard.Layer().Timers().T1
		if len(s.Routes) > 0 {
			wait = s.Shard.Layer().Timers().T4
		}
		s.answered.Hasten(wait)
		s.answered = nil
	}
}

// Reason writes a Reason value: a Q.850 cause and a text (RFC 3326).
func Reason(q850 int, text string) string {
	v := "Q.850;cause=" + strconv.Itoa(q850)
	if text != "" {
		v += ";text=" + strconv.Quote(text)
	}
	return v
}
