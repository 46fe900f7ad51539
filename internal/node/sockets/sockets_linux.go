package sockets

import (
	"syscall"
	"time"
)

// setAckTimeout sets how long data may stay unacknowledged before the kernel gives a connection up; otherwise that is a quarter of an hour.
func setAckTimeout(c syscall.RawConn, d time.Duration) error {
	const tcpUserTimeout = 18 // TCP_USER_TIMEOUT, which package syscall does not have everywhere
	var inner error
	err := c.Control(func(fd uintptr) {
		inner = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	})
	if err == nil {
		err = inner
	}
	return err
}

// toLink holds a socket to one link.
func toLink(c syscall.RawConn, link string) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = syscall.BindToDevice(int(fd), link) }); err != nil {
		return err
	}
	return inner
}
