package control

import (
	"fmt"
	"net/url"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/sdp"
)

// SetLimits changes how many calls there may be and how long one rings, for calls from now on. It may be called from anywhere.
func (c *Control) SetLimits(maxCalls int, ringTime time.Duration) {
	c.cfg.Shard.Do(func() { c.cfg.MaxCalls, c.cfg.RingTime = maxCalls, ringTime })
}

// Draining reports whether new calls are refused because the node is about to stop. It may be called from anywhere.
func (c *Control) Draining() bool { return c.draining.Load() }

// Originate starts a call for somebody else (third-party call control): the latest phone of from rings, and once it is answered the
// call goes on as if that phone had dialled to. A phone that is connected at another node rings if none is here. It returns as soon as the
// phone is rung, and may be called from anywhere but the shard.
func (c *Control) Originate(from ringfence.UserID, to string) (id ringfence.CallID, err error) {
	contacts := c.cfg.Registrar.Locate(from)
	if len(contacts) == 0 && c.cfg.Elsewhere != nil {
		contacts = c.cfg.Elsewhere(from, nil)
	}
	c.cfg.Shard.Do(func() { id, err = c.originate(from, to, contacts) })
	return id, err
}

func (c *Control) originate(from ringfence.UserID, to string, contacts []contact) (ringfence.CallID, error) {
	const op = "call.originate"
	if len(c.calls) >= c.cfg.MaxCalls || c.draining.Load() {
		return "", &ringfence.Fault{Op: op, Kind: ringfence.KindOverload, Text: "no new calls are taken now", Hint: "try again later"}
	}
	user := c.cfg.Roster.User(from)
	if user == nil {
		return "", &ringfence.Fault{Op: op, Kind: ringfence.KindNotFound, Text: "there is no user " + string(from)}
	}
	if len(contacts) == 0 {
		return "", &ringfence.Fault{Op: op, Kind: ringfence.KindUnavailable, Text: "no phone of " + string(from) + " is registered", Hint: "see `ringfence registrations`"}
	}
	at := &contacts[0]
	call := c.newCall()
	call.Dialled, call.From, call.fromName = to, string(user.ID), user.Name
	if len(user.Numbers) > 0 {
		call.From = string(user.Numbers[0])
	}
	call.reasons = append(call.reasons, fmt.Sprintf("%s is rung first, and then dials %s", from, to))
	l := call.newLeg("caller", at.Device, user.ID)
	l.auth = at.Proof.Auth
	l.except()
	call.caller = l
	offer, err := l.ownOffer(at)
	if err != nil {
		l.close()
		delete(c.calls, call.ID)
		return "", err
	}
	self := fmt.Sprintf("<sip:%s@%s>", url.PathEscape(to), c.cfg.Domain)
	l.session = c.cfg.Dialogs.Invite(c.cfg.Shard, dialog.Invitation{Conn: at.Conn, URI: at.Contact, Routes: at.Path, From: self, To: "<" + at.AOR + ">",
		Contact: c.contact(at.Conn), SDP: offer, Extra: func(w *sip.Writer) { w.Header(sip.HeaderPAssertedIdentity, self) }}, &originated{l})
	l.opened()
	c.cfg.Shard.After(&call.ringer, c.cfg.RingTime, func() { l.session.Cancel(dialog.Reason(19, "no answer")) })
	return call.ID, nil
}

// ownOffer makes an offer of what every phone knows, to a leg that has no other side yet.
func (l *Leg) ownOffer(at *contact) ([]byte, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	offer, err := sdp.BuildOffer(l.offering(at.Conn), everyPhone()...)
	if err != nil {
		return nil, err
	}
	l.sent = offer
	return offer.Bytes(), nil
}

// originated decides for a caller's leg that we rang ourselves, until it is answered. From then on it is a leg like any other.
type originated struct{ *Leg }

// Progress implements dialog.User: while the caller's own phone rings there is nobody to tell.
func (o *originated) Progress(*dialog.Session, *sip.Message) {}

// Answered implements dialog.User.
func (o *originated) Answered(s *dialog.Session, m *sip.Message) {
	l, call := o.Leg, o.call
	s.SetUser(l)
	call.ringer.Stop()
	if err := l.accept(m.Body()); err != nil {
		call.refuse(err)
		return
	}
	call.route(call.Dialled, l.User)
}

// Ended implements dialog.User.
func (o *originated) Ended(_ *dialog.Session, e dialog.End) {
	if o.call.cause == "" && e.Status >= 300 {
		o.call.cause = "the caller's own phone did not answer: " + sip.Phrase(e.Status)
	}
	o.call.legEnded(o.Leg, e)
}

var _ dialog.User = (*originated)(nil)
