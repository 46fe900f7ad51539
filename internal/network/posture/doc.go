// Package posture finds out what a TLS server accepts, by asking it with hand-made ClientHellos: versions, suites in whose order, and groups.
//
// No handshake is finished, so that suites count which no library here would speak. What a server accepts is then compared with what somebody else can speak.
package posture
