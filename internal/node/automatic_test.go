package node_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/trust/acme"
	"ringfence/internal/trust/ca"
)

// client speaks HTTPS to the node by the name that its certificate has.
func (s *site) client(certs ...tls.Certificate) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: certs},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", s.HTTPS.String())
		}}}
}

// TestACME has a machine of the site get a certificate for its address, with a client that no one here wrote, and lose it.
func TestACME(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, answers[r.URL.Path]) })}
	go func() { _ = web.Serve(ln) }()
	t.Cleanup(func() { _ = web.Close() })
	s := newSite(t, func(c *config.Config) {
		c.ACME = config.ACME{Serve: true, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, HTTPPort: uint16(ln.Addr().(*net.TCPAddr).Port)}
	})
	state := acme.NewStored(s.Node.Store)
	binding := acme.NewBinding([]string{"127.0.0.1"}, time.Time{})
	s.OK(state.AddBinding(s.Ctx, "web-1", binding))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	c := &xacme.Client{Key: key, HTTPClient: s.client(), DirectoryURL: fmt.Sprintf("https://%s:%d/acme/directory", s.Domain, s.HTTPS.Port())}
	if _, err := c.Register(s.Ctx, &xacme.Account{}, xacme.AcceptTOS); err == nil {
		t.Fatal("a stranger has an account")
	}
	_, err = c.Register(s.Ctx, &xacme.Account{ExternalAccountBinding: &xacme.ExternalAccountBinding{KID: binding.ID, Key: binding.Key}}, xacme.AcceptTOS)
	s.OK(err)
	if _, err := c.AuthorizeOrder(s.Ctx, xacme.DomainIDs("elsewhere.example.org")); err == nil {
		t.Error("a name that is not in the binding was ordered")
	}
	order, err := c.AuthorizeOrder(s.Ctx, xacme.IPIDs("127.0.0.1"))
	s.OK(err)
	for _, u := range order.AuthzURLs {
		z, err := c.GetAuthorization(s.Ctx, u)
		s.OK(err)
		for _, ch := range z.Challenges {
			if ch.Type == "http-01" {
				answers[c.HTTP01ChallengePath(ch.Token)], err = c.HTTP01ChallengeResponse(ch.Token)
				s.OK(err)
				_, err = c.Accept(s.Ctx, ch)
				s.OK(err)
			}
		}
		_, err = c.WaitAuthorization(s.Ctx, u)
		s.OK(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, leafKey)
	s.OK(err)
	chain, _, err := c.CreateOrderCert(s.Ctx, order.FinalizeURL, csr, true)
	s.OK(err)
	leaf, err := x509.ParseCertificate(chain[0])
	s.OK(err)
	if _, err := s.Node.Authority.Verify([]*x509.Certificate{leaf}, ca.RoleMachine, time.Now()); err != nil || leaf.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("%v %v", err, leaf.IPAddresses)
	}
	// It is nobody to SIP: a connection with it must answer a challenge.
	d := tls.Dialer{Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: leafKey}}}}
	sip, err := d.DialContext(s.Ctx, "tcp", s.SIP.String())
	s.OK(err)
	defer sip.Close()
	p := &simulated{id: "web-1", user: "alice", conn: sip.(*tls.Conn)}
	p.r = bufio.NewReader(sip)
	if err := p.register(s); err == nil || !strings.Contains(err.Error(), "40") {
		t.Errorf("a machine registered as a person: %v", err)
	}
	s.OK(c.RevokeCert(s.Ctx, nil, chain[0], xacme.CRLReasonSuperseded))
	if took := s.ended(sip); took > 5*time.Second {
		t.Errorf("its connection ended after %s", took)
	}
	s.OK(state.WithdrawBinding(s.Ctx, "web-1"))
	if _, err := c.AuthorizeOrder(s.Ctx, xacme.IPIDs("127.0.0.1")); err == nil {
		t.Error("a withdrawn machine orders")
	}
}

