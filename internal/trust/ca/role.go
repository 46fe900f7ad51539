package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"ringfence"
)

// Role says what the holder of a certificate is. It decides everything a certificate of this authority may say and do.
type Role string

// The roles.
const (
	RoleNode   Role = "node"   // one of our own nodes
	RoleDevice Role = "device" // a phone
	RoleAdmin  Role = "admin"  // a person or program that administers
	RoleProxy  Role = "proxy"  // an edge proxy, which carries requests of phones and speaks for none
	RoleTrunk  Role = "trunk"  // the far end of a trunk, or our own end of it
	RoleCTI    Role = "cti"    // a CTI client

	RoleMachine Role = "machine" // a machine of the site, such as a web server, which may do nothing here
	RoleSigner  Role = "signer"  // what signs trust lists and configuration files of enterprise phones
	RoleService Role = "service" // a service that enterprise phones find in their trust list, such as CAPF
)

const (
	rolePrefix   = "urn:ringfence:role:"
	devicePrefix = "urn:ringfence:device:"
)

// rule is what a role allows.
type rule struct {
	life    time.Duration // the usual lifetime
	longest time.Duration // the longest that may be asked for
	hosts   bool          // may carry DNS names and IP addresses
	sip     bool          // may carry SIP URIs (RFC 5922)
	usage   []x509.ExtKeyUsage
}

const dayLong = 24 * time.Hour

func (r Role) rule() (rule, bool) {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	switch r {
	case RoleNode:
		return rule{30 * dayLong, 90 * dayLong, true, true, both}, true
	case RoleDevice:
		return rule{90 * dayLong, 180 * dayLong, false, true, client}, true
	case RoleAdmin:
		return rule{90 * dayLong, 180 * dayLong, false, false, client}, true
	case RoleProxy, RoleTrunk:
		return rule{90 * dayLong, 180 * dayLong, true, true, both}, true
	case RoleMachine:
		return rule{90 * dayLong, 90 * dayLong, true, false, both}, true
	case RoleSigner: // long, since phones that were switched off for months must still know it
		return rule{2 * 365 * dayLong, 2 * 365 * dayLong, false, false, nil}, true
	case RoleService:
		return rule{365 * dayLong, 2 * 365 * dayLong, true, false, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, true
	case RoleCTI:
		return rule{90 * dayLong, 180 * dayLong, false, false, client}, true
	}
	return rule{}, false
}

// roleOf returns the role in a certificate's names; exactly one must be there.
func roleOf(c *x509.Certificate) (Role, bool) {
	found, n := Role(""), 0
	for _, u := range c.URIs {
		if r, ok := strings.CutPrefix(u.String(), rolePrefix); ok {
			found = Role(r)
			n++
		}
	}
	_, known := found.rule()
	return found, n == 1 && known
}

// isName reports whether s can be a common name: 1 to 64 letters, digits and . _ - @ +, beginning with a letter or digit.
func isName(s string) bool {
	if s == "" || len(s) > 64 || !alnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && strings.IndexByte("._@+-", s[i]) < 0 {
			return false
		}
	}
	return true
}

// isHost reports whether s is a host name (RFC 1123 section 2.1), perhaps with a wildcard as its first label.
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(s, "*."), ".") {
		if label == "" || len(label) > 63 || !alnum(label[0]) || !alnum(label[len(label)-1]) {
			return false
		}
		for i := range len(label) {
			if !alnum(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// maxNames bounds the names of one certificate.
const maxNames = 100

// check applies the role's rule to a request and returns the URIs of the certificate.
func (r rule) check(req Request) ([]*url.URL, error) {
	invalid := func(text string) error { return fault("ca.issue", ringfence.KindInvalid, text, "", nil) }
	if !isName(req.Name) {
		return nil, invalid(fmt.Sprintf("%.80q cannot be the name in a certificate: 1 to 64 letters, digits and . _ - @ +", req.Name))
	}
	if len(req.DNSNames)+len(req.IPs)+len(req.URIs) > maxNames {
		return nil, invalid("the request has too many names")
	}
	if !r.hosts && len(req.DNSNames)+len(req.IPs) > 0 {
		return nil, invalid("a certificate of role " + string(req.Role) + " may not name a host")
	}
	for _, h := range req.DNSNames {
		if !isHost(h) {
			return nil, invalid(fmt.Sprintf("%.80q is no host name", h))
		}
	}
	if req.Lifetime < 0 || req.Lifetime > r.longest {
		return nil, invalid(fmt.Sprintf("a certificate of role %s lives %d days at most", req.Role, r.longest/dayLong))
	}
	uris := []*url.URL{{Scheme: "urn", Opaque: strings.TrimPrefix(rolePrefix, "urn:") + string(req.Role)}}
	if req.Role == RoleDevice {
		uris = append(uris, &url.URL{Scheme: "urn", Opaque: strings.TrimPrefix(devicePrefix, "urn:") + url.PathEscape(req.Name)})
	}
	for _, s := range req.URIs {
		u, err := url.Parse(s)
		if err != nil || len(s) > 512 || !r.sip || (u.Scheme != "sip" && u.Scheme != "sips") || u.Opaque == "" {
			return nil, invalid(fmt.Sprintf("a certificate of role %s may not carry the URI %.80q", req.Role, s))
		}
		uris = append(uris, u)
	}
	return uris, nil
}

// newSerial returns 127 random bits: unguessable, positive and short enough (RFC 5280 section 4.1.2.2).
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}

// authorityName names an authority; the tag tells an authority from its successors.
func authorityName(org, kind string, tag []byte) pkix.Name {
	return pkix.Name{Organization: []string{org}, CommonName: "Ringfence " + kind + " " + hex.EncodeToString(tag)}
}

// RoleOf returns the role that a certificate claims, or "" if it claims none. Only [Authority.Verify] tells whether it is true.
func RoleOf(c *x509.Certificate) Role {
	r, _ := roleOf(c)
	return r
}
