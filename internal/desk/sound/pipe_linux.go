package sound

import (
	"os"
	"syscall"
)

// shorten makes a pipe hold as little as the kernel lets it: what is in it is heard late.
func shorten(w *os.File) {
	const setPipeSize = 1031 // F_SETPIPE_SZ
	if c, err := w.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, 4096) })
	}
}
