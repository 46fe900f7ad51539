//go:build !linux

package sockets

import (
	"errors"
	"io"
	"syscall"
	"time"
)

// setAckTimeout has no portable form; keep-alive probes find a dead peer a little later.
func setAckTimeout(syscall.RawConn, time.Duration) error { return nil }

// toLink has no portable form.
func toLink(syscall.RawConn, string) error {
	return errors.New("a socket of one link is opened on Linux only")
}

// frames has no portable form.
func frames(int, uint16, [6]byte, bool) (io.ReadWriteCloser, error) {
	return nil, errors.New("frames of a link are opened on Linux only")
}
