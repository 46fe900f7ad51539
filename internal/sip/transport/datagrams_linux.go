package transport

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// atOnce is how many datagrams one system call fetches or sends.
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
	heads  [atOnce]multiHead
	got    int
	fail   error
	some   func(uintptr) bool // bound once
	busy   bool               // the next datagrams are hardly far
	last   time.Time          // when datagrams were fetched

	batches sync.Pool // of *batch
}

// multiHead is a struct mmsghdr.
type multiHead struct {
	syscall.Msghdr
	length uint32
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

func (k *kernelDatagrams) writer(to netip.AddrPort) writer {
	sa, ok := k.sockaddr(to)
	if !ok {
		return plainWriter(k.PacketConn, to)
	}
	w := &datagramWriter{raw: k.raw, batches: &k.batches, to: sa}
	w.once = w.try
	return w.write
}

// datagramWriter sends to one address. It is for one goroutine at a time.
type datagramWriter struct {
	raw     syscall.RawConn
	batches *sync.Pool
	to      *sockaddr
	rest    []byte
	lengths []int
	err     error
	once    func(uintptr) bool // bound once
}

func (w *datagramWriter) write(b []byte, lengths []int) error {
	w.rest, w.lengths, w.err = b, lengths, nil
	if err := w.raw.Write(w.once); err != nil {
		w.err = err
	}
	w.rest, w.lengths = nil, nil
	return w.err
}

// try sends everything: a full queue loses datagrams, as the network may; nobody waits here.
func (w *datagramWriter) try(fd uintptr) bool {
	for len(w.lengths) > 0 {
		var n int
		var errno syscall.Errno
		if len(w.lengths) == 1 { // dearer in a batch
			_, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(w.rest))), uintptr(w.lengths[0]),
				syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&w.to.bytes)), uintptr(w.to.length))
			n = 1
		} else {
			n, errno = w.batch(fd)
		}
		switch errno {
		case 0:
		case syscall.EINTR:
			continue
		default: // it is about the first one
			w.err, n = errno, 1
		}
		for _, length := range w.lengths[:n] {
			w.rest = w.rest[length:]
		}
		w.lengths = w.lengths[n:]
	}
	return true
}

// batch is what sendmmsg(2) takes.
type batch struct {
	iovecs [atOnce]syscall.Iovec
	heads  [atOnce]multiHead
}

// batch sends up to atOnce datagrams and returns how many the kernel took.
func (w *datagramWriter) batch(fd uintptr) (int, syscall.Errno) {
	b, ok := w.batches.Get().(*batch)
	if !ok {
		b = &batch{}
	}
	n, rest := min(len(w.lengths), atOnce), w.rest
	for i, length := range w.lengths[:n] {
		b.iovecs[i].Base = unsafe.SliceData(rest)
		b.iovecs[i].SetLen(length)
		h := &b.heads[i]
		h.Name, h.Namelen, h.Iov, h.Iovlen = &w.to.bytes[0], w.to.length, &b.iovecs[i], 1
		rest = rest[length:]
	}
	sent, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.heads)), uintptr(n), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	clear(b.iovecs[:n]) // it keeps nothing alive
	clear(b.heads[:n])
	w.batches.Put(b)
	return int(sent), errno
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
