// Package control runs each call as one owner with legs, from ringing to goodbye.
//
// It is a back-to-back user agent: the two sides of a call meet only here, and nothing of one side's addresses, names of
// devices, tags or keys reaches the other. A [Call] is a small graph of legs; a [Leg] is one SIP dialog with one media
// session. Calls live on one shard of package transaction, so nothing here needs a lock. Media always passes our relay: a
// change on one side (hold, new address, new keys) is answered here and does not disturb the other side.
package control
