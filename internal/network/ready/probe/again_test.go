package probe

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"ringfence/internal/network/ready/verdict"
)

// stale is a host on which what is left of a connection that nobody answered still has its port.
type stale struct{ dials int }

func (s *stale) DialFrom(context.Context, string, netip.AddrPort, netip.AddrPort) (net.Conn, error) {
	if s.dials++; s.dials == 1 {
		return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
	}
	return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
}

func (s *stale) ListenUDP(context.Context, string, netip.AddrPort) (net.PacketConn, error) {
	return nil, syscall.EPERM
}
func (s *stale) SourceFor(netip.AddrPort) (netip.Addr, error) { return netip.Addr{}, syscall.EPERM }
func (s *stale) ListenICMP(context.Context, string, netip.Addr) (net.PacketConn, error) {
	return nil, syscall.EPERM
}

// TestSilenceStands has a connection that nobody answers stay one, also if it cannot be tried again.
func TestSilenceStands(t *testing.T) {
	s := &stale{}
	p := &Prober{Config: Config{Opener: s, Reflector: netip.MustParseAddrPort("192.0.2.2:8470")}, local: netip.MustParseAddr("192.0.2.1")}
	q := pair{5080, 7000}
	if o := p.tcp(t.Context(), []pair{q})[q]; o.cause != verdict.Dropped || o.untried != "" || s.dials != 2 {
		t.Errorf("%+v, %d dials", o, s.dials)
	}
	if o := p.tcp(t.Context(), []pair{q})[q]; o.untried == "" { // nobody has been asked
		t.Errorf("%+v", o)
	}
}
