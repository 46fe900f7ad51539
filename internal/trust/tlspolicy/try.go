package tlspolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"time"

	"ringfence/internal/trust/cipherlist"
)

// Peer is the far end, which can only so much: a client of a listener, or the server of a connection that we open.
type Peer struct {
	Max         string   // "1.2" or "1.3"; empty: 1.3
	Suites      string   // for TLS 1.2: a cipher list; empty: all that Go has
	Groups      []string // empty: all
	Certificate bool     // a client has a certificate of somebody whom we believe; a server always has
	Names       []string // of its certificate: host names and SIP URIs
}

// Outcome is what a peer and a listener agree on.
type Outcome struct {
	OK      bool   `json:"ok"`
	Version string `json:"version,omitempty"`
	Suite   string `json:"suite,omitempty"`
	Group   string `json:"group,omitempty"`
	Asked   bool   `json:"asked_for_certificate"`
	Error   string `json:"error,omitempty"` // as our log would have it
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

// Try has a peer and the endpoint shake hands, with keys made for the occasion, and returns what comes of it. What it cannot show is whose
// certificates the endpoint believes: here it believes the peer's.
func (f Effective) Try(p Peer) (Outcome, error) {
	far, err := p.config()
	if err != nil {
		return Outcome{}, err
	}
	if why := beyondFIPS(far); fips140.Enabled() && why != "" {
		return Outcome{Error: why}, nil
	}
	cert, pool, err := occasion(p.Names)
	if err != nil {
		return Outcome{}, err
	}
	near := &tls.Config{}
	f.apply(near)
	near.VerifyConnection = func(cs tls.ConnectionState) error { return f.verify(&cs, near.ServerName, pool, nil) }
	var out Outcome
	asked := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		out.Asked = true
		if f.Endpoint.Dials && !nameless(f.Endpoint) || p.Certificate && !f.Endpoint.Dials {
			return &cert, nil
		}
		return &tls.Certificate{}, nil
	}
	client, server := far, near
	if f.Endpoint.Dials {
		client, server = near, far
		client.RootCAs, client.InsecureSkipVerify, client.ServerName = pool, f.bySubject, occasionHost
		if len(p.Names) > 0 {
			client.ServerName = p.Names[0]
		}
		server.ClientAuth = tls.RequestClientCert
	} else {
		server.ClientCAs = pool
	}
	server.Certificates, client.GetClientCertificate = []tls.Certificate{cert}, asked
	mine, cs, err := meet(client, server, f.Endpoint.Dials)
	if mine != nil {
		err = mine
	}
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	out.OK, out.Version, out.Suite, out.Group = true, tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite), groupName(cs.CurveID)
	return out, nil
}

// meet has a client and a server shake hands in memory. It returns what our end says about a failure, what the client's connection has become, and
// what the far end says.
func meet(client, server *tls.Config, weDial bool) (ours error, cs tls.ConnectionState, theirs error) {
	a, b := pair()
	defer a.Close()
	defer b.Close()
	said := make(chan error, 1)
	there := tls.Server(b, server)
	go func() {
		err := there.Handshake()
		if err == nil {
			_, err = there.Write([]byte{0}) // so that the client hears of a refusal in TLS 1.3 too
		} else {
			b.(*end).out.close() // behind the alert
		}
		said <- err
	}()
	here := tls.Client(a, client)
	err := here.Handshake()
	if err == nil {
		_, err = here.Read(make([]byte, 1))
	}
	if err != nil {
		a.Close()
	}
	refused := <-said
	if weDial {
		return err, here.ConnectionState(), refused
	}
	return refused, here.ConnectionState(), err
}

func groupName(id tls.CurveID) string {
	for _, n := range groupNames() {
		if g, _ := group(n); g == id {
			return n
		}
	}
	return id.String()
}

// occasionHost is the name of a peer of which no name was given.
const occasionHost = "peer.invalid"

// occasion makes a key and a certificate that nobody else will ever see.
func occasion(names []string) (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	if len(names) == 0 {
		names = []string{occasionHost}
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if u, err := url.Parse(n); err == nil && u.Scheme != "" {
			t.URIs = append(t.URIs, u)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, invalid("a certificate with these names cannot be made: "+err.Error(), "give host names, addresses or SIP URIs")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: c}, pool, nil
}
