package control

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/state/store"
)

// maxHops bounds forwarding, so that two users who forward to each other, or groups that overflow to each other, do not loop.
const maxHops = 5

// maxCallsPerUser is how many calls a user may have before the next caller hears busy (call waiting).
const maxCallsPerUser = 4

// Explain says where a number would go and why, from anywhere. It changes nothing.
func (c *Control) Explain(from ringfence.UserID, dialled string) dialplan.Decision {
	d := c.decide(from, dialled)
	if d.Action == dialplan.Refuse && c.cfg.Sounds != nil {
		if why := whyOf(d.Fault); why != "" && c.cfg.Sounds.Announcement(why) != nil {
			d.Reasons = append(d.Reasons, "the caller hears the announcement \""+string(why)+"\"")
		}
	}
	return d
}

func (c *Control) decide(asker ringfence.UserID, number string) dialplan.Decision {
	q := dialplan.Question{From: asker, Dialled: number, Owner: c.Owner}
	if u := c.cfg.Roster.User(asker); u != nil {
		q.Allowed = dialplan.Class(u.TollClass)
	}
	return c.cfg.Plan().Decide(q)
}

// Owner returns whose number or name n is.
func (c *Control) Owner(n ringfence.Number) (ringfence.UserID, bool) {
	if id, ok := c.cfg.Roster.Owner(n); ok {
		return id, true
	}
	if u := c.cfg.Roster.User(ringfence.UserID(n)); u != nil {
		return u.ID, true
	}
	return "", false
}

// Members returns the members of the hunt group with a number.
func (c *Control) Members(n ringfence.Number) ([]ringfence.UserID, bool) {
	for _, g := range c.cfg.Plan().Groups {
		if g.Number == n {
			return g.Members, true
		}
	}
	return nil, false
}

// route asks the dial plan where number goes, in the name of asker, and starts ringing there.
func (call *Call) route(number string, asker ringfence.UserID) {
	d := call.ctl.decide(asker, number)
	call.reasons = append(call.reasons, d.Reasons...)
	if asker == "" && !fromOutside(d.Action) {
		call.because("who comes by a trunk reaches users, groups and recordings only")
		call.turnAway(&ringfence.Fault{Op: "call", Kind: ringfence.KindNotFound, Text: number + " is nobody's number here"}, UnknownNumber)
		return
	}
	switch d.Action {
	case dialplan.ToUser:
		if instance := call.instance; instance != "" {
			call.instance = ""
			call.ringInstance(d.User, instance)
			return
		}
		call.ringUser(d.User)
	case dialplan.ToGroup:
		call.ringGroup(d.Group)
	case dialplan.ToFeature:
		call.feature(d.Feature, d.Arg)
	case dialplan.ToEmergency:
		call.emergencyCall(d)
	case dialplan.ToRecording:
		if err := call.recording(d.Recording); err != nil {
			call.refuse(err)
		}
	case dialplan.Refuse:
		call.turnAway(d.Fault, whyOf(d.Fault))
	case dialplan.ToTrunk:
		call.ringTrunk(d.Trunk, d.Number, call.failed)
	}
}

// emergencyCall rings whoever takes emergency calls, past do-not-disturb, forwarding and the limits of other calls.
func (call *Call) emergencyCall(d dialplan.Decision) {
	c := call.ctl
	if call.emergency && !call.onward() { // whoever takes emergency calls sent it here again
		return
	}
	call.emergency = true
	c.cfg.Log.Warn("emergency call", "call", call.ID, "user", call.caller.User, "device", call.caller.Device, "number", d.Number)
	if conn, _ := c.cfg.Trunks.Way(d.Trunk); conn != nil {
		call.ringTrunk(d.Trunk, d.Number, func(e dialog.End) {
			if d.Arg == "" || e.Status == 486 || e.Status == 487 {
				call.failed(e)
				return
			}
			call.because("the trunk did not take it; %s takes emergency calls", d.Arg)
			call.route(d.Arg, call.caller.User)
		})
		return
	}
	if d.Arg == "" {
		call.refuse(&ringfence.Fault{Op: "call", Kind: ringfence.KindUnavailable, Text: "there is no trunk for emergency calls, and nobody here takes them",
			Hint: "configure a trunk, or dialplan.emergency-to"})
		return
	}
	call.route(d.Arg, call.caller.User)
}

