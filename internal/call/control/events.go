package control

import (
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// Events hears what happens to calls. Its methods run on the shard: they must not block, and may not call Control.
type Events interface {
	// CallStarted hears of a call once it has a caller.
	CallStarted(id ringfence.CallID, from ringfence.UserID, dialled string, at time.Time)
	// LegOpened hears of each leg once it has a dialog.
	LegOpened(LegOpened)
	// LegRefused hears of a leg that could not be sealed. It may come before LegOpened, and without one.
	LegRefused(call ringfence.CallID, leg ringfence.LegID, device ringfence.DeviceID, cause string)
	// CallAnswered hears once that somebody answered.
	CallAnswered(id ringfence.CallID, at time.Time)
	// LegMoved hears that a leg went over to another call: it was transferred, picked up, or retrieved.
	LegMoved(l LegOpened, from ringfence.CallID)
	// CallMerged hears that a call is gone because its one leg went over to another call; there is no record of it.
	CallMerged(gone, into ringfence.CallID)
	// CallEnded hears once that the last leg is gone.
	CallEnded(Ended)
}

// Records keeps what is known of calls. Answered and Ended run on the shard and must not wait; whoever sends sees to it that what they were
// told is on disk before the phones hear of it.
type Records interface {
	// Answered hears of each call that was answered, and again when other parties were connected: what its record would be, without an end.
	// c is valid only until it returns.
	Answered(c *store.CDR)
	// Ended hears the record of each call that is over.
	Ended(c *store.CDR)
}

// LegOpened says which dialog a leg is.
type LegOpened struct {
	Call      ringfence.CallID
	Leg       ringfence.LegID
	Device    ringfence.DeviceID
	User      ringfence.UserID
	Side      string // "caller" or "callee"
	SIPCallID string // the Call-ID field of the leg's messages, known to the two ends of the leg only
}

// Ended is the record of a finished call, with what the record on disk has no room for.
type Ended struct {
	CDR  store.CDR
	Legs []LegSpan // in the order of CDR.Legs
}

// LegSpan says how long a leg was up.
type LegSpan struct {
	Side   string
	Device ringfence.DeviceID
	Since  time.Time
	Until  time.Time
	Codec  string // "" if nothing was agreed on
}

// deaf is who hears events when nobody else does.
type deaf struct{}

func (deaf) CallStarted(ringfence.CallID, ringfence.UserID, string, time.Time)        {}
func (deaf) LegOpened(LegOpened)                                                      {}
func (deaf) LegRefused(ringfence.CallID, ringfence.LegID, ringfence.DeviceID, string) {}
func (deaf) CallAnswered(ringfence.CallID, time.Time)                                 {}
func (deaf) CallEnded(Ended)                                                          {}

func (deaf) LegMoved(LegOpened, ringfence.CallID)   {}
func (deaf) CallMerged(gone, into ringfence.CallID) {}

// info says which dialog l is.
func (l *Leg) info() LegOpened {
	i := LegOpened{Call: l.call.ID, Leg: l.ID, Device: l.Device, User: l.User, Side: l.Side}
	if l.session != nil {
		i.SIPCallID = l.session.CallID
	}
	return i
}

// opened tells that l has its dialog, and before the first leg that there is a call.
func (l *Leg) opened() {
	call := l.call
	if call.caller == l && len(call.legs) == 1 {
		call.ctl.cfg.Events.CallStarted(call.ID, l.User, call.Dialled, call.Start)
	}
	call.ctl.cfg.Events.LegOpened(l.info())
}

// refused counts and tells that l could not be sealed.
func (l *Leg) refused(cause string) {
	l.refusal = cause
	l.call.ctl.refused.Add(1)
	l.call.ctl.cfg.Events.LegRefused(l.call.ID, l.ID, l.Device, cause)
}

// spans says how long each leg was up.
func (call *Call) spans() []LegSpan {
	out := make([]LegSpan, len(call.legs))
	for i, l := range call.legs {
		out[i] = LegSpan{Side: l.Side, Device: l.Device, Since: l.Since, Until: l.until, Codec: l.choice.Codec.Name}
	}
	return out
}
