package api

import "ringfence/internal/network/need"

// NetworkSet is what a service needs of the network.
type NetworkSet struct {
	need.Set
	Version   string        `json:"version,omitempty" doc:"the day of the latest change, and how many there were" example:"2024-07-02.78"`
	NotUndone []need.Change `json:"not_undone,omitempty" doc:"later changes that the history tells in words only, so that they still show"`
}

// FeedKey is the public key that feeds are signed by.
type FeedKey struct {
	ID  string `json:"id" doc:"SHA-256 of the key, in base64url; the kid of feeds"`
	PEM string `json:"pem"`
}

// NetworkChanges is the history of a set.
type NetworkChanges struct {
	Set     string          `json:"set" example:"webex-calling"`
	Version string          `json:"version" example:"2024-07-02.78"`
	Changes []NetworkChange `json:"changes"`
}

// NetworkChange is one change of a set.
type NetworkChange struct {
	need.Change
	Concerns []string `json:"concerns" doc:"whose work it is: firewall, proxy, dns, qos"`
}