func (call *Call) because(format string, args ...any) {
	call.reasons = append(call.reasons, fmt.Sprintf(format, args...))
}

// instanceOf returns the instance that a GRUU names (RFC 5627 section 5.1), or "".
func instanceOf(uri *sip.URI) string {
	gr, _ := uri.Params.Get("gr")
	return string(sip.Unescape(gr))
}

// ringInstance rings one phone of a user, and no other: who calls by a GRUU means the phone, so that the user's forwardings do not
// count. What the user does not want to hear at all is not heard there either.
func (call *Call) ringInstance(id ringfence.UserID, instance string) {
	c := call.ctl
	u := c.cfg.Roster.User(id)
	if u == nil {
		call.turnAway(&ringfence.Fault{Op: "call", Kind: ringfence.KindNotFound, Text: "there is no user " + string(id)}, UnknownNumber)
		return
	}
	call.To = string(id)
	call.because("one phone of %s was asked for by its GRUU", id)
	if u.DoNotDisturb {
		call.failed(dialog.End{Status: 486, Phrase: "Do Not Disturb", Reason: dialog.Reason(17, "do not disturb")})
		return
	}
	call.locate([]ringfence.UserID{id}, func(contacts []contact) {
		contacts = slices.DeleteFunc(contacts, func(at contact) bool { return at.Instance != instance })
		if len(contacts) == 0 {
			call.failed(dialog.End{Status: 480, Reason: dialog.Reason(20, "that phone of "+string(id)+" is not registered")})
			return
		}
		call.ringAll(contacts, "", c.cfg.RingTime, call.failed)
	})
}

// ringUser rings every phone of a user, or goes where the user forwards.
func (call *Call) ringUser(id ringfence.UserID) {
	c := call.ctl
	u := c.cfg.Roster.User(id)
	if u == nil {
		call.turnAway(&ringfence.Fault{Op: "call", Kind: ringfence.KindNotFound, Text: "there is no user " + string(id)}, UnknownNumber)
		return
	}
	call.To = string(id)
	if len(u.Numbers) > 0 {
		call.To = string(u.Numbers[0])
	}
	call.locate([]ringfence.UserID{id}, func(contacts []contact) { call.ringThere(u, contacts) })
}

// ringThere rings the phones of a user, or goes where the user forwards.
func (call *Call) ringThere(u *store.User, contacts []contact) {
	c, id, f := call.ctl, u.ID, u.Forward
	unanswered := c.cfg.RingTime
	if f.NoAnswer != "" {
		unanswered = f.NoAnswerAfter
		if unanswered == 0 {
			unanswered = 20 * time.Second
		}
	}
	end := func(target, why string, e dialog.End) {
		if target != "" {
			call.forward(u.ID, target, why)
			return
		}
		call.failed(e)
	}
	switch {
	case call.emergency && len(contacts) > 0:
		call.ringAll(contacts, "", unanswered, call.failed)
	case f.Always != "":
		call.forward(id, f.Always, "always")
	case u.DoNotDisturb:
		call.because("%s does not want to be disturbed", id)
		end(f.Busy, "do not disturb", dialog.End{Status: 486, Phrase: "Do Not Disturb", Reason: dialog.Reason(17, "do not disturb")})
	case len(contacts) == 0:
		call.because("no phone of %s is registered", id)
		end(f.Unreachable, "unreachable", dialog.End{Status: 480, Reason: dialog.Reason(20, "no phone of "+string(id)+" is registered")})
	case c.busy(id) >= maxCallsPerUser:
		call.because("%s has %d calls already", id, maxCallsPerUser)
		end(f.Busy, "busy", dialog.End{Status: 486, Reason: dialog.Reason(17, "busy")})
	default:
		call.ringAll(contacts, id, unanswered, func(e dialog.End) {
			switch {
			case e.Status == 302:
				end(deflection(e.Contacts), "deflected", e)
			case e.Err != nil:
				end(f.Unreachable, "unreachable", e)
			case e.Status == 486 || e.Status == 600 || e.Status == 603:
				end(f.Busy, "busy", e)
			case e.Status == 480 || e.Status == 408:
				end(f.NoAnswer, "no answer", e)
			case e.Status >= 500:
				end(f.Unreachable, "unreachable", e)
			default:
				call.failed(e)
			}
		})
	}
}

