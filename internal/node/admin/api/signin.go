package api

import (
	"time"

	"ringfence"
)

// SignIn is what a device was given when somebody signed in for it, without its secrets.
type SignIn struct {
	ID      string             `json:"id"`
	Device  ringfence.DeviceID `json:"device"`
	Program string             `json:"program" doc:"the OAuth client"`
	Scope   string             `json:"scope"`
	Created time.Time          `json:"created"`
	Used    time.Time          `json:"used" doc:"when the last access token was made"`
	Expires time.Time          `json:"expires"`
	Revoked time.Time          `json:"revoked,omitzero"`
}

// TokenKey is the public half of a key that signs access tokens.
type TokenKey struct {
	ID    string `json:"id"`
	Signs bool   `json:"signs" doc:"whether it signs now; the others still verify, or will sign next"`
}
