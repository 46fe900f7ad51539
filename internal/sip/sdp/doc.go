// Package sdp reads and writes session descriptions (RFC 8866) and applies the offer/answer rules (RFC 3264) to them.
//
// [Parse] is tolerant of what trunks and phones really send, within limits that are checked first; lines it does not
// know are kept in order. [Sealed] says whether a media line may be served, [Rewrite] makes the description that one leg
// shows the other, [BuildOffer] and [Answer] make our own. Nothing of the far side passes a Rewrite except media formats.
// Keys (RFC 4568) are never part of an error, a log record or a printed value.
package sdp
