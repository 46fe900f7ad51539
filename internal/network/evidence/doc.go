// Package evidence keeps a book of proofs of a firewall, for whoever has to believe later that it was as it should be: each record is signed by an Ed25519 key and holds the digest of the one before, so that none can be changed, put in
// between or left out. Only that the last ones were torn out cannot be seen from the book itself; whoever notes the number and the digest of the last record elsewhere sees that too.
//
// A book is a directory: a file for each record, the key beside them unless it is elsewhere, and the rules whenever they had changed.
package evidence
