package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/network/box"
	"ringfence/internal/testkit"
)

// Router is a firewall with two neighbours, each in a network namespace of its own, that send it whatever they like and see what comes out. The firewall is this process.
type Router struct {
	testing.TB
	out  [2][2]int // sockets by which the host itself sends: IPv4 and IPv6, by eth1 and by eth0
	ends [2]int    // AF_PACKET sockets: the end behind eth1, inside, and the one behind eth0
	mu   sync.Mutex
	seen map[uint32]int // number of a packet: the end where it came out
	n    uint32
	last time.Time
}

const gateway = "\x02\x00\x00\x00\x00\x99" // the next hop behind each end, which nobody is

// New makes the network, in a process that is [Alone]. A packet leaves by eth1 if it has a TOS of 0x10 and by eth0 otherwise, so that every address can be on either side.
func New(t testing.TB) *Router {
	w := &Router{TB: t, seen: map[uint32]int{}}
	ip := testkit.Need(t, "/sbin/ip", "iproute2")
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	for i, name := range []string{"eth1", "eth0"} {
		far := fmt.Sprintf("end%d", i)
		Run(t, ip, "", "link", "add", name, "type", "veth", "peer", "name", far)
		tid, moved, ready := make(chan int), make(chan struct{}), make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine, and its namespace with it
			if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
				ready <- err
				return
			}
			tid <- syscall.Gettid()
			<-moved
			fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, int(swap(syscall.ETH_P_ALL)))
			if err == nil {
				err = up(far)
			}
			if err == nil {
				err = bind(fd, far)
			}
			w.ends[i] = fd
			ready <- err
			<-stop
		}()
		select {
		case id := <-tid:
			Run(t, ip, "", "link", "set", far, "netns", fmt.Sprint(id))
			close(moved)
			if err := <-ready; err != nil {
				t.Fatal(err)
			}
		case err := <-ready:
			t.Fatal(err)
		}
	}
	for i, name := range []string{"eth1", "eth0"} {
		table := fmt.Sprint(100 + i)
		Run(t, ip, "", "link", "set", name, "address", fmt.Sprintf("02:00:00:00:00:1%d", i), "up")
		Run(t, ip, "", "neigh", "add", "169.254.9.9", "lladdr", "02:00:00:00:00:99", "dev", name, "nud", "permanent")
		Run(t, ip, "", "neigh", "add", "fe80::99", "lladdr", "02:00:00:00:00:99", "dev", name, "nud", "permanent")
		Run(t, ip, "", "route", "add", "default", "via", "169.254.9.9", "dev", name, "onlink", "table", table)
		Run(t, ip, "", "-6", "route", "add", "default", "via", "fe80::99", "dev", name, "onlink", "table", table)
	}
	for _, family := range []string{"-4", "-6"} {
		Run(t, ip, "", family, "rule", "add", "tos", "0x10", "table", "100", "pref", "10")
		Run(t, ip, "", family, "rule", "add", "table", "101", "pref", "11")
		Run(t, ip, "", family, "rule", "add", "tos", "0x08", "table", "102", "pref", "9") // what is for this host
		Run(t, ip, "", family, "route", "add", "local", "default", "dev", "lo", "table", "102")
	}
	for _, s := range []string{"ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/all/accept_local=1", "ipv4/conf/eth0/rp_filter=0", "ipv4/conf/eth1/rp_filter=0", "ipv4/conf/all/send_redirects=0", "ipv4/conf/eth1/send_redirects=0",
		"ipv4/conf/eth0/send_redirects=0"} {
		name, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range w.ends {
		go w.listen(i)
	}
	for i, family := range []int{syscall.AF_INET, syscall.AF_INET6} {
		for _, protocol := range []uint8{box.TCP, box.UDP, box.ICMP, box.ICMPv6, 50} {
			fd, err := syscall.Socket(family, syscall.SOCK_RAW, int(protocol))
			if err == nil {
				err = ready(fd)
			}
			if err != nil {
				t.Fatal(err)
			}
			go w.arrive(fd)
		}
		for side, tos := range []int{0x10, 0} { // a route is looked up by what the socket says
			fd, err := syscall.Socket(family, syscall.SOCK_RAW, syscall.IPPROTO_RAW) // headers and all are ours
			if err == nil && family == syscall.AF_INET {
				err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, syscall.IP_TOS, tos)
			} else if err == nil {
				err = syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_TCLASS, tos)
			}
			if err != nil {
				t.Fatal(err)
			}
			w.out[i][side] = fd
		}
	}
	return w
}

