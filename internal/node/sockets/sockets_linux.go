package sockets

import (
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// frames opens an interface for frames of one type.
func frames(index int, etherType uint16, group [6]byte, all bool) (io.ReadWriteCloser, error) {
	wire := int(etherType<<8 | etherType>>8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, wire)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(wire), Ifindex: index})
	if err == nil && group != [6]byte{} {
		m := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
		copy(m.Address[:], group[:])
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m)
	}
	if err == nil && all {
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC})
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("packet", err)
	}
	return os.NewFile(uintptr(fd), "frames"), nil
}
