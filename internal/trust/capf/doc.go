// Package capf gives enterprise phones their locally significant certificates (LSC) and takes them away again: CAPF on TCP port 3804.
//
// The certificate authority proxy function runs inside TLS. The server shows the certificate that the phone's trust list names as CAPF, the
// phone shows none, and the server speaks first. A session carries out the one [Order] that an administrator gave for the device:
//
//	server → phone  authenticate            a session id, which every message repeats
//	phone → server  its name, and a proof   a one-time string, or a signature by the certificate it has
//	server → phone  make a key | delete | show your certificate
//	phone → server  the public key ...      the private half never leaves the phone
//	server → phone  store this certificate
//	phone → server  stored
//	server → phone  end, with a reason
//
// A certificate counts as installed when the phone has said that it stored it, and not before; if it says no, or is gone, the certificate is
// revoked. Nothing that arrives in the wrong order, twice or with another session id changes anything. What is left by a node that stopped in the
// middle of it, [Server.Sweep] clears away.
//
// What the protocol does not give, and what is done about it. The phone never signs a certificate request, so nothing proves that it holds
// the private half of the key that it sends: the key is bound to the session that authenticated instead, and a key that is the phone's present
// one is refused. The proof by certificate covers no value of the server, except for the one in the SUDI element, which covers the session
// id: without it, who once received a proof could use it again, so it is demanded of every phone but those that the order calls old. The
// string is short, so an order takes a few attempts only and is then locked. And who asks for names can tell which devices are known, since
// phones are told so: sources that fail are made to wait.
package capf
