package registrar

import "ringfence"

// Events hears where users can be reached. It runs on a request's shard or on whoever called Drop or Expire; it must not block.
type Events interface {
	RegistrationChanged(Change)
}

// Change says that a contact was bound or is no longer. A refresh is no change.
type Change struct {
	User    ringfence.UserID
	Device  ringfence.DeviceID
	Contact string // SIP URI
	Bound   bool   // it was added; otherwise it is gone
	Why     string // "registered", "unregistered", "expired" or "dropped"
}

type deaf struct{}

func (deaf) RegistrationChanged(Change) {}

// tell is called without the lock.
func (r *Registrar) tell(changes []Change) {
	for _, c := range changes {
		r.cfg.Events.RegistrationChanged(c)
	}
}
