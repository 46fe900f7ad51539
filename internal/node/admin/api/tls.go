package api

import (
	"time"

	"ringfence/internal/trust/tlspolicy"
)

// TLSPolicy is the tree of TLS settings and what comes of it.
type TLSPolicy struct {
	Set       tlspolicy.Tree `json:"set" doc:"what the configuration sets, by place"`
	Endpoints []TLSEndpoint  `json:"endpoints" doc:"what listens with TLS, and what the node connects to with it"`
}

// TLSEndpoint is what one listener, or one kind of connections that the node opens, goes by.
type TLSEndpoint struct {
	Place     string               `json:"place"`
	Dials     bool                 `json:"dials" doc:"whether the node opens the connections"`
	Decisions []tlspolicy.Decision `json:"decisions"`
}

// TLSExplanation is what an endpoint goes by, and what a peer would negotiate with it.
type TLSExplanation struct {
	TLSEndpoint
	Outcome tlspolicy.Outcome `json:"outcome"`
	// Withheld is empty outside that mode.
	Withheld []string `json:"withheld" doc:"what of it is not served since the node runs in FIPS 140-3 mode"`
}

// TLSEdit changes one setting at one place.
type TLSEdit struct {
	Do      string   `json:"do" enum:"set,add,remove"`
	Place   string   `json:"place" maxLength:"200" example:"/interface/sip"`
	Setting string   `json:"setting,omitempty" maxLength:"40" doc:"with remove it may be left out: then all of the place goes"`
	Values  []string `json:"values,omitempty" maxItems:"64" doc:"one value, or several of a list"`
	Force   bool     `json:"force,omitempty" doc:"although people would be shut out by it"`
}

// Anchor is a certificate of an authority that an administrator added.
type Anchor struct {
	Alias      string    `json:"alias"`
	Owner      string    `json:"owner" doc:"the subject"`
	Issuer     string    `json:"issuer"`
	SelfSigned bool      `json:"self_signed"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	Added      time.Time `json:"added"`
	SHA256     string    `json:"sha256" doc:"fingerprint of the certificate"`
	Used       string    `json:"used,omitempty" doc:"a place of the tree of TLS settings that names it"`
}

// NewAnchor adds the certificates of a file.
type NewAnchor struct {
	Alias string `json:"alias" maxLength:"64" example:"webexclient2023"`
	File  []byte `json:"file" maxLength:"393216" doc:"PEM or DER, in base64; several certificates get an alias each"`
}

// Identity is a certificate with its key that an administrator added.
type Identity struct {
	Alias    string    `json:"alias"`
	Subject  string    `json:"subject"`
	Names    []string  `json:"names"`
	Issuer   string    `json:"issuer"`
	Chain    int       `json:"chain" doc:"how many certificates are presented"`
	NotAfter time.Time `json:"not_after"`
	Added    time.Time `json:"added"`
	Used     string    `json:"used,omitempty" doc:"a place of the tree of TLS settings that names it"`
}

// NewIdentity adds a certificate with its chain and key.
type NewIdentity struct {
	Alias   string `json:"alias" maxLength:"64" example:"public"`
	Chain   string `json:"chain" maxLength:"262144" doc:"certificates as PEM, in any order"`
	Key     string `json:"key" maxLength:"65536" doc:"the private key as PEM, not encrypted"`
	Replace bool   `json:"replace,omitempty" doc:"put it in the place of one that is there"`
}

// AddedIdentity is what was kept, and what was repaired.
type AddedIdentity struct {
	Identity
	Notes []string `json:"notes" doc:"what was changed in the chain"`
}
