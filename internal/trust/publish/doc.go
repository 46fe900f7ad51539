// Package publish keeps the trust lists that this organisation publishes to its phones, and the keys that sign them.
//
// Two signers (SAST) are in every list, and one is replaced at a time, so that a phone always knows somebody who signs the next one. A list is built anew
// whenever a certificate in it changes ([Publisher.Present]), and before it is published each list that some device is known to hold is asked whether it
// would take the new one ([Publisher.Plan]). If somebody would be lost, the new list waits for an administrator.
//
// The lists are an ITL, a CTL and the ITL as JSON; ITL and JSON name the verification service (TVS) too.
package publish
