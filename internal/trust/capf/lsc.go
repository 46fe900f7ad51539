package capf

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"time"

	"ringfence"
)

// Issuer signs LSCs and withdraws them.
type Issuer interface {
	// IssueLSC signs a certificate for a public key and keeps it before it returns. Nothing shows that the phone holds the private half: the
	// session that sent the key had proved that it is the device. The result is DER; see [Template] for what it should say. After an error there
	// is no certificate.
	IssueLSC(ctx context.Context, device ringfence.DeviceID, name string, pub crypto.PublicKey) (der []byte, err error)
	// Revoke withdraws a certificate by its serial in lower-case hexadecimal. When it returns, the fact is on disk. KindConflict is that it was
	// revoked before.
	Revoke(ctx context.Context, serial, reason string) error
}

// Template fills a certificate as phones expect an LSC to be. The subject is the name of the device, then the organisation, unit, locality,
// state and country of the issuer as they stand there; the name is a URI among the alternative names too, followed by the URIs in also. RSA keys
// may encipher keys; ECDSA keys only sign (RFC 8813 section 3). The serial number has 127 random bits.
func Template(name string, issuer *x509.Certificate, pub crypto.PublicKey, from, until time.Time, also ...*url.URL) (*x509.Certificate, error) {
	const op = "capf.template"
	if !isDeviceName(name) {
		return nil, fault(op, ringfence.KindInvalid, "the device has no name that a certificate can carry", "1 to 64 letters, digits and . _ -", nil)
	}
	subject := pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name}}}
	var theirs pkix.RDNSequence
	if rest, err := asn1.Unmarshal(issuer.RawSubject, &theirs); err != nil || len(rest) > 0 {
		return nil, fault(op, ringfence.KindInternal, "the name of the authority cannot be read", "", err)
	}
	for _, rdn := range theirs {
		if keep := len(rdn) == 1 && ofOrganisation(rdn[0].Type); keep {
			subject = append(subject, rdn)
		}
	}
	raw, err := asn1.Marshal(subject)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the name of the certificate cannot be written", "", err)
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always 16 bytes long
	usage := x509.KeyUsageDigitalSignature
	if _, ok := pub.(*rsa.PublicKey); ok {
		usage |= x509.KeyUsageKeyEncipherment
	}
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), RawSubject: raw, NotBefore: from, NotAfter: until, BasicConstraintsValid: true, KeyUsage: usage,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageIPSECEndSystem},
		URIs:        append([]*url.URL{{Path: name}}, also...)}, nil
}

// ofOrganisation picks C, L, ST, O and OU.
func ofOrganisation(oid asn1.ObjectIdentifier) bool {
	if len(oid) != 4 || oid[0] != 2 || oid[1] != 5 || oid[2] != 4 {
		return false
	}
	switch oid[3] {
	case 6, 7, 8, 10, 11:
		return true
	}
	return false
}
