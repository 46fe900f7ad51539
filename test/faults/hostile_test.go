package faults_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// attacker is the address of this host that attacks come from; phones use 127.0.0.1.
const attacker = "127.0.0.66"

// nonsense is what is written to ports that expect SIP or HTTP.
func nonsense() [][]byte {
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	head := "INVITE sip:101@ringfence.internal SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKx\r\nFrom: <sip:x@x>;tag=1\r\nTo: <sip:101@x>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"
	return [][]byte{
		noise,
		bytes.Repeat([]byte{0}, 64<<10),
		[]byte("\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"), // half a ClientHello
		[]byte(head), // truncated
		[]byte(head + "Content-Length: 99999999\r\n\r\nv=0"),                              // a body that nobody sends
		[]byte(head + "Content-Length: -1\r\n\r\n"),                                       // no number
		[]byte(head + "X: " + strings.Repeat("a", 1<<20) + "\r\n"),                        // a field without end
		[]byte(head + strings.Repeat("X: y\r\n", 50_000) + "\r\n"),                        // fields without end
		[]byte("INVITE " + strings.Repeat("sip:", 1<<16)),                                 // a first line without end
		[]byte("SIP/2.0 999999 \xff\r\nVia: x\r\n\r\n"),                                   // a response to nothing
		[]byte("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff"), // a chunk without end
		[]byte(strings.ReplaceAll(head, "\r\n", "\n") + "Content-Length: 0\n\n"),
		bytes.Repeat([]byte("\r\n\r\n"), 10_000), // keep-alives
	}
}

// throw writes b to a connection and reads what comes, until the node ends it or it has had its say.
func throw(c net.Conn, b []byte) {
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	_, _ = c.Write(b)
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
}

// Garbage, truncated, oversized and dripping messages on every port, while a call is up: it goes on, all is counted, nothing stays.
func TestGarbageOnEveryPort(t *testing.T) {
	s := newSite(t, nil)
	s.users("p", 100, 2)
	call := s.talk(s.phone("p0"), s.phone("p1"), "101")
	media := s.tap.media()
	if len(media) != 2 {
		t.Fatalf("media ports %v, want two", media)
	}
	drip := s.drip()
	round := func() {
		t.Helper()
		var wg sync.WaitGroup
		for _, b := range nonsense() {
			for _, port := range []netip.AddrPort{s.SIP, s.HTTPS} {
				wg.Go(func() {
					if c, err := s.dialFrom(attacker, port); err == nil {
						throw(c, b)
					}
				})
				wg.Go(func() {
					if c, err := s.dialTLS(attacker, port); err == nil {
						throw(c, b)
					}
				})
			}
		}
		wg.Wait()
		for _, port := range media {
			s.spray(port, 200)
			s.spray(netip.AddrPortFrom(port.Addr(), port.Port()+1), 50)
		}
	}
	round()
	call.goesOnRejecting()
	before, start := heap(), s.Node.Transport.Stats()
	rounds := size(4, 3, 50)
	for range rounds {
		round()
	}
	call.goesOnRejecting()
	stats := s.Node.Transport.Stats()
	if n := stats.Garbage - start.Garbage; n < uint64(rounds)*5 {
		t.Errorf("%d messages were counted as garbage in %d rounds", n, rounds)
	}
	if n := stats.ServerHandshakes - start.ServerHandshakes; n < uint64(rounds)*5 {
		t.Errorf("%d handshakes were counted as failed in %d rounds", n, rounds)
	}
	s.Until("who drips is cut off", drip)
	s.Until("only the phones are connected", func() bool { return s.Node.Load().Conns == 2 })
	s.settled(fmt.Sprintf("%d rounds of %d kinds of garbage", rounds, len(nonsense())), before, 2<<20)
	call.hangup()
	s.idle()
}

// drip begins a message on an own connection and sends a byte of it now and then; the result reports whether the node has had enough.
func (s *site) drip() func() bool {
	s.Helper()
	c, err := s.dialTLS(attacker, s.SIP)
	s.OK(err)
	done := make(chan struct{})
	s.Cleanup(func() { _ = c.Close(); <-done })
	go func() {
		defer close(done)
		gone := make(chan struct{})
		go func() { defer close(gone); _, _ = io.Copy(io.Discard, c) }()
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for _, b := range []byte("INVITE sip:101@ringfence.internal SIP/2.0\r\nVia: " + strings.Repeat("x", 10_000)) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			select {
			case <-gone:
				return
			case <-tick.C:
			}
		}
		<-gone
	}()
	return func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// spray sends n datagrams that were never sealed to a port, some that look like RTP and RTCP.
