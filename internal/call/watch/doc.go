// Package watch tells subscribers what changed: whose line is busy (RFC 4235) and who has messages (RFC 3842).
//
// Who subscribes to the number of a hunt group is told of the calls of all its members at once (RFC 4662), if its phone knows such lists.
//
// A subscription (RFC 6665) is a dialog of its own. Subscriptions live on the shard of the calls that they watch, so nothing here
// needs a lock.
package watch
