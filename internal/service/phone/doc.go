// Package phone is a complete phone without a handset: it registers over verified TLS, makes and takes calls that are sealed
// with SRTP, and says what it heard.
//
// The command line, the demonstration, the readiness test and the acceptance tests all use it; it therefore behaves as a
// phone on a desk does, and knows nothing of the server.
//
// A [Stack] holds the connections, transactions and dialogs of any number of phones. A [Phone] is one registration: its flow
// to the server (RFC 5626), its refreshes, its way back after a loss, its subscriptions. A [Call] is one INVITE dialog with its
// own media socket. All signalling state belongs to a shard of package transaction; an idle phone has no goroutine and no
// ticker of its own beyond the reader of its connection. A call with media has two goroutines: one receives, one sends a
// frame every 20 ms.
//
// A phone proves itself by its certificate, by a password, or by access tokens ([Tokens], RFC 8898), which go to the server that it
// registers at, inside TLS, and to nobody else.
//
// Config.Plain makes a phone signal in the clear over UDP or TCP, for a desk phone whose profile says so. What such a phone proves is never
// called sealed, and its media is SRTP all the same.
//
// Two rules hold throughout: nothing is sent to a media address before there are keys for the leg, and what is not
// authenticated is not heard. A description without SRTP is refused with 488 and a Warning that names the cause.
package phone
