// Package share gives the firmware that a phone has fetched to other phones of the same link, and takes it from them: one phone loads it from the server, the others ask each other first.
//
// The makers of desk phones do not publish how theirs do that, so this is a protocol of our own (docs/adr/0020). It carries nothing that is believed: which file is wanted is known from the server, by the digest of the file's
// signed header, and what comes from a peer is taken only if it begins with that header and its signature holds. So it needs no keys, and a peer that lies costs time and nothing else.
package share
