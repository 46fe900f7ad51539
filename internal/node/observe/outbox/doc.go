// Package outbox carries records to a collector outside without ever holding up who hands them over.
//
// There is one bounded queue and one goroutine. Without a connection the queue fills, then new records are dropped and counted;
// once the collector is back it is told how many it missed.
package outbox
