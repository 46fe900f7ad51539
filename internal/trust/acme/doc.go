// Package acme gives the site's own machines their certificates by ACME (RFC 8555), without anybody pressing a button at renewal.
//
// Nobody has an account without an external account binding (section 7.3.4): the administrator makes a key id with a MAC key, which is
// good for one account, and withdrawing it ends that account at once. Which names an account may have is the [Policy]'s to say; that the
// account controls a name it has to show by http-01, dns-01 or tls-alpn-01 (RFC 8737), for addresses as RFC 8738 has it. Certificates are
// signed and revoked by an [Issuer], which is the authority; when to renew is told by RFC 9773.
//
// Whoever may order names can make this server connect to a host. It connects to nothing but the ports 80 and 443 of addresses
// that the configuration allows ([Reachable]), follows redirects only on the same host, reads a kilobyte, and repeats nothing of it.
//
// What is kept is plain records in a [State] with compare-and-set, so that several nodes can share one database. Nonces are not among them:
// each node knows its own, and one of another node is answered with badNonce and a fresh one, which clients know how to handle.
//
// Left out, as the RFC allows: pre-authorization (section 7.4.1), terms of service, notBefore and notAfter in orders (they are refused),
// and CAA records, since this authority is not a public one.
package acme
