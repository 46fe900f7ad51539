// Package publicname keeps a certificate of a public authority for the node's public names: it orders one by ACME (RFC 8555) and renews it.
//
// A [Keeper] orders when there is no certificate for the names that are configured, and again at two thirds of its life. It shows that a name is its own by
// http-01 or by tls-alpn-01 (RFC 8737), through an [Answers] that is open only while an order runs. What the authority sends is checked before it takes the place of
// the certificate that is there: until then, and whenever an order fails, that one stays. After a failure it waits, longer each time, and as long as the authority says.
//
// The account's key is sealed in the vault, with what was tried last, so that a node that starts again and again does not bother the authority, and so
// that of several nodes with one database one orders at a time.
//
// The directory is not trusted with more than certificates: every address that it names must be on its own host and port, answers are bounded in size, number and time, and
// whatever it says of an order is compared with what was ordered.
package publicname