// arrive notes the number of each packet that the host itself gets.
func (w *Router) arrive(fd int) {
	buf := make([]byte, 2048)
	for {
		n, _, err := syscall.Recvfrom(fd, buf, 0)
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if n < 8 || string(buf[n-8:n-4]) != "RNGF" {
			continue
		}
		w.mu.Lock()
		w.seen[binary.BigEndian.Uint32(buf[n-4:n])] = here
		w.last = time.Now()
		w.mu.Unlock()
	}
}

// here is where a packet comes out that the host itself gets.
const here = 2

// ready makes a socket wait a little and hold much.
func ready(fd int) error {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 64<<20); err != nil {
		return err
	}
	tv := syscall.NsecToTimeval(int64(20 * time.Millisecond))
	return syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv)
}

func swap(v uint16) uint16 { return v<<8 | v>>8 }

// up and bind look a name up in the namespace of this thread.
func up(name string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return interfaceUp(fd, name)
}

func bind(fd int, name string) error {
	index, err := interfaceIndex(fd, name)
	if err != nil {
		return err
	}
	if err := ready(fd); err != nil {
		return err
	}
	return syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: swap(syscall.ETH_P_ALL), Ifindex: index})
}

// listen notes the number of each packet that comes out at an end.
func (w *Router) listen(end int) {
	buf := make([]byte, 2048)
	for {
		n, from, err := syscall.Recvfrom(w.ends[end], buf, 0)
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if ll, ok := from.(*syscall.SockaddrLinklayer); !ok || ll.Pkttype == 4 || n < 22 || string(buf[:6]) != gateway || string(buf[n-8:n-4]) != "RNGF" {
			continue
		}
		w.mu.Lock()
		if number := binary.BigEndian.Uint32(buf[n-4 : n]); w.seen[number] != here { // else it is the answer of the host, which quotes it
			w.seen[number] = end
		}
		w.last = time.Now()
		w.mu.Unlock()
	}
}

// Travel sends packets, in by eth1 or eth0, with the flags of an answer if ack is true, and reports which of them came out where they should.
func (w *Router) Travel(packets []box.Packet, n *box.Interfaces, ack bool) []bool {
	w.Helper()
	inside := n.Number("eth1")
	first := w.n
	for _, p := range packets {
		end := 1
		if p.In == inside {
			end = 0
		}
		b := frame(p, w.n, p.Out == inside, ack, byte(end))
		w.n++
		for {
			err := w.send(p, end, p.Out == inside, b)
			if errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil {
				w.Fatalf("%s: %v", p.Describe(n), err)
			}
			break
		}
	}
	quiet := time.NewTicker(20 * time.Millisecond)
	defer quiet.Stop()
	began := time.Now()
	for range quiet.C { // until nothing has come out for a while
		w.mu.Lock()
		last := w.last
		w.mu.Unlock()
		if time.Since(last) > 100*time.Millisecond && time.Since(began) > 100*time.Millisecond {
			break
		}
	}
	out := make([]bool, len(packets))
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, p := range packets {
		end, ok := w.seen[first+uint32(i)]
		out[i] = ok && (end == here) == (p.Hook == box.Input) && (end == 0) == (p.Out == inside)
		if ok && !out[i] {
			w.Errorf("%s came out at the wrong end", p.Describe(n))
		}
	}
	return out
}

// send sends a packet from a neighbour, or from the host itself.
func (w *Router) send(p box.Packet, end int, toInside bool, b []byte) error {
	side := 1
	if toInside {
		side = 0
	}
	switch {
	case p.Hook != box.Output:
		return syscall.Sendto(w.ends[end], b, 0, nil)
	case p.From.Is4():
		return refused(syscall.Sendto(w.out[0][side], b[14:], 0, &syscall.SockaddrInet4{Addr: p.To.As4()}))
	}
	return refused(syscall.Sendto(w.out[1][side], b[14:], 0, &syscall.SockaddrInet6{Addr: p.To.As16()}))
}

