// Package transport runs the connections that carry SIP: TLS first, limits before parsing, order kept on each connection.
//
// A [Conn] is one connection (a flow in the sense of RFC 5626) with the identity that its peer proved. It costs one
// goroutine while idle. Messages read from it are handed to the Receiver one after the other, so they keep their order and
// a peer that sends faster than we work waits in its own socket. Writing never blocks: [Conn.Queue] collects messages and
// [Conn.Flush] seals them into as few TLS records and system calls as it can; what the kernel will not take at once is
// drained by a goroutine that lives only as long as there is something to drain, and a peer that does not read at all is
// disconnected when its queue is full.
//
// Browsers come over WebSocket (RFC 7118) by [Layer.ListenWS]. UDP, for peers with a named exception, is a table of bounded
// size behind one socket ([Layer.ListenUDP]): each remote address is a Conn, made only by a request that could be parsed.
package transport
