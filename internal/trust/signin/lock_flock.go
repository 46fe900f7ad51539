//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package signin

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"ringfence"
)

func lockPath(path string) string { return path + ".lock" }

func othersCanRead(m fs.FileMode) bool { return m.Perm()&0o077 != 0 }

// lock waits until nobody else renews the sign-in of a file. The system gives the lock back when a process dies.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		f, err := tryLock(lockPath(path))
		if f != nil {
			return func() { _ = f.Close() }, nil // which unlocks
		}
		if err != nil {
			return nil, fault(ringfence.KindUnavailable, "the lock of "+path+" cannot be made", "the directory must be there and yours", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fault(ringfence.KindTimeout, "another process holds the lock of "+path, "", ctx.Err())
		}
	}
}

// tryLock returns nil and no error if another process has the lock, or took the file away meanwhile.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		ours, serr := f.Stat()
		there, terr := os.Stat(path)
		if serr == nil && terr == nil && os.SameFile(ours, there) {
			return f, nil
		}
	}
	_ = f.Close()
	if err == nil || errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, nil
	}
	return nil, err
}
