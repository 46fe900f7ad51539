// Package bench compares the product with other software that does the same work.
//
// Its tests put the same messages through the SIP parser and through an independent one. The program in cmd/bench, started by
// the script run, puts the same load on a whole node and on the peers: see docs/performance.md.
//
// It is a module of its own, so that none of this is linked into the product.
package bench
