package bus

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"ringfence"
)

// Kind says what happened.
type Kind string

// The kinds of events, and which fields each must have besides Node and At.
const (
	RegistrationChanged Kind = "registration.changed" // User, Device, State "bound" or "gone"
	CallStarted         Kind = "call.started"         // Call, User
	CallAnswered        Kind = "call.answered"        // Call
	CallEnded           Kind = "call.ended"           // Call, State the verdict
	LegRefused          Kind = "leg.refused"          // Call, Leg, Cause
	DeviceRevoked       Kind = "device.revoked"       // Device
	RosterChanged       Kind = "roster.changed"       // users or devices were changed
	ConfigApplied       Kind = "config.applied"
	CertificateIssued   Kind = "certificate.issued"  // Serial
	CertificateRevoked  Kind = "certificate.revoked" // Serial
	GrantRevoked        Kind = "grant.revoked"       // Device: somebody's sign-in ended
	KeyringChanged      Kind = "keyring.changed"     // anchors or identities were added or removed
	// Lost is published by the bus itself, to everybody here: events of other nodes, or of the subscriber's own queue, may be missing.
	Lost Kind = "lost"
)

// Event is one thing that happened. Which fields are set depends on the kind.
type Event struct {
	Kind   Kind               `json:"kind"`
	Node   ringfence.NodeID   `json:"node"` // where it happened; filled in by Publish
	At     time.Time          `json:"at"`   // filled in by Publish
	User   ringfence.UserID   `json:"user,omitempty"`
	Device ringfence.DeviceID `json:"device,omitempty"`
	Call   ringfence.CallID   `json:"call,omitempty"`
	Leg    ringfence.LegID    `json:"leg,omitempty"`
	Serial string             `json:"serial,omitempty"` // of a certificate, lower-case hexadecimal
	Number string             `json:"number,omitempty"` // what was dialled
	State  string             `json:"state,omitempty"`
	Cause  string             `json:"cause,omitempty"` // in words
}

// The limits of an event on the wire, in bytes.
const (
	MaxEvent = 8 << 10 // the whole JSON text
	maxField = 256     // one field
	maxCause = 1024
)

// check reports what is missing or too long.
func (e *Event) check() error {
	bad := func(format string, args ...any) error {
		return &ringfence.Fault{Op: "bus.event", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...)}
	}
	need := func(fields ...string) error {
		for i := 0; i < len(fields); i += 2 {
			if fields[i+1] == "" {
				return bad("an event %s needs a %s", e.Kind, fields[i])
			}
		}
		return nil
	}
	for i, f := range [...]string{string(e.Node), string(e.User), string(e.Device), string(e.Call), string(e.Leg), e.Serial, e.Number, e.State} {
		if len(f) > maxField || !plain(f) {
			name := [...]string{"node", "user", "device", "call", "leg", "serial", "number", "state"}[i]
			return bad("the %s of an event is no plain text of at most %d bytes", name, maxField)
		}
	}
	if len(e.Cause) > maxCause || !plain(e.Cause) {
		return bad("the cause of an event is no plain text of at most %d bytes", maxCause)
	}
	if e.Node == "" || e.At.IsZero() {
		return bad("an event needs a node and a time")
	}
	switch e.Kind {
	case RegistrationChanged:
		if e.State != "bound" && e.State != "gone" {
			return bad("a registration is bound or gone, not %q", e.State)
		}
		return need("user", string(e.User), "device", string(e.Device))
	case CallStarted:
		return need("call", string(e.Call), "user", string(e.User))
	case CallAnswered:
		return need("call", string(e.Call))
	case CallEnded:
		return need("call", string(e.Call), "state", e.State)
	case LegRefused:
		return need("call", string(e.Call), "leg", string(e.Leg), "cause", e.Cause)
	case DeviceRevoked, GrantRevoked:
		return need("device", string(e.Device))
	case CertificateIssued, CertificateRevoked:
		return need("serial", e.Serial)
	case RosterChanged, ConfigApplied, KeyringChanged, Lost:
		return nil
	}
	return bad("there is no event of the kind %.40q", string(e.Kind))
}

// plain reports whether s is UTF-8 without control characters.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return false
		case c >= utf8.RuneSelf:
			return !strings.ContainsFunc(s[i:], func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError })
		}
	}
	return true
}

// Encode writes an event as JSON, the form it has between nodes.
func Encode(e Event) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

// Decode reads an event of another node. Fields that are not known here are ignored, so that a newer node may say more; an unknown
// kind, a missing field or one that is too long is KindInvalid.
func Decode(b []byte) (Event, error) {
	if len(b) > MaxEvent {
		return Event{}, &ringfence.Fault{Op: "bus.event", Kind: ringfence.KindInvalid, Text: "an event is larger than 8 KiB"}
	}
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, &ringfence.Fault{Op: "bus.event", Kind: ringfence.KindInvalid, Text: "an event is no JSON object of the known form", Err: err}
	}
	if err := e.check(); err != nil {
		return Event{}, err
	}
	if e.Kind == Lost { // said by a bus to its own subscribers only
		return Event{}, &ringfence.Fault{Op: "bus.event", Kind: ringfence.KindInvalid, Text: "another node cannot say what was lost here"}
	}
	return e, nil
}