// ringAll rings contacts at once; then hears how it failed if none answers. They may send the call elsewhere if they are phones of whose,
// who was called; empty: they may not.
func (call *Call) ringAll(contacts []contact, whose ringfence.UserID, wait time.Duration, then func(dialog.End)) {
	call.rings = whose
	call.worst = dialog.End{}
	call.next = then
	for i := range contacts {
		call.ring(&contacts[i])
	}
	if len(call.ringing) == 0 {
		call.allFailed()
		return
	}
	call.ringsFor(wait)
}

// ringsFor gives up ringing after a while.
func (call *Call) ringsFor(wait time.Duration) {
	call.ctl.cfg.Shard.After(&call.ringer, wait, func() {
		call.worst = dialog.End{Status: 480, Phrase: "Nobody Answered", Reason: dialog.Reason(19, "no answer")}
		call.hushed = true
		for _, l := range slices.Clone(call.ringing) {
			l.session.Cancel(dialog.Reason(19, "no answer"))
		}
	})
}

// nobodyLeft goes on when no leg rings any more and none is to come.
func (call *Call) nobodyLeft() {
	if len(call.ringing) == 0 && call.looking == 0 {
		call.allFailed()
	}
}

// allFailed is called when no leg rings any more and nobody answered.
func (call *Call) allFailed() {
	call.ringer.Stop()
	e, then := call.worst, call.next
	if e.Status == 0 {
		e = dialog.End{Status: 480}
	}
	call.next, call.hushed, call.rings = nil, false, ""
	if then == nil {
		then = call.failed
	}
	then(e)
}

// onward counts that the call goes on elsewhere, and reports whether it may; else it has ended.
func (call *Call) onward() bool {
	call.hops++
	if call.hops <= maxHops {
		return true
	}
	call.refuse(&ringfence.Fault{Op: "call", Kind: ringfence.KindConflict, Text: "the call was forwarded too often", Hint: "two users forward, or two groups overflow, to each other"})
	return false
}

// forward sends the call on, paid for by who forwards it.
func (call *Call) forward(by ringfence.UserID, target, why string) {
	call.because("%s forwards to %s (%s)", by, target, why)
	if !call.onward() {
		return
	}
	call.diversion = append([]string{fmt.Sprintf("<sip:%s@%s>;reason=%s", by, call.ctl.cfg.Domain, map[string]string{
		"always": "unconditional", "busy": "user-busy", "no answer": "no-answer", "unreachable": "unavailable", "do not disturb": "do-not-disturb", "deflected": "deflection"}[why])}, call.diversion...)
	if call.caller.session.State() == dialog.Early {
		call.caller.session.Progress(181, nil)
	}
	call.route(target, by)
}

// deflects reports whether the phone at the other end of l sends the call elsewhere (RFC 3261 section 21.3), and may: its user was called,
// and no group that the user is in, nor help in an emergency. The user's other phones then stop ringing. As in a REFER, what counts of
// the address is the number: where that is, is the dial plan's to say, and who deflects pays. To another node it is told on.
func (l *Leg) deflects(e dialog.End) bool {
	call := l.call
	if e.Status < 300 || e.Status > 399 || l.Trunk != "" || !call.relayed && (call.rings == "" || call.rings != l.User) {
		return false
	}
	number := deflection(e.Contacts)
	if number == "" {
		return false
	}
	call.ringer.Stop()
	call.hushed = true
	call.worst = dialog.End{Status: 302, Contacts: []string{"<sip:" + url.PathEscape(number) + "@" + call.ctl.cfg.Domain + ">"}}
	for _, other := range slices.Clone(call.ringing) {
		other.session.Cancel(dialog.Reason(26, "sent elsewhere from another phone"))
	}
	return true
}

