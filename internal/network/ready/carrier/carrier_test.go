package carrier

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
)

func TestCount(t *testing.T) {
	const four = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoAlgorithm MaxConn InSegs OutSegs\nTcp: 1 -1 19 21\nUdp: InDatagrams OutDatagrams\nUdp: 14 15\nUdpLite: InDatagrams OutDatagrams\nUdpLite: 0 99\n"
	const six = "Ip6InReceives                   \t3\nUdp6OutDatagrams                \t7\nodd\n"
	if d, s, ok := count(four, six); d != 22 || s != 21 || !ok {
		t.Errorf("%d datagrams, %d segments, %v", d, s, ok)
	}
	if d, s, ok := count(four, ""); d != 15 || s != 21 || !ok {
		t.Errorf("%d datagrams, %d segments, %v", d, s, ok)
	}
	for _, bad := range []string{"", "\n", "Tcp: OutSegs\n", "Tcp: OutSegs\nTcp: 1 2\n", "Tcp: OutSegs\nTcp: x\nUdp: OutDatagrams\nUdp: 1\n", "Tcp: OutSegs\nUdp: 1\n"} {
		if _, _, ok := count(bad, six); ok {
			t.Errorf("%q is believed", bad)
		}
	}
}

// What is sent is counted by the kernel, and loopback is no tunnel.
func TestHost(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, _, ok := Host{}.Counters()
	if !ok {
		t.Fatal("this kernel does not count")
	}
	c, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 20 {
		_, _ = c.Write([]byte("x")) // refused, once the kernel has said so
	}
	if after, _, _ := (Host{}).Counters(); after < before+10 {
		t.Errorf("%d datagrams before, %d after", before, after)
	}
	if name, ok := (Host{}).Tunnel(netip.MustParseAddr("127.0.0.1")); ok {
		t.Errorf("%s is a tunnel", name)
	}
}
