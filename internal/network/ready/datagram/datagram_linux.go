package datagram

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"
)

const (
	recvTOS      = 13 // IP_RECVTOS
	recvErr4     = 11 // IP_RECVERR
	recvErr6     = 25 // IPV6_RECVERR
	recvTClass   = 66 // IPV6_RECVTCLASS
	tClass       = 67 // IPV6_TCLASS
	mtuDiscover4 = 10 // IP_MTU_DISCOVER
	mtuDiscover6 = 23 // IPV6_MTU_DISCOVER
	discoverDo   = 2  // IP_PMTUDISC_DO: never fragment, and heed what routers say
	errQueue     = syscall.MSG_ERRQUEUE
)

func (c *Conn) set(options ...[3]int) {
	_ = c.raw.Control(func(fd uintptr) {
		for _, o := range options { // those of the other address family are refused, and not needed then
			_ = syscall.SetsockoptInt(int(fd), o[0], o[1], o[2])
		}
	})
}

func (c *Conn) attend() {
	c.set([3]int{syscall.IPPROTO_IP, recvTOS, 1}, [3]int{syscall.IPPROTO_IPV6, recvTClass, 1}, [3]int{syscall.IPPROTO_IP, recvErr4, 1}, [3]int{syscall.IPPROTO_IPV6, recvErr6, 1})
}

// Whole forbids to cut datagrams into fragments; [Conn.Write] then fails with EMSGSIZE for what is known not to pass.
func (c *Conn) Whole() {
	if c.raw != nil {
		c.set([3]int{syscall.IPPROTO_IP, mtuDiscover4, discoverDo}, [3]int{syscall.IPPROTO_IPV6, mtuDiscover6, discoverDo})
	}
}

// Hops lets datagrams go so many routers far; the one after them says so.
func (c *Conn) Hops(n int) {
	if c.raw != nil {
		c.set([3]int{syscall.IPPROTO_IP, syscall.IP_TTL, n}, [3]int{syscall.IPPROTO_IPV6, syscall.IPV6_UNICAST_HOPS, n})
	}
}

func markOf(oob []byte) uint8 {
	all, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return NoMark
	}
	for _, m := range all {
		switch {
		case m.Header.Level == syscall.IPPROTO_IP && m.Header.Type == syscall.IP_TOS && len(m.Data) >= 1:
			return m.Data[0] >> 2
		case m.Header.Level == syscall.IPPROTO_IPV6 && m.Header.Type == tClass && len(m.Data) >= 4:
			return uint8(binary.NativeEndian.Uint32(m.Data)) >> 2
		}
	}
	return NoMark
}

// withMark is the ancillary data that marks one datagram.
func withMark(to netip.Addr, mark uint8) []byte {
	if mark > 63 {
		return nil
	}
	b := make([]byte, syscall.CmsgSpace(4))
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = syscall.IPPROTO_IP, syscall.IP_TOS
	if !to.Unmap().Is4() {
		h.Level, h.Type = syscall.IPPROTO_IPV6, tClass
	}
	h.SetLen(syscall.CmsgLen(4))
	binary.NativeEndian.PutUint32(b[syscall.CmsgLen(0):], uint32(mark)<<2)
	return b
}

// Refusals returns what was said about datagrams since it was asked last.
func (c *Conn) Refusals() (out []Refusal) {
	if c.raw == nil {
		return nil
	}
	var data [512]byte
	var oob [512]byte
	for range 256 {
		var m int
		var to syscall.Sockaddr
		err := syscall.EAGAIN
		_ = c.raw.Control(func(fd uintptr) {
			var e error
			_, m, _, to, e = syscall.Recvmsg(int(fd), data[:], oob[:], errQueue|syscall.MSG_DONTWAIT)
			err, _ = e.(syscall.Errno)
		})
		if err != 0 {
			return out
		}
		if r, ok := refusal(oob[:m], to); ok {
			out = append(out, r)
		}
	}
	return out
}

// refusal reads a struct sock_extended_err and the address behind it, as ip(7) describes them.
func refusal(oob []byte, to syscall.Sockaddr) (r Refusal, ok bool) {
	all, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return r, false
	}
	switch a := to.(type) {
	case *syscall.SockaddrInet4:
		r.To = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		r.To = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	for _, m := range all {
		four := m.Header.Level == syscall.IPPROTO_IP && m.Header.Type == recvErr4
		if !four && (m.Header.Level != syscall.IPPROTO_IPV6 || m.Header.Type != recvErr6) || len(m.Data) < 16 {
			continue
		}
		d := m.Data
		errno, origin, kind, code := syscall.Errno(binary.NativeEndian.Uint32(d)), d[4], d[5], d[6]
		r.Why = errno.Error()
		if origin == 2 || origin == 3 {
			r.Why = fmt.Sprintf("%s (ICMP type %d code %d)", errno, kind, code)
		}
		r.Expired = origin == 2 && kind == 11 && code == 0 || origin == 3 && kind == 3 && code == 0
		if errno == syscall.EMSGSIZE {
			r.MTU = int(binary.NativeEndian.Uint32(d[8:]))
		}
		if by := d[16:]; origin == 2 && len(by) >= 8 && binary.NativeEndian.Uint16(by) == syscall.AF_INET {
			r.By = netip.AddrFrom4([4]byte(by[4:8]))
		} else if origin == 3 && len(by) >= 24 && binary.NativeEndian.Uint16(by) == syscall.AF_INET6 {
			r.By = netip.AddrFrom16([16]byte(by[8:24])).Unmap()
		} else if origin == 2 && len(by) >= 24 && binary.NativeEndian.Uint16(by) == syscall.AF_INET6 {
			r.By = netip.AddrFrom16([16]byte(by[8:24])).Unmap()
		}
		return r, true
	}
	return r, false
}
