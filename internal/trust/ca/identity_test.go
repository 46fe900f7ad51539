package ca

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ringfence"
)

// pair returns the two ends of a connection within this process. Unlike net.Pipe it holds some bytes, as a network does: TLS may
// have both ends write at once.
func pair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	conn := func(fd int) (net.Conn, error) {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		return net.FileConn(f)
	}
	a, err1 := conn(fds[0])
	b, err2 := conn(fds[1])
	return a, b, errors.Join(err1, err2)
}

// talk runs one handshake over an in-process connection, lets the server say one byte (which brings the client its session ticket), and
// returns both states.
func talk(t *testing.T, server, client *tls.Config) (ss, cs tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b, err := pair()
	must(t, err)
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer a.Close()
		if serverErr = s.Handshake(); serverErr == nil {
			ss = s.ConnectionState()
			_, serverErr = s.Write([]byte{1})
		}
	}()
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
		cs = c.ConnectionState()
	}
	b.Close()
	<-done
	return ss, cs, serverErr, clientErr
}

func (b *bench) configs(t *testing.T) (server, client *tls.Config, node, device *Identity) {
	t.Helper()
	n, nk := b.issue(t, RoleNode, "node-1")
	d, dk := b.issue(t, RoleDevice, "alice-desk")
	node, err := NewIdentity(n.Chain, nk)
	must(t, err)
	device, err = NewIdentity(d.Chain, dk)
	must(t, err)
	check := func(role Role) func(tls.ConnectionState) error {
		return func(cs tls.ConnectionState) error {
			_, err := b.Verify(cs.PeerCertificates, role, b.clock())
			return err
		}
	}
	server = &tls.Config{MinVersion: tls.VersionTLS12, ClientCAs: b.Roots(), ClientAuth: tls.RequireAndVerifyClientCert, Time: b.clock, NextProtos: []string{"sip"}, VerifyConnection: check(RoleDevice),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return node.Certificate(), nil }}
	client = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: b.Roots(), ServerName: "node-1.example.com", Time: b.clock, NextProtos: []string{"sip"}, VerifyConnection: check(RoleNode),
		ClientSessionCache:   tls.NewLRUClientSessionCache(4),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return device.Certificate(), nil }}
	return server, client, node, device
}

func TestTLS(t *testing.T) {
	b := newBench(t)
	server, client, node, device := b.configs(t)
	ss, cs, e1, e2 := talk(t, server, client)
	must(t, e1)
	must(t, e2)
	p := ProofOf(ss, nil)
	if p.Version != "TLS 1.3" || !strings.HasPrefix(p.Suite, "TLS_") || p.Group != "X25519MLKEM768" || p.PeerSubject != "CN=alice-desk,O=Example" || p.Resumed ||
		!slices.Contains(p.PeerNames, "urn:ringfence:device:alice-desk") || !strings.Contains(p.PeerIssuer, "Ringfence Issuing") || !strings.Contains(p.Anchor, "Ringfence Root") {
		t.Fatalf("proof: %+v", p)
	}
	if p := ProofOf(cs, nil); p.PeerSubject != "CN=node-1,O=Example" || cs.NegotiatedProtocol != "sip" {
		t.Fatalf("proof: %+v", p)
	}
	ss, cs, e1, e2 = talk(t, server, client)
	must(t, e1)
	must(t, e2)
	if p := ProofOf(ss, nil); !p.Resumed || !cs.DidResume || p.PeerSubject != "CN=alice-desk,O=Example" || p.Anchor == "" {
		t.Fatalf("the second connection is not a resumed one: %+v", p)
	}

	// A revoked peer cannot come back, neither with its session nor with a new handshake.
	must(t, b.Revoke(t.Context(), serialText(device.Leaf()), "lost"))
	_, _, e1, e2 = talk(t, server, client)
	wantFault(t, e1, ringfence.KindDenied, "was revoked")
	if e2 == nil {
		t.Fatal("the client does not notice that it was refused")
	}
	client.ClientSessionCache = nil
	_, _, e1, _ = talk(t, server, client)
	wantFault(t, e1, ringfence.KindDenied, "was revoked")

	// Live renewal on both sides.
	d, dk := b.issue(t, RoleDevice, "alice-desk")
	must(t, device.Replace(d.Chain, dk))
	n, nk := b.issue(t, RoleNode, "node-1")
	must(t, node.Replace(n.Chain, nk))
	ss, cs, e1, e2 = talk(t, server, client)
	must(t, e1)
	must(t, e2)
	if !sameCert(ss.PeerCertificates[0], d.Leaf) || !sameCert(cs.PeerCertificates[0], n.Leaf) {
		t.Fatal("the renewed certificates are not in use")
	}
	wantFault(t, device.Replace(n.Chain, dk), ringfence.KindInvalid, "belongs to another key")
	wantFault(t, device.Replace(nil, dk), ringfence.KindInvalid, "needs a certificate")
	if !sameCert(device.Leaf(), d.Leaf) {
		t.Fatal("a refused replacement has replaced")
	}
}

func TestTLSRefusals(t *testing.T) {
	b, other := newBench(t), newBench(t)
	server, client, _, _ := b.configs(t)
	_, alien, _, _ := other.configs(t)
	for _, c := range []struct {
		name   string
		change func(*tls.Config)
	}{
		{"no certificate", func(c *tls.Config) { c.GetClientCertificate = nil }},
		{"alien certificate", func(c *tls.Config) { c.GetClientCertificate = alien.GetClientCertificate }},
		{"wrong name", func(c *tls.Config) { c.ServerName = "node-2.example.com" }},
		{"alien anchors", func(c *tls.Config) { c.RootCAs = other.Roots() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := client.Clone()
			conf.ClientSessionCache = nil
			c.change(conf)
			if _, _, e1, e2 := talk(t, server, conf); e1 == nil && e2 == nil {
				t.Fatal("the connection came about")
			}
		})
	}
}

// TestProofWithoutVerification: a server that leaves verification to the application names an anchor only if there is one.
func TestProofWithoutVerification(t *testing.T) {
	b, other := newBench(t), newBench(t)
	server, client, _, _ := b.configs(t)
	server.ClientAuth, server.VerifyConnection = tls.RequestClientCert, nil
	ss, _, e1, e2 := talk(t, server, client)
	must(t, e1)
	must(t, e2)
	if p := ProofOf(ss, nil); p.Anchor != "" || p.PeerSubject == "" {
		t.Errorf("proof: %+v", p)
	}
	if p := ProofOf(ss, other.Roots()); p.Anchor != "" {
		t.Errorf("proof: %+v", p)
	}
	client.GetClientCertificate, client.ClientSessionCache = nil, nil
	ss, _, e1, e2 = talk(t, server, client)
	must(t, e1)
	must(t, e2)
	if p := ProofOf(ss, b.Roots()); p.Anchor != "" || p.PeerSubject != "" || p.Version != "TLS 1.3" {
		t.Errorf("proof: %+v", p)
	}
}
