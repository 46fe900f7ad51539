package control

import (
	"cmp"
	"fmt"
	"strings"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
)

// transfer is a REFER under way (RFC 3515, RFC 5589): one party asked that the other be connected elsewhere.
type transfer struct {
	by   *Leg // who asked; it may hang up before the outcome is known
	left *Leg // who is to be connected
}

// refer handles a REFER inside a call's dialog.
func (l *Leg) refer(tx *transaction.Server) {
	call := l.call
	target, err := sip.ParseNameAddr(tx.Request.Get(sip.HeaderReferTo))
	left := call.peer(l)
	switch {
	case err != nil || !target.URI.IsSIP():
		tx.Reply(400, "Bad Refer-To", nil)
		return
	case left == nil || call.transfer != nil || !left.agreed:
		tx.Reply(491, "", nil)
		return
	}
	tx.Reply(202, "", func(w *sip.Writer) { w.Header(sip.HeaderContact, l.session.Contact) })
	call.transfer = &transfer{by: l, left: left}
	l.notify(100, "Trying", true)
	if replaces := headerIn(target.URI.Headers, "Replaces"); replaces != "" {
		call.transferred(call.attended(l, left, replaces))
		return
	}
	number := string(sip.Unescape(target.URI.User))
	call.because("%s transfers the call to %s", l.name(), number)
	call.referredBy = l.address()
	who := left.party()
	call.shown = &who
	call.ctl.cfg.Media.Unjoin(l.media)
	left.holdMusic()
	// From here on the party that is left is the caller of this call, and the transferor pays.
	call.caller, call.callee = left, nil
	call.instance = instanceOf(&target.URI)
	if slot, ok := strings.CutPrefix(number, "*70"); ok && l.User != "" { // who comes from outside has no features
		call.transferred(call.park(left, slot))
		return
	}
	call.route(number, l.User)
}

// name is what a leg's party is called: our user, or the trunk.
func (l *Leg) name() string {
	if l.User == "" && l.Trunk != "" {
		return "trunk " + l.Trunk
	}
	return string(l.User)
}

// sameParty reports whether two legs are of one user, or of one trunk. A leg that is of neither, as of a stranger who comes by another node, is of nobody here.
func (l *Leg) sameParty(o *Leg) bool {
	return l.User == o.User && l.Trunk == o.Trunk && l.name() != ""
}

// address is who transferred a call, as its new party is told (RFC 3892).
func (l *Leg) address() string {
	p := l.party()
	p.name = ""
	return p.address(l.call.ctl.cfg.Domain)
}

// headerIn returns a header of a URI ("?name=value&…"), unescaped.
func headerIn(headers []byte, name string) string {
	for part := range strings.SplitSeq(string(headers), "&") {
		if k, v, ok := strings.Cut(part, "="); ok && strings.EqualFold(k, name) {
			return string(sip.Unescape([]byte(v)))
		}
	}
	return ""
}

// notify tells the transferor how the transfer stands (RFC 3515 section 2.4.5).
func (l *Leg) notify(status int, phrase string, more bool) {
	if l.ended || l.session.State() != dialog.Confirmed {
		return
	}
	if phrase == "" {
		phrase = sip.Phrase(status)
	}
	l.session.Send(sip.NOTIFY, func(w *sip.Writer) {
		w.Header(sip.HeaderEvent, "refer")
		if more {
			w.Header(sip.HeaderSubscriptionState, "active;expires=180")
		} else {
			w.Header(sip.HeaderSubscriptionState, "terminated;reason=noresource")
		}
	}, "message/sipfrag;version=2.0", fmt.Appendf(nil, "SIP/2.0 %d %s\r\n", status, phrase), nil)
}

// transferred ends a transfer: on success the transferor leaves the call, on failure the old call goes on.
func (call *Call) transferred(err error) {
	t := call.transfer
	if t == nil {
		return
	}
	call.transfer = nil
	if err == nil {
		t.by.notify(200, "OK", false)
		if !t.by.ended {
			t.by.session.Bye(`SIP;cause=200;text="Call transferred"`)
		}
		return
	}
	status, phrase := ringfence.KindOf(err).SIP()
	if f, ok := err.(*refusal); ok {
		status, phrase = f.end.Status, f.end.Phrase
	}
	call.because("the transfer failed: %s", text(err))
	t.by.notify(status, phrase, false)
	if t.by.ended || t.left.ended {
		call.end(nil, dialog.Reason(41, "transfer failed"), "transfer failed: "+text(err))
		return
	}
	call.caller, call.callee = t.left, t.by
	t.left.silence()
	if err := call.join(t.left, t.by); err != nil {
		call.end(nil, "", text(err))
	}
}

// refusal carries a final response as an error.
type refusal struct{ end dialog.End }

func (r *refusal) Error() string {
	if r.end.Phrase != "" {
		return r.end.Phrase
	}
	return sip.Phrase(r.end.Status)
}

