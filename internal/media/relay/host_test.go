package relay

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// Legs are opened, joined, used and closed from many goroutines at once, over kernel sockets whose descriptors are reused;
// every call must hear only itself.
func TestManyCallsAtOnce(t *testing.T) {
	e := newHostEngine(t, 23000, func(c *Config) {
		c.Ports = ringfence.PortRange{First: 23000, Last: 23399}
		c.Rest = time.Nanosecond // reuse ports at once, to provoke late packets of earlier calls
	})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for round := range 20 {
				suite := rtp.Suites()[(worker+round)%3]
				a := newPhone(t, e, ringfence.LegID(fmt.Sprintf("a-%d-%d", worker, round)), suite, listenHost(t))
				b := newPhone(t, e, ringfence.LegID(fmt.Sprintf("bb-%d-%d", worker, round)), suite, listenHost(t))
				if err := e.Join(a.leg, b.leg); err != nil {
					t.Error(err)
					return
				}
				for i := range 20 {
					a.say(b, fmt.Sprint("a", worker, round, i))
					b.say(a, fmt.Sprint("b", worker, round, i))
				}
				_ = a.conn.Close()
				_ = b.conn.Close()
				if m := a.leg.Close(); m.PacketsIn != 20 || m.PacketsOut != 20 {
					t.Errorf("%+v", m)
				}
				b.leg.Close()
			}
		})
	}
	wg.Wait()
}

func TestPlayOverKernelSockets(t *testing.T) {
	e := newHostEngine(t, 23400)
	a := newPhone(t, e, "a", rtp.AEAD_AES_256_GCM, listenHost(t))
	done := make(chan struct{})
	if err := a.leg.Play(Format{PayloadType: 0, Samples: 160}, &counting{5, 5}, func() { close(done) }); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, payload := a.hear(); payload[0] != byte(i+1) {
			t.Fatalf("frame %d: %d", i, payload[0])
		}
	}
	<-done
	if m := a.leg.Stats(); m.PacketsOut != 5 {
		t.Fatalf("%+v", m)
	}
}

// On an IPv6 socket both address families work, and the mark is read back from the traffic class.
func TestDualStack(t *testing.T) {
	probe, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("[::]:0")))
	if err != nil {
		t.Log("this host has no IPv6; the IPv4 half is covered elsewhere")
		return
	}
	_ = probe.Close()
	e := newHostEngine(t, 23600, func(c *Config) { c.Addr = netip.IPv6Unspecified() })
	a := newPhone(t, e, "a-leg", rtp.AEAD_AES_256_GCM, listenHost(t))
	b := newPhone(t, e, "bb-leg", rtp.AEAD_AES_128_GCM, listenHost(t))
	if err := e.Join(a.leg, b.leg); err != nil {
		t.Fatal(err)
	}
	sendTo := func(p, q *phone, text string) {
		t.Helper()
		to := netip.AddrPortFrom(loopback(), p.leg.Local().Port())
		if _, err := p.conn.WriteTo(p.sealed(text), net.UDPAddrFromAddrPort(to)); err != nil {
			t.Fatal(err)
		}
		if _, heard := q.hear(); heard != text {
			t.Fatalf("heard %q", heard)
		}
	}
	sendTo(a, b, "there")
	sendTo(b, a, "and back")
	if m := a.leg.Stats(); m.DSCP != 46 {
		t.Fatalf("%+v", m)
	}
	if a.leg.Peer() != a.addr() {
		t.Fatalf("the peer is %s, learned %s", a.addr(), a.leg.Peer())
	}
}
