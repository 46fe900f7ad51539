package locate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringfence/internal/testkit"
)

// real opens real sockets.
type real struct{ net.Dialer }

func (r *real) Dial(ctx context.Context, _ string, addr netip.AddrPort) (net.Conn, error) {
	return r.DialContext(ctx, "tcp", addr.String())
}

func (r *real) DialUDP(ctx context.Context, _ string, addr netip.AddrPort) (net.Conn, error) {
	return r.DialContext(ctx, "udp", addr.String())
}

// freePort returns a port of the loopback address that neither UDP nor TCP uses now.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := ln.Addr().(*net.TCPAddr).AddrPort()
		claim, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		_ = ln.Close()
		if err == nil {
			_ = claim.Close()
			return at
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// dnsmasq starts a DNS server of somebody else on loopback and returns where it listens.
func dnsmasq(t *testing.T, config string) netip.AddrPort {
	t.Helper()
	bin := testkit.Need(t, "dnsmasq", "dnsmasq-base")
	at := freePort(t)
	file := filepath.Join(t.TempDir(), "dnsmasq.conf")
	config = fmt.Sprintf("listen-address=127.0.0.1\nport=%d\nbind-interfaces\nno-resolv\nno-hosts\nlocal=/example/\nlocal-ttl=60\n", at.Port()) + config
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(bin, "--keep-in-foreground", "--user=", "--group=", "--pid-file=", "--log-facility=-", "--conf-file="+file)
	cmd.Stderr, cmd.SysProcAttr = &said, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		<-done
		if t.Failed() {
			t.Log(said.String())
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 { // it is up when its TCP port is
		if c, err := net.Dial("tcp", at.String()); err == nil {
			_ = c.Close()
			return at
		}
		select {
		case <-done:
			t.Fatalf("dnsmasq ended: %s", said.String())
		case <-tick.C:
		}
	}
	t.Fatal("dnsmasq does not listen")
	return at
}

func TestDnsmasq(t *testing.T) {
	var many strings.Builder
	for i := range 40 { // more than a datagram of the size that is allowed below holds
		fmt.Fprintf(&many, "srv-host=_sips._tcp.many.example,h%d.many.example,5061,%d,0\nhost-record=h%d.many.example,192.0.2.%d\n", i, i, i, 100+i)
	}
	server := dnsmasq(t, `edns-packet-max=600
naptr-record=corp.example,10,10,S,SIP+D2U,,_sip._udp.corp.example
naptr-record=corp.example,20,10,s,SIPS+D2T,,_sips._tcp.west.example
srv-host=_sip._udp.corp.example,plain.corp.example,5060,0,0
srv-host=_sips._tcp.west.example,b.west.example,5062,20,0
srv-host=_sips._tcp.west.example,a.west.example,5071,10,0
host-record=a.west.example,192.0.2.1,2001:db8::1
host-record=b.west.example,192.0.2.2
host-record=plain.corp.example,192.0.2.9
host-record=bare.example,192.0.2.3
cname=alias.example,bare.example
srv-host=_sips._tcp.none.example
`+many.String())
	r := New(Config{Opener: &real{}, Servers: []netip.AddrPort{server}})
	for u, want := range map[string][]string{
		"sip:bob@corp.example":      {"TLS [2001:db8::1]:5071 as corp.example", "TLS 192.0.2.1:5071 as corp.example", "TLS 192.0.2.2:5062 as corp.example"},
		"sip:bob@west.example":      {"TLS [2001:db8::1]:5071 as west.example", "TLS 192.0.2.1:5071 as west.example", "TLS 192.0.2.2:5062 as west.example"},
		"sip:bob@bare.example":      {"TLS 192.0.2.3:5061 as bare.example"},
		"sip:bob@alias.example":     {"TLS 192.0.2.3:5061 as alias.example"},
		"sips:bob@alias.example:99": {"TLS 192.0.2.3:99 as alias.example"},
	} {
		if got := places(t, r, u); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", u, got, want)
		}
	}
	if got := places(t, r, "sip:bob@many.example"); len(got) != maxTargets || got[0] != "TLS 192.0.2.100:5061 as many.example" {
		t.Errorf("over TCP: %q", got)
	}
	for _, u := range [...]string{"sip:none.example", "sip:nowhere.example"} {
		if got, err := r.Locate(t.Context(), uri(t, u)); err == nil {
			t.Errorf("%s: %v", u, got)
		}
	}
}
