package node_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/sip"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/ca"
)

// dns starts a DNS server of somebody else on loopback and returns where it listens.
func dns(t *testing.T, records string) netip.AddrPort {
	t.Helper()
	bin, at := testkit.Need(t, "dnsmasq", "dnsmasq-base"), netip.MustParseAddrPort(closedPort(t))
	file := filepath.Join(t.TempDir(), "dnsmasq.conf")
	conf := fmt.Sprintf("listen-address=127.0.0.1\nport=%d\nbind-interfaces\nno-resolv\nno-hosts\nlocal=/example/\n%s", at.Port(), records)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--keep-in-foreground", "--user=", "--group=", "--pid-file=", "--log-facility=-", "--conf-file="+file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return at
}

// A proxy that says 503 is left alone for as long as it asks, and its next server has the call, and those after it (RFC 3263 section 4.3, RFC 3261 section 21.5.4). When no
// server has time the caller hears 500, since 503 would mean this node.
func TestNextServerOfAProxy(t *testing.T) {
	first, second := netip.MustParseAddrPort("127.0.0.2:"+portOf(closedPort(t))), netip.MustParseAddrPort("127.0.0.3:"+portOf(closedPort(t)))
	names := dns(t, fmt.Sprintf("srv-host=_sips._tcp.edge.example,a.example,%d,10\nsrv-host=_sips._tcp.edge.example,b.example,%d,20\naddress=/a.example/127.0.0.2\naddress=/b.example/127.0.0.3\n", first.Port(), second.Port()))
	s := newSite(t, func(c *config.Config) { c.SIP.Proxies, c.SIP.DNS = []string{"edge-1"}, []netip.AddrPort{names} })
	s.Until("the name server listens", func() bool {
		c, err := net.Dial("tcp", names.String())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	s.User("alice", "101")
	s.User("bob", "102")
	s.Password("alice", "alice-home", plainPassword, ringfence.AuthDigestSHA256)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	issued, err := s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleProxy, Name: "edge-1", DNSNames: []string{"edge.example"}, PublicKey: key.Public()})
	s.OK(err)
	conf := &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: []tls.Certificate{{Certificate: issued.Chain, PrivateKey: key}}}
	peer := func(c net.Conn) *rawPeer {
		s.Cleanup(func() { _ = c.Close() })
		if end, ok := s.Ctx.Deadline(); ok {
			_ = c.SetDeadline(end)
		}
		return &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: "alice", id: rand.Text(), params: `;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000000000001>"`}
	}
	ln, err := tls.Listen("tcp", second.String(), conf)
	s.OK(err)
	defer ln.Close()
	d := tls.Dialer{Config: conf, NetDialer: &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(first.Addr(), 0))}}
	c, err := d.DialContext(s.Ctx, "tcp", s.SIP.String())
	s.OK(err)
	one := peer(c)
	register := func(fields ...string) *sip.Message {
		one.send("REGISTER", "sip:"+s.Domain, "<sip:alice@"+s.Domain+">", nil, append(fields, "Path: <sips:edge.example;lr>", "Supported: path")...)
		return one.final()
	}
	challenge, ok := register().StrongestChallenge(sip.HeaderWWWAuthenticate, sip.DigestSHA256)
	if !ok {
		t.Fatal("there is no challenge")
	}
	if m := register("Authorization: " + string(challenge.Authorize(sip.Answer{Username: "alice-home", Password: plainPassword, Method: "REGISTER", URI: "sip:" + s.Domain, CNonce: "c", NC: 1}))); m.Status() != 200 {
		t.Fatalf("REGISTER: %d %s", m.Status(), m.Reason())
	}

	bob := s.raw(s.Identity("bob", "bob-desk"))
	call := func() {
		bob.id += "x"
		uri := "sip:101@" + s.Domain
		bob.send("INVITE", uri, "<"+uri+">", s.offer())
	}
	later := func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, 120) }
	invited := func(p *rawPeer) *sip.Message {
		t.Helper()
		m := p.recv()
		for m.Method() == sip.ACK {
			m = p.recv()
		}
		if m.Method() != sip.INVITE {
			t.Fatalf("it got %s", m.Bytes())
		}
		return m
	}
	call()
	one.reply(invited(one), 503, nil, later)
	c, err = ln.Accept()
	s.OK(err)
	two := peer(c)
	two.reply(invited(two), 486, nil)
	if m := bob.final(); m.Status() != 486 {
		t.Errorf("the phone is busy, the caller heard %d", m.Status())
	}
	call() // the first one is left alone
	two.reply(invited(two), 486, nil)
	if m := bob.final(); m.Status() != 486 {
		t.Errorf("the phone is busy, the caller heard %d", m.Status())
	}
	call()
	two.reply(invited(two), 503, nil, later)
	if m := bob.final(); m.Status() != 500 {
		t.Errorf("neither server has time, the caller heard %d", m.Status())
	}
}

func portOf(at string) string {
	_, port, _ := net.SplitHostPort(at)
	return port
}