// attended connects left with the far side of another call of the transferor's.
func (call *Call) attended(by, left *Leg, replaces string) error {
	other := call.ctl.replaced(replaces)
	if other == nil || !other.sameParty(by) || other.call == call {
		return &ringfence.Fault{Op: "call.transfer", Kind: ringfence.KindNotFound, Text: "the call to be replaced is not there"}
	}
	second := other.call
	far := second.peer(other)
	if far == nil || !far.agreed {
		return &ringfence.Fault{Op: "call.transfer", Kind: ringfence.KindConflict, Text: "the other call is not answered yet"}
	}
	call.because("%s connects %s with %s of call %s", by.name(), left.name(), far.name(), second.ID)
	second.because("%s was connected with %s of call %s", far.name(), left.name(), call.ID)
	second.give(far, call)
	if err := call.connect(left, far); err != nil {
		call.give(far, second)
		_ = second.join(other, far)
		return err
	}
	call.caller, call.callee = left, far
	call.To = string(far.User)
	call.connected()
	second.end(nil, `SIP;cause=200;text="Call transferred"`, "transferred into call "+string(call.ID))
	return nil
}

// give moves a leg to another call.
func (call *Call) give(l *Leg, to *Call) {
	for i, x := range call.legs {
		if x == l {
			call.legs = append(call.legs[:i:i], call.legs[i+1:]...)
			break
		}
	}
	l.call = to
	to.legs = append(to.legs, l)
	call.ctl.cfg.Events.LegMoved(l.info(), call.ID)
}

// replaced finds the leg that a Replaces value names: "call-id;to-tag=ours;from-tag=theirs" (RFC 3891).
func (c *Control) replaced(value string) *Leg {
	callID, params, _ := strings.Cut(value, ";")
	p := sip.Params(params)
	to, _ := p.Get("to-tag")
	from, _ := p.Get("from-tag")
	id := []byte(strings.TrimSpace(callID))
	s := c.cfg.Dialogs.Find(c.cfg.Shard, id, to, from)
	if s == nil {
		s = c.cfg.Dialogs.Find(c.cfg.Shard, id, from, to)
	}
	if s == nil {
		return nil
	}
	l, _ := s.User().(*Leg)
	return l
}

// replace handles an INVITE with Replaces (RFC 3891): the new leg takes the place of one of the same party's, e.g. when a call
// moves from one phone to another.
func (call *Call) replace(value string) error {
	old := call.ctl.replaced(value)
	if old == nil || old.ended {
		return &refusal{dialog.End{Status: 481}}
	}
	if !old.sameParty(call.caller) {
		return &ringfence.Fault{Op: "call.replace", Kind: ringfence.KindDenied, Text: "only one's own call can be replaced"}
	}
	second := old.call
	far := second.peer(old)
	if far == nil || !far.agreed {
		return &refusal{dialog.End{Status: 481}}
	}
	second.give(far, call)
	if err := call.connect(call.caller, far); err != nil {
		call.give(far, second)
		return err
	}
	call.callee, call.To = far, string(far.User)
	call.connected()
	call.because("%s moved the call from %s", call.caller.name(), cmp.Or(string(old.Device), old.name()))
	second.end(nil, `SIP;cause=200;text="Call moved"`, "moved into call "+string(call.ID))
	return nil
}

// pickUp lets the caller answer what rings at a number, or, without one, whatever rings longest.
func (call *Call) pickUp(number ringfence.Number) error {
	c := call.ctl
	var user ringfence.UserID
	if number != "" {
		id, ok := c.Owner(number)
		if !ok {
			return &ringfence.Fault{Op: "call.pickup", Kind: ringfence.KindNotFound, Text: string(number) + " is nobody's number here"}
		}
		user = id
	}
	var best *Call
	for _, other := range c.calls {
		if other == call || other.callee != nil || other.over || len(other.ringing) == 0 || other.caller.agreed {
			continue
		}
		for _, l := range other.ringing {
			if (user == "" || l.User == user) && (best == nil || other.Start.Before(best.Start)) {
				best = other
			}
		}
	}
	if best == nil {
		return &ringfence.Fault{Op: "call.pickup", Kind: ringfence.KindNotFound, Text: "nothing rings there"}
	}
	me := call.caller
	if err := best.connect(best.caller, me); err != nil {
		return err
	}
	call.give(me, best)
	me.Side = "callee"
	best.because("%s picked the call up", me.User)
	best.callee = me
	best.connected()
	best.hush(me)
	call.merged(best)
	return nil
}

// merged is told when the caller has become a party of another call. Unless it was transferred there, its own never was one.
func (call *Call) merged(into *Call) {
	c := call.ctl
	if call.transfer == nil {
		delete(c.calls, call.ID)
		c.cfg.Events.CallMerged(call.ID, into.ID)
		return
	}
	call.over, call.cause = true, "transferred into call "+string(into.ID)
	call.transferred(nil)
	call.finish()
}
