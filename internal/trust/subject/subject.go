package subject

import (
	"crypto/x509"
	"net/netip"
	"net/url"
	"strings"
)

// Names returns all alternative names of a certificate: host names, addresses, URIs, mail addresses.
func Names(c *x509.Certificate) []string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return append(names, c.EmailAddresses...)
}

// Domains returns the SIP domains that a certificate proves, by RFC 5922 section 7.1: the hosts of its SIP URIs without a user; if it has no
// such URI, its DNS names and addresses; if it has no alternative name at all, its common name. Names with a wildcard prove nothing in SIP.
func Domains(c *x509.Certificate) (out []string) {
	for _, u := range c.URIs {
		if host, ok := sipHost(u); ok {
			out = append(out, host)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, name := range c.DNSNames {
		if !strings.Contains(name, "*") {
			out = append(out, name)
		}
	}
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	if len(c.DNSNames)+len(c.IPAddresses)+len(c.URIs)+len(c.EmailAddresses) == 0 && c.Subject.CommonName != "" && !strings.Contains(c.Subject.CommonName, "*") {
		out = append(out, c.Subject.CommonName)
	}
	return out
}

// sipHost returns the host of a sip: URI that names a domain and not a person in it.
func sipHost(u *url.URL) (string, bool) {
	if !strings.EqualFold(u.Scheme, "sip") || u.Opaque == "" || strings.Contains(u.Opaque, "@") {
		return "", false
	}
	host, _, _ := strings.Cut(u.Opaque, ";")
	host, _, _ = strings.Cut(host, "?")
	if rest, ok := strings.CutPrefix(host, "["); ok {
		host, _, _ = strings.Cut(rest, "]")
		return host, host != ""
	}
	host, _, _ = strings.Cut(host, ":")
	return host, host != ""
}

// ProvesDomain reports whether a certificate proves a SIP domain, or the host or address at which it is served.
func ProvesDomain(c *x509.Certificate, domain string) bool {
	for _, d := range Domains(c) {
		if equal(d, domain) {
			return true
		}
	}
	return false
}

// Matches reports whether a certificate carries a name: as its common name or as any alternative name, letter by letter. "CN=NAME" means the common
// name alone. With sip, a bare name means a SIP domain.
func Matches(c *x509.Certificate, name string, sip bool) bool {
	if cn, ok := strings.CutPrefix(name, "CN="); ok {
		return cn != "" && strings.EqualFold(c.Subject.CommonName, cn)
	}
	for _, u := range c.URIs {
		if u.String() == name {
			return true
		}
	}
	for _, m := range c.EmailAddresses {
		if strings.EqualFold(m, name) {
			return true
		}
	}
	if sip {
		return ProvesDomain(c, name)
	}
	for _, d := range c.DNSNames {
		if equal(d, name) {
			return true
		}
	}
	for _, ip := range c.IPAddresses {
		if equal(ip.String(), name) {
			return true
		}
	}
	return name != "" && strings.EqualFold(c.Subject.CommonName, name)
}

// equal compares host names without regard to case or a final dot, and addresses by value.
func equal(a, b string) bool {
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	if err1 == nil || err2 == nil {
		return err1 == nil && err2 == nil && x.Unmap() == y.Unmap()
	}
	a, b = strings.TrimSuffix(a, "."), strings.TrimSuffix(b, ".")
	return a != "" && strings.EqualFold(a, b)
}
