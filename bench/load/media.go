package load

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/pion/srtp/v3"

	"ringfence/internal/sip"
)

// Suite is an SRTP suite by its SDES name.
type Suite string

// profile returns the suite's profile and how long its key with salt is.
func (s Suite) profile() (p srtp.ProtectionProfile, key, salt int) {
	switch s {
	case "AEAD_AES_128_GCM":
		return srtp.ProtectionProfileAeadAes128Gcm, 16, 12
	case "AEAD_AES_256_GCM":
		return srtp.ProtectionProfileAeadAes256Gcm, 32, 12
	case "AES_CM_128_HMAC_SHA1_32":
		return srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14
	}
	return srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14
}

func (s Suite) newKey() string {
	_, k, n := s.profile()
	b := make([]byte, k+n)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

func (s Suite) context(key string) (*srtp.Context, error) {
	p, k, n := s.profile()
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(key, "=")) // some leave the padding out
	if err != nil || len(b) != k+n {
		return nil, fmt.Errorf("a key of %d bytes for %s", len(b), s)
	}
	return srtp.CreateContext(b[:k], b[k:], p)
}

// Leg is one end of a call as the generator sees it.
type Leg struct {
	suite  Suite
	key    string // ours
	local  uint16
	server netip.AddrPort
	seal   *srtp.Context
	open   *srtp.Context
	ssrc   uint32
	seq    uint16
	clear  [172]byte
	sealed []byte
}

// NewLeg returns an end that will speak from one of the generator's ports.
func NewLeg(suite Suite, port uint16, ssrc uint32) (*Leg, error) {
	l := &Leg{suite: suite, key: suite.newKey(), local: port, ssrc: ssrc}
	var err error
	l.seal, err = suite.context(l.key)
	return l, err
}

// SDP is the leg's offer, or its answer with the tag of the chosen crypto line.
func (l *Leg) SDP(tag int) []byte {
	return fmt.Appendf(nil, "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/SAVP 0\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=rtcp-mux\r\na=crypto:%d %s inline:%s\r\na=sendrecv\r\n", l.local, tag, l.suite, l.key)
}

// Heard takes the server's description for this leg and returns the tag of its crypto line for the leg's suite.
func (l *Leg) Heard(sdp []byte) (tag int, err error) {
	_, rest, ok := bytes.Cut(sdp, []byte("m=audio "))
	port, _, ok2 := bytes.Cut(rest, []byte(" "))
	n, err := strconv.ParseUint(string(port), 10, 16)
	head, after, ok3 := bytes.Cut(rest, []byte(" "+string(l.suite)+" inline:"))
	i := bytes.LastIndexByte(head, ':')
	if !ok || !ok2 || !ok3 || err != nil || i < 0 {
		return 0, fmt.Errorf("the server's description does not offer %s", l.suite)
	}
	if tag, err = strconv.Atoi(string(head[i+1:])); err != nil {
		return 0, err
	}
	key := string(after[:bytes.IndexAny(after, "\r|")])
	if key == l.key {
		return 0, errors.New("the server gave our own key back")
	}
	l.server = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(n))
	l.open, err = l.suite.context(key)
	return tag, err
}

// Connect sets up a call between two phones of one server for the two legs, and returns how to end it.
func Connect(a, b *Phone, la, lb *Leg) (end func() error, err error) {
	for _, p := range []*Phone{a, b} {
		_ = p.tc.SetReadDeadline(time.Now().Add(5 * time.Second))
	}
	c := &caller{Phone: a, to: b.user, n: 1, callID: a.id + "media"}
	remote, to, err := c.connect(b, la, lb)
	if err != nil {
		return nil, err
	}
	return func() error {
		for _, p := range []*Phone{a, b} {
			_ = p.tc.SetReadDeadline(time.Now().Add(5 * time.Second))
		}
		if err := c.request(sip.BYE, remote, to, nil, 2, nil); err != nil {
			return err
		}
		_, err := c.final(sip.BYE)
		return err
	}, nil
}

func (c *caller) connect(b *Phone, la, lb *Leg) (target, toField string, err error) {
	to := "sip:" + b.user + "@" + b.t.Domain
	if err := c.request(sip.INVITE, to, "<"+to+">", nil, 1, la.SDP(1)); err != nil {
		return "", "", err
	}
	if err := b.next(); err != nil {
		return "", "", fmt.Errorf("no call came: %w", err)
	}
	tag, err := lb.Heard(b.msg.Body())
	if err != nil {
		return "", "", err
	}
	if err := b.reply(200, lb.SDP(tag)); err != nil {
		return "", "", err
	}
	if status, err := c.final(sip.INVITE); err != nil || status != 200 {
		return "", "", fmt.Errorf("INVITE: %d %w", status, err)
	}
	remote, err := c.msg.Contact()
	if err != nil {
		return "", "", err
	}
	if _, err = la.Heard(c.msg.Body()); err != nil {
		return "", "", err
	}
	target, toField = remote.URI.String(), string(c.msg.Get(sip.HeaderTo))
	if err := c.request(sip.ACK, target, toField, nil, 1, nil); err != nil {
		return "", "", err
	}
	return target, toField, b.next() // the ACK
}

