package control

import (
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/media/relay"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/trust/profile"
)

// Leg is one SIP dialog with its one media session and its security state.
type Leg struct {
	ID     ringfence.LegID
	Side   string             // "caller" or "callee"
	Device ringfence.DeviceID // empty on a leg to or from a trunk,
	Trunk  string             // whose name is this one
	User   ringfence.UserID
	Since  time.Time

	who     *party // as it came, of whoever called, and of a trunk; nil: a user of ours
	call    *Call
	session *dialog.Session
	media   *relay.Endpoint
	auth    ringfence.Auth
	refusal string // why it was refused, if it was
	// exception names the exception of the leg's device that was in force when the leg began; empty for every other leg.
	exception string
	ended     bool
	until     time.Time             // when it ended
	final     *ringfence.MediaProof // numbers of the media once it is closed

	ours    []sdp.Crypto // our keys for this leg
	heard   *sdp.Session // the peer's last description
	sent    *sdp.Session // our last description
	choice  sdp.Choice   // what both agreed on
	agreed  bool
	holding bool     // the peer has put us on hold
	late    bool     // its INVITE had no offer
	plain   bool     // it refused a sealed offer and has an exception
	at      *contact // where it rings; nil on a caller's leg

	named            string // what proofs call its peer, once they did
	unsealed, reason string // what was not sealed in the last proof, and why

	patience transaction.Timer // with a flow that says nothing,
	silent   bool              // and then nobody waits for it any more
}

// DeviceOf returns the device of the leg that decides for a session.
func DeviceOf(u dialog.User) (ringfence.DeviceID, bool) {
	switch u := u.(type) {
	case *Leg:
		return u.Device, u.Trunk == ""
	case *originated:
		return u.Device, true
	}
	return "", false
}

// TrunkOf returns the trunk of the leg that decides for a session, if it is one to or from a trunk.
func TrunkOf(u dialog.User) (string, bool) {
	l, ok := u.(*Leg)
	if !ok || l.Trunk == "" {
		return "", false
	}
	return l.Trunk, true
}

// live reports whether the leg is not over.
func (l *Leg) live() bool { return !l.ended }

// Proof returns the evidence about the leg so far.
func (l *Leg) Proof() ringfence.Proof { return l.proof(time.Now()) }

func (l *Leg) proof(now time.Time) ringfence.Proof {
	if l.named == "" {
		l.named = "device " + string(l.Device)
		if l.Trunk != "" {
			l.named = "trunk " + l.Trunk
		}
	}
	p := ringfence.Proof{ID: string(l.ID), Peer: l.named, Verdict: ringfence.Sealed, Auth: l.auth, At: now}
	if l.session != nil {
		p.TLS = l.session.Conn.TLS
		switch peer := l.session.Conn.Peer; {
		case peer.Role == nodeRole && l.Device == "":
			p.Peer = "node " + peer.Name
		case peer.Role == "proxy" || peer.Role == nodeRole:
			p.Via = peer.Name
		}
	}
	switch {
	case l.final != nil:
		p.Media = l.final
	case l.media != nil:
		m := l.media.Stats()
		p.Media = &m
	}
	if l.refusal != "" {
		p.Verdict, p.Reason = ringfence.Refused, l.refusal
		return p
	}
	var what string
	switch plainRTP := l.agreed && (p.Media == nil || p.Media.Suite == ""); {
	case p.TLS == nil && plainRTP:
		what = "plain SIP and RTP"
	case p.TLS == nil:
		what = "plain SIP"
	case plainRTP:
		what = "plain RTP"
	default:
		return p
	}
	if l.unsealed != what {
		l.unsealed, l.reason = what, what+" by the "+l.exception
		if l.exception == "" {
			l.reason = what + " without an exception"
		}
	}
	p.Verdict, p.Reason = ringfence.Exception, l.reason
	return p
}

// except notes the exception of the leg's device, if one is in force.
func (l *Leg) except() {
	if e, ok := l.call.ctl.cfg.Roster.Exception(l.Device, time.Now()); ok {
		l.exception = e.String()
	}
}

