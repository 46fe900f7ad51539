//go:build !386

package relay

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"ringfence"
)

// kernelSocket is a kernel's UDP socket that a loop waits for. It sends and receives with plain system calls and reused
// memory: the standard library's calls would wake Go's own poller for each datagram as well.
type kernelSocket struct {
	fd      int
	v6      bool
	mark    uint8
	leg     *Endpoint // nil while parked; the loop's lock guards it
	control bool
	loop    *loop
	slot    int32
	busy    atomic.Bool // something has arrived since the leg took the socket
	drops   uint32      // the kernel's count of what it threw away, then
	stamp   int32       // tells an event of this socket from a late one of the slot's previous owner

	to  netip.AddrPort // what sa holds
	sa  [28]byte       // struct sockaddr_in or sockaddr_in6
	len uintptr
}

// loop is one shard: it waits for the sockets of its legs, one goroutine for all.
//
// Waking up costs more than relaying a packet, so a loop that has just worked looks again only after coalesce, as network cards
// coalesce interrupts: the first packet after a silence goes out at once, and under load many go out together. For that the sockets are
// in an epoll of their own, which is in the outer one with EPOLLONESHOT: between two looks, nothing that arrives wakes anybody.
type loop struct {
	engine *Engine
	epoll  int             // the sockets
	outer  int             // epoll and wake
	file   *os.File        // owns outer, and
	raw    syscall.RawConn // waits for it by way of Go's poller
	wake   int             // eventfd that ends the wait
	ended  atomic.Bool

	mu    sync.Mutex
	table []*kernelSocket
	idle  []int32
	stamp int32
}

// adopt takes a kernel socket over from the opener's conn. ok is false if the conn is no kernel socket.
//
// The descriptor is duplicated and the conn closed: so the socket leaves Go's poller, which would otherwise be woken for
// every datagram along with ours.
func (e *Engine) adopt(p *Endpoint, c net.PacketConn, control bool) (socket, bool, error) {
	u, ok := c.(*net.UDPConn)
	if !ok {
		return nil, false, nil
	}
	fail := func(text string, err error) (socket, bool, error) {
		return nil, false, &ringfence.Fault{Op: "relay.open", Kind: ringfence.KindInternal, Text: text, Err: err}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return fail("the media socket has no descriptor", err)
	}
	s := &kernelSocket{fd: -1, leg: p, control: control}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var domain int
		if domain, inner = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_DOMAIN); inner != nil {
			return
		}
		s.v6 = domain == syscall.AF_INET6
		nfd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			inner = errno
			return
		}
		s.fd = int(nfd)
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return fail("the media socket could not be taken over", err)
	}
	if s.mark, err = markSocket(s.fd, s.v6, e.cfg.DSCP); err != nil {
		_ = syscall.Close(s.fd)
		return fail("the media socket could not be marked", err)
	}
	l, err := e.loopFor(p)
	if err == nil {
		err = l.add(s)
	}
	if err != nil {
		_ = syscall.Close(s.fd)
		return fail("the media socket could not be watched", err)
	}
	_ = c.Close()
	return s, true, nil
}

// markSocket sets the DSCP unless it is 0, and reads back what the kernel now uses.
func markSocket(fd int, v6 bool, dscp uint8) (uint8, error) {
	level, opt := syscall.IPPROTO_IP, syscall.IP_TOS
	if v6 {
		level, opt = syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS
	}
	if dscp != 0 {
		if err := syscall.SetsockoptInt(fd, level, opt, int(dscp)<<2); err != nil {
			return 0, err
		}
		if v6 { // an IPv6 socket also sends to mapped IPv4 addresses; where it may not, this is refused, and that is fine
			_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_TOS, int(dscp)<<2)
		}
	}
	tos, err := syscall.GetsockoptInt(fd, level, opt)
	return uint8(max(tos, 0) >> 2 & 63), err
}

// loopFor returns the loop of a leg's sockets; both sockets of a leg are in one loop. The loops are made at first need.
func (e *Engine) loopFor(p *Endpoint) (*loop, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, net.ErrClosed
	}
	for len(e.loops) < e.cfg.Shards {
		l, err := newLoop(e)
		if err != nil {
			return nil, err
		}
		e.loops = append(e.loops, l)
		e.wg.Go(l.run)
	}
	return e.loops[int(p.port>>1)%len(e.loops)], nil
}

