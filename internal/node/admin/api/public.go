package api

import "time"

// PublicNames is the certificate for public names, and how its orders go.
type PublicNames struct {
	Names     []string     `json:"names"`
	Alias     string       `json:"alias" doc:"of the identity that TLS settings may name"`
	Directory string       `json:"directory"`
	Challenge string       `json:"challenge"`
	State     string       `json:"state" enum:"waiting,ordering,foreign" doc:"foreign: the alias belongs to an identity that somebody brought, which is left alone"`
	Account   string       `json:"account,omitempty"`
	Serial    string       `json:"serial,omitempty" doc:"of the certificate in use"`
	Issuer    string       `json:"issuer,omitempty"`
	Until     time.Time    `json:"until,omitzero"`
	Renewal   time.Time    `json:"renewal,omitzero" doc:"when it is to be renewed"`
	Next      time.Time    `json:"next,omitzero" doc:"the next attempt"`
	Tried     time.Time    `json:"tried,omitzero" doc:"the last attempt"`
	Failures  int          `json:"failures" doc:"in a row"`
	Error     string       `json:"error,omitempty" doc:"of the last attempt"`
	Hint      string       `json:"hint,omitempty"`
	Steps     []PublicStep `json:"steps" doc:"of the last order of this node, or of the one that runs"`
}

// PublicStep is something that an order did.
type PublicStep struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}