// close gives the leg's media back and keeps its last numbers.
func (l *Leg) close() {
	if l.ended {
		return
	}
	l.ended, l.until = true, time.Now()
	l.patience.Stop()
	l.call.ctl.hungUp(l)
	if l.media != nil {
		final := l.media.Close()
		l.final = &final
		l.media = nil
	}
	l.ours, l.heard, l.sent = nil, nil, nil
	l.choice.Local, l.choice.Remote = sdp.Crypto{}, sdp.Crypto{}
}

// ring starts a leg to a contact, with an offer made from the caller's.
func (call *Call) ring(contact *contact) { call.ringWith(contact, false) }

// ringWith is ring; plain is for a device that has refused a sealed offer and has an exception.
func (call *Call) ringWith(contact *contact, plain bool) {
	c := call.ctl
	user := ringfence.UserID(call.To)
	if d := c.cfg.Roster.Device(contact.Device); d != nil {
		user = d.User
	}
	l := call.newLeg("callee", contact.Device, user)
	l.at, l.plain = contact, plain
	l.auth = contact.Proof.Auth
	l.except()
	from := call.identity()
	rings := call.invite(l, dialog.Invitation{
		Conn: contact.Conn, URI: contact.Contact, Routes: contact.Path, From: from, To: "<" + contact.AOR + ">",
		Extra: func(w *sip.Writer) {
			switch node := contact.Conn.Peer.Role == nodeRole; {
			case !call.from().private:
				w.Header(sip.HeaderPAssertedIdentity, from)
			case node: // which withholds it from the phone in its turn (RFC 3325 section 7)
				w.Header(sip.HeaderPAssertedIdentity, call.known())
				w.Header(sip.HeaderPrivacy, "id")
			}
			if call.referredBy != "" {
				w.Header(sip.HeaderReferredBy, call.referredBy)
			}
			call.diverted(w)
		},
	})
	if peer := contact.Conn.Peer; peer.Role == nodeRole {
		call.because("device %s is connected at %s", contact.Device, peer.Name)
	}
	if rings && len(contact.Others) > 0 && contact.Conn.Reliable() {
		c.cfg.Shard.After(&l.patience, flowPatience, func() { l.flowSilent() })
	}
}

// emergency is the Priority of a call for help (RFC 3261 section 20.26).
const emergency = "emergency"

// invite rings at the other end of a leg, with an offer made from the caller's, and reports whether it does.
func (call *Call) invite(l *Leg, in dialog.Invitation) bool {
	c := call.ctl
	offer, err := l.offerFor(call.caller, in.Conn)
	if err != nil {
		l.refusal = err.Error()
		l.close()
		c.cfg.Log.Warn("a leg could not be rung", "call", call.ID, "peer", l.Proof().Peer, "err", err, "hint", ringfence.HintOf(err))
		// It is our trouble, not the phone's: the caller hears 503 and the cause, unless another phone answers.
		call.worst = better(call.worst, dialog.End{Status: 503, Reason: dialog.Reason(ringfence.KindOverload.Q850(), text(err))})
		return false
	}
	in.Contact, in.SDP, in.Spent = c.contact(in.Conn), offer, call.spent
	if extra := in.Extra; call.emergency { // whoever it comes to may have limits of its own
		in.Extra = func(w *sip.Writer) {
			w.Header(sip.HeaderPriority, emergency)
			extra(w)
		}
	}
	l.session = c.cfg.Dialogs.Invite(c.cfg.Shard, in, l)
	l.opened()
	call.ringing = append(call.ringing, l)
	c.changed(call)
	return true
}

// flowPatience is how long a phone with another flow may take to say anything to an INVITE, 100 included.
const flowPatience = 2 * time.Second

// flowSilent tries the phone's next flow (RFC 5626 section 5.3) if this one took the INVITE and nothing came back: its other end may
// have vanished without a word. Should it answer yet, that counts.
func (l *Leg) flowSilent() {
	call := l.call
	if l.ended || call.over || call.callee != nil || call.hushed || l.session.Heard() || !slices.Contains(call.ringing, l) {
		return
	}
	l.silent = true
	call.drop(l) // whatever comes of the next flow is the phone's answer
	l.nextFlow("is silent")
	call.nobodyLeft()
}

