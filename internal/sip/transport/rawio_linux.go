package transport

import (
	"syscall"
	"unsafe"
)

// readFD and writeFD are read(2) and write(2) on a socket that does not block. They do not tell the scheduler, which would wake
// its watcher thread for a call that is over in microseconds: at a few thousand messages a second that costs as much as the SIP.
func readFD(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func writeFD(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
