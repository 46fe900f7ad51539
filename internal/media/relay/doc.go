// Package relay moves sealed media between the legs of a call after checking where it came from.
//
// The journey of a packet through this room. [Engine.Open] gives a leg an even port for RTP and the odd one above it for
// RTCP, bound through the injected opener. A few loops (one a shard) wait for all kernel sockets together, so a leg costs
// two sockets and no goroutine; a socket of a virtual network gets a goroutine of its own instead. A datagram that arrives
// is told RTP from RTCP (RFC 5761), and must pass the leg's rtp.Opener: what does not authenticate, or was seen before, is
// counted as rejected and has no other effect. An authenticated packet proves that the leg is alive, is measured, and may
// teach us the peer's real address behind a NAT: at once if none was proven yet, later only when three packets in a row
// came from the new place, so that one replayed datagram cannot lead the media away. Then the packet goes to the tap, if
// there is one, and to the joined leg: its payload type is mapped if the two sides number their codecs differently, and
// the other leg's rtp.Sealer seals it under that leg's own suite and key. SSRC, sequence number and timestamp pass through,
// except that a stream which comes back out of step (after a long hold, a transfer, new keys) gets a fresh SSRC, because a
// packet index must never be sealed twice. RTCP goes the same way and its SSRCs are kept in step. The datagram leaves from
// the leg's own port with the flow's DSCP mark.
//
// What is played into a leg (music, tones, announcements) enters at the sealer, paced by one ticker for all players.
//
// Nothing leaves a leg before our keys for it exist, and nothing is accepted before the peer's keys are known. A closed
// port rests before it is given to another leg, so that late packets of the old call meet nobody.
//
// Callbacks run on the engine's own goroutines without any lock held; they must return quickly and must not block.
package relay
