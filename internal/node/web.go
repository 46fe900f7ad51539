package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// web remembers which certificate each HTTPS connection was made with, so that its connections can be ended with it.
type web struct {
	mu    sync.Mutex
	conns map[net.Conn]string // serial in lower-case hexadecimal
}

// state implements http.Server.ConnState.
func (w *web) state(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateActive: // the handshake is complete: there is a request
		t, ok := c.(*tls.Conn)
		if !ok {
			return
		}
		if chain := t.ConnectionState().PeerCertificates; len(chain) > 0 {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.conns == nil {
				w.conns = map[net.Conn]string{}
			}
			w.conns[c] = fmt.Sprintf("%x", chain[0].SerialNumber)
		}
	case http.StateClosed, http.StateHijacked:
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.conns, c)
	}
}

// cut closes the connections whose certificate does not hold any more, and says how many they were.
func (w *web) cut(gone func(serial string) bool) (closed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, serial := range w.conns {
		if gone(serial) {
			_ = c.Close() // an answer that is being written stops where it is
			delete(w.conns, c)
			closed++
		}
	}
	return closed
}