// deflection returns the number that the first Contact of a 3xx names, or "".
func deflection(contacts []string) string {
	if len(contacts) == 0 {
		return ""
	}
	a, err := sip.ParseNameAddr([]byte(contacts[0]))
	if err != nil || !a.URI.IsSIP() && !sip.EqualFold(a.URI.Scheme, "tel") {
		return ""
	}
	return string(sip.Unescape(a.URI.User))
}

// ringGroup rings the members of a hunt group by its strategy.
func (call *Call) ringGroup(g *dialplan.Group) {
	c := call.ctl
	call.To = string(g.Number)
	wait := time.Duration(g.Seconds) * time.Second
	if wait == 0 {
		wait = 20 * time.Second
	}
	members := slices.Clone(g.Members)
	switch g.Strategy {
	case dialplan.RoundRobin:
		at := c.robin[g.Number] % len(members)
		c.robin[g.Number] = at + 1
		members = append(members[at:], members[:at]...)
	case dialplan.LongestIdle:
		slices.SortStableFunc(members, func(a, b ringfence.UserID) int { return c.idle[a].Compare(c.idle[b]) })
	}
	taken := func(id ringfence.UserID) bool {
		u := c.cfg.Roster.User(id)
		return u == nil || (u.DoNotDisturb || c.busy(id) > 0) && !call.emergency
	}
	over := func(e dialog.End) {
		if g.Overflow != "" {
			call.because("nobody of %s answered", g.Name)
			if call.onward() {
				call.route(g.Overflow, g.Members[0])
			}
			return
		}
		call.failed(e)
	}
	if g.Strategy == dialplan.RingAll {
		call.locate(slices.DeleteFunc(members, taken), func(all []contact) { call.ringAll(all, "", wait, over) })
		return
	}
	var try func(e dialog.End)
	try = func(e dialog.End) {
		for len(members) > 0 && taken(members[0]) {
			members = members[1:]
		}
		if len(members) == 0 {
			over(e)
			return
		}
		id := members[0]
		members = members[1:]
		call.locate([]ringfence.UserID{id}, func(contacts []contact) {
			if len(contacts) == 0 {
				try(e)
				return
			}
			call.because("%s is next in %s", id, g.Name)
			call.ringAll(contacts, "", wait, try)
		})
	}
	try(dialog.End{Status: 480, Reason: dialog.Reason(20, "nobody of "+g.Name+" is free")})
}

// feature does what a feature code says.
func (call *Call) feature(f dialplan.Feature, arg string) {
	call.To = string(f)
	var err error
	switch f {
	case dialplan.EchoTest:
		err = call.alone(nil)
	case dialplan.Announcement:
		err = call.alone(pitch(1004))
	case dialplan.PickupGroup:
		err = call.pickUp(ringfence.Number(arg))
	case dialplan.Retrieve:
		err = call.retrieve(arg)
	default:
		err = &ringfence.Fault{Op: "call", Kind: ringfence.KindUnavailable, Text: "the feature " + string(f) + " is not available by dialling",
			Hint: "set it by `ringfence user set`"}
	}
	if err != nil {
		call.refuse(err)
	}
}

// alone answers a caller who talks to the node itself: it hears what maker yields, or itself if there is none.
func (call *Call) alone(maker func(rate int) func([]int16)) error {
	if err := call.caller.answerWith(own()); err != nil {
		return err
	}
	call.connected()
	if maker != nil {
		call.caller.play(maker)
		return nil
	}
	call.caller.echo()
	return nil
}

func (call *Call) diverted(w *sip.Writer) {
	for _, d := range call.diversion {
		w.Header(sip.HeaderDiversion, d)
	}
}
