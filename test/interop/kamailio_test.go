package interop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/admin/client"
	"ringfence/internal/node/config"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/ca"
)

// kamailio starts a Kamailio with these files and waits until it listens.
func (s *site) kamailio(dir, addr string) *program {
	s.Helper()
	bin := testkit.Need(s.T, "kamailio", "kamailio")
	// One whose configuration has an error would listen everywhere, in the clear.
	if out, err := exec.CommandContext(s.Ctx, bin, "-c", "-f", dir+"/kamailio.cfg", "-x", "tlsf", "-X", "tlsf").CombinedOutput(); err != nil {
		s.Fatalf("kamailio -c: %v\n%s", err, out)
	}
	k := start(s.T, dir, bin, "-DD", "-E", "-f", dir+"/kamailio.cfg", "-Y", dir, "-m", "64", "-M", "8", "-x", "tlsf", "-X", "tlsf")
	s.Until("kamailio listens", func() bool {
		select {
		case <-k.done:
			s.Fatalf("kamailio ended: %v", k.exit())
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return k
}

// certified issues a certificate of the node's authority and writes it and its key as files called name.pem and name.key.
func (s *site) certified(dir string, req ca.Request) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	req.PublicKey = key.Public()
	issued, err := s.Node.Authority.Issue(s.Ctx, req)
	s.OK(err)
	s.keyPair(dir, issued.Chain, key)
}

// edge is a site behind Kamailio, as docs/guides/edge-proxy.md says it.
type edge struct {
	*site
	addr  string // where Kamailio listens
	proxy *program
	dir   string
}

const edgeName = "localhost" // in place of edge.example.org, which Kamailio must be able to look up

func newEdge(t *testing.T) *edge {
	t.Helper()
	e := &edge{}
	s := newSite(t, func(c *config.Config) {
		c.SIP.Proxies = []string{"edge-1"}
	})
	e.site, e.dir = s, "edge"
	at := freePort(t)
	e.addr = at.String()
	port := strconv.Itoa(int(at.Port()))
	s.certified(e.dir, ca.Request{Role: ca.RoleProxy, Name: "edge-1", DNSNames: []string{edgeName}})
	files := []string{"/etc/kamailio/edge-1.key", s.path("edge/key.pem"), "/etc/kamailio/edge-1.pem", s.path("edge/chain.pem"), "/etc/kamailio/anchor.pem", s.path("ca.pem")}
	s.file("edge/tls.cfg", []byte(s.guide("../edge-proxy.md", "tls.cfg", files...)))
	s.file("edge/kamailio.cfg", []byte(s.guide("../edge-proxy.md", "kamailio.cfg", "/etc/kamailio/tls.cfg", s.path("edge/tls.cfg"),
		"192.0.2.10:5061", e.addr, "edge.example.org:5061", edgeName+":"+port, "192.0.2.20:5061", s.Node.SIPAddr().String())))
	e.start()
	return e
}

func (e *edge) start() { e.proxy = e.kamailio(e.path(e.dir), e.addr) }

// behind opens a phone that comes through the proxy, with a password and no certificate.
func (e *edge) behind(user ringfence.UserID, change func(*phone.Config)) (*phone.Phone, error) {
	e.Helper()
	device := ringfence.DeviceID(string(user) + "-home")
	opener, err := sockets.New(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}))
	e.OK(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.Node.Authority.RootPEM())
	cfg := phone.Config{Opener: opener, Server: netip.MustParseAddrPort(e.addr), ServerName: edgeName, TLS: &tls.Config{RootCAs: roots},
		User: string(user), Domain: e.Node.Config.Domain, AuthUser: string(device), Password: "secret of " + string(user), MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard()}
	if change != nil {
		change(&cfg)
	}
	p, err := phone.Open(e.Ctx, cfg)
	if err == nil {
		e.Cleanup(func() { _ = p.Close() })
	}
	return p, err
}

// fromProxy returns the connections between the proxy and the node.
func (e *edge) fromProxy() (out []*transport.Conn) {
	for _, c := range e.Node.Transport.Conns() {
		if c.Peer.Role == "proxy" {
			out = append(out, c)
		}
	}
	return out
}

// cut ends every connection between the proxy and the node.
func (e *edge) cut() {
	for _, c := range e.fromProxy() {
		c.Close(errors.New("cut by the test"))
	}
}

