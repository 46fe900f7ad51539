package control

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/state/store"
)

// Call is one call: a caller's leg, the legs that ring, and the one that answered.
type Call struct {
	ID       ringfence.CallID
	Start    time.Time
	Answered time.Time // zero until somebody answered
	Dialled  string
	instance string // the one phone that was asked for by its GRUU (RFC 5627); empty: any phone of the user
	From     string // the caller's number or name
	To       string // who it rings at

	ctl        *Control
	fromName   string
	fromHost   string // the host of the trunk that it comes by; empty: our domain
	shown      *party // who is shown as the caller since a transfer; nil: who called
	legs       []*Leg // every leg there ever was, for the record
	caller     *Leg
	callee     *Leg // the leg that answered
	ringing    []*Leg
	looking    int      // phones for which another way is looked for
	moves      int      // how often that was done
	reasons    []string // why it went where it went
	hops       int      // forwardings so far
	spent      int      // hops that its INVITE had behind it when it came, and ours
	ringer     transaction.Timer
	next       func(dialog.End) // what to do when every ringing leg has failed
	worst      dialog.End       // best final response of the legs that failed
	hushed     bool             // we gave up ringing: what the legs answer now does not matter
	rings      ringfence.UserID // the user whose phones ring, who may send the call elsewhere from any of them
	cause      string
	over       bool
	emergency  bool
	private    bool     // the caller withholds its identity from who is called
	early      *Leg     // whose early media the caller hears
	diversion  []string // Diversion values, latest first
	transfer   *transfer
	referredBy string // who transferred the call, as its new party is told (RFC 3892)
	slot       int    // where it is parked, 0 if it is not
	relayed    bool   // another node routed it: it rings one phone here and goes nowhere else
	announced  bool   // the caller hears, or has heard, why the call fails

	room struct { // for the two legs that most calls have
		made int
		legs [2]Leg
		list [2]*Leg
	}
}

// newLeg adds a leg of a user's device to the call.
func (call *Call) newLeg(side string, device ringfence.DeviceID, user ringfence.UserID) *Leg {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	n := len(call.legs)
	name := letters[n%len(letters):][:1]
	if n >= len(letters) {
		name = strconv.Itoa(n)
	}
	var l *Leg
	if room := &call.room; room.made < len(room.legs) {
		l = &room.legs[room.made]
		room.made++
	} else {
		l = new(Leg)
	}
	*l = Leg{ID: ringfence.LegID(string(call.ID) + "-" + name), call: call, Side: side, Device: device, User: user, Since: time.Now()}
	if call.legs == nil {
		call.legs = call.room.list[:0]
	}
	call.legs = append(call.legs, l)
	if user != "" { // trunks have no lines
		call.ctl.lines[user] = append(call.ctl.lines[user], l)
	}
	return l
}

// refuse ends an unanswered call by a final response that names the cause.
func (call *Call) refuse(err error) { call.turnAway(err, "") }

// turnAway is refuse for a call that leads nowhere: its caller may hear why first.
func (call *Call) turnAway(err error, why Why) {
	kind := ringfence.KindOf(err)
	status, phrase := kind.SIP()
	text := text(err)
	c := call.ctl
	if kind == ringfence.KindInsecure {
		call.caller.refused(text)
		c.cfg.Log.Warn("call refused: it could not be sealed", "call", call.ID, "device", call.caller.Device, "cause", text, "hint", ringfence.HintOf(err))
	}
	if call.transfer != nil {
		call.transferred(err)
		return
	}
	if call.caller.session.State() == dialog.Confirmed {
		call.end(nil, dialog.Reason(kind.Q850(), text), text)
		return
	}
	call.cause = text
	if r, ok := err.(*refusal); ok {
		call.caller.session.Reject(r.end.Status, r.end.Phrase, r.end.Reason)
		return
	}
	reject := func() {
		call.caller.session.RejectWith(status, phrase, dialog.Reason(kind.Q850(), text), call.warning(err))
	}
	if !call.announce(why, reject) {
		reject()
	}
}

// warning writes the cause of a refusal into a Warning field (RFC 3261 section 20.43).
func (call *Call) warning(err error) func(*sip.Writer) {
	return func(w *sip.Writer) {
		w.Header(sip.HeaderWarning, fmt.Sprintf("399 %s %q", call.ctl.cfg.Domain, text(err)))
	}
}

// peer returns the leg that l talks to, or nil.
func (call *Call) peer(l *Leg) *Leg {
	switch l {
	case call.caller:
		return call.callee
	case call.callee:
		return call.caller
	}
	return nil
}

