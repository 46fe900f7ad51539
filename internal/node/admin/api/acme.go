package api

import "time"

// NewACMEBinding lets one machine make an account.
type NewACMEBinding struct {
	Name    string    `json:"name" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$" example:"web-1"`
	Allow   []string  `json:"allow" minItems:"1" maxItems:"50" doc:"what it may order: pbx.example.org, .example.org for everything below, *.example.org, 192.0.2.7 or 192.0.2.0/24"`
	Expires time.Time `json:"expires,omitzero" doc:"until when the account can be made; always if it is left out"`
}

// ACMEBinding is what a machine makes its account with.
type ACMEBinding struct {
	Name    string    `json:"name"`
	KeyID   string    `json:"key_id"`
	Key     string    `json:"key,omitempty" doc:"MAC key in base64url; shown once, when it is made"`
	Allow   []string  `json:"allow"`
	Expires time.Time `json:"expires,omitzero"`
	State   string    `json:"state" enum:"open,used,withdrawn"`
	Account string    `json:"account,omitempty" doc:"that was made with it"`
	Server  string    `json:"server" doc:"the directory that clients are given"`
}
