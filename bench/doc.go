// Package bench compares the SIP parser of the product with an independent one: the same messages through both.
//
// It is a module of its own, so that the other implementation is never linked into the product.
package bench