// holdChanged is told after a leg's direction changed: who is put on hold hears music instead of silence.
func (call *Call) holdChanged(l *Leg) {
	held := !l.choice.Direction.Sends() // the peer does not want to hear us
	if held == l.holding {
		return
	}
	l.holding = held
	call.ctl.changed(call)
	other := call.peer(l)
	if other == nil || !other.agreed {
		return
	}
	if held {
		other.holdMusic()
	} else {
		other.silence()
	}
}

// answer is called when a ringing leg was answered: the others stop ringing and the two sides are joined.
func (call *Call) answer(l *Leg) {
	call.callee = l
	call.hush(l)
	if call.caller.session.State() == dialog.Confirmed { // transferred, or parked and ringing back
		if err := call.connect(call.caller, l); err != nil {
			call.callee = nil
			call.refuse(err)
			l.session.Bye(dialog.Reason(ringfence.KindOf(err).Q850(), text(err)))
			return
		}
		call.connected()
		call.transferred(nil)
		call.ctl.changed(call)
		return
	}
	var sdp []byte
	var err error
	if call.caller.late {
		sdp, err = call.caller.offerLate(l)
	} else if sdp, err = call.caller.answerFor(l); err == nil {
		err = call.join(call.caller, l)
	}
	if err != nil {
		call.callee = nil
		call.refuse(err)
		l.session.Bye(dialog.Reason(ringfence.KindOf(err).Q850(), text(err)))
		return
	}
	call.connected() // it is on record before the caller hears of it
	call.caller.session.Answer(sdp, nil)
	call.ctl.changed(call)
}

func (call *Call) join(a, b *Leg) error { return call.ctl.cfg.Media.Join(a.media, b.media) }

// drop takes a leg off the list of ringing ones and reports whether it was there.
func (call *Call) drop(l *Leg) bool {
	for i, r := range call.ringing {
		if r == l {
			call.ringing = append(call.ringing[:i:i], call.ringing[i+1:]...)
			return true
		}
	}
	return false
}

// hush stops every ringing leg but one, because the call was answered there.
func (call *Call) hush(answered *Leg) {
	call.ringer.Stop()
	ringing := call.ringing
	call.ringing, call.next, call.rings = nil, nil, ""
	for _, l := range ringing {
		if l != answered {
			l.session.Cancel(`SIP;cause=200;text="Call completed elsewhere"`)
		}
	}
	for _, l := range call.legs {
		if l.silent && l != answered && l.live() {
			l.session.Abandon(`SIP;cause=200;text="Call completed elsewhere"`)
		}
	}
}

// failed is called when there is nobody left to try.
func (call *Call) failed(e dialog.End) {
	call.ringer.Stop()
	if e.Status == 0 {
		e = dialog.End{Status: 480}
	}
	if call.transfer != nil {
		call.transferred(&refusal{e})
		return
	}
	if call.caller.session.State() == dialog.Confirmed { // e.g. a parked call that came back to nobody
		call.end(nil, e.Reason, "not answered: "+sip.Phrase(e.Status))
		return
	}
	if call.cause == "" {
		call.cause = "not answered: " + sip.Phrase(e.Status)
	}
	if call.relayed && e.Err != nil {
		e.Status = 430 // so that the other node tries the phone's other flows, or goes where unreachable phones go
	}
	reject := func() {
		call.caller.session.RejectWith(e.Status, e.Phrase, e.Reason, func(w *sip.Writer) {
			for _, c := range e.Contacts {
				w.Header(sip.HeaderContact, c)
			}
		})
	}
	if call.relayed || !call.announce(whyEnded(e), reject) {
		reject()
	}
}

// better picks the response to pass on when several legs failed (RFC 3261 section 16.7).
func better(a, b dialog.End) dialog.End {
	rank := func(e dialog.End) int {
		s := e.Status
		switch {
		case s == 0:
			return 1000
		case e.Err != nil: // any answer is better than none
			return 900
		case s >= 600:
			return 0
		case s == 486 || s == 480:
			return s - 400
		}
		return s
	}
	if rank(b) < rank(a) {
		return b
	}
	return a
}

// told is what the caller is told of a phone that did not take the call.
func told(e dialog.End) dialog.End {
	switch {
	case e.Err != nil: // the connection broke, or nothing came back: no answer of the phone's, and no trouble of ours
		return dialog.End{Status: 480, Reason: dialog.Reason(20, "the phone cannot be reached"), Err: e.Err}
	case e.Status == 430: // a word among proxies; to the caller the phone is out of reach
		return dialog.End{Status: 480, Reason: e.Reason, Err: &ringfence.Fault{Op: "call", Kind: ringfence.KindUnavailable, Text: "the way to the phone is lost"}}
	case e.Status < 400: // to somewhere that no call of ours goes to
		return dialog.End{Status: 480, Reason: dialog.Reason(20, "the phone sends its callers elsewhere")}
	case e.Status == 503 && e.Remote: // of that phone; from us it would mean this node (RFC 3261 section 16.7)
		return dialog.End{Status: 500, Reason: e.Reason}
	}
	return e
}

