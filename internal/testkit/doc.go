// Package testkit is a network in memory for tests: hosts with addresses, streams and datagrams with latency, loss and cuts.
//
// A [Net] has any number of hosts; [Net.Host] returns the ringfence.Opener of one, so that a room under test listens and
// dials as it does in the product. Nothing here is a real socket: inside a testing/synctest bubble a reader that waits
// is durably blocked, so timers of 32 seconds run in no time. [Authority] issues certificates for such hosts.
// No package of the product imports this one.
package testkit
