// Package locate finds the servers of a SIP domain by DNS (RFC 3263), best first, and only those that can be sealed.
//
// A [Resolver] asks DNS for NAPTR, SRV (RFC 2782), AAAA and A records, with small limits on what it believes of an answer, and
// remembers answers for as long as they say. Whatever DNS says decides only where to knock: each [Target] carries the name that
// the certificate behind the door must prove, which is the name that was asked for and never one that came out of DNS (RFC 5922).
// DNS can therefore keep us from a server, but not send us to a false one, and nothing falls back to a transport without TLS.
package locate
