// Package tlspolicy decides which TLS each listener speaks, from one tree of settings.
//
// A setting at /system holds for everything, one at /system/transport/sip for what carries SIP, one at /interface/sip for that listener, and one at
// /interface/sip/192.0.2.7:5061 for that address of it; the most specific wins, setting by setting ([Tree.For]). What wins can be explained, and tried out
// with a peer that can only so much ([Effective.Try]). Below the floor nothing can be set: TLS 1.2, forward secrecy, authenticated encryption.
package tlspolicy
