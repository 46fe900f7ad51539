package api

import (
	"ringfence/internal/node/observe/ladder"
	"time"

	"ringfence"
)

// Registration is one way to reach a user now.
type Registration struct {
	AOR       string              `json:"aor" doc:"address-of-record" example:"sip:alice@example.com"`
	User      ringfence.UserID    `json:"user"`
	Device    ringfence.DeviceID  `json:"device"`
	Contact   string              `json:"contact"`
	Live      bool                `json:"live" doc:"whether its connection is up, so that it can be called"`
	Expires   time.Time           `json:"expires"`
	Updated   time.Time           `json:"updated"`
	UserAgent string              `json:"user_agent"`
	Verdict   ringfence.Verdict   `json:"verdict"`
	Auth      ringfence.Auth      `json:"auth"`
	TLS       *ringfence.TLSProof `json:"tls,omitempty"`
}

// Connection is one connection that carries SIP.
type Connection struct {
	ID       uint64              `json:"id"`
	Flow     string              `json:"flow"`
	Network  string              `json:"network" doc:"TLS, TCP, UDP, WS or WSS"`
	State    string              `json:"state" doc:"Connecting, Established or Closed"`
	Local    string              `json:"local" example:"192.0.2.1:5061"`
	Remote   string              `json:"remote" example:"198.51.100.7:40112"`
	Dialled  bool                `json:"dialled" doc:"whether the node opened it"`
	Peer     string              `json:"peer" doc:"the device or host that proved itself; empty if none has yet"`
	Queued   int                 `json:"queued" doc:"bytes waiting to be sent"`
	Messages uint64              `json:"messages" doc:"messages received"`
	Since    time.Time           `json:"since"`
	LastRead time.Time           `json:"last_read"`
	TLS      *ringfence.TLSProof `json:"tls,omitempty"`
}

// ConnectionCounters count since the node started.
type ConnectionCounters struct {
	Active                  int    `json:"active"`
	Accepted                uint64 `json:"accepted"`
	Dialled                 uint64 `json:"dialled"`
	SendFailures            uint64 `json:"send_failures"`
	RemoteClosures          uint64 `json:"remote_closures"`
	ConnFailures            uint64 `json:"conn_failures"`
	InactiveAgeouts         uint64 `json:"inactive_ageouts"`
	MaxQueueBytes           uint64 `json:"max_queue_bytes"`
	MaxQueuePeer            string `json:"max_queue_peer"`
	ClientHandshakeFailures uint64 `json:"client_handshake_failures"`
	ServerHandshakeFailures uint64 `json:"server_handshake_failures"`
	Refused                 uint64 `json:"refused" doc:"over a limit of connections or handshakes"`
	Garbage                 uint64 `json:"garbage" doc:"messages that were no SIP"`
}

// Connections is the connection report.
type Connections struct {
	Counters    ConnectionCounters `json:"counters"`
	Connections []Connection       `json:"connections"`
	Listeners   []string           `json:"listeners" doc:"where SIP is listened for"`
}

// Leg is one side of a call with its evidence.
type Leg struct {
	ringfence.Proof
	Side  string `json:"side" doc:"caller or callee"`
	State string `json:"state" doc:"early, confirmed or ended"`
	Held  bool   `json:"held"`
	Codec string `json:"codec,omitempty"`
}

// Call is one call that is up.
type Call struct {
	ID       ringfence.CallID  `json:"id"`
	From     string            `json:"from"`
	To       string            `json:"to"`
	Dialled  string            `json:"dialled"`
	State    string            `json:"state" doc:"ringing, up or ending"`
	Start    time.Time         `json:"start"`
	Answered time.Time         `json:"answered,omitzero"`
	Verdict  ringfence.Verdict `json:"verdict"`
	Reasons  []string          `json:"reasons" doc:"why it went where it went"`
	Legs     []Leg             `json:"legs"`
}

// NewCall asks for a call: the phone of From rings first, and when it is answered, To is dialled from it.
type NewCall struct {
	From ringfence.UserID `json:"from" minLength:"1" maxLength:"64" example:"alice"`
	To   string           `json:"to" minLength:"1" maxLength:"64" example:"2002"`
}

// CallStarted names a call that was begun.
type CallStarted struct {
	ID ringfence.CallID `json:"id"`
}

