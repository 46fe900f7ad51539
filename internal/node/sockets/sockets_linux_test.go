package sockets

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"ringfence"
)

// Accepted and dialled connections find out within half a minute that nobody acknowledges any more.
func TestAckTimeout(t *testing.T) {
	flow := func(name string, d ringfence.Direction) ringfence.Flow {
		return ringfence.Flow{Name: name, Purpose: "test", Room: "node", Direction: d, Transport: "tcp", Peers: "this test", TLS: ringfence.TLSServer}
	}
	s, err := New([]ringfence.Flow{flow("in", ringfence.Listens), flow("out", ringfence.Dials)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.Listen(t.Context(), "in", netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := s.Dial(t.Context(), "out", ln.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for name, c := range map[string]net.Conn{"accepted": in, "dialled": out} {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			for option, want := range map[int]int{18 /* TCP_USER_TIMEOUT, ms */ : 30_000, syscall.TCP_KEEPIDLE: 30, syscall.TCP_KEEPINTVL: 10, syscall.TCP_KEEPCNT: 3} {
				if got, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option); err != nil || got != want {
					t.Errorf("%s: option %d is %d (%v), want %d", name, option, got, err, want)
				}
			}
		})
	}
}

// A connection leaves from the port that is asked for, twice in a row too, and only for a flow that dials.
func TestDialFrom(t *testing.T) {
	flow := func(name string, d ringfence.Direction) ringfence.Flow {
		return ringfence.Flow{Name: name, Purpose: "test", Room: "node", Direction: d, Transport: "tcp", Peers: "this test", TLS: ringfence.TLSServer}
	}
	s, err := New([]ringfence.Flow{flow("in", ringfence.Listens), flow("out", ringfence.Dials)})
	if err != nil {
		t.Fatal(err)
	}
	host := netip.MustParseAddr("127.0.0.1")
	var from uint16
	for range 2 {
		ln, err := s.Listen(t.Context(), "in", netip.AddrPortFrom(host, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		to := ln.Addr().(*net.TCPAddr).AddrPort()
		if _, err := s.DialFrom(t.Context(), "in", netip.AddrPortFrom(host, from), to); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("a flow that listens dials: %v", err)
		}
		c, err := s.DialFrom(t.Context(), "out", netip.AddrPortFrom(host, from), to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		at := c.LocalAddr().(*net.TCPAddr).AddrPort()
		if from != 0 && at.Port() != from {
			t.Errorf("it leaves from %d, not from %d", at.Port(), from)
		}
		from = at.Port()
	}
}

// What routers say is heard only for a flow that says so.
func TestListenICMP(t *testing.T) {
	s, err := New([]ringfence.Flow{{Name: "icmp", Purpose: "test", Room: "node", Direction: ringfence.Listens, Transport: "icmp", Peers: "this test", TLS: ringfence.TLSNone},
		{Name: "udp", Purpose: "test", Room: "node", Direction: ringfence.Listens, Transport: "udp", Peers: "this test", TLS: ringfence.TLSNone}})
	if err != nil {
		t.Fatal(err)
	}
	for _, flow := range []string{"udp", "other"} {
		if pc, err := s.ListenICMP(t.Context(), flow, netip.MustParseAddr("127.0.0.1")); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("%s: %v %v", flow, pc, err)
		}
	}
	if pc, err := s.ListenICMP(t.Context(), "icmp", netip.MustParseAddr("127.0.0.1")); err == nil {
		pc.Close()
	} else if !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
}
