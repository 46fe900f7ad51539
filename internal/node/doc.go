// Package node joins the rooms, and is the only place that knows them all.
//
// [Open] builds them in order and [Node.Close] stops them in reverse. chain.go is the order in which a SIP request is
// handled; sockets.go is the one hand that opens sockets.
package node