// Explanation is what the dial plan would decide, and why.
type Explanation struct {
	From    ringfence.UserID `json:"from"`
	Dialled string           `json:"dialled"`
	Action  string           `json:"action" doc:"user, group, feature, trunk, emergency or refuse"`
	User    ringfence.UserID `json:"user,omitempty"`
	Group   string           `json:"group,omitempty"`
	Feature string           `json:"feature,omitempty"`
	Number  string           `json:"number,omitempty"`
	Trunk   string           `json:"trunk,omitempty"`
	Class   string           `json:"class,omitempty" doc:"toll class of the destination"`
	Reasons []string         `json:"reasons"`
	Hint    string           `json:"hint,omitempty"`
}

// CDR is the record of one call that has ended.
type CDR struct {
	Call      ringfence.CallID  `json:"call"`
	Start     time.Time         `json:"start"`
	Answer    time.Time         `json:"answer,omitzero"`
	End       time.Time         `json:"end"`
	Seconds   float64           `json:"seconds" doc:"from answer to end; 0 if it was not answered"`
	From      string            `json:"from"`
	To        string            `json:"to"`
	Direction string            `json:"direction" doc:"in, out or internal"`
	Cause     string            `json:"cause"`
	Verdict   ringfence.Verdict `json:"verdict"`
	Legs      []ringfence.Proof `json:"legs"`
}

// Exception is one named exception in force.
type Exception struct {
	Subject string    `json:"subject" example:"device door-1"`
	Until   time.Time `json:"until"`
	Reason  string    `json:"reason"`
}

// Counts are the numbers of things now.
type Counts struct {
	Users         int `json:"users"`
	Devices       int `json:"devices"`
	Registrations int `json:"registrations" doc:"bindings that have not expired"`
	Reachable     int `json:"reachable" doc:"bindings whose connection is up"`
	Connections   int `json:"connections"`
	Calls         int `json:"calls"`
}

// Refusals count what was refused since the node started.
type Refusals struct {
	Calls       uint64 `json:"calls" doc:"calls that could not be sealed"`
	Requests    uint64 `json:"requests" doc:"SIP requests of devices that could not prove themselves, or may not"`
	Handshakes  uint64 `json:"handshakes" doc:"TLS handshakes that failed"`
	Connections uint64 `json:"connections" doc:"connections over a limit"`
	API         uint64 `json:"api" doc:"requests to this API without the right"`
}

// Listener is one place where the node listens.
type Listener struct {
	Flow string            `json:"flow"`
	Addr string            `json:"addr"`
	TLS  ringfence.TLSMode `json:"tls"`
}

// Status is the state of the node on one page.
type Status struct {
	Node       string      `json:"node"`
	Domain     string      `json:"domain"`
	Version    string      `json:"version"`
	Go         string      `json:"go"`
	FIPS       bool        `json:"fips" doc:"whether the FIPS 140-3 mode of Go's cryptography is on"`
	FIPSModule string      `json:"fips_module,omitempty" doc:"with FIPS 140-3 mode: the version of the Go Cryptographic Module, or latest, which no laboratory has seen"`
	Started    time.Time   `json:"started"`
	Uptime     float64     `json:"uptime_seconds"`
	Store      string      `json:"store" doc:"sqlite or postgres"`
	Draining   bool        `json:"draining"`
	Restart    []string    `json:"restart_needed" doc:"settings that were changed and wait for a restart"`
	Listeners  []Listener  `json:"listeners"`
	Counts     Counts      `json:"counts"`
	Refused    Refusals    `json:"refused"`
	Exceptions []Exception `json:"exceptions"`
}

// Version says what runs.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty" doc:"of the source"`
	Modified bool   `json:"modified" doc:"whether the source had changes that were not committed"`
	Go       string `json:"go"`
	FIPS     bool   `json:"fips"`
	// FIPSModule is the version of the Go Cryptographic Module if it is in use in that mode.
	FIPSModule string `json:"fips_module,omitempty"`
}

// AuditEntry says who did what to which thing, and how it ended.
type AuditEntry struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	What    string    `json:"what"`
	Target  string    `json:"target"`
	Outcome string    `json:"outcome"`
}

// Messages are the SIP messages of a call in the order of time.
type Messages struct {
	Messages []ladder.Message `json:"messages"`
	Omitted  int              `json:"omitted" doc:"how many were left out for lack of room"`
}
