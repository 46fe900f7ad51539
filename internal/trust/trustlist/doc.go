// Package trustlist reads, builds and explains the lists of certificates that enterprise phones believe: ITL and CTL.
//
// A list is a file of the room signedfile whose body is records: a certificate each, with the role in which it is believed. A phone takes the
// first list it sees and from then on only lists signed by somebody whom the list it has names as SAST. [Plan] therefore says, before a list is published,
// whether the phones that hold another one would take it.
//
// For phones of any vendor there is the same list as JSON in a JWS (RFC 7515), signed by the same SASTs ([BuildJSON], [ParseJSON]).
package trustlist
