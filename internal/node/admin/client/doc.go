// Package client speaks to the administration API, over a node's Unix socket or over HTTPS with a token.
//
// It opens no sockets itself: it is handed a way to connect. An error is a *ringfence.Fault with the kind and the hint that
// the node gave.
package client
