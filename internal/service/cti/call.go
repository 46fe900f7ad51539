package cti

import (
	"slices"
	"time"

	"ringfence"
)

// Call is a call as one of its users has it.
type Call struct {
	ID       ringfence.CallID
	Receives bool // the user was called
	State    State
	Number   string           // of the other party
	Name     string           // of the other party, if it is known
	User     ringfence.UserID // the other party, if it is one of ours
	Start    time.Time
	Answered time.Time
}

// State is how a call is for its user.
type State string

// The states.
const (
	Alerting   State = "Alerting"
	Active     State = "Active"
	Held       State = "Held"        // by the user
	RemoteHeld State = "Remote Held" // by the other party
	Released   State = "Released"
)

// event is one thing that happened to a call of a user.
type event struct {
	kind     string
	call     Call
	released time.Time
}

// key tells the calls of a user apart; who calls himself has two.
type key struct {
	id       ringfence.CallID
	receives bool
}

func (c Call) key() key { return key{c.ID, c.Receives} }

// changes says what happened between two looks at the calls of a user, in an order in which it may have happened: what ended first.
func changes(before, now []Call, at time.Time) (out []event) {
	for _, b := range before {
		if !slices.ContainsFunc(now, func(c Call) bool { return c.key() == b.key() }) {
			b.State = Released
			out = append(out, event{"CallReleasedEvent", b, at})
		}
	}
	for _, c := range now {
		i := slices.IndexFunc(before, func(b Call) bool { return b.key() == c.key() })
		if i < 0 {
			first := c
			if c.State != Alerting { // it was answered before anybody looked
				first.State, first.Answered = Alerting, time.Time{}
			}
			kind := "CallOriginatedEvent"
			if c.Receives {
				kind = "CallReceivedEvent"
			}
			out = append(out, event{kind: kind, call: first})
			if c.State != Alerting {
				out = append(out, event{kind: "CallAnsweredEvent", call: c})
			}
			continue
		}
		switch b := before[i]; {
		case b.State == c.State:
			if b.Number != c.Number || b.User != c.User { // transferred
				out = append(out, event{kind: "CallUpdatedEvent", call: c})
			}
		case b.State == Alerting:
			out = append(out, event{kind: "CallAnsweredEvent", call: c})
		case c.State == Held:
			out = append(out, event{kind: "CallHeldEvent", call: c})
		case b.State == Held:
			out = append(out, event{kind: "CallRetrievedEvent", call: c})
		default:
			out = append(out, event{kind: "CallUpdatedEvent", call: c})
		}
	}
	return out
}

// out writes a call. Its id holds for the user whose call it is; the tracking id is the same for all parties.
func (c Call) out(user string, released time.Time) callOut {
	personality, id := "Originator", string(c.ID)+":o"
	if c.Receives {
		personality, id = "Terminator", string(c.ID)+":t"
	}
	o := callOut{CallID: id, Tracking: string(c.ID), Personality: personality, State: string(c.State), Start: millis(c.Start), Answer: millis(c.Answered), Release: millis(released),
		Remote: remoteOut{Name: c.Name, Type: "Network"}}
	if c.Number != "" {
		o.Remote.Address = "tel:" + c.Number
	}
	if c.User != "" {
		o.Remote.UserID, o.Remote.Type = user, "Group"
	}
	return o
}
