//go:build !unix

package phone

import "net"

// dscpOf cannot read the mark back on this system.
func dscpOf(net.PacketConn) uint8 { return 0 }
