package ringfence

// NodeID names one running node, e.g. "node-1".
type NodeID string

// UserID names a person or a place that owns numbers, e.g. "alice". It is also the user part of the
// user's address-of-record.
type UserID string

// DeviceID names one phone, e.g. "alice-desk". It is the common name in the device's certificate.
type DeviceID string

// Number is something that can be dialled: digits with an optional leading "+", or a feature code such as "*70".
type Number string

// CallID names one call: the small graph of legs that belong together. It is not a SIP Call-ID,
// which belongs to one leg and is never shown to the other side.
type CallID string

// LegID names one leg of a call, e.g. "c7f3-a". It is unique for the life of the node.
type LegID string
