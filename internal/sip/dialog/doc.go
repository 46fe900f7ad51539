// Package dialog remembers a conversation between two parties: an INVITE dialog with its offer/answer state
// (RFC 3261 sections 12 to 15, RFC 3262, 3264, 3311, 4028).
//
// A [Session] is one such dialog. It belongs to one shard of package transaction and is used only there. What it cannot
// decide (whether to ring, what to answer, what a transfer means) it asks its [User]: the phone or one leg of a call.
package dialog
