package follow

import (
	"strings"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/call/roster"
	"ringfence/internal/service/cti"
	"ringfence/internal/sip/transaction"
)

// View is what clients see.
type View struct {
	Domain string
	Calls  *control.Control
	Roster *roster.Roster
	Shard  *transaction.Shard // on which calls change
}

var (
	_ cti.Calls = View{}
	_ cti.Users = View{}
)

// Do implements cti.Calls.
func (v View) Do(do func()) { v.Shard.Do(do) }

// Of implements cti.Calls. Phones of a user that ring for one call are one call.
func (v View) Of(user ringfence.UserID) (out []cti.Call) {
	for _, l := range v.Calls.Lines(user) {
		c := call(l)
		same := -1
		for i := range out {
			if out[i].ID == c.ID && out[i].Receives == c.Receives {
				same = i
			}
		}
		switch {
		case same < 0:
			out = append(out, c)
		case out[same].State == cti.Alerting:
			out[same] = c
		}
	}
	return out
}

func call(l control.Line) cti.Call {
	c := cti.Call{ID: l.Call, Receives: l.Receives, State: cti.Alerting, Number: l.Remote, Name: l.Name, User: l.User, Start: l.Start}
	if l.State != "confirmed" {
		return c
	}
	c.Answered = l.Answered
	switch {
	case l.Answered.IsZero(): // it was taken over before anybody answered
	case l.Held:
		c.State = cti.Held
	case l.RemoteHeld:
		c.State = cti.RemoteHeld
	default:
		c.State = cti.Active
	}
	return c
}

// Find implements cti.Users: by id, number or address.
func (v View) Find(target string) (ringfence.UserID, bool) {
	who, host, addressed := strings.Cut(target, "@")
	if addressed && !strings.EqualFold(host, v.Domain) {
		return "", false
	}
	return v.Calls.Owner(ringfence.Number(who))
}

// DoNotDisturb implements cti.Users.
func (v View) DoNotDisturb(user ringfence.UserID) bool {
	u := v.Roster.User(user)
	return u != nil && u.DoNotDisturb
}
