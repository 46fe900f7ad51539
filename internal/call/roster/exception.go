package roster

import (
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// Exception is the named exception of one device: it may use plain SIP and RTP until a time, for a stated reason.
type Exception struct {
	Device ringfence.DeviceID
	Until  time.Time
	Reason string

	text string // String's
}

// String names the device, the end and the reason, as proofs and logs show it.
func (e Exception) String() string {
	if e.text != "" {
		return e.text
	}
	return "exception of device " + string(e.Device) + " until " + e.Until.UTC().Format(time.RFC3339) + ": " + e.Reason
}

// Exception returns the exception of a device if it is in force at now, and its security profile allows one.
func (r *Roster) Exception(id ringfence.DeviceID, now time.Time) (e Exception, ok bool) {
	s := r.now.Load()
	d := s.devices[id]
	if d == nil || d.State != store.DeviceActive || d.Profile.Plain == nil || !d.Profile.Plain.Until.After(now) || r.may(d.Profile.Security) != nil {
		return Exception{}, false
	}
	e = exceptionOf(d)
	e.text = s.plain[id]
	return e, true
}

func exceptionOf(d *store.Device) Exception {
	return Exception{Device: d.ID, Until: d.Profile.Plain.Until, Reason: d.Profile.Plain.Reason}
}

// Exceptions returns every exception in force at now, in no order.
func (r *Roster) Exceptions(now time.Time) []Exception {
	var out []Exception
	for id := range r.now.Load().plain {
		if e, ok := r.Exception(id, now); ok {
			out = append(out, e)
		}
	}
	return out
}
