package store

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// slowDisk is how long an append may take before the next ones are made by way of the scheduler, and for how many appends.
const (
	slowDisk   = time.Millisecond
	slowWrites = 1000
)

// appender writes to the end of a file. An append goes to the page cache and takes a microsecond or two; telling the scheduler
// about it would wake its watcher thread and cost more. Only a disk that makes us wait is worth a thread to wait in.
type appender struct{ slow int }

func (a *appender) write(f *os.File, fd uintptr, b []byte) (int, error) {
	if a.slow > 0 || len(b) == 0 {
		a.slow--
		return f.Write(b)
	}
	start := time.Now()
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if time.Since(start) > slowDisk {
		a.slow = slowWrites
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
