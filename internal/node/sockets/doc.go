// Package sockets is the one hand that opens sockets on a real host, and it opens only what a flow declares.
//
// It marks what it opens with the flow's DSCP, and has the kernel find out when the other end of a connection is gone without a word.
package sockets
