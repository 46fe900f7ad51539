package transport

import (
	"net"
	"net/netip"
	"os"
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
//
// Go's poller would be woken by each datagram, whether anybody waits for it or not. So the socket is not in that, but in an epoll of its
// own, with EPOLLONESHOT, which Go's poller is asked to watch when there is nothing to read.
type kernelDatagrams struct {
	socket *os.File
	raw    syscall.RawConn // of socket
	epoll  *os.File
	wakes  syscall.RawConn // of epoll
	fired  func(uintptr) bool
	v6     bool

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
// since it fetched the last ones needs no more of them at a time. Go waits for whole milliseconds, rounded down, and then again for what is
// left: a little more than whole ones is one wait.
const (
	coalesce = 2*time.Millisecond + 30*time.Microsecond
	plenty   = coalesce / 4
)

// sockaddr is a struct sockaddr_in or sockaddr_in6.
type sockaddr struct {
	bytes  [28]byte
	length uint32
}

// newDatagrams returns pc as it is best read and written; pc itself is not to be used any more.
func newDatagrams(pc net.PacketConn) datagrams {
	if u, ok := pc.(*net.UDPConn); ok {
		if k, err := adopt(u); err == nil {
			_ = pc.Close()
			return k
		}
	}
	return &plainDatagrams{PacketConn: pc}
}

// adopt makes a second descriptor of the socket. If it fails, u is as it was.
func adopt(u *net.UDPConn) (_ *kernelDatagrams, err error) {
	k := &kernelDatagrams{}
	defer func() {
		if err != nil {
			_ = k.Close()
		}
	}()
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var domain, fd, epoll int
	if e := raw.Control(func(old uintptr) {
		if domain, err = unix.GetsockoptInt(int(old), unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil {
			fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
		}
	}); e != nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	// What does not block goes into Go's poller; every call of ours says MSG_DONTWAIT.
	err = unix.SetNonblock(fd, false)
	k.socket = os.NewFile(uintptr(fd), "UDP socket")
	if err != nil {
		return nil, err
	}
	if epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	err = unix.SetNonblock(epoll, true)
	k.epoll = os.NewFile(uintptr(epoll), "epoll")
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT})
	}
	if err == nil {
		k.raw, err = k.socket.SyscallConn()
	}
	if err == nil {
		k.wakes, err = k.epoll.SyscallConn()
	}
	if err != nil {
		return nil, err
	}
	k.v6 = domain == unix.AF_INET6
	k.some, k.fired = k.readSome, k.hasFired
	for i := range k.heads {
		k.iovecs[i].Base = &k.bufs[i][0]
		k.iovecs[i].SetLen(len(k.bufs[i]))
		k.heads[i].Iov, k.heads[i].Iovlen = &k.iovecs[i], 1
		k.heads[i].Name = &k.from[i].bytes[0]
	}
	return k, nil
}

// Close ends a read that waits, and makes every later one and every write fail.
func (k *kernelDatagrams) Close() error {
	if k.epoll != nil {
		_ = k.epoll.Close()
	}
	if k.socket == nil {
		return nil
	}
	return k.socket.Close()
}

func (k *kernelDatagrams) read(each func(b []byte, from netip.AddrPort)) error {
	since := time.Now()
	if k.busy && since.Sub(k.last) < plenty {
		time.Sleep(coalesce)
		since = time.Now()
	}
	k.got, k.fail = 0, nil
	for {
		if err := k.raw.Read(k.some); err != nil {
			return err
		}
		if k.got > 0 || k.fail != nil {
			break
		}
		if err := k.wait(); err != nil {
			return err
		}
	}
	k.last = time.Now()
	k.busy = k.got < atOnce && k.last.Sub(since) < coalesce
	for i := range k.got {
		each(k.bufs[i][:k.heads[i].length], k.from[i].addr())
	}
	return k.fail
}

// wait returns when there may be something to read.
func (k *kernelDatagrams) wait() error {
	var err error
	if e := k.raw.Control(func(fd uintptr) {
		if e := k.wakes.Control(func(epoll uintptr) {
			err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
		}); e != nil {
			err = e
		}
	}); e != nil {
		err = e
	}
	if err != nil {
		return err
	}
	return k.wakes.Read(k.fired)
}

func (k *kernelDatagrams) hasFired(epoll uintptr) bool {
	var event syscall.EpollEvent
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&event)), 1, 0, 0, 0)
	return n > 0 || errno != 0 && errno != syscall.EINTR
}

// readSome fetches what there is; it never has to be called again.
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
			return true
		default: // such as an answer by ICMP to an earlier datagram
			k.fail = errno
			return true
		}
	}
}

func (k *kernelDatagrams) writer(to netip.AddrPort) writer {
	sa, err := k.sockaddr(to)
	if err != nil {
		return func([]byte, []int) error { return err }
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

// sockaddr returns the kernel's form of an address. It fails for an IPv6 address on an IPv4 socket, and for a zone that is no link of ours.
func (k *kernelDatagrams) sockaddr(to netip.AddrPort) (*sockaddr, error) {
	a := to.Addr().Unmap()
	sa := &sockaddr{}
	sa.bytes[2], sa.bytes[3] = byte(to.Port()>>8), byte(to.Port())
	family := (*uint16)(unsafe.Pointer(&sa.bytes))
	switch {
	case k.v6 && a.IsValid():
		*family, sa.length = syscall.AF_INET6, syscall.SizeofSockaddrInet6
		b := a.As16()
		copy(sa.bytes[8:24], b[:])
		if zone := a.Zone(); zone != "" {
			index, err := strconv.ParseUint(zone, 10, 32)
			if err != nil {
				link, err := net.InterfaceByName(zone)
				if err != nil {
					return nil, err
				}
				index = uint64(link.Index)
			}
			*(*uint32)(unsafe.Pointer(&sa.bytes[24])) = uint32(index)
		}
	case a.Is4():
		*family, sa.length = syscall.AF_INET, syscall.SizeofSockaddrInet4
		b := a.As4()
		copy(sa.bytes[4:8], b[:])
	default:
		return nil, syscall.EAFNOSUPPORT
	}
	return sa, nil
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
