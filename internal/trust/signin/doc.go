// Package signin signs this program in at an authorization server and keeps its tokens in a file, so that no refresh token is spent twice.
//
// A [Client] asks for a device code (RFC 8628), waits until somebody approves it elsewhere, and trades refresh tokens for new ones. An
// [Account] is what comes out, and a file of it: readable by its owner only, replaced as a whole, on disk before anybody is told. A
// refresh token is good once, and a server that sees one twice ends the sign-in; whoever renews therefore holds a lock on the file, looks
// again at what is in it, and has the room for the new content on disk before the old token is spent ([Keeper]).
//
// A process that is killed, or a connection that is cut, between the server's answer and the file leaves a spent token behind. Then
// somebody has to sign in again; that is the price of noticing copies.
package signin