func newLoop(e *Engine) (*loop, error) {
	l := &loop{engine: e, epoll: -1, outer: -1, wake: -1}
	if err := l.open(); err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

func (l *loop) open() (err error) {
	if l.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if l.outer, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	wake, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return errno
	}
	l.wake = int(wake)
	if err = syscall.SetNonblock(l.outer, true); err != nil {
		return err
	}
	l.file = os.NewFile(uintptr(l.outer), "epoll")
	if l.raw, err = l.file.SyscallConn(); err != nil {
		return err
	}
	if err = syscall.EpollCtl(l.outer, syscall.EPOLL_CTL_ADD, l.wake, &syscall.EpollEvent{Events: syscall.EPOLLIN}); err != nil {
		return err
	}
	return l.listen(syscall.EPOLL_CTL_ADD)
}

// listen lets what arrives at a socket wake the loop, once.
func (l *loop) listen(op int) error {
	return syscall.EpollCtl(l.outer, op, l.epoll, &syscall.EpollEvent{Events: syscall.EPOLLIN | epollOneShot})
}

// epollOneShot is EPOLLONESHOT, which package syscall has as a negative number on some systems.
const epollOneShot = 1 << 30

// coalesce is how long a loop that has just worked lets packets gather: far below what a jitter buffer notices.
const coalesce = time.Millisecond

// add begins to wait for s.
func (l *loop) add(s *kernelSocket) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.idle); n > 0 {
		s.slot, l.idle = l.idle[n-1], l.idle[:n-1]
	} else {
		s.slot = int32(len(l.table))
		l.table = append(l.table, nil)
	}
	l.stamp++
	s.loop, s.stamp = l, l.stamp
	l.table[s.slot] = s
	err := syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, s.fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: s.slot, Pad: s.stamp})
	if err != nil {
		l.table[s.slot] = nil
		l.idle = append(l.idle, s.slot)
	}
	return err
}

// run waits and receives until stop.
func (l *loop) run() {
	var sc scratch
	var events [128]syscall.EpollEvent
	var failed error
	// A blocking epoll_wait would tell the scheduler each time, which costs more than relaying a packet does. So the call never
	// blocks, and Go's own poller says when there is something: an epoll descriptor can itself be waited for.
	poll := func(uintptr) bool {
		n, err := look(l.outer, events[:2])
		failed = err
		return n > 0 || err != nil
	}
	for !l.ended.Load() {
		err := l.raw.Read(poll)
		if err == nil {
			err = failed
		}
		for worked := false; err == nil && !l.ended.Load(); {
			var n int
			if n, err = look(l.epoll, events[:]); n == 0 {
				if !worked {
					break
				}
				worked = false
				time.Sleep(coalesce)
				continue
			}
			worked = true
			now := l.engine.since(l.engine.cfg.Now())
			for i := range events[:n] {
				if s, p := l.owner(&events[i], &sc); p != nil {
					s.receive(p, &sc, now)
				}
			}
		}
		if err == nil {
			err = l.listen(syscall.EPOLL_CTL_MOD)
		}
		if err != nil {
			l.engine.cfg.Log.Error("waiting for media failed", "error", err)
			return
		}
	}
}

// look is epoll_wait without the wait.
func look(epoll int, events []syscall.EpollEvent) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EINTR:
		return 0, nil
	}
	return 0, errno
}

// owner returns the socket that an event is for and its leg. What arrives at a parked socket, which has no leg, is thrown away
// here, with the lock held so that the socket cannot be closed meanwhile.
func (l *loop) owner(ev *syscall.EpollEvent, sc *scratch) (*kernelSocket, *Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.table[ev.Fd]
	if s == nil || s.stamp != ev.Pad {
		return nil, nil
	}
	if !s.busy.Load() {
		s.busy.Store(true)
	}
	if s.leg == nil {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&sc.in)), uintptr(len(sc.in)), syscall.MSG_DONTWAIT, 0, 0)
	}
	return s, s.leg
}

