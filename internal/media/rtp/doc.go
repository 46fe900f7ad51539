// Package rtp opens, seals, orders and measures media packets.
//
// The journey of a packet through this room. A datagram off the wire is looked at by [ParseHeader], which refuses what
// cannot be RTP before any key is touched, and by [IsRTCP], which tells control from media on a shared port (RFC 5761).
// An [Opener] holds the keys the peer offered: it checks the authentication tag and the replay window and returns the
// packet in clear. A [Receiver] counts it: sequence numbers, loss, jitter, and from those a mean opinion score. A packet
// that is to be listened to goes through a [JitterBuffer], which puts packets in order and says which are missing; a key
// press inside it is read by [ParseEvent] (RFC 4733). On the way out a [Sealer] holds the keys we offered; it encrypts,
// and it refuses to use any packet index twice, because two packets under one index would give the keystream away.
//
// Nothing here opens a socket, starts a goroutine or reads a clock: times are handed in. Each Opener, Sealer, Receiver
// and JitterBuffer belongs to one goroutine at a time. Key bytes never appear in text, errors, logs or JSON.
package rtp
