// Package subject says which names a certificate proves: of hosts, of SIP domains (RFC 5922), and whole subjects.
//
// It looks at a certificate that somebody else has verified already; what it says of another one means nothing.
package subject
