// Package directory looks people up in a site's directory, as a desk phone does: by LDAP (RFC 4511) within TLS.
//
// It is a client of few words, binding and searching, and so small that each byte of a server is read with limits (decision 0019). What a user types is a value and never a filter.
package directory
