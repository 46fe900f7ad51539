package acme

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"ringfence"
)

const problemType = "urn:ietf:params:acme:error:"

// problem is an error as ACME words it (RFC 8555 section 6.7, RFC 9457).
type problem struct {
	Type        string      `json:"type"`
	Detail      string      `json:"detail,omitempty"`
	Status      int         `json:"status,omitempty"`
	Identifier  *Identifier `json:"identifier,omitempty"` // of a subproblem only
	Subproblems []problem   `json:"subproblems,omitempty"`
	Algorithms  []string    `json:"algorithms,omitempty"` // of badSignatureAlgorithm
	location    string      // of the account that is in the way
	retryAfter  time.Duration
	cause       error
}

func (p *problem) Error() string { return strings.TrimPrefix(p.Type, problemType) + ": " + p.Detail }
func (p *problem) Unwrap() error { return p.cause }

// refuse makes a problem of one of the RFC's types, with the status that goes with it.
func refuse(kind, detail string) *problem {
	status := http.StatusBadRequest
	switch kind {
	case "unauthorized", "orderNotReady", "rejectedIdentifier", "externalAccountRequired":
		status = http.StatusForbidden
	case "rateLimited":
		status = http.StatusTooManyRequests
	case "serverInternal":
		status = http.StatusInternalServerError
	case "alreadyReplaced":
		status = http.StatusConflict
	}
	return &problem{Type: problemType + kind, Detail: detail, Status: status}
}

func (p *problem) with(status int) *problem { p.Status = status; return p }

// record is the problem as it is kept in an order or challenge.
func (p *problem) record() []byte {
	b, err := json.Marshal(p)
	if err != nil { // of strings and numbers only
		return []byte(`{"type":"` + problemType + `serverInternal"}`)
	}
	return b
}

// problemOf words any error for the far end. What went wrong inside of us is not its business.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok {
		f = &ringfence.Fault{Kind: ringfence.KindInternal}
	}
	var p *problem
	switch f.Kind {
	case ringfence.KindNotFound:
		p = refuse("malformed", "there is no such thing here").with(http.StatusNotFound)
	case ringfence.KindConflict:
		p = refuse("serverInternal", "it was changed by another request meanwhile; try again").with(http.StatusServiceUnavailable)
		p.retryAfter = time.Second
	case ringfence.KindOverload, ringfence.KindUnavailable, ringfence.KindTimeout:
		p = refuse("serverInternal", "the server is too busy now; try again later").with(http.StatusServiceUnavailable)
		p.retryAfter = time.Minute
	default:
		p = refuse("serverInternal", "the server failed; its log says why")
	}
	p.cause = err
	return p
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