// flowFailed reports whether a leg's end is no answer of the phone's: the connection broke, or a proxy on the way says that the flow
// behind it failed or that nothing came back (RFC 5626 section 5.3).
func flowFailed(e dialog.End) bool { return e.Err != nil || e.Status == 430 || e.Status == 408 }

// overloaded reports whether a proxy on the way, and not the phone, says that it has no time for us (RFC 3261 section 21.5.4).
func (l *Leg) overloaded(e dialog.End) bool {
	return e.Status == 503 && e.Remote && l.at != nil && l.at.Conn.Peer.Role != "device" && l.at.Conn.Peer.Role != ""
}

// The pause that a server gets that says 503 without saying for how long, the longest it can ask for, and how many servers a call tries.
const (
	usualRest   = time.Minute
	longestRest = time.Hour
	maxMoves    = 3
)

// nextHop looks for the next server of a proxy that said 503, to ring the phone by that one (RFC 3263 section 4.3). It reports whether it does.
func (l *Leg) nextHop(e dialog.End) bool {
	call := l.call
	c := call.ctl
	if c.cfg.NextHop == nil || l.at.Conn.Peer.Role != "proxy" || call.moves >= maxMoves {
		return false
	}
	wait := usualRest
	if e.Message != nil {
		if n, ok := e.Message.Uint(sip.HeaderRetryAfter, uint64(longestRest/time.Second)); ok {
			wait = time.Duration(n) * time.Second
		}
	}
	e.Message = nil // it does not live so long
	call.moves++
	call.looking++
	at, old := *l.at, l.at.Conn
	call.because("the proxy %s at connection %d says 503; its next server is looked for", old.Peer.Name, old.ID)
	go func() {
		next := c.cfg.NextHop(old, wait)
		c.cfg.Shard.Post(func() {
			call.looking--
			switch {
			case call.over || call.callee != nil:
				return
			case call.hushed: // nobody answered in time
			case next == nil:
				call.worst = better(call.worst, told(e))
			default:
				at.Conn = next
				call.ringWith(&at, l.plain)
			}
			call.nobodyLeft()
		})
	}()
	return true
}

// nextFlow rings the phone by its next flow, and reports whether it has one.
func (l *Leg) nextFlow(why string) bool {
	if l.at == nil || len(l.at.Others) == 0 {
		return false
	}
	next := l.at.Others[0]
	next.Others = l.at.Others[1:]
	l.at.Others = nil // one leg follows another, whatever becomes of this one
	l.call.because("the flow of device %s over connection %d %s; its flow before is tried", l.Device, l.at.Conn.ID, why)
	l.call.ringWith(&next, l.plain)
	return true
}

// wantsPlain reports whether a device with an exception has refused a sealed offer, and plain RTP is still to be tried.
func (l *Leg) wantsPlain(e dialog.End) bool {
	return l.exception != "" && !l.plain && l.at != nil && l.at.Conn.Secure() && (e.Status == 488 || e.Status == 415 || e.Status == 606)
}

// party is how somebody is shown to the other side.
type party struct {
	number, name string
	host         string // empty: our domain, as one of ours
	private      bool   // withholds its identity
}

// from is who is shown as the caller: whoever is asserted to call (RFC 3325) has to be at the other end.
func (call *Call) from() party {
	p := party{call.From, call.fromName, call.fromHost, call.private}
	if call.shown != nil {
		p = *call.shown
	}
	p.private = p.private && !call.emergency // whoever helps may have to call back
	return p
}

// party returns who is at the other end of a leg.
func (l *Leg) party() party {
	if l.who != nil {
		return *l.who
	}
	p := party{number: string(l.User)}
	if u := l.call.ctl.cfg.Roster.User(l.User); u != nil {
		p.name = u.Name
		if len(u.Numbers) > 0 {
			p.number = string(u.Numbers[0])
		}
	}
	return p
}

