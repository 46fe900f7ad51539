package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"

	"ringfence"
)

// Client enrols this device with a node.
type Client struct {
	// Dial connects to the node; the connection is closed when the call is over.
	Dial func(ctx context.Context) (net.Conn, error)
	Now  func() time.Time // nil: time.Now
}

// Identity is what enrolment ends with. The key was made here and has not left.
type Identity struct {
	Device    ringfence.DeviceID
	Key       *ecdsa.PrivateKey
	Chain     [][]byte            // DER, leaf first
	Leaf      *x509.Certificate   // Chain[0]
	Anchors   []*x509.Certificate // whom to trust from now on
	Bootstrap Bootstrap
}

// Pool returns the trust anchors as a pool.
func (i Identity) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	for _, a := range i.Anchors {
		p.AddCert(a)
	}
	return p
}

// Certificate returns the identity as TLS presents it.
func (i Identity) Certificate() tls.Certificate {
	return tls.Certificate{Certificate: i.Chain, PrivateKey: i.Key, Leaf: i.Leaf}
}

// Enrol trades an activation code for a certificate. serverName is sent so that the node knows which certificate to show, but
// proves nothing yet: what proves the node is that it knows the code.
func (c *Client) Enrol(ctx context.Context, serverName, code string) (Identity, error) {
	const op = "enroll.enrol"
	code, err := ParseCode(code)
	if err != nil {
		return Identity{}, err
	}
	// The certificate cannot be verified before there are anchors; the proof below covers this connection's exported key instead.
	l, err := c.connect(ctx, &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return Identity{}, err
	}
	defer l.close()
	state := l.conn.ConnectionState()
	exported, err := exporter(&state)
	if err != nil {
		return Identity{}, err
	}
	s := session{exporter: exported, deviceNonce: make([]byte, nonceLen)}
	rand.Read(s.deviceNonce)
	var hello helloReply
	if err := l.post(ctx, op, pathHello, helloMsg{Lookup: code[:lookupDigits], Nonce: s.deviceNonce}, &hello); err != nil {
		return Identity{}, err
	}
	anchors, err := readCerts(hello.Anchors)
	if err != nil {
		return Identity{}, err
	}
	if err := hello.Params.check(); err != nil {
		return Identity{}, err
	}
	if len(hello.Salt) < 8 || len(hello.Salt) > 64 || len(hello.Nonce) != nonceLen {
		return Identity{}, fault(op, ringfence.KindInvalid, "the node's answer lacks a salt or a nonce", "is this a Ringfence node?", nil)
	}
	s.serverNonce = hello.Nonce
	v := verifier(code, hello.Salt, hello.Params)
	if !hmac.Equal(hello.MAC, s.serverProof(v, anchors)) {
		return Identity{}, fault(op, ringfence.KindUnauthenticated, "the node did not prove that it knows this activation code",
			"check the code; if it is right, this is not the node you think or somebody intercepts the connection: stop, and tell your administrator", nil)
	}
	key, csr, err := newRequest()
	if err != nil {
		return Identity{}, err
	}
	var reply certReply
	if err := l.post(ctx, op, pathRequest, requestMsg{Lookup: code[:lookupDigits], Nonce: s.deviceNonce, CSR: csr, MAC: s.deviceProof(v, csr)}, &reply); err != nil {
		return Identity{}, err
	}
	return c.accept(op, key, reply, anchors)
}

