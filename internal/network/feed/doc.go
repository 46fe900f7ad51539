// Package feed signs requirement sets, so that whoever keeps a firewall elsewhere can take them from a file and know whose they are and that none is older than the last.
//
// A feed is a JSON Web Signature in compact form (RFC 7515) by an Ed25519 key (RFC 8037); its payload holds a set and a serial number that only grows.
package feed
