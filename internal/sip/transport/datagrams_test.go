package transport

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestDatagrams exchanges datagrams between sockets of this host: of one family, of the other by way of a socket for both, one after
// the other and many at once, short and as long as they may be.
func TestDatagrams(t *testing.T) {
	for _, at := range []struct{ name, server, client string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1:0"},
		{"IPv6", "[::1]:0", "[::1]:0"},
		{"IPv4 on any address", "0.0.0.0:0", "127.0.0.1:0"},
		{"IPv4 on a socket for both", "[::]:0", "127.0.0.1:0"},
		{"IPv6 on a socket for both", "[::]:0", "[::1]:0"},
		{"IPv6 with the zone that an answer needs", "[::1%lo]:0", "[::1%lo]:0"},
	} {
		t.Run(at.name, func(t *testing.T) {
			listen := func(addr string) (net.PacketConn, netip.AddrPort) {
				pc, err := net.ListenPacket("udp", addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { pc.Close() })
				return pc, addrPort(pc.LocalAddr())
			}
			pc, server := listen(at.server)
			phone, client := listen(at.client)
			server = netip.AddrPortFrom(client.Addr(), server.Port())
			d := newDatagrams(pc)
			defer d.Close()
			defer time.AfterFunc(10*time.Second, func() { _ = d.Close() }).Stop()
			const n = 3 * 8
			long := bytes.Repeat([]byte("x"), 60_000)
			want := map[string]bool{}
			for i := range n {
				b := fmt.Appendf(nil, "%d", i)
				if i == 5 {
					b = append(b, long...)
				}
				want[string(b)] = true
				if _, err := phone.WriteTo(b, net.UDPAddrFromAddrPort(server)); err != nil {
					t.Fatal(err)
				}
			}
			reply := d.writer(client)
			for len(want) > 0 {
				err := d.read(func(b []byte, from netip.AddrPort) {
					if !want[string(b)] || from != client {
						t.Fatalf("%d bytes from %s, which is not %s", len(b), from, client)
					}
					delete(want, string(b))
					if err := reply(b[:1], []int{1}); err != nil {
						t.Fatal(err)
					}
				})
				if err != nil {
					t.Fatalf("%d did not arrive: %v", len(want), err)
				}
			}
			var buf [16]byte
			if err := phone.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, from, err := phone.ReadFrom(buf[:]); err != nil || addrPort(from) != server {
				t.Errorf("the answer came from %v: %v", from, err)
			}
			// More than one system call takes, and one in the middle that is longer than a datagram can be: the others go, in order.
			var many []byte
			var lengths []int
			for i := range 70 {
				b := fmt.Appendf(nil, "many %d", i)
				if i == 16 {
					b = make([]byte, 66_000)
				}
				many, lengths = append(many, b...), append(lengths, len(b))
			}
			if err := reply(many, lengths); err == nil {
				t.Error("a datagram of 66,000 bytes was sent")
			}
			for i := range lengths {
				if i == 16 {
					continue
				}
				want := fmt.Sprintf("many %d", i)
				for n := 0; string(buf[:n]) != want; { // behind the rest of what came before
					var err error
					if n, _, err = phone.ReadFrom(buf[:]); err != nil {
						t.Fatalf("%s did not arrive: %v", want, err)
					}
				}
			}
		})
	}
}

// TestDatagramsThatCannotGo writes where nothing can be written: an address of the other family, and a port where nobody is.
func TestDatagramsThatCannotGo(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	local := addrPort(pc.LocalAddr())
	d := newDatagrams(pc)
	if err := d.writer(netip.MustParseAddrPort("[::1]:5060"))([]byte("x"), []int{1}); err == nil {
		t.Error("an IPv6 address was reached from an IPv4 socket")
	}
	if err := d.writer(local)(nil, nil); err != nil {
		t.Error(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.read(func([]byte, netip.AddrPort) {}) }()
	d.Close()
	if <-ended == nil {
		t.Error("a read that waited for a socket that was closed ended without an error")
	}
	if err := d.writer(local)([]byte("x"), []int{1}); err == nil {
		t.Error("a closed socket was written to")
	}
	if err := d.read(func([]byte, netip.AddrPort) {}); err == nil {
		t.Error("a closed socket was read from")
	}
}