// legEnded is told by each leg once its dialog is over.
func (call *Call) legEnded(l *Leg, e dialog.End) {
	l.close()
	call.ctl.changed(call)
	switch {
	case call.over:
	case call.transfer != nil && l == call.transfer.by: // gone before the outcome; the transfer goes on
	case l == call.caller || l == call.callee:
		cause := "ended by " + l.Side
		switch {
		case e.Err != nil:
			cause = e.Err.Error()
		case e.Status >= 300 && call.cause != "":
			cause = call.cause
		case e.Status == 487:
			cause = "cancelled by " + l.Side
		}
		call.end(l, e.Reason, cause)
		return
	default:
		rang := call.drop(l)
		if rang && !call.hushed && l.wantsPlain(e) {
			call.because("device %s refused a sealed offer; its exception lets it have a plain one", l.Device)
			call.ringWith(l.at, true)
		} else if rang && !call.hushed && call.callee == nil && (flowFailed(e) || l.overloaded(e)) && l.nextFlow("failed") {
			// the phone rings by another flow, or its failure is told by that leg
		} else if rang && !call.hushed && call.callee == nil && l.overloaded(e) && l.nextHop(e) {
			// the phone rings by another server of its proxy, or this failure is told when there is none
		} else if rang && !call.hushed && call.callee == nil && l.deflects(e) {
			// whoever is at that phone has decided for the others
		} else if rang && !call.hushed {
			call.worst = better(call.worst, told(e))
		}
		if rang {
			call.nobodyLeft()
		}
	}
	call.finish()
}

// end ends every leg that is still up, except the one that ended it.
func (call *Call) end(by *Leg, reason, cause string) {
	if call.over {
		return
	}
	call.over = true
	if call.cause == "" {
		call.cause = cause
	}
	call.ringer.Stop()
	call.next = nil
	call.unpark()
	for _, l := range call.legs {
		switch {
		case l == by || l.session == nil || l.session.State() == dialog.Ended:
		case l.silent:
			l.session.Abandon(reason)
		default:
			l.session.Bye(reason)
		}
	}
	call.finish()
}

// finish writes the record when the last leg is gone.
func (call *Call) finish() {
	if !call.over || call.ctl.calls[call.ID] == nil {
		return
	}
	for _, l := range call.legs {
		if l.live() {
			return
		}
	}
	c := call.ctl
	delete(c.calls, call.ID)
	var cdr store.CDR
	now := time.Now()
	call.record(&cdr, now)
	cdr.End, cdr.Cause = now, call.cause
	for _, l := range call.legs {
		if l.User != "" {
			c.idle[l.User] = cdr.End
		}
	}
	if c.cfg.Records != nil {
		c.cfg.Records.Ended(&cdr)
	}
	c.cfg.Events.CallEnded(Ended{CDR: cdr, Legs: call.spans()})
}

// connected is told when the call was answered, or other parties were connected.
func (call *Call) connected() {
	now := time.Now()
	if call.Answered.IsZero() {
		call.Answered = now
		call.ctl.cfg.Events.CallAnswered(call.ID, call.Answered)
	}
	if c := call.ctl; c.cfg.Records != nil {
		call.record(&c.answered, now)
		c.cfg.Records.Answered(&c.answered)
	}
}

// record makes of cdr what is known of the call at now, for its record. The room for legs in it is used again.
func (call *Call) record(cdr *store.CDR, now time.Time) {
	legs := cdr.Legs[:0]
	*cdr = store.CDR{Call: call.ID, Start: call.Start, Answer: call.Answered, From: call.From, To: call.To, Direction: "internal", Verdict: ringfence.Sealed}
	switch {
	case call.caller != nil && call.caller.Trunk != "":
		cdr.Direction = "inbound"
	case slices.ContainsFunc(call.legs, func(l *Leg) bool { return l.Trunk != "" }):
		cdr.Direction = "outbound"
	}
	if cdr.To == "" {
		cdr.To = call.Dialled
	}
	cdr.Legs = slices.Grow(legs, len(call.legs))
	for _, l := range call.legs {
		p := l.proof(now)
		cdr.Legs = append(cdr.Legs, p)
		if p.Verdict == ringfence.Refused || p.Verdict == ringfence.Exception && cdr.Verdict == ringfence.Sealed {
			cdr.Verdict = p.Verdict
		}
	}
}
