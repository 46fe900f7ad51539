//go:build unix

package phone

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// marked is a loopback whose media sockets carry a DSCP, as the opener of the node sets it.
type marked struct {
	loopback
	dscp int
}

func (m marked) ListenUDP(ctx context.Context, _ string, a netip.AddrPort) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failure error
		if err := raw.Control(func(fd uintptr) {
			failure = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TOS, m.dscp<<2)
		}); err != nil {
			return err
		}
		return failure
	}}
	return lc.ListenPacket(ctx, "udp4", a.String())
}

func TestProofReadsTheMarkBack(t *testing.T) {
	pc, err := marked{dscp: 46}.ListenUDP(t.Context(), FlowMedia, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if got := dscpOf(pc); got != 46 {
		t.Errorf("got %d", got)
	}
	plain, err := loopback{}.ListenUDP(t.Context(), FlowMedia, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if got := dscpOf(plain); got != 0 {
		t.Errorf("got %d", got)
	}
}
