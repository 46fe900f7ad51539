//go:build !linux

package sockets

import (
	"syscall"
	"time"
)

// setAckTimeout has no portable form; keep-alive probes find a dead peer a little later.
func setAckTimeout(syscall.RawConn, time.Duration) error { return nil }
