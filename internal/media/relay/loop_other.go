//go:build !linux || 386

package relay

import "net"

// loop does not exist here: every socket has a goroutine of its own.
type loop struct{}

func (*loop) stop() {}
func (*loop) free() {}

func (e *Engine) adopt(*Endpoint, net.PacketConn, bool) (socket, bool, error) { return nil, false, nil }

// descriptors counts no files here: nothing is parked.
func descriptors() int { return 0 }