// refused takes it that a host is told when its own packet is dropped.
func refused(err error) error {
	if errors.Is(err, syscall.EPERM) {
		return nil
	}
	return err
}

// Forget empties the table of connections.
func (w *Router) Forget() {
	w.Helper()
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW, syscall.NETLINK_NETFILTER)
	if err != nil {
		w.Fatal(err)
	}
	defer syscall.Close(fd)
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		m := make([]byte, 20)
		binary.NativeEndian.PutUint32(m, 20)
		binary.NativeEndian.PutUint16(m[4:], 1<<8|2) // ctnetlink, delete
		binary.NativeEndian.PutUint16(m[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
		m[16] = family
		if err := syscall.Sendto(fd, m, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
			w.Fatal(err)
		}
		answer := make([]byte, 4096)
		k, _, err := syscall.Recvfrom(fd, answer, 0)
		if err != nil || k < 20 || binary.NativeEndian.Uint32(answer[16:]) != 0 {
			w.Fatalf("%v: conntrack was not emptied: % x", err, answer[:k])
		}
	}
}

// frame writes a packet as Ethernet sees it, with its number at the end.
func frame(p box.Packet, number uint32, toInside, ack bool, end byte) []byte {
	body := append([]byte("RNGF"), binary.BigEndian.AppendUint32(nil, number)...)
	var l4 []byte
	at := -1 // of the checksum
	switch p.Protocol {
	case box.TCP:
		l4 = make([]byte, 20)
		binary.BigEndian.PutUint16(l4, p.FromPort)
		binary.BigEndian.PutUint16(l4[2:], p.ToPort)
		binary.BigEndian.PutUint32(l4[4:], 1000)
		l4[12], l4[13] = 5<<4, 2
		if ack { // of the SYN with its 8 bytes
			l4[13] |= 16
			binary.BigEndian.PutUint32(l4[8:], 1001)
		}
		binary.BigEndian.PutUint16(l4[14:], 1000)
		at = 16
	case box.UDP:
		l4 = make([]byte, 8)
		binary.BigEndian.PutUint16(l4, p.FromPort)
		binary.BigEndian.PutUint16(l4[2:], p.ToPort)
		binary.BigEndian.PutUint16(l4[4:], 16)
		at = 6
	case box.ICMP, box.ICMPv6:
		l4 = []byte{byte(p.FromPort), byte(p.ToPort), 0, 0, 0, 7, 0, 1}
		at = 2
	}
	l4 = append(l4, body...)
	tos := byte(0)
	switch {
	case p.Hook == box.Input:
		tos = 0x08
	case toInside:
		tos = 0x10
	}
	if at >= 0 {
		var pseudo []byte
		if p.Protocol != box.ICMP {
			pseudo = append(append(p.From.AsSlice(), p.To.AsSlice()...), 0, p.Protocol, 0, byte(len(l4)))
		}
		sum := checksum(append(pseudo, l4...))
		if sum == 0 && p.Protocol == box.UDP {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(l4[at:], sum)
	}
	out := append([]byte{2, 0, 0, 0, 0, 0x10 + end}, gateway...)
	if p.From.Is4() {
		h := []byte{0x45, tos, 0, byte(20 + len(l4)), 0, 1, 0, 0, 64, p.Protocol, 0, 0}
		h = append(append(h, p.From.AsSlice()...), p.To.AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], checksum(h))
		return append(append(append(out, 8, 0), h...), l4...)
	}
	h := []byte{0x60 | tos>>4, tos << 4, 0, 0, 0, byte(len(l4)), p.Protocol, 64}
	h = append(append(h, p.From.AsSlice()...), p.To.AsSlice()...)
	return append(append(append(out, 0x86, 0xdd), h...), l4...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// Travels reports whether Linux would forward a packet at all, whatever the rules say, and a [Router] can make it.
func Travels(p box.Packet) bool {
	switch p.Protocol {
	case box.TCP, box.UDP, box.ICMP, box.ICMPv6, 50:
	default:
		return false
	}
	for _, a := range []netip.Addr{p.From, p.To} {
		if !a.IsGlobalUnicast() || a.IsLoopback() || a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 224 || a.As4()[0] == 127 || a.As4()[0] == 169) || a.Is6() && (a.As16()[0] == 0 || a.As16()[0] >= 0xfe) {
			return false
		}
	}
	return true
}
