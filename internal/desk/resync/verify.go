package resync

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ringfence"
)

// Names of a provisioning server as the published chapter writes them: whole, or with a slash and more behind.
func commonName(c *x509.Certificate) string {
	name, _, _ := strings.Cut(c.Subject.CommonName, "/")
	return strings.TrimSuffix(strings.TrimSpace(name), ".")
}

// proves reports whether a certificate is that of a host, by its subject alternative names, or, if it has none of DNS or address, by its common name.
func proves(c *x509.Certificate, host string) bool {
	if len(c.DNSNames)+len(c.IPAddresses) > 0 {
		return c.VerifyHostname(host) == nil
	}
	return strings.EqualFold(commonName(c), strings.TrimSuffix(host, "."))
}

// verified returns the TLS settings for one server: base with a check of our own, since Go minds no common names. lookup finds the addresses of a
// name in the certificate, if the server is known by its address only.
func (p *Phone) verified(ctx context.Context, host string, at netip.Addr) *tls.Config {
	conf := p.TLS.Clone()
	conf.ServerName = host
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	conf.InsecureSkipVerify = true // VerifyConnection does it, with the names that phones take
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return untrusted("the server showed no certificate", "", nil)
		}
		leaf := cs.PeerCertificates[0]
		between := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			between.AddCert(c)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: p.Roots(), Intermediates: between, CurrentTime: p.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			return untrusted("the server's certificate was not accepted: "+err.Error(), "name the authority that signed it by --ca, or by Custom_CA_Rule", err)
		}
		if proves(leaf, host) {
			return nil
		}
		if _, err := netip.ParseAddr(host); err == nil { // known by its address: the name that it proves must lead there
			for _, name := range append(slices.Clone(leaf.DNSNames), commonName(leaf)) {
				if found, err := p.Lookup(ctx, name); err == nil && name != "" && slices.Contains(found, at) {
					return nil
				}
			}
		}
		return untrusted(fmt.Sprintf("the server's certificate does not prove %s: it has CN %q and names %q", host, leaf.Subject.CommonName, leaf.DNSNames), "the certificate needs the name as a subject alternative name, or as its common name", nil)
	}
	return conf
}

func untrusted(text, hint string, cause error) error {
	return &ringfence.Fault{Op: "resync.tls", Kind: ringfence.KindInsecure, Text: text, Hint: hint, Err: cause}
}

// Roots are the anchors of the phone: those that it came with, and those of its custom CA rule.
func (p *Phone) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	if p.TLS.RootCAs != nil {
		pool = p.TLS.RootCAs.Clone()
	}
	for _, c := range p.custom {
		pool.AddCert(c)
	}
	return pool
}