// park takes the socket from its leg; unpark gives it to another one.
func (s *kernelSocket) park() {
	s.loop.mu.Lock()
	s.leg, s.to = nil, netip.AddrPort{}
	s.loop.mu.Unlock()
}

func (s *kernelSocket) unpark(p *Endpoint) {
	s.loop.mu.Lock()
	s.leg = p
	if s.busy.Swap(false) && !s.control { // the count of the control port is nobody's evidence
		s.drops = s.dropped()
	}
	s.loop.mu.Unlock()
}

// dropped asks the kernel how many datagrams found the queue of this socket full, since it was opened.
func (s *kernelSocket) dropped() uint32 {
	const meminfo, drops = 0x37, 8 // SO_MEMINFO and SK_MEMINFO_DROPS, on every architecture that Go has on Linux
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(s.fd), syscall.SOL_SOCKET, meminfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return s.drops // an old kernel does not say
	}
	return info[drops]
}

// overrun asks the kernel only where something has arrived: nothing was thrown away elsewhere.
func (s *kernelSocket) overrun() uint64 {
	if !s.busy.Load() {
		return 0
	}
	return uint64(s.dropped() - s.drops)
}

// receive takes one datagram. The wait is level-triggered, so what is left comes with the next round, and no leg can keep
// the others waiting.
func (s *kernelSocket) receive(p *Endpoint, sc *scratch, now time.Duration) {
	var sa [28]byte
	salen := uint32(len(sa))
	p.in.mu.Lock()
	if p.in.closed {
		p.in.mu.Unlock()
		return
	}
	// A raw call, because a receive that must not wait is not worth telling the scheduler about.
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&sc.in)), uintptr(len(sc.in)),
		syscall.MSG_DONTWAIT|syscall.MSG_TRUNC, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&salen)))
	if errno != 0 || int(n) > len(sc.in) {
		// Nothing there, an ICMP error of an earlier send, or a datagram too long to be voice: nothing to do.
		p.in.mu.Unlock()
		return
	}
	p.receive(sc, int(n), source(&sa), now, s.control)
}

// source reads a kernel address.
func source(sa *[28]byte) netip.AddrPort {
	port := uint16(sa[2])<<8 | uint16(sa[3])
	if family := *(*uint16)(unsafe.Pointer(sa)); family == syscall.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), port)
	}
	a := netip.AddrFrom16([16]byte(sa[8:24])).Unmap()
	return netip.AddrPortFrom(a, port)
}

// aim writes the kernel form of to into sa, unless it is there already.
func (s *kernelSocket) aim(to netip.AddrPort) bool {
	if s.to == to {
		return true
	}
	a := to.Addr().Unmap()
	s.sa = [28]byte{2: byte(to.Port() >> 8), 3: byte(to.Port())}
	family := (*uint16)(unsafe.Pointer(&s.sa))
	switch {
	case s.v6:
		*family, s.len = syscall.AF_INET6, 28
		b := a.As16()
		copy(s.sa[8:24], b[:])
	case a.Is4():
		*family, s.len = syscall.AF_INET, 16
		b := a.As4()
		copy(s.sa[4:8], b[:])
	default:
		return false // an IPv6 address on an IPv4 socket
	}
	s.to = to
	return true
}

func (s *kernelSocket) send(b []byte, to netip.AddrPort) error {
	if len(b) == 0 || !s.aim(to) {
		return syscall.EAFNOSUPPORT
	}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&s.sa)), s.len)
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *kernelSocket) dscp() uint8 { return s.mark }

func (s *kernelSocket) close() {
	l := s.loop
	l.mu.Lock()
	l.table[s.slot] = nil
	l.idle = append(l.idle, s.slot)
	l.mu.Unlock()
	_ = syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_DEL, s.fd, nil)
	_ = syscall.Close(s.fd)
}

// descriptors returns how many files this process may have open.
func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(l.Cur, 1<<30))
}

// stop makes run return; free gives the descriptors back once it has.
func (l *loop) stop() {
	l.ended.Store(true)
	one := [8]byte{1}
	_, _ = syscall.Write(l.wake, one[:])
}

func (l *loop) free() {
	if l.file != nil {
		_ = l.file.Close()
		l.outer = -1
	}
	for _, fd := range [...]int{l.outer, l.epoll, l.wake} {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}
}
