package tlspolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/trust/cipherlist"
)

// Peer is a client that can only so much.
type Peer struct {
	Max         string   // "1.2" or "1.3"; empty: 1.3
	Suites      string   // for TLS 1.2: a cipher list; empty: all that Go has
	Groups      []string // empty: all
	Certificate bool     // it has a certificate of ours
}

// Outcome is what a peer and a listener agree on.
type Outcome struct {
	OK      bool   `json:"ok"`
	Version string `json:"version,omitempty"`
	Suite   string `json:"suite,omitempty"`
	Group   string `json:"group,omitempty"`
	Asked   bool   `json:"asked_for_certificate"`
	Error   string `json:"error,omitempty"` // as the listener's log would have it
}

// config returns the peer's side of a handshake.
func (p Peer) config() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10} // nothing is sent to anybody: both ends are here
	switch p.Max {
	case "", "1.3":
	case "1.2":
		c.MaxVersion = tls.VersionTLS12
	default:
		return nil, invalid(fmt.Sprintf("%.20q is no version", p.Max), "a peer knows at most 1.2 or 1.3")
	}
	if p.Suites != "" {
		l, err := cipherlist.Parse(p.Suites)
		if err != nil {
			return nil, err
		}
		for _, s := range l.Suites {
			known := func(c *tls.CipherSuite) bool { return c.ID == s.Code }
			if slices.ContainsFunc(tls.CipherSuites(), known) || slices.ContainsFunc(tls.InsecureCipherSuites(), known) {
				c.CipherSuites = append(c.CipherSuites, s.Code)
			}
		}
		if len(c.CipherSuites) == 0 {
			return nil, invalid("no suite of the peer's list can be tried here", "Go knows none of them, and so no listener serves one")
		}
	}
	for _, name := range p.Groups {
		id, ok := group(name)
		if !ok {
			return nil, invalid(fmt.Sprintf("%.40q is no group", name), "see the list in docs/guides/tls-policy.md")
		}
		c.CurvePreferences = append(c.CurvePreferences, id)
	}
	return c, nil
}

// Try has a peer and the listener shake hands, with keys made for the occasion, and returns what comes of it.
func (e Effective) Try(p Peer) (Outcome, error) {
	client, err := p.config()
	if err != nil {
		return Outcome{}, err
	}
	cert, pool, err := occasion()
	if err != nil {
		return Outcome{}, err
	}
	server := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool}
	e.apply(server)
	var out Outcome
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		out.Asked = true
		if p.Certificate {
			return &cert, nil
		}
		return &tls.Certificate{}, nil
	}
	a, b := pair()
	defer a.Close()
	defer b.Close()
	said := make(chan error, 1)
	there := tls.Server(b, server)
	go func() {
		err := there.Handshake()
		if err == nil {
			_, err = there.Write([]byte{0}) // so that the peer hears of a refusal in TLS 1.3 too
		} else {
			b.(*end).out.close() // behind the alert
		}
		said <- err
	}()
	here := tls.Client(a, client)
	err = here.Handshake()
	if err == nil {
		_, err = here.Read(make([]byte, 1))
	}
	if err != nil {
		a.Close()
	}
	if refused := <-said; refused != nil {
		out.Error = refused.Error()
		return out, nil
	}
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	cs := here.ConnectionState()
	out.OK, out.Version, out.Suite, out.Group = true, tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite), groupName(cs.CurveID)
	return out, nil
}

func groupName(id tls.CurveID) string {
	for _, n := range groupNames() {
		if g, _ := group(n); g == id {
			return n
		}
	}
	return id.String()
}

// occasion makes a key and a certificate that nobody else will ever see.
func occasion() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tried"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: c}, pool, nil
}

func invalid(text, hint string) error {
	return &ringfence.Fault{Op: "tlspolicy.try", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}
