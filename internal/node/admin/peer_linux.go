package admin

import (
	"net"
	"syscall"
)

// peerUID asks the kernel which user is at the other end of a Unix socket (SO_PEERCRED, unix(7)).
func peerUID(c net.Conn) (uid int, ok bool) {
	u, ok := c.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *syscall.Ucred
	err = raw.Control(func(fd uintptr) { cred, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) })
	if err != nil || cred == nil {
		return 0, false
	}
	return int(cred.Uid), true
}
