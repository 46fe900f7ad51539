// Package revocation answers whether certificates still hold: by OCSP (RFC 6960) and by revocation lists (RFC 5280), over HTTP.
//
// Both are signed, so they may be asked for in the clear; they have to be, since who is about to verify a certificate has no TLS yet.
package revocation
