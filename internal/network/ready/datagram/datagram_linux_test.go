package datagram

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func open(t *testing.T, network, at string) (*Conn, netip.AddrPort) {
	t.Helper()
	pc, err := net.ListenPacket(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	if err := pc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	a := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	return New(pc), netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Marks arrive as they are sent, on sockets of one family and of both.
func TestMark(t *testing.T) {
	for _, at := range [][2]string{{"udp4", "127.0.0.1:0"}, {"udp", "[::]:0"}, {"udp6", "[::1]:0"}} {
		c, addr := open(t, at[0], at[1])
		to := addr
		if addr.Addr().IsUnspecified() {
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())
		}
		for _, mark := range []uint8{46, 0, 34} {
			if err := c.Write([]byte("x"), to, mark); err != nil {
				t.Fatal(err)
			}
			var b [8]byte
			n, from, got, err := c.Read(b[:])
			if err != nil || n != 1 || from.Port() != addr.Port() || got != mark {
				t.Errorf("%s: %d bytes from %v with mark %d, want %d: %v", at, n, from, got, mark, err)
			}
		}
	}
}

// A closed port is a refusal with its address, and the socket goes on.
func TestRefusal(t *testing.T) {
	gone, closed := open(t, "udp4", "127.0.0.1:0")
	gone.Close()
	c, addr := open(t, "udp4", "127.0.0.1:0")
	if err := c.Write([]byte("x"), closed, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Write([]byte("y"), addr, 0); err != nil {
		t.Fatal(err)
	}
	var b [8]byte
	if n, _, _, err := c.Read(b[:]); err != nil || n != 1 || b[0] != 'y' {
		t.Fatalf("%q %v", b[:n], err)
	}
	if r := c.Refusals(); len(r) != 1 || r[0].To != closed || r[0].By != closed.Addr() || r[0].Why == "" {
		t.Errorf("%+v", r)
	}
}
