package cti

import (
	"fmt"
	"regexp"
	"slices"

	"ringfence"
)

// Client is somebody who may connect, and whom he may follow.
type Client struct {
	Identity string             `yaml:"identity"` // the common name of his certificate, or one of its alternative names
	Users    []ringfence.UserID `yaml:"users"`    // whose calls he may follow; * is everybody
}

// Everybody in [Client.Users] is every user.
const Everybody ringfence.UserID = "*"

func (c Client) may(user ringfence.UserID) bool {
	return slices.Contains(c.Users, Everybody) || slices.Contains(c.Users, user)
}

// Wrong is something that is wrong with clients.
type Wrong struct{ Key, Text string }

// Check returns everything that is wrong with some clients.
func Check(clients []Client) (wrong []Wrong) {
	identity := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:/@ -]{0,251}[A-Za-z0-9])?$`)
	seen := map[string]bool{}
	for i, c := range clients {
		bad := func(when bool, key, format string, args ...any) {
			if when {
				wrong = append(wrong, Wrong{fmt.Sprintf("clients[%d].%s", i, key), fmt.Sprintf(format, args...)})
			}
		}
		bad(!identity.MatchString(c.Identity), "identity", "%.80q is no name of a certificate", c.Identity)
		bad(seen[c.Identity], "identity", "%.80q is there twice", c.Identity)
		seen[c.Identity] = true
		bad(len(c.Users) == 0, "users", "whose calls %.80q may follow is needed; ['*'] is everybody's", c.Identity)
		bad(len(c.Users) > 100_000, "users", "more than 100,000 users; write ['*'] for everybody")
		for _, u := range c.Users {
			bad(u == "" || len(u) > 64, "users", "%.80q is no user", string(u))
		}
	}
	return wrong
}
