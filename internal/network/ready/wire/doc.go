// Package wire is what a readiness probe and its reflector say to each other: authenticated probes over UDP and TCP, and a control channel.
//
// Whoever has the shared key is believed, nobody else is answered. Nothing in it is secret, so it is authenticated and not encrypted: the channel has to survive a network that takes TLS apart,
// since that is one of the things to find out. An answer is never larger than its request.
package wire
