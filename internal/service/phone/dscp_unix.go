//go:build unix

package phone

import (
	"net"
	"syscall"
)

// dscpOf reads back the mark that a socket's packets carry, 0 if it is no socket.
func dscpOf(pc net.PacketConn) uint8 {
	sc, ok := pc.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	tos := 0
	_ = raw.Control(func(fd uintptr) {
		v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS)
		if err == nil {
			tos = v
		}
		if a, ok := pc.LocalAddr().(*net.UDPAddr); ok && a.IP.To4() == nil {
			if v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS); err == nil && v > 0 {
				tos = v
			}
		}
	})
	return uint8(tos>>2) & 0x3f
}
