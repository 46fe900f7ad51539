package node_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/enroll"
)

// ended waits until the node has closed a connection, and returns how long that took.
func (s *site) ended(c net.Conn) time.Duration {
	s.Helper()
	began := time.Now()
	s.OK(c.SetReadDeadline(began.Add(10 * time.Second)))
	for {
		_, err := c.Read(make([]byte, 4096))
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			s.Fatal("the connection is still up after 10 s")
		}
		if err != nil {
			return time.Since(began)
		}
	}
}

// web opens an HTTPS connection with a certificate, and uses it once.
func (s *site) web(cert tls.Certificate) net.Conn {
	s.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: []tls.Certificate{cert}}}
	c, err := d.DialContext(s.Ctx, "tcp", s.HTTPS.String())
	s.OK(err)
	s.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "GET /crl/ HTTP/1.1\r\nHost: %s\r\n\r\n", s.Domain)
	s.OK(err)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	s.OK(err)
	_, err = io.Copy(io.Discard, res.Body)
	s.OK(err)
	return c
}

func certificate(id enroll.Identity) tls.Certificate { return id.Certificate() }

// TestRevocationEndsConnections revokes by serial and by device: every connection that was made with the certificate ends within five seconds, SIP and HTTPS, and
// others stay.
func TestRevocationEndsConnections(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	other := s.web(certificate(s.Identity("alice", "alice-other")))
	check := func(what string, cert tls.Certificate, revoke func() error) {
		t.Helper()
		d := tls.Dialer{Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: []tls.Certificate{cert}}}
		sip, err := d.DialContext(s.Ctx, "tcp", s.SIP.String())
		s.OK(err)
		defer sip.Close()
		s.Until("the node knows the connection", func() bool {
			for _, c := range s.Node.Transport.Conns() {
				if c.State() == "Established" && c.Remote.String() == sip.LocalAddr().String() {
					return c.Peer.Serial != ""
				}
			}
			return false
		})
		web := s.web(cert)
		began := time.Now()
		s.OK(revoke())
		for name, c := range map[string]net.Conn{"SIP": sip, "HTTPS": web} {
			s.ended(c)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s: the %s connection ended after %s", what, name, took)
			}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	trunk, err := s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleTrunk, Name: "carrier-1", PublicKey: key.Public()})
	s.OK(err)
	check("by serial", tls.Certificate{Certificate: trunk.Chain, PrivateKey: key}, func() error {
		e, err := s.Node.RevokeSerial(s.Ctx, trunk.Leaf.SerialNumber.Text(16), "key compromise")
		if e.Connections != 2 {
			t.Errorf("%+v", e)
		}
		return err
	})
	check("by device", certificate(s.Identity("alice", "alice-desk")), func() error { return s.Node.Revoke(s.Ctx, "alice-desk", "lost") })
	s.OK(other.SetReadDeadline(time.Now().Add(100 * time.Millisecond)))
	if _, err := other.Read(make([]byte, 1)); err == nil || !err.(net.Error).Timeout() {
		t.Errorf("the connection of somebody else: %v", err)
	}
}