func (s *site) spray(to netip.AddrPort, n int) {
	s.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(attacker)}, net.UDPAddrFromAddrPort(to))
	s.OK(err)
	defer func() { _ = c.Close() }()
	b := make([]byte, 1400)
	for i := range n {
		_, _ = rand.Read(b)
		if i%2 == 0 {
			b[0] = 0x80
			b[1] = []byte{0, 200, 201, 8}[i/2%4]
		}
		_, _ = c.Write(b[:[]int{1, 12, 40, 172, 1400}[i%5]])
		if i%16 == 15 { // the phones share the socket's buffer: leave them room
			_ = s.Node.Calls.Count()
		}
	}
}

// goesOnRejecting is goesOn for a call whose ports are under attack: what was rejected was not the phones'. What is sprayed shares the
// kernel's queue with the voice; when the whole process has to wait longer than the queue lasts, the kernel throws some of both away. It
// says how many, and not one more may be missing.
func (t *talk) goesOnRejecting() {
	t.Helper()
	var dropped uint64
	for _, v := range t.Node.Calls.List() {
		for _, l := range v.Legs {
			if l.Media != nil {
				dropped = max(dropped, l.Media.Overrun)
			}
		}
	}
	if dropped > 0 {
		t.Logf("the kernel dropped up to %d datagrams at a port", dropped)
	}
	t.goesOnBut(dropped)
	for _, v := range t.Node.Calls.List() {
		for _, l := range v.Legs {
			if l.Media == nil || l.Media.Rejected == 0 {
				t.Errorf("leg %s: nothing was rejected: %+v", l.ID, l.Media)
			}
		}
	}
}

// Sealed packets that were forged or are sent again, from another address: counted, and the media neither moves nor ends.
func TestForgedAndReplayedMedia(t *testing.T) {
	s := newSite(t, nil)
	s.users("p", 100, 2)
	call := s.talk(s.phone("p0"), s.phone("p1"), "101")
	s.Until("there is something to replay", func() bool { return len(s.tap.caught()) >= 50 })
	caught := s.tap.caught()
	rejected := func() (n [2]uint64) {
		v := s.Node.Calls.List()
		if len(v) != 1 || len(v[0].Legs) != 2 || v[0].State != "up" {
			t.Fatalf("calls = %+v", v)
		}
		return [2]uint64{v[0].Legs[0].Media.Rejected, v[0].Legs[1].Media.Rejected}
	}
	from := netip.MustParseAddr(attacker)
	eve, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	s.OK(err)
	defer func() { _ = eve.Close() }()
	heard := make(chan int, 1)
	go func() {
		n, _, _ := eve.ReadFromUDPAddrPort(make([]byte, 2048))
		heard <- n
	}()
	before := rejected()
	for _, p := range caught {
		_, err := eve.WriteToUDPAddrPort(p.bytes, p.to) // word for word
		s.OK(err)
	}
	s.Until("replays are counted", func() bool { n := rejected(); return n[0] > before[0] && n[1] > before[1] })
	before = rejected()
	for _, p := range caught {
		b := bytes.Clone(p.bytes)
		b[2], b[3] = b[2]+1, b[3]+1 // a later packet that it never was
		_, err := eve.WriteToUDPAddrPort(b, p.to)
		s.OK(err)
	}
	s.Until("forgeries are counted", func() bool { n := rejected(); return n[0] > before[0] && n[1] > before[1] })
	call.goesOn()
	_ = eve.Close()
	if n := <-heard; n > 0 {
		t.Errorf("the attacker was sent %d bytes of media", n)
	}
	call.hangup()
	s.idle()
}

