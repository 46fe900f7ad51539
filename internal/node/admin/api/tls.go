package api

import "ringfence/internal/trust/tlspolicy"

// TLSPolicy is the tree of TLS settings and what comes of it.
type TLSPolicy struct {
	Set       tlspolicy.Tree `json:"set" doc:"what the configuration sets, by place"`
	Listeners []TLSListener  `json:"listeners"`
}

// TLSListener is what one listener goes by.
type TLSListener struct {
	Place     string               `json:"place"`
	Decisions []tlspolicy.Decision `json:"decisions"`
}

// TLSExplanation is what a listener goes by, and what a peer would negotiate with it.
type TLSExplanation struct {
	Place     string               `json:"place"`
	Decisions []tlspolicy.Decision `json:"decisions"`
	Outcome   tlspolicy.Outcome    `json:"outcome"`
}
