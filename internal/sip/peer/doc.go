// Package peer keeps a way to each proxy that carries requests for others: a connection that it opened and lets us use, or one of ours.
//
// Whoever misses a way says so by [Table.Want]. A connection that the same peer offered by alias (RFC 5923), or that we opened before, is
// taken; otherwise one is opened to the URI that the peer gave, again and again, with growing pauses, for as long as it is wanted.
// Who the peer is its certificate says, which is checked by whoever accepts and opens connections.
package peer
