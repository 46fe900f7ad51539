package transport

import (
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// atOnce is how many datagrams one system call fetches.
const atOnce = 32

// kernelDatagrams reads and writes a UDP socket of the kernel: several datagrams a call, and without telling the scheduler (see
// readFD). Reading is for one goroutine, writing for one at a time to an address.
type kernelDatagrams struct {
	net.PacketConn
	raw syscall.RawConn
	v6  bool

	bufs   [atOnce][65536]byte
	from   [atOnce]sockaddr
	iovecs [atOnce]syscall.Iovec
	heads  [atOnce]struct { // struct mmsghdr
		syscall.Msghdr
		length uint32
	}
	got  int
	fail error
	some func(uintptr) bool // bound once
	busy bool               // the next datagrams are hardly far
	last time.Time          // when datagrams were fetched
}

// coalesce is how long a reader that has just worked lets datagrams gather: nobody who calls notices, and a reader that is woken for
// each of them, and wakes each peer for each answer, spends more on that than on the messages. One that has worked for longer than plenty
// since it fetched the last ones needs no more of them at a time.
const (
	coalesce = 2 * time.Millisecond
	plenty   = coalesce / 4
)

// sockaddr is a struct sockaddr_in or sockaddr_in6.
type sockaddr struct {
	bytes  [28]byte
	length uint32
}

// newDatagrams returns pc as it is best read and written.
func newDatagrams(pc net.PacketConn) datagrams {
	u, ok := pc.(*net.UDPConn)
	if !ok {
		return &plainDatagrams{PacketConn: pc}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return &plainDatagrams{PacketConn: pc}
	}
	k := &kernelDatagrams{PacketConn: pc, raw: raw}
	var domain int
	if e := raw.Control(func(fd uintptr) { domain, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_DOMAIN) }); e != nil || err != nil {
		return &plainDatagrams{PacketConn: pc}
	}
	k.v6 = domain == syscall.AF_INET6
	k.some = k.readSome
	for i := range k.heads {
		k.iovecs[i].Base = &k.bufs[i][0]
		k.iovecs[i].SetLen(len(k.bufs[i]))
		k.heads[i].Iov, k.heads[i].Iovlen = &k.iovecs[i], 1
		k.heads[i].Name = &k.from[i].bytes[0]
	}
	return k
}

func (k *kernelDatagrams) read(each func(b []byte, from netip.AddrPort)) error {
	since := time.Now()
	if worked := since.Sub(k.last); k.busy && worked < plenty {
		time.Sleep(coalesce - worked)
		since = time.Now()
	}
	k.got, k.fail = 0, nil
	if err := k.raw.Read(k.some); err != nil {
		return err
	}
	k.last = time.Now()
	k.busy = k.got < atOnce && k.last.Sub(since) < coalesce
	for i := range k.got {
		each(k.bufs[i][:k.heads[i].length], k.from[i].addr())
	}
	return k.fail
}

// readSome reports false if there is nothing to read yet.
func (k *kernelDatagrams) readSome(fd uintptr) bool {
	for i := range k.heads {
		k.heads[i].Namelen = uint32(len(k.from[i].bytes))
	}
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&k.heads)), atOnce, syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			k.got = int(n)
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default: // such as an answer by ICMP to an earlier datagram
			k.fail = errno
			return true
		}
	}
}

func (k *kernelDatagrams) writer(to netip.AddrPort) func(msg []byte) error {
	sa, ok := k.sockaddr(to)
	if !ok {
		return plainWriter(k.PacketConn, to)
	}
	w := &datagramWriter{raw: k.raw, to: sa}
	w.once = w.try
	return w.write
}

// datagramWriter sends to one address. It is for one goroutine at a time.
type datagramWriter struct {
	raw   syscall.RawConn
	to    *sockaddr
	msg   []byte
	errno syscall.Errno
	once  func(uintptr) bool // bound once
}

func (w *datagramWriter) write(msg []byte) error {
	if len(msg) == 0 {
		return nil
	}
	w.msg, w.errno = msg, 0
	err := w.raw.Write(w.once)
	w.msg = nil
	if err == nil && w.errno != 0 {
		err = w.errno
	}
	return err
}

func (w *datagramWriter) try(fd uintptr) bool {
	for {
		_, _, w.errno = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&w.msg[0])), uintptr(len(w.msg)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&w.to.bytes)), uintptr(w.to.length))
		if w.errno != syscall.EINTR {
			return true // a full queue loses the datagram, as the network may; nobody waits here
		}
	}
}

// sockaddr returns the kernel's form of an address. It fails where that needs more than the address itself: an IPv6 zone, or an IPv6
// address on an IPv4 socket, which package net refuses.
func (k *kernelDatagrams) sockaddr(to netip.AddrPort) (*sockaddr, bool) {
	a := to.Addr().Unmap()
	sa := &sockaddr{}
	sa.bytes[2], sa.bytes[3] = byte(to.Port()>>8), byte(to.Port())
	family := (*uint16)(unsafe.Pointer(&sa.bytes))
	switch {
	case a.Zone() != "" || !a.IsValid():
		return nil, false
	case k.v6:
		*family, sa.length = syscall.AF_INET6, syscall.SizeofSockaddrInet6
		b := a.As16()
		copy(sa.bytes[8:24], b[:])
	case a.Is4():
		*family, sa.length = syscall.AF_INET, syscall.SizeofSockaddrInet4
		b := a.As4()
		copy(sa.bytes[4:8], b[:])
	default:
		return nil, false
	}
	return sa, true
}

// addr reads what the kernel wrote.
func (sa *sockaddr) addr() netip.AddrPort {
	b := &sa.bytes
	port := uint16(b[2])<<8 | uint16(b[3])
	if *(*uint16)(unsafe.Pointer(b)) == syscall.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port)
	}
	a := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	if zone := *(*uint32)(unsafe.Pointer(&b[24])); zone != 0 && a.Is6() {
		a = a.WithZone(strconv.FormatUint(uint64(zone), 10))
	}
	return netip.AddrPortFrom(a, port)
}
