package control

import (
	"math/rand/v2"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/call/trunk"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/trust/profile"
)

// InviteTrunk handles an INVITE that starts a dialog, from a trunk whose calls may come. They reach users, groups and recordings, and nothing that costs money.
func (c *Control) InviteTrunk(tx *transaction.Server, t trunk.Trunk) {
	uri, ok := c.invited(tx, func(string) bool { return false })
	if !ok {
		return
	}
	replaces := tx.Request.Get(sip.HeaderReplaces)
	if len(replaces) > 0 && !c.cfg.Trunks.Accepts(t.Name, profile.Replaces) {
		tx.Reply(403, "Replaces Is Not Accepted On This Trunk", nil)
		return
	}
	if c.full(t) {
		tx.Reply(503, "Too Many Calls On This Trunk", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, uint64(5+rand.IntN(10))) })
		return
	}
	call := c.newCall()
	call.spent, _ = spent(tx.Request)
	leg := call.newLeg("caller", "", "")
	leg.over(t.Name)
	call.Dialled = t.Incoming(string(sip.Unescape(uri.User)))
	leg.session = c.cfg.Dialogs.Accept(tx, c.contact(tx.Conn), leg)
	call.caller = leg
	call.From, call.fromName = callerOf(tx.Request)
	call.fromHost = hostOf(t)
	call.private = wantsPrivacy(tx.Request)
	who := call.from()
	leg.who = &who
	call.because("it comes by the trunk %s", t.Name)
	leg.opened()
	err := leg.hear(tx.Request.Body())
	if err == nil && len(replaces) > 0 {
		err = call.replace(string(replaces))
	}
	if err != nil {
		call.refuse(err)
		return
	}
	if len(replaces) == 0 {
		call.route(call.Dialled, "")
	}
}

// fromOutside reports whether a call that nobody of ours pays for may have such an end.
func fromOutside(a dialplan.Action) bool {
	return slices.Contains([]dialplan.Action{dialplan.ToUser, dialplan.ToGroup, dialplan.ToRecording}, a)
}

// callerOf returns the number and the name of a caller as a trunk asserts it (RFC 3325), or else as it says.
func callerOf(m *sip.Message) (number, name string) {
	v := m.Get(sip.HeaderPAssertedIdentity)
	if len(v) == 0 {
		v = m.Get(sip.HeaderFrom)
	}
	for one := range sip.Values(v) {
		if a, err := sip.ParseNameAddr(one); err == nil {
			number, name = string(sip.Unescape(a.URI.User)), string(a.Display)
		}
		break // a second one is a tel: URI of the same caller
	}
	if number == "" || len(number) > 64 || strings.ContainsFunc(number, func(r rune) bool {
		return !strings.ContainsRune("0123456789+*#.-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", r)
	}) {
		number = "unknown"
	}
	if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		name = ""
	}
	return number, name
}

func hostOf(t trunk.Trunk) string {
	if strings.Contains(t.Host, ":") {
		return "[" + t.Host + "]"
	}
	return t.Host
}

// over says that a leg goes over a trunk.
func (l *Leg) over(trunk string) {
	l.Trunk, l.auth = trunk, ringfence.AuthCertificate
	l.call.ctl.byTrunk[trunk]++
}

// full reports whether a trunk has as many calls as it may have.
func (c *Control) full(t trunk.Trunk) bool { return t.MaxCalls > 0 && c.byTrunk[t.Name] >= t.MaxCalls }

// ringTrunk sends the call to a number at a trunk; then hears how it failed if that does not take it.
func (call *Call) ringTrunk(name, number string, then func(dialog.End)) {
	c := call.ctl
	call.To = number
	conn, t := c.cfg.Trunks.Way(name)
	if conn == nil {
		call.because("there is no way to the trunk %s now", name)
		call.turnAway(&ringfence.Fault{Op: "call", Kind: ringfence.KindUnavailable, Text: "the trunk " + name + " cannot be reached", Hint: "see `ringfence trunk list`"}, Unreachable)
		return
	}
	if c.full(t) && !call.emergency {
		call.because("the trunk %s has as many calls as it may have", name)
		call.turnAway(&ringfence.Fault{Op: "call", Kind: ringfence.KindOverload, Text: "the trunk " + name + " has as many calls as it may have", Hint: "see max-calls of the trunk"}, Unreachable)
		return
	}
	call.worst, call.next = dialog.End{}, then
	l := call.newLeg("callee", "", "")
	l.over(name)
	who, from := call.from(), call.identity()
	if who.host == "" { // one of ours; our prefix before a stranger's number would make it ours as well
		who.number = t.Outgoing(who.number)
	}
	known := who.address(c.cfg.Domain)
	if !who.private {
		from = known
	}
	to := "sip:" + number + "@" + hostOf(t) + ";user=phone"
	l.who = &party{number: number, host: hostOf(t)}
	rings := call.invite(l, dialog.Invitation{Conn: conn, URI: to, From: from, To: "<" + to + ">", Extra: func(w *sip.Writer) {
		if who.private {
			w.Header(sip.HeaderPrivacy, "id")
		}
		if !who.private || t.TrustDomain {
			w.Header(sip.HeaderPAssertedIdentity, known)
		}
	}})
	if !rings {
		call.allFailed()
		return
	}
	call.ringsFor(c.cfg.RingTime)
}
