// Package onehost is a whole node on loopback with its users and phones, for tests.
//
// [Open] starts the node that the product would start, with a data directory of its own; what a [Site] adds goes through the node's own
// rooms: users and devices into its store, certificates by enrolment, phones over real sockets. A site whose node runs in another process
// has no Node and is otherwise the same. No package of the product imports this one.
package onehost