// TestEST enrols a device with its activation code, which is good once, and renews its certificate with it.
func TestEST(t *testing.T) {
	s := newSite(t, func(c *config.Config) { c.EST = config.EST{Serve: true} })
	s.User("alice", "101")
	s.Identity("alice", "alice-other")
	post := func(c *http.Client, path, code string, csr []byte) (int, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(s.Ctx, "POST", "https://"+s.Domain+"/.well-known/est/"+path, strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
		s.OK(err)
		r.Header.Set("Content-Type", "application/pkcs10")
		if code != "" {
			r.SetBasicAuth("phone", code)
		}
		res, err := c.Do(r)
		s.OK(err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		s.OK(err)
		return res.StatusCode, b
	}
	request := func(tpl x509.CertificateRequest) (*ecdsa.PrivateKey, []byte) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s.OK(err)
		csr, err := x509.CreateCertificateRequest(rand.Reader, &tpl, key)
		s.OK(err)
		return key, csr
	}
	leafOf := func(body []byte) *x509.Certificate {
		t.Helper()
		der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(body), nil)))
		s.OK(err)
		i := bytes.Index(der, []byte{0xa0, 0x82}) // the certificates of the SignedData
		for ; i >= 0 && i < len(der); i++ {
			if c := certificateAt(der[i:]); c != nil {
				return c
			}
		}
		t.Fatal("there is no certificate in the answer")
		return nil
	}
	code, _, err := s.Node.Enroll.NewCode(s.Ctx, "alice-other")
	s.OK(err)
	if status, _ := post(s.client(), "simpleenroll", "0000000000000000", nil); status == 200 {
		t.Error("a wrong code enrols")
	}
	// A request that cannot be certified does not use the code up.
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	s.OK(err)
	bad, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)
	s.OK(err)
	if status, _ := post(s.client(), "simpleenroll", code, bad); status == 200 {
		t.Error("a weak key was certified")
	}
	key, csr := request(x509.CertificateRequest{})
	status, body := post(s.client(), "simpleenroll", code, csr)
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	leaf := leafOf(body)
	if id, err := s.Node.Authority.VerifyDevice([]*x509.Certificate{leaf}, time.Now()); err != nil || id != ringfence.DeviceID("alice-other") {
		t.Errorf("%q %v", id, err)
	}
	if status, _ := post(s.client(), "simpleenroll", code, csr); status == 200 {
		t.Error("the code is good twice")
	}
	mine := s.client(tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key})
	_, again := request(x509.CertificateRequest{RawSubject: leaf.RawSubject, URIs: leaf.URIs})
	if status, body = post(mine, "simplereenroll", "", again); status != 200 || leafOf(body).SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Errorf("%d %s", status, body)
	}
	// Somebody decided that it signs in with tokens from now on.
	dev, err := s.Node.Store.Device(s.Ctx, "alice-other")
	s.OK(err)
	by := dev.Profile.Auth
	dev.Profile.Auth = []ringfence.Auth{ringfence.AuthToken}
	s.OK(s.Node.Store.UpdateDevice(s.Ctx, dev))
	if status, _ := post(mine, "simplereenroll", "", again); status == 200 {
		t.Error("a device renewed that may prove itself by tokens only")
	}
	dev.Profile.Auth = by
	s.OK(s.Node.Store.UpdateDevice(s.Ctx, dev))
	s.OK(s.Node.Revoke(s.Ctx, "alice-other", "lost"))
	r, err := http.NewRequestWithContext(s.Ctx, "POST", "https://"+s.Domain+"/.well-known/est/simplereenroll", strings.NewReader(base64.StdEncoding.EncodeToString(again)))
	s.OK(err)
	if res, err := mine.Do(r); err == nil && res.StatusCode == 200 {
		t.Error("a revoked device renews")
	}
}

// certificateAt reads the certificate that begins a text, if one does.
func certificateAt(b []byte) *x509.Certificate {
	if len(b) < 4 || b[0] != 0x30 || b[1] != 0x82 {
		return nil
	}
	n := 4 + int(b[2])<<8 + int(b[3])
	if n > len(b) {
		return nil
	}
	c, err := x509.ParseCertificate(b[:n])
	if err != nil {
		return nil
	}
	return c
}
