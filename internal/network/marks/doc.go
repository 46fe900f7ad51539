// Package marks renders the marks of quality of service of a requirement set (RFC 2474): for nftables, for routers that speak IOS, and for Windows hosts.
//
// Where two kinds of traffic cannot be told apart by what a packet shows, that is a loss and said, and the traffic gets the higher of the two marks.
package marks
