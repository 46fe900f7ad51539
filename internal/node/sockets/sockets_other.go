//go:build !linux

package sockets

import (
	"errors"
	"syscall"
	"time"
)

// setAckTimeout has no portable form; keep-alive probes find a dead peer a little later.
func setAckTimeout(syscall.RawConn, time.Duration) error { return nil }

// toLink has no portable form.
func toLink(syscall.RawConn, string) error {
	return errors.New("a socket of one link is opened on Linux only")
}