// Socket is a UDP socket of the generator, which many legs share so that packets can be sent and received by the batch.
type Socket struct {
	fd   int
	Port uint16
}

// NewSocket opens a socket on loopback.
func NewSocket() (*Socket, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<20)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return &Socket{fd: fd, Port: uint16(sa.(*syscall.SockaddrInet4).Port)}, nil
}

// Close closes the socket.
func (s *Socket) Close() { _ = syscall.Close(s.fd) }

const batch = 32

type mmsghdr struct {
	hdr syscall.Msghdr
	len uint32
	_   [4]byte
}

// wagon is the memory of one batched system call.
type wagon struct {
	msgs [batch]mmsghdr
	iov  [batch]syscall.Iovec
	addr [batch]syscall.RawSockaddrInet4
	buf  [batch][256]byte
}

func (w *wagon) load(i int, b []byte) {
	w.iov[i].Base = &b[0]
	w.iov[i].SetLen(len(b))
	h := &w.msgs[i].hdr
	h.Iov, h.Iovlen = &w.iov[i], 1
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&w.addr[i])), syscall.SizeofSockaddrInet4
}

// send sends the next packet of each leg.
func (w *wagon) send(s *Socket, legs []*Leg) (int, error) {
	for i, l := range legs {
		l.next()
		w.load(i, l.sealed)
		p := l.server.Port()
		w.addr[i] = syscall.RawSockaddrInet4{Family: syscall.AF_INET, Port: p<<8 | p>>8, Addr: l.server.Addr().As4()}
	}
	n, _, errno := syscall.RawSyscall6(sysSendmmsg, uintptr(s.fd), uintptr(unsafe.Pointer(&w.msgs)), uintptr(len(legs)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// receive takes what has arrived; each, if not nil, sees the first packet of a batch.
func (w *wagon) receive(s *Socket, each func(from uint16, packet []byte)) int {
	for i := range batch {
		w.load(i, w.buf[i][:])
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&w.msgs)), batch, syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 || n == 0 {
		return 0
	}
	p := w.addr[0].Port
	each(p<<8|p>>8, w.buf[0][:w.msgs[0].len])
	return int(n)
}

// next makes the leg's next packet: 20 ms of G.711.
func (l *Leg) next() {
	l.seq++
	b := l.clear[:]
	b[0], b[1] = 0x80, 0
	binary.BigEndian.PutUint16(b[2:], l.seq)
	binary.BigEndian.PutUint32(b[4:], uint32(l.seq)*160)
	binary.BigEndian.PutUint32(b[8:], l.ssrc)
	l.sealed, _ = l.seal.EncryptRTP(l.sealed[:0], b, nil)
}

// Talk sends a packet every 20 ms from each leg, spread evenly over that time, and counts what comes back at the other end. a[i]
// and b[i] are the two ends of a call. Some of what arrives is opened, to see that it was sealed anew with the right key.
func Talk(sa, sb *Socket, a, b []*Leg) *Job {
	j := &Job{Work: &Work{}}
	byPort := [2]map[uint16]*Leg{{}, {}}
	for i := range a {
		byPort[0][a[i].server.Port()], byPort[1][b[i].server.Port()] = a[i], b[i]
	}
	var mu sync.Mutex
	opened := 0
	check := func(side int) func(uint16, []byte) {
		tick := 0
		return func(from uint16, packet []byte) {
			if tick++; tick%64 != 1 {
				return
			}
			l := byPort[side][from]
			if l == nil {
				j.fail(fmt.Errorf("a packet from port %d, which belongs to no call", from))
				return
			}
			if len(packet) > 1 && packet[1] >= 192 && packet[1] < 224 { // RTCP
				return
			}
			clear, err := l.open.DecryptRTP(nil, packet, nil)
			if err != nil || len(clear) != len(l.clear) {
				j.fail(fmt.Errorf("what came back cannot be opened: %w", err))
				return
			}
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	j.wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var w wagon
		checks := [2]func(uint16, []byte){check(0), check(1)}
		socks, legs := [2]*Socket{sa, sb}, [2][]*Leg{a, b}
		const step = 250 * time.Microsecond
		start, sent := time.Now(), 0
		for !j.stop.Load() {
			// So many packets of each side should have been sent by now.
			due := int(time.Since(start) * time.Duration(len(a)) / (20 * time.Millisecond))
			for sent < due {
				from := sent % len(a)
				n := min(due-sent, batch, len(a)-from)
				for side := range 2 {
					if _, err := w.send(socks[side], legs[side][from:from+n]); err != nil {
						j.fail(err)
					}
				}
				sent += n
			}
			for side := range 2 {
				for n := batch; n == batch; {
					n = w.receive(socks[side], checks[side])
					j.ops.Add(int64(n))
				}
			}
			ts := syscall.NsecToTimespec(int64(step))
			_ = syscall.Nanosleep(&ts, nil)
		}
	})
	j.wake = func() {
		mu.Lock()
		defer mu.Unlock()
		if opened == 0 {
			j.stop.Store(false)
			j.fail(errors.New("no packet came back that could be opened"))
			j.stop.Store(true)
		}
	}
	return j
}
