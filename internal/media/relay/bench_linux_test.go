//go:build !386

package relay

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// nowhere is a socket that swallows what is sent.
type nowhere struct{ sent int }

func (n *nowhere) send([]byte, netip.AddrPort) error { n.sent++; return nil }
func (n *nowhere) dscp() uint8                       { return 0 }
func (n *nowhere) overrun() uint64                   { return 0 }
func (n *nowhere) close()                            {}

// benchSuites runs f once for each suite on both legs.
func benchSuites(b *testing.B, f func(*testing.B, rtp.Suite)) {
	for _, s := range rtp.Suites() {
		b.Run(string(s), func(b *testing.B) { f(b, s) })
	}
}

// voice returns count sealed packets of 160 octets of payload.
func voice(b *testing.B, p *phone, count int) [][]byte {
	b.Helper()
	pkts := make([][]byte, count)
	payload := string(make([]byte, 160))
	for i := range pkts {
		pkts[i] = p.sealed(payload)
	}
	return pkts
}

// BenchmarkForward is the work on one packet without the kernel: open, measure, latch, seal.
func BenchmarkForward(b *testing.B) {
	benchSuites(b, func(b *testing.B, s rtp.Suite) {
		e := newHostEngine(b, 22000)
		x := newPhone(b, e, "a-leg", s, listenHost(b))
		y := newPhone(b, e, "bb-leg", s, listenHost(b))
		if err := e.Join(x.leg, y.leg); err != nil {
			b.Fatal(err)
		}
		y.leg.out.mu.Lock()
		real := y.leg.out.socks[0]
		n := &nowhere{}
		y.leg.out.socks[0] = n
		y.leg.out.mu.Unlock()
		defer real.close()
		from := x.addr()
		const block = 4096
		var sc scratch
		b.ReportAllocs()
		b.ResetTimer()
		for done := 0; done < b.N; done += block {
			b.StopTimer()
			pkts := voice(b, x, min(block, b.N-done))
			b.StartTimer()
			for _, p := range pkts {
				x.leg.in.mu.Lock()
				x.leg.receive(&sc, copy(sc.in[:], p), from, time.Duration(done), false)
			}
		}
		b.StopTimer()
		if n.sent != b.N {
			b.Fatalf("%d of %d packets left", n.sent, b.N)
		}
	})
}

// BenchmarkRelay is one packet through kernel sockets: received, opened, sealed, sent. The time includes the benchmark's
// own send, which a second figure gives alone.
func BenchmarkRelay(b *testing.B) {
	benchSuites(b, func(b *testing.B, s rtp.Suite) {
		e := newHostEngine(b, 22200)
		x := newPhone(b, e, "a-leg", s, listenHost(b))
		y := newPhone(b, e, "bb-leg", s, listenHost(b))
		if err := e.Join(x.leg, y.leg); err != nil {
			b.Fatal(err)
		}
		// The loop is taken out of the picture: the benchmark itself receives, so that nothing runs beside it.
		sock := x.leg.out.socks[0].(*kernelSocket)
		if err := syscall.EpollCtl(sock.loop.epoll, syscall.EPOLL_CTL_DEL, sock.fd, nil); err != nil {
			b.Fatal(err)
		}
		conn := x.conn.(*net.UDPConn)
		to := x.leg.Local()
		var sending time.Duration
		const block = 64
		var sc scratch
		b.ReportAllocs()
		b.ResetTimer()
		for done := 0; done < b.N; done += block {
			b.StopTimer()
			pkts := voice(b, x, min(block, b.N-done))
			start := time.Now()
			for _, p := range pkts {
				if _, err := conn.WriteToUDPAddrPort(p, to); err != nil {
					b.Fatal(err)
				}
			}
			sending += time.Since(start)
			b.StartTimer()
			for range pkts {
				sock.receive(sock.leg, &sc, time.Duration(done))
			}
		}
		b.StopTimer()
		b.ReportMetric(float64(sending)/float64(b.N), "peer-send-ns/op")
		if m := x.leg.Stats(); m.PacketsIn != uint64(b.N) {
			b.Fatalf("%d of %d packets came", m.PacketsIn, b.N)
		}
		if out := y.leg.Stats().PacketsOut; out != uint64(b.N) {
			b.Fatalf("%d of %d packets left", out, b.N)
		}
	})
}

// BenchmarkCalls is many calls at once through the loops, as fast as one sender can offer packets round-robin. ns/op is time
// on the wall; cpu-ns/op is the processor time of the whole process, the sender's included.
func BenchmarkCalls(b *testing.B) {
	benchSuites(b, func(b *testing.B, s rtp.Suite) {
		e := newHostEngine(b, 22400, func(c *Config) { c.Ports.Last = c.Ports.First + 599 })
		const calls = 64
		far := listenHost(b)()
		b.Cleanup(func() { _ = far.Close() })
		share := func() net.PacketConn { return far } // all phones at one address; what comes back overflows and is dropped
		var from [calls]*phone
		for i := range from {
			x := newPhone(b, e, ringfence.LegID(fmt.Sprint("a", i)), s, share)
			y := newPhone(b, e, ringfence.LegID(fmt.Sprint("b", i)), s, share)
			if err := e.Join(x.leg, y.leg); err != nil {
				b.Fatal(err)
			}
			from[i] = x
		}
		conn := far.(*net.UDPConn)
		var cpu time.Duration
		var arrived uint64
		sent := uint64(0)
		b.ReportAllocs()
		b.ResetTimer()
		for done := 0; done < b.N; {
			b.StopTimer()
			n := min(calls*32, b.N-done)
			pkts := make([][]byte, n)
			payload := string(make([]byte, 160))
			for i := range pkts {
				pkts[i] = from[i%calls].sealed(payload)
			}
			start := processTime(b)
			b.StartTimer()
			for i, p := range pkts {
				if _, err := conn.WriteToUDPAddrPort(p, from[i%calls].leg.Local()); err != nil {
					b.Fatal(err)
				}
			}
			sent += uint64(n)
			until(b, "every packet", func() bool {
				arrived = 0
				for _, x := range from {
					arrived += x.leg.Stats().PacketsIn
				}
				if arrived < sent {
					<-time.After(50 * time.Microsecond)
				}
				return arrived == sent
			})
			b.StopTimer()
			cpu += processTime(b) - start
			b.StartTimer()
			done += n
		}
		b.StopTimer()
		b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
	})
}

func processTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
