package api

import (
	"time"

	"ringfence"
)

// The scopes of a token. Each includes the ones before it.
const (
	ScopeRead  = "read"  // look at everything
	ScopeWrite = "write" // and change users, devices, calls
	ScopeAdmin = "admin" // and change the configuration and tokens
	// ScopeReadiness stands beside them: hand in reports of readiness tests, and nothing else. Write includes it.
	ScopeReadiness = "readiness"
)

// Login trades the one-time administrator code for a token.
type Login struct {
	Code string `json:"code" minLength:"1" maxLength:"64" doc:"as ringfence up printed it; case and dashes do not matter"`
	Name string `json:"name" minLength:"1" maxLength:"64" doc:"who you are, for the audit" example:"alice on her laptop"`
}

// NewToken is what is needed to add a token.
type NewToken struct {
	Name  string `json:"name" minLength:"1" maxLength:"64" doc:"what it is for, as the audit shows it" example:"monitoring"`
	Scope string `json:"scope" enum:"read,write,admin,readiness"`
	Days  int    `json:"days,omitempty" minimum:"1" maximum:"3650" default:"90" doc:"how long it is good for"`
}

// Token is a bearer token without its secret.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scopes  []string  `json:"scopes"`
	Expires time.Time `json:"expires,omitzero"`
}

// TokenAdded is a new token with its secret, which is shown once.
type TokenAdded struct {
	Token
	Secret string `json:"secret"`
}

// AdminCode is a one-time administrator code, shown once.
type AdminCode struct {
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
}

// Problem is an error as RFC 9457 wants it, with our kind and hint.
type Problem struct {
	Type   string          `json:"type,omitempty"`
	Title  string          `json:"title"`
	Status int             `json:"status"`
	Detail string          `json:"detail"`
	Hint   string          `json:"hint,omitempty" doc:"what to do about it"`
	Kind   string          `json:"kind" doc:"what sort of trouble, as in the list of exit codes" example:"not found"`
	Errors []ProblemDetail `json:"errors,omitempty" doc:"what is wrong with the request, part by part"`
}

// ProblemDetail points at one part of a request or of a configuration file.
type ProblemDetail struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty" example:"body.numbers[0]"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus implements the status error of the web framework.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes it application/problem+json.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Fault returns the problem as the fault it was made of.
func (p *Problem) Fault() *ringfence.Fault {
	kind := ringfence.KindUnavailable
	if p.Status == 500 {
		kind = ringfence.KindInternal
	}
	for k := ringfence.KindInternal; k <= ringfence.KindCancelled; k++ {
		if k.String() == p.Kind {
			kind = k
		}
	}
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		text += "\n  " + e.Location + ": " + e.Message
	}
	return &ringfence.Fault{Kind: kind, Text: text, Hint: p.Hint}
}

// ConfigText is a configuration file.
type ConfigText struct {
	YAML string `json:"yaml" maxLength:"1048576" doc:"the whole file"`
	Name string `json:"name,omitempty" maxLength:"256" doc:"what errors call it" example:"ringfence.yaml"`
	Note string `json:"note,omitempty" maxLength:"200" doc:"why, for the list of versions"`
}

// ConfigChange is one setting that differs.
type ConfigChange struct {
	Key     string `json:"key" example:"calls.max"`
	From    string `json:"from"`
	To      string `json:"to"`
	Restart bool   `json:"restart" doc:"whether it takes a restart to come into force"`
}

// FlowChange is one flow that differs.
type FlowChange struct {
	Flow string `json:"flow" example:"sip-tls"`
	From string `json:"from" doc:"empty if the flow is new"`
	To   string `json:"to" doc:"empty if the flow is gone"`
}

// ConfigPlan says what a configuration would change, or has changed.
type ConfigPlan struct {
	Version int64          `json:"version,omitempty" doc:"the version it is kept as; 0 for a plan"`
	Changes []ConfigChange `json:"changes"`
	Flows   []FlowChange   `json:"flows"`
	Restart bool           `json:"restart" doc:"whether some of it takes a restart"`
	Risks   []string       `json:"risks" doc:"whom its TLS settings would shut out, or have, that those before did not"`
	Notes   []string       `json:"notes" doc:"what of its TLS settings is not served in FIPS 140-3 mode, as far as that is new"`
}

// ConfigVersion is one configuration that was in force.
type ConfigVersion struct {
	Version int64     `json:"version"`
	At      time.Time `json:"at"`
	Author  string    `json:"author"`
	Note    string    `json:"note"`
	YAML    string    `json:"yaml,omitempty"`
}

// Undo says which version to return to.
type Undo struct {
	To int64 `json:"to,omitempty" minimum:"0" doc:"a version; 0 means the one before the present one"`
}