// Renew trades the present certificate for one with a fresh key, over mutual TLS with the node of that name. The present one
// stays good until it expires, so there is no gap.
func (c *Client) Renew(ctx context.Context, serverName string, now Identity) (Identity, error) {
	const op = "enroll.renew"
	if now.Key == nil || now.Leaf == nil || len(now.Anchors) == 0 {
		return Identity{}, fault(op, ringfence.KindInvalid, "there is no identity to renew", "enrol with an activation code first", nil)
	}
	cert := now.Certificate()
	l, err := c.connect(ctx, &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS13, RootCAs: now.Pool(), NextProtos: []string{"http/1.1"}, Time: c.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }})
	if err != nil {
		return Identity{}, err
	}
	defer l.close()
	key, csr, err := newRequest()
	if err != nil {
		return Identity{}, err
	}
	var reply certReply
	if err := l.post(ctx, op, pathRenew, renewMsg{CSR: csr}, &reply); err != nil {
		return Identity{}, err
	}
	next, err := c.accept(op, key, reply, now.Anchors)
	if err == nil && next.Device != now.Device {
		return Identity{}, fault(op, ringfence.KindInvalid, "the renewed certificate is for another device", "", nil)
	}
	return next, err
}

// newRequest makes a key and a request for it. The request names nothing: the node decides the names.
func newRequest() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fault("enroll.key", ringfence.KindInternal, "no key could be made", "", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{}}, key)
	if err != nil {
		return nil, nil, fault("enroll.key", ringfence.KindInternal, "the certificate request could not be made", "", err)
	}
	return key, csr, nil
}

// accept checks that the certificate is for our key, for the device named beside it, and ends in the anchors.
func (c *Client) accept(op string, key *ecdsa.PrivateKey, r certReply, anchors []*x509.Certificate) (Identity, error) {
	chain, err := readCerts(r.Chain)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{Device: r.Device, Key: key, Leaf: chain[0], Anchors: anchors, Bootstrap: r.Bootstrap}
	mids := x509.NewCertPool()
	for i, x := range chain {
		id.Chain = append(id.Chain, x.Raw)
		if i > 0 {
			mids.AddCert(x)
		}
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: id.Pool(), Intermediates: mids, CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil || !key.PublicKey.Equal(chain[0].PublicKey) || chain[0].Subject.CommonName != string(r.Device) {
		return Identity{}, fault(op, ringfence.KindInvalid, "the certificate that the node issued does not fit", "check this device's clock, then ask your administrator", err)
	}
	return id, nil
}

// line is one TLS connection with HTTP on it; there is never a second one, since the proofs belong to this one.
type line struct {
	conn *tls.Conn
	http *http.Transport
}

func (c *Client) connect(ctx context.Context, conf *tls.Config) (*line, error) {
	const op = "enroll.connect"
	raw, err := c.Dial(ctx)
	if err != nil {
		return nil, fault(op, ringfence.KindUnavailable, "the node cannot be reached", "check the network and the node's address", err)
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fault(op, ringfence.KindInsecure, "no TLS 1.3 connection to the node came about", "is this the node's enrolment port? does something intercept the connection?", err)
	}
	once := make(chan net.Conn, 1)
	once <- conn
	return &line{conn: conn, http: &http.Transport{MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		select {
		case c := <-once:
			return c, nil
		default:
			return nil, errors.New("the node closed the connection")
		}
	}}}, nil
}

func (l *line) close() {
	l.http.CloseIdleConnections()
	l.conn.Close()
}

// post sends one message and reads its answer.
func (l *line) post(ctx context.Context, op, path string, msg, into any) error {
	b, err := json.Marshal(msg)
	if err != nil {
		return fault(op, ringfence.KindInternal, "the message cannot be written", "", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://node"+path, bytes.NewReader(b))
	if err != nil {
		return fault(op, ringfence.KindInternal, "the message cannot be written", "", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.http.RoundTrip(req)
	if err != nil {
		return fault(op, ringfence.KindUnavailable, "the node did not answer", "try again", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e errorReply
		if err := readJSON(resp.Body, maxAnswer, false, &e); err != nil {
			return fault(op, ringfence.KindUnavailable, "the node answered with HTTP status "+resp.Status, "is this a Ringfence node?", nil)
		}
		return told(op, e)
	}
	return readJSON(resp.Body, maxAnswer, false, into)
}
