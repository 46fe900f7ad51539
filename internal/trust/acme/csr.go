package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
)

// decodeDER reads base64url of a DER document of bounded length.
func decodeDER(text string, most int) ([]byte, bool) {
	if len(text) > base64.RawURLEncoding.EncodedLen(most) {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return b, err == nil && len(b) > 0
}

// readCSR reads a certificate request and holds it to the order: exactly its names, and a key that is not the account's.
func readCSR(der []byte, want []Identifier, accountThumb string) (*x509.CertificateRequest, error) {
	bad := func(detail string) (*x509.CertificateRequest, error) { return nil, refuse("badCSR", detail) }
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return bad("the certificate request cannot be read")
	}
	switch k := csr.PublicKey.(type) { // before the signature: checking one under a huge key would be costly
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return bad("certificates are for keys on P-256 or P-384, or RSA")
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA || k.E < 3 || k.E&1 == 0 {
			return bad("RSA keys have 2048 to 4096 bits")
		}
	default:
		return bad("certificates are for keys on P-256 or P-384, or RSA")
	}
	if err := csr.CheckSignature(); err != nil {
		return bad("the certificate request is not signed by its own key")
	}
	if thumb, err := thumbprint(&jose.JSONWebKey{Key: csr.PublicKey}); err != nil || thumb == accountThumb {
		return bad("the key of the account cannot be that of a certificate (RFC 8555 section 11.1)")
	}
	if len(csr.EmailAddresses)+len(csr.URIs) > 0 {
		return bad("the certificate request asks for names that are neither hosts nor addresses")
	}
	dns, ips := csr.DNSNames, csr.IPAddresses
	if cn := csr.Subject.CommonName; cn != "" {
		if a, err := netip.ParseAddr(cn); err == nil {
			ips = append(slices.Clone(ips), a.AsSlice())
		} else {
			dns = append(slices.Clone(dns), cn)
		}
	}
	if !slices.Equal(namesIn(dns, ips), sorted(want)) {
		return bad("the names in the certificate request are not exactly those of the order")
	}
	return csr, nil
}

// namesIn returns names of a certificate or a request as sorted identifiers, each once.
func namesIn(dns []string, ips []net.IP) []Identifier {
	out := make([]Identifier, 0, len(dns)+len(ips))
	for _, d := range dns {
		out = append(out, Identifier{"dns", strings.ToLower(d)})
	}
	for _, ip := range ips {
		a, _ := netip.AddrFromSlice(ip) // of another length it is "invalid IP", which equals no identifier
		out = append(out, Identifier{"ip", a.Unmap().String()})
	}
	return sorted(out)
}

func sorted(list []Identifier) []Identifier {
	out := slices.Clone(list)
	slices.SortFunc(out, func(a, b Identifier) int {
		return strings.Compare(a.Type+" "+a.Value, b.Type+" "+b.Value)
	})
	return slices.Compact(out)
}

// certID names a certificate by its issuer's key and its serial number (RFC 9773 section 4.1).
func certID(leaf *x509.Certificate) string {
	serial, err := asn1.Marshal(leaf.SerialNumber)
	if err != nil || len(serial) < 3 { // a certificate that was parsed has a serial number
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(leaf.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(serial[2:])
}

// isCertID reports whether text could be what certID makes.
func isCertID(text string) bool {
	issuer, serial, ok := strings.Cut(text, ".")
	if !ok || len(text) > 128 {
		return false
	}
	a, err := base64.RawURLEncoding.Strict().DecodeString(issuer)
	b, err2 := base64.RawURLEncoding.Strict().DecodeString(serial)
	if errors.Join(err, err2) != nil || len(a) == 0 || len(b) == 0 {
		return false
	}
	minimal, err := asn1.Marshal(new(big.Int).SetBytes(b)) // the serial is positive and without needless zeros
	return err == nil && len(minimal) > 2 && bytes.Equal(minimal[2:], b)
}

// textOf returns the words of a fault that may be shown.
func textOf(err error) string {
	if f, ok := errors.AsType[*ringfence.Fault](err); ok {
		return f.Text
	}
	return "the request"
}
