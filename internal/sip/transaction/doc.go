// Package transaction matches requests with responses, retransmits where the transport does not, and times out
// (RFC 3261 section 17, RFC 6026).
//
// Work is spread over a few [Shard]s by the hash of the Call-ID. Everything that belongs to one dialog therefore runs on one
// shard, one piece at a time, without a goroutine or a time.Timer for each transaction: a shard is a lock, a timer wheel and
// a list of connections to flush. The reader of a connection does the work of its message itself, under the shard's lock,
// and seals and sends what it caused after giving the lock back.
package transaction