// Thousands of connections that never finish their handshake, from more sources than fit, while phones register and call.
func TestUnfinishedHandshakes(t *testing.T) {
	const sources = 10
	count := size(5000, 1000, 5000)
	s := newSite(t, nil)
	s.users("p", 100, 6)
	call := s.talk(s.phone("p0"), s.phone("p1"), "101")
	before := heap()
	var mu sync.Mutex
	var held []net.Conn
	drop := func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range held {
			_ = c.Close()
		}
		held = nil
	}
	defer drop()
	hello := []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") // the beginning of a ClientHello
	s.each(sources, func(i int) error {
		for range count / sources {
			c, err := s.dialFrom(fmt.Sprintf("127.0.1.%d", i+1), s.SIP)
			if err != nil {
				return err
			}
			_, _ = c.Write(hello)
			mu.Lock()
			held = append(held, c)
			mu.Unlock()
		}
		return nil
	})
	began := time.Now()
	third := s.phone("p2")
	fourth := s.phone("p3")
	second := s.talk(third, fourth, "103")
	took := time.Since(began)
	t.Logf("%d connections hang; two phones registered and talked after %v; heap %d KiB before, %d KiB with them", len(held), took.Round(time.Millisecond), before>>10, heap()>>10)
	if took > 15*time.Second {
		t.Errorf("registering and calling took %v", took)
	}
	call.goesOn()
	second.goesOn()
	second.hangup()
	drop()
	s.Until("only the phones are connected", func() bool { return s.Node.Load().Conns == 4 })
	call.hangup()
	s.idle()
	s.settled("unfinished handshakes", before, 4<<20)
}

// REGISTERs of users that do not exist, as fast as they go: memory stays flat, and others are served within a bound.
func TestRegisterFlood(t *testing.T) {
	const attackers = 8
	lasting := time.Duration(size(4, 4, 30)) * time.Second
	s := newSite(t, nil)
	s.users("p", 100, 8)
	call := s.talk(s.phone("p0"), s.phone("p1"), "101")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent [attackers]int
	var conns [attackers]*tls.Conn
	for i := range attackers {
		c, err := s.dialTLS("127.0.2."+strconv.Itoa(i+1), s.SIP)
		s.OK(err)
		conns[i] = c
	}
	before := heap()
	for i, c := range conns {
		wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
		wg.Go(func() {
			defer func() { _ = c.Close() }()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				user := fmt.Sprintf("ghost%d-%d", i, n)
				auth := ""
				if n%2 == 1 { // every other one answers a challenge that was never made
					auth = fmt.Sprintf("Authorization: Digest username=%q, realm=%q, nonce=\"x\", uri=\"sip:%s\", response=\"%064d\", algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"y\"\r\n", user, s.Domain, s.Domain, n)
				}
				if _, err := fmt.Fprintf(c, "REGISTER sip:%s SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\nFrom: <sip:%s@%s>;tag=1\r\nTo: <sip:%s@%s>\r\nCall-ID: %s\r\nCSeq: 1 REGISTER\r\nContact: <sip:%s@127.0.0.1>\r\n%sContent-Length: 0\r\n\r\n",
					s.Domain, user, user, s.Domain, user, s.Domain, user, user, auth); err != nil {
					return
				}
				sent[i]++
			}
		})
	}
	slowest := time.Duration(0)
	served := 0
	for end := time.Now().Add(lasting); time.Now().Before(end); served++ {
		began := time.Now()
		p, err := s.peer("p" + strconv.Itoa(2+served%6))
		s.OK(err)
		slowest = max(slowest, time.Since(began))
		s.OK(p.bind(0))
		_ = p.conn.Close()
	}
	call.goesOn()
	close(stop)
	wg.Wait()
	total := 0
	for _, n := range sent {
		total += n
	}
	t.Logf("%d REGISTERs of unknown users in %v; %d of others were served, the slowest with its handshake after %v", total, lasting, served, slowest.Round(time.Millisecond))
	if slowest > 10*time.Second || total < 1000 {
		t.Errorf("%d REGISTERs were sent; the slowest of the others took %v", total, slowest)
	}
	if st := s.Node.Registrar.Stats(); st.Challenged < 500 { // much of what was sent waits in the sockets until they are closed
		t.Errorf("%d of %d were challenged", st.Challenged, total)
	}
	for _, c := range s.Node.Registrar.All() {
		if strings.HasPrefix(string(c.Device), "ghost") {
			t.Errorf("%s is registered", c.Device)
		}
	}
	s.Until("the flood is over", func() bool { return s.Node.Load().Conns == 2 })
	s.settled("the flood", before, 4<<20) // hundreds of new connections grow maps and pools once
	call.hangup()
	s.idle()
}
