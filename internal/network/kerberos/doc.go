// Package kerberos gets a ticket for a service from the key distribution centre of a realm (RFC 4120), and wraps it as SPNEGO (RFC 4178) for whoever asks who we are.
//
// It opens no sockets, keeps no tickets, and trusts a realm's answers only as far as the password proves them: what a stranger could send in its place is bounded before it is read. It knows one realm: referrals
// to others are refused. Keys are AES only (RFC 3962, RFC 8009).
package kerberos
