package router

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// ifreq is what Linux takes about an interface: 16 bytes of its name, and 24 of what is asked.
type ifreq struct {
	name [16]byte
	data [24]byte
}

func (r *ifreq) ioctl(fd int, what uintptr) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), what, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

func interfaceUp(fd int, name string) error {
	r := &ifreq{}
	copy(r.name[:], name)
	binary.NativeEndian.PutUint16(r.data[:], syscall.IFF_UP)
	return r.ioctl(fd, syscall.SIOCSIFFLAGS)
}

func interfaceIndex(fd int, name string) (int, error) {
	r := &ifreq{}
	copy(r.name[:], name)
	err := r.ioctl(fd, syscall.SIOCGIFINDEX)
	return int(binary.NativeEndian.Uint32(r.data[:])), err
}
