// Package feature does with the calls of a desk phone what somebody who sits at it does: dial, answer, hold, transfer, a conference of three, forwarding, do-not-disturb, speed dials; and it keeps what the phone shows: calls, lists of
// calls, lamps and waiting messages.
//
// A [Desk] has the lines of one phone. A [Command] is one thing that is done, as text from outside gives it; [Desk.State] is all that can be seen. Which features a line has, and how they are set at first, is what the phone's
// configuration file says ([Of]). Forwarding is done by the phone: it answers 302 and names the other number, so that the server may refuse it. A conference is mixed here: each of the others hears everybody but itself.
package feature