// talk has one phone call another, checks what both hear and what the proof says, and hangs up from the side that by names.
func (e *edge) talk(from, to *phone.Phone, number string, via [2]string, calleeHangsUp bool) {
	e.Helper()
	out, err := from.Call(e.Ctx, number, phone.CallOptions{Audio: phone.Tone(600)})
	e.OK(err)
	in := e.Incoming(to)
	e.OK(in.Answer(e.Ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
	e.OK(out.WaitAnswered(e.Ctx))
	e.Hears(in, 600)
	e.Hears(out, 1000)
	view := e.sealed("AEAD_AES_256_GCM", "AEAD_AES_256_GCM")
	for i, l := range view.Legs {
		if l.Via != via[i] || via[i] != "" && l.Auth != ringfence.AuthDigestSHA256 {
			e.Errorf("leg %s goes via %q and is known by %s", l.ID, l.Via, l.Auth)
		}
	}
	e.OK(out.Hold(e.Ctx))
	e.OK(out.Resume(e.Ctx))
	e.Hears(in, 600)
	if calleeHangsUp {
		in.Hangup()
		e.OK(out.WaitEnded(e.Ctx))
	} else {
		out.Hangup()
		e.OK(in.WaitEnded(e.Ctx))
	}
	e.over()
}

func TestKamailioAsEdgeProxy(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.User("alice", "101")
	e.User("bob", "102")
	e.User("carol", "103")
	for _, u := range [...]ringfence.UserID{"bob", "carol"} {
		e.Password(u, ringfence.DeviceID(u+"-home"), "secret of "+string(u), ringfence.AuthDigestSHA256)
	}
	alice := e.Phone("alice")
	bob, err := e.behind("bob", nil)
	e.OK(err)
	carol, err := e.behind("carol", nil)
	e.OK(err)
	for _, device := range [...]ringfence.DeviceID{"bob-home", "carol-home"} {
		b := e.registered(device)
		if b.Proof.Via != "edge-1" || b.Proof.Auth != ringfence.AuthDigestSHA256 || len(b.Path) != 1 || !strings.Contains(b.Path[0], edgeName) {
			t.Errorf("%s is bound by %+v", device, b)
		}
	}
	if n := len(e.fromProxy()); n != 1 {
		t.Fatalf("%d connections of the proxy", n)
	}
	// Both phones came over one connection, and each still has to prove itself.
	if _, err := e.behind("carol", func(c *phone.Config) { c.Password = "secret of bob" }); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("with another's password: %v", err)
	}
	if _, err := e.behind("bob", func(c *phone.Config) { c.AuthUser, c.Password = "carol-home", "secret of carol" }); ringfence.KindOf(err) != ringfence.KindDenied {
		t.Errorf("for another's address: %v", err)
	}

	e.talk(alice, bob, "102", [2]string{"", "edge-1"}, false)
	e.talk(alice, bob, "102", [2]string{"", "edge-1"}, true)
	e.talk(bob, alice, "101", [2]string{"edge-1", ""}, false)
	e.talk(bob, alice, "101", [2]string{"edge-1", ""}, true)
	e.talk(bob, carol, "103", [2]string{"edge-1", "edge-1"}, false)

	// The connection that the proxy opened is cut: the node opens one to the URI in Path, found by its name.
	e.cut()
	e.Until("the node has a connection of its own", func() bool {
		return slices.ContainsFunc(e.fromProxy(), func(c *transport.Conn) bool { return c.Dialled })
	})
	e.registered("bob-home")
	e.registered("carol-home")
	e.talk(alice, bob, "102", [2]string{"", "edge-1"}, false)
	e.talk(alice, carol, "103", [2]string{"", "edge-1"}, true)
	e.talk(carol, bob, "102", [2]string{"edge-1", "edge-1"}, true)

	// A call goes on when the connection is cut below it, and its good-bye finds the way.
	out, err := alice.Call(e.Ctx, "102", phone.CallOptions{Audio: phone.Tone(600)})
	e.OK(err)
	in := e.Incoming(bob)
	e.OK(in.Answer(e.Ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
	e.OK(out.WaitAnswered(e.Ctx))
	e.cut()
	e.registered("bob-home")
	e.Hears(in, 600)
	out.Hangup()
	e.OK(in.WaitEnded(e.Ctx))
	e.over()
}

// A node that was away opens a connection to the proxy by itself: the phones behind it notice nothing.
func TestNodeComesBackToItsProxy(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.User("alice", "101")
	e.User("bob", "102")
	e.Password("bob", "bob-home", "secret of bob", ringfence.AuthDigestSHA256)
	bob, err := e.behind("bob", nil)
	e.OK(err)
	first := e.registered("bob-home")
	e.Restart()
	if again := e.registered("bob-home"); !again.Updated.Equal(first.Updated.Truncate(time.Microsecond)) || !bob.Registered() {
		t.Errorf("the phone registered again, at %s and %s", first.Updated, again.Updated)
	}
	alice := e.Phone("alice")
	e.talk(alice, bob, "102", [2]string{"", "edge-1"}, true)
	e.talk(bob, alice, "101", [2]string{"edge-1", ""}, false)
}

// The proxy's certificate comes by the way that the guide shows, and ends by it.
func TestProxyCertificateByCommand(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) { c.SIP.Proxies = []string{"edge-1"} })
	ask := client.New(client.Config{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.Node.SocketPath())
	}})
	t.Cleanup(ask.Close)
	openssl := exec.CommandContext(s.Ctx, testkit.Need(t, "openssl", "openssl"), "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", s.path("edge.key"), "-subj", "/CN=anything", "-out", s.path("edge.csr"))
	if out, err := openssl.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	csr, err := os.ReadFile(s.path("edge.csr"))
	s.OK(err)
	var issued api.Issued
	s.OK(ask.Do(s.Ctx, http.MethodPost, "/certificates", nil, api.NewCertificate{Role: "proxy", Name: "edge-1", CSR: string(csr), Hosts: []string{"edge.example.org", "192.0.2.10"}}, &issued))
	s.file("edge.pem", []byte(issued.PEM))
	pair, err := tls.LoadX509KeyPair(s.path("edge.pem"), s.path("edge.key"))
	s.OK(err)
	if l := pair.Leaf; l.Subject.CommonName != "edge-1" || ca.RoleOf(l) != ca.RoleProxy || l.VerifyHostname("edge.example.org") != nil || l.VerifyHostname("192.0.2.10") != nil {
		t.Errorf("issued to %s for %v %v", l.Subject, l.DNSNames, l.URIs)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Node.Authority.RootPEM())
	c, err := tls.Dial("tcp", s.Node.SIPAddr().String(), &tls.Config{RootCAs: roots, ServerName: s.Node.Config.Domain, Certificates: []tls.Certificate{pair}})
	s.OK(err)
	defer func() { _ = c.Close() }()
	s.OK(c.SetDeadline(time.Now().Add(20 * time.Second)))
	answer := func(method, more string) string {
		t.Helper()
		_, err := fmt.Fprintf(c, "%s sip:%s SIP/2.0\r\nVia: SIP/2.0/TLS edge.example.org;branch=z9hG4bK%s;alias\r\nMax-Forwards: 70\r\nFrom: <sip:x@%[2]s>;tag=1\r\nTo: <sip:x@%[2]s>\r\nCall-ID: %[3]s\r\nCSeq: 1 %[1]s\r\n%[4]sContent-Length: 0\r\n\r\n", method, s.Node.Config.Domain, method, more)
		s.OK(err)
		b := make([]byte, 4096)
		n, err := c.Read(b)
		s.OK(err)
		line, _, _ := strings.Cut(string(b[:n]), "\r\n")
		return line
	}
	// It may ask whether the node is there, and speaks for nobody.
	if got := answer("OPTIONS", ""); got != "SIP/2.0 200 OK" {
		t.Errorf("OPTIONS: %s", got)
	}
	if got := answer("REGISTER", "Contact: <sip:x@192.0.2.1>\r\nPath: <sip:edge.example.org;lr>\r\n"); got != "SIP/2.0 401 Unauthorized" {
		t.Errorf("REGISTER: %s", got)
	}
	var ended api.Ended
	s.OK(ask.Do(s.Ctx, http.MethodPost, "/trust/revoke", nil, api.RevokeSerial{Serial: issued.Serial, Reason: "replaced"}, &ended))
	if ended.Certificates != 1 || ended.Connections != 1 {
		t.Errorf("ended %+v", ended)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection of the revoked proxy: %v", err)
	}
	for _, csr := range [...]string{"", "no pem", strings.ReplaceAll(string(csr), "CERTIFICATE REQUEST", "CERTIFICATE")} {
		if err := ask.Do(s.Ctx, http.MethodPost, "/certificates", nil, api.NewCertificate{Role: "proxy", Name: "edge-2", CSR: csr, Hosts: []string{"x"}}, &issued); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("for %.20q: %v", csr, err)
		}
	}
}