// address is a party's name-addr, at our domain if it is one of ours.
func (p party) address(domain string) string {
	if p.host != "" {
		domain = p.host
	}
	out := "<sip:" + p.number + "@" + domain + ">"
	if p.name != "" {
		out = quote(p.name) + " " + out
	}
	return out
}

// identity is how the caller is shown to who is called (RFC 3325; RFC 3323 section 4.1 if it is withheld).
func (call *Call) identity() string {
	if call.from().private {
		return `"Anonymous" <sip:anonymous@anonymous.invalid>`
	}
	return call.known()
}

// known is who the caller is, whoever may be told.
func (call *Call) known() string { return call.from().address(call.ctl.cfg.Domain) }

func quote(s string) string {
	out := []byte{'"'}
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return string(append(out, '"'))
}

// Progress implements dialog.User.
func (l *Leg) Progress(s *dialog.Session, m *sip.Message) {
	call := l.call
	status := m.Status()
	if call.transfer != nil && status == 180 {
		call.transfer.by.notify(180, "", true)
	}
	if call.callee != nil || call.caller.session.State() != dialog.Early {
		return
	}
	if body := m.Body(); len(body) > 0 && !call.caller.late && (call.early == nil || call.early == l) {
		if err := l.accept(body); err == nil {
			if answer, err := call.caller.answerFor(l); err == nil && call.join(call.caller, l) == nil {
				call.early = l
				call.caller.session.Progress(183, answer)
				return
			}
		}
	}
	if status != 183 && call.early == nil {
		call.caller.session.Progress(status, nil)
	}
}

// Answered implements dialog.User.
func (l *Leg) Answered(s *dialog.Session, m *sip.Message) {
	call := l.call
	if call.callee != nil || call.over {
		s.Bye(`SIP;cause=200;text="Call completed elsewhere"`)
		return
	}
	if len(m.Body()) > 0 || !l.agreed {
		if err := l.accept(m.Body()); err != nil {
			l.refused(text(err))
			call.ctl.cfg.Log.Warn("an answer was refused", "leg", l.ID, "device", l.Device, "cause", text(err), "hint", ringfence.HintOf(err))
			call.worst = dialog.End{Status: 488, Reason: dialog.Reason(58, text(err))}
			s.Bye(dialog.Reason(ringfence.KindOf(err).Q850(), text(err)))
			return
		}
	}
	call.answer(l)
}

func text(err error) string {
	if f, ok := err.(*ringfence.Fault); ok && f.Text != "" {
		return f.Text
	}
	return err.Error()
}

// Confirmed implements dialog.User: the ACK to our 200, which for a late offer holds the answer.
func (l *Leg) Confirmed(s *dialog.Session, m *sip.Message) {
	if !l.late || l.agreed {
		return
	}
	call := l.call
	err := l.accept(m.Body())
	if other := call.peer(l); err == nil && other != nil {
		err = call.connect(l, other)
	}
	if err != nil {
		l.refused(text(err))
		call.end(nil, dialog.Reason(ringfence.KindOf(err).Q850(), text(err)), text(err))
	}
}

// Ended implements dialog.User.
func (l *Leg) Ended(s *dialog.Session, e dialog.End) { l.call.legEnded(l, e) }

// Requested implements dialog.User.
func (l *Leg) Requested(s *dialog.Session, tx *transaction.Server) {
	switch tx.Method {
	case sip.REFER:
		if l.Trunk != "" && !l.call.ctl.cfg.Trunks.Accepts(l.Trunk, profile.Refer) {
			tx.Reply(403, "Not Accepted On This Trunk", nil)
			return
		}
		l.refer(tx)
	case sip.OPTIONS, sip.INFO, sip.NOTIFY:
		tx.Reply(200, "", nil)
	default:
		tx.Reply(405, "", func(w *sip.Writer) {
			w.Header(sip.HeaderAllow, "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, INFO, REFER, NOTIFY")
		})
	}
}

var _ dialog.User = (*Leg)(nil)
