// Package tvs answers phones that ask whether a certificate is believed and in which roles: the Trust Verification Service of TCP port 2445.
//
// A phone asks when it meets a certificate that is not in its trust list, such as that of an HTTPS server, or a file that is signed by somebody it does
// not know. It knows this service by the certificate with the role TVS in its list, and proves nothing about itself. Over one TLS connection goes one
// request and one answer, each a header of 10 bytes with tag, length and value behind it:
//
//	0x57  version 1  command  0  session (4 bytes, echoed)  length of the rest (2 bytes)
//
// Command 1 shows a certificate and 2 answers it; command 3 names a certificate by subject, issuer and serial number, and 4 answers with it. What is
// asked of the organisation's store ([Book]) is keyed by the SHA-256 hash of the whole certificate, so that a forged twin with the same names is another
// certificate. Expired and revoked ones are not believed. If the store cannot answer, neither does the service: the phone asks the next one, while
// an answer "not believed" would be remembered.
//
// Nobody becomes a TVS by the word of a TVS: that role is left out of answers on one side and ignored on the other, or else one stolen key could
// make the next. A phone remembers an answer for as long as the answer says, a day unless the store says otherwise, so a revocation reaches those that
// have asked only after that.
package tvs
