package control

import (
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/sip/dialog"
)

// View is what can be told about a call while it is up.
type View struct {
	ID       ringfence.CallID  `json:"id"`
	From     string            `json:"from"`
	To       string            `json:"to"`
	Dialled  string            `json:"dialled"`
	State    string            `json:"state"` // "ringing", "up" or "ending"
	Start    time.Time         `json:"start"`
	Answered time.Time         `json:"answered,omitzero"`
	Verdict  ringfence.Verdict `json:"verdict"`
	Reasons  []string          `json:"reasons"`
	Legs     []LegView         `json:"legs"`
}

// LegView is what can be told about a leg.
type LegView struct {
	ringfence.Proof
	Side  string `json:"side"`
	State string `json:"state"` // "early", "confirmed" or "ended"
	Held  bool   `json:"held"`
	Codec string `json:"codec,omitempty"`
}

// List returns every call, from anywhere.
func (c *Control) List() (out []View) {
	c.cfg.Shard.Do(func() {
		for _, call := range c.calls {
			out = append(out, call.view())
		}
	})
	return out
}

// Show returns one call, from anywhere.
func (c *Control) Show(id ringfence.CallID) (v View, ok bool) {
	c.cfg.Shard.Do(func() {
		if call := c.calls[id]; call != nil {
			v, ok = call.view(), true
		}
	})
	return v, ok
}

// Hangup ends a call and reports whether there was one, from anywhere.
func (c *Control) Hangup(id ringfence.CallID, by string) (ok bool) {
	c.cfg.Shard.Do(func() {
		if call := c.calls[id]; call != nil {
			ok = true
			call.end(nil, dialog.Reason(16, "ended by an administrator"), "ended by "+by)
		}
	})
	return ok
}

func (call *Call) view() View {
	v := View{ID: call.ID, From: call.From, To: call.To, Dialled: call.Dialled, State: "ringing", Start: call.Start, Answered: call.Answered,
		Verdict: ringfence.Sealed, Reasons: call.reasons}
	switch {
	case call.over:
		v.State = "ending"
	case !call.Answered.IsZero():
		v.State = "up"
	}
	for _, l := range call.legs {
		lv := LegView{Proof: l.Proof(), Side: l.Side, State: "ended", Held: l.holding, Codec: l.choice.Codec.Name}
		if l.session != nil && !l.ended {
			lv.State = map[dialog.State]string{dialog.Early: "early", dialog.Confirmed: "confirmed", dialog.Ended: "ended"}[l.session.State()]
		}
		if lv.Verdict != ringfence.Sealed {
			v.Verdict = lv.Verdict
		}
		v.Legs = append(v.Legs, lv)
	}
	return v
}

// EndDevice ends every call that a device takes part in, from anywhere.
func (c *Control) EndDevice(id ringfence.DeviceID, why string) {
	c.cfg.Shard.Do(func() {
		for _, call := range c.calls {
			for _, l := range call.legs {
				if l.Device == id && l.live() {
					call.end(nil, dialog.Reason(21, why), why)
					break
				}
			}
		}
	})
}

// EndExceptions ends every call with a leg in the clear whose device has no exception in force any more, and returns how many. It
// may be called from anywhere.
func (c *Control) EndExceptions() (n int) {
	c.cfg.Shard.Do(func() {
		for _, call := range c.calls {
			for _, l := range call.legs {
				if l.live() && !call.over && l.inTheClear() && !c.excepted(l.Device) {
					n++
					call.end(nil, dialog.Reason(58, "the exception is over"), "the exception of device "+string(l.Device)+" is over")
					break
				}
			}
		}
	})
	return n
}

// InTheClear returns how many calls a device has now with plain SIP or RTP. It may be called from anywhere.
func (c *Control) InTheClear(id ringfence.DeviceID) (n int) {
	c.cfg.Shard.Do(func() {
		for _, call := range c.calls {
			for _, l := range call.legs {
				if l.Device == id && l.live() && l.inTheClear() {
					n++
					break
				}
			}
		}
	})
	return n
}

func (l *Leg) inTheClear() bool {
	return l.session != nil && !l.session.Conn.Secure() || l.media != nil && l.media.Plain() != ""
}

func (c *Control) excepted(id ringfence.DeviceID) bool {
	_, ok := c.cfg.Roster.Exception(id, time.Now())
	return ok
}

// Line is the state of one dialog of a user, as busy lamps and other followers show it.
type Line struct {
	ID         string // unique among the user's lines
	Call       ringfence.CallID
	State      string           // "early" or "confirmed" (RFC 4235 section 3.7.1)
	Receives   bool             // the user was called
	Remote     string           // the other party's number; empty if he withholds it
	Name       string           // and name, if it is known
	User       ringfence.UserID // the other party, if he is one of ours and does not withhold it
	Held       bool             // by the user
	RemoteHeld bool             // by the other party
	Start      time.Time
	Answered   time.Time // zero until somebody did
}

// Lines returns the dialogs that a user has now. It is called on the shard.
func (c *Control) Lines(user ringfence.UserID) (out []Line) {
	if strings.HasPrefix(string(user), slotPrefix) {
		return c.slotLines(user)
	}
	for _, l := range c.lines[user] {
		if l.session == nil {
			continue
		}
		line := Line{ID: string(l.ID), Call: l.call.ID, State: "early", Receives: l.Side == "callee", Held: l.holding, Start: l.call.Start, Answered: l.call.Answered}
		if l.session.State() == dialog.Confirmed {
			line.State = "confirmed"
		}
		other := l.call.peer(l)
		if line.Receives && other == nil {
			other = l.call.caller
		}
		if other != nil {
			line.RemoteHeld = other.holding
		}
		if from := l.call.from(); !line.Receives {
			line.Remote = l.call.To
			if other != nil {
				line.User = other.User
			}
		} else if !from.private {
			line.Remote, line.Name = from.number, from.name
			if other != nil && l.call.shown == nil {
				line.User = other.User
			}
		}
		out = append(out, line)
	}
	return out
}

// changed tells who watches the users of a call's legs, once the present work is done.
func (c *Control) changed(call *Call) {
	if c.cfg.Changed == nil {
		return
	}
	var told []ringfence.UserID
	for _, l := range call.legs {
		if u := l.User; !slices.Contains(told, u) && c.cfg.Watched(u) {
			told = append(told, u)
			c.cfg.Shard.Post(func() { c.cfg.Changed(u) })
		}
	}
}
