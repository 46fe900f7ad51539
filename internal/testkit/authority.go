package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// Authority issues certificates for tests. They are valid from 1990 to 2100, because the clock of a synctest bubble starts in 2000.
type Authority struct {
	Pool   *x509.CertPool
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial atomic.Int64
}

func lifetime() (from, to time.Time) {
	return time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
}

// NewAuthority makes an authority with a fresh key. It panics if the machine has no randomness.
func NewAuthority(name string) *Authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	from, to := lifetime()
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	a := &Authority{Pool: x509.NewCertPool(), cert: cert, key: key}
	a.serial.Store(1)
	a.Pool.AddCert(cert)
	return a
}

// Issue makes a certificate whose common name is the first name and whose alternative names are all of them; addresses
// become address names.
func (a *Authority) Issue(names ...string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	from, to := lifetime()
	t := &x509.Certificate{SerialNumber: big.NewInt(a.serial.Add(1)), Subject: pkix.Name{CommonName: names[0]}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Server returns the TLS configuration of a server with these names that asks for a client certificate of this authority
// and accepts clients without one.
func (a *Authority) Server(names ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.Issue(names...)}, ClientCAs: a.Pool, ClientAuth: tls.VerifyClientCertIfGiven,
		MinVersion: tls.VersionTLS12}
}

// Client returns the TLS configuration of a client called name (without a certificate if it is empty) that expects server.
func (a *Authority) Client(name, server string) *tls.Config {
	c := &tls.Config{RootCAs: a.Pool, ServerName: server, MinVersion: tls.VersionTLS12}
	if name != "" {
		c.Certificates = []tls.Certificate{a.Issue(name)}
	}
	return c
}

// Root returns the authority's own certificate (DER), for peers that read it from a file.
func (a *Authority) Root() []byte { return a.cert.Raw }
