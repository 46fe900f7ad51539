// Package enroll gives a device its certificate against a one-time activation code; the device makes its own key and keeps it.
//
// The device does not know the node yet, and the node does not know the device. All they share is a code of 16 digits that an
// administrator read out: 4 digits to find it and 12 that are secret. Both derive the same verifier V from it with argon2id; the
// node keeps only V, sealed. They talk over one TLS 1.3 connection whose server certificate the device cannot check yet, in two
// steps, and every proof covers a value exported from that very connection (RFC 8446 section 7.5, RFC 5705):
//
//	device → node  POST /enrol/v1/hello    lookup, nonce
//	node → device                          salt, cost, nonce, trust anchors, HMAC(V, "server", exporter, nonces, anchors)
//	device → node  POST /enrol/v1/request  lookup, nonce, certificate request, HMAC(V, "device", exporter, nonces, request)
//	node → device                          certificate chain, and where to go from here
//
// The device sends nothing that depends on the code before the node has proved that it knows V. Who sits in the middle has two
// connections with two different exported values, so the proof of one is no good on the other, and learns nothing that tells a
// right code from a wrong one. The code is used up in one atomic step; wrong tries are counted and limited.
//
// What this does not stop: whoever asks with a lookup that is live gets a proof that depends on V and may search the 10^12 secrets
// at home, at the price of one argon2id each. That is why a code lives a day at most, is good once, and the cost is not small.
//
// Unknown lookups get answers of the same shape, made up from a key, after the same time. Why a code does not work (used,
// expired, tried too often) is told only to a device that has proved that it knows the code.
//
// Renewal (POST /enrol/v1/renew) is over mutual TLS with the present certificate, for a fresh key.
package enroll
