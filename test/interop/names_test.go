package interop_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
)

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
func dnsmasq(t *testing.T, ctx context.Context, dir, records string) string {
	t.Helper()
	bin := testkit.Need(t, "dnsmasq", "dnsmasq-base")
	at := freePort(t)
	s := &site{Site: &onehost.Site{T: t}, home: dir}
	conf := s.file("dnsmasq.conf", fmt.Appendf(nil, "listen-address=127.0.0.1\nport=%d\nbind-interfaces\nno-resolv\nno-hosts\nlocal=/example/\n%s", at.Port(), records))
	p := start(t, dir, bin, "--keep-in-foreground", "--user=", "--group=", "--pid-file=", "--log-facility=-", "--conf-file="+conf)
	p.wait(ctx, `started, version`)
	return at.String()
}

// hosts makes up addresses of the loopback network that no other test uses.
func hosts(n int) (out []string) {
	a, b := 1+rand.IntN(250), 1+rand.IntN(250)
	for i := range n {
		out = append(out, fmt.Sprintf("127.%d.%d.%d", a, b, 10+i))
	}
	return out
}

// A phone knows a domain. DNS leads it to three servers: one is down, one is somebody else, one is the node.
func TestPhoneFindsItsNodeByName(t *testing.T) {
	t.Parallel()
	home, bin := t.TempDir(), product(t)
	b := &built{Site: onehost.New(t, 2*time.Minute), bin: bin, data: filepath.Join(home, "data"), conf: filepath.Join(home, "ringfence.yaml")}
	s, ctx := &site{Site: b.Site, home: home}, b.Ctx
	at := hosts(3)
	first, last := mediaPorts(t)
	s.file("ringfence.yaml", fmt.Appendf(nil, "domain: calls.example\nmedia:\n  addr: %s\n  first: %d\n  last: %d\n", at[2], first, last))
	b.up(at[2]+":0", at[2]+":0")

	impostor, err := tls.Listen("tcp", at[1]+":0", testkit.NewAuthority("Evil").Server("calls.example", "impostor.example"))
	s.OK(err)
	t.Cleanup(func() { _ = impostor.Close() })
	var knocks, fooled atomic.Int32
	go func() {
		for {
			c, err := impostor.Accept()
			if err != nil {
				return
			}
			knocks.Add(1)
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if n, _ := c.Read(make([]byte, 100)); n > 0 {
				fooled.Add(1)
			}
			_ = c.Close()
		}
	}()
	dns := dnsmasq(t, ctx, home, fmt.Sprintf(`naptr-record=calls.example,10,10,s,SIP+D2U,,_sip._udp.calls.example
naptr-record=calls.example,20,10,s,SIPS+D2T,,_sips._tcp.calls.example
srv-host=_sip._udp.calls.example,live.calls.example,5060,0,0
srv-host=_sips._tcp.calls.example,down.calls.example,9,10,0
srv-host=_sips._tcp.calls.example,impostor.example,%d,20,0
srv-host=_sips._tcp.calls.example,live.calls.example,%d,30,0
host-record=down.calls.example,%s
host-record=impostor.example,%s
host-record=live.calls.example,%s
`, impostor.Addr().(*net.TCPAddr).Port, b.SIP.Port(), at[0], at[1], at[2]))

	var added struct{ Activation struct{ Code string } }
	b.run(&struct{}{}, "user", "add", "alice", "--number", "101")
	b.run(&struct{}{}, "user", "add", "bob", "--number", "102")
	code := func(user string) string {
		b.run(&added, "device", "add", user+"-desk", "--user", user)
		return added.Activation.Code
	}
	handset := func(user string, args ...string) *program {
		return start(t, home, b.bin, append([]string{"phone", "--identity", s.path(user), "--dns", dns}, args...)...)
	}
	// They enrol at an address, since the port for that is not the usual one here, and find the node by its name from then on.
	for _, user := range [...]string{"alice", "bob"} {
		if handset(user, "--enrol", code(user), "--node", b.HTTPS.String()).finish(ctx) != 0 {
			t.Fatalf("%s does not enrol", user)
		}
	}
	bob := handset("bob", "--node", "calls.example", "answer", "--tone", "700")
	bob.wait(ctx, `registered as sip:bob@calls\.example at `+b.SIP.String())
	alice := handset("alice", "--node", "calls.example")
	alice.wait(ctx, `sealed: TLS 1\.3`)
	if alice.finish(ctx) != 0 {
		t.Error("alice's phone failed")
	}
	call := exec.CommandContext(ctx, b.bin, "phone", "--identity", s.path("alice"), "--dns", dns, "--node", "calls.example", "call", "102", "--tone", "440", "--for", "3s", "--json")
	out, err := call.Output()
	var report struct {
		Proof ringfence.Proof
		Audio phone.Audio
	}
	if err != nil || json.Unmarshal(out, &report) != nil || report.Proof.Verdict != ringfence.Sealed {
		t.Fatalf("the call: %v\n%s", err, out)
	}
	if !near(report.Audio.HeardHz, 700) || bob.finish(ctx) != 0 {
		t.Errorf("alice heard %+v", report.Audio)
	}
	if knocks.Load() < 3 || fooled.Load() != 0 {
		t.Errorf("the impostor was asked %d times and told something %d times", knocks.Load(), fooled.Load())
	}
	if names := strings.Join(report.Proof.TLS.PeerNames, " "); !strings.Contains(names, "calls.example") {
		t.Errorf("the node proved to be %s", names)
	}
	// Without a DNS server that knows the name there is a clear word.
	gone := exec.CommandContext(ctx, b.bin, "phone", "--identity", s.path("alice"), "--dns", dns, "--node", "nowhere.example")
	if text, err := gone.CombinedOutput(); err == nil || !strings.Contains(string(text), "DNS knows no address of nowhere.example") {
		t.Errorf("%v: %s", err, text)
	}
}
