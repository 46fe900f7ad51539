package pkcs7

import (
	"crypto/x509"
	"encoding/asn1"

	"ringfence"
)

// Bounds of what is read.
const (
	maxRead  = 256 << 10 // bytes
	maxCerts = 32
)

// Certificates returns the certificates of a SignedData in DER (RFC 5652 section 5.1), as EST servers answer with. No signature in it is checked. The error is a KindInvalid fault.
func Certificates(der []byte) ([]*x509.Certificate, error) {
	bad := func(text string, err error) ([]*x509.Certificate, error) {
		return nil, &ringfence.Fault{Op: "pkcs7.read", Kind: ringfence.KindInvalid, Text: text, Err: err}
	}
	if len(der) > maxRead {
		return bad("the certificates are too long", nil)
	}
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}
	rest, err := asn1.Unmarshal(der, &outer)
	if err != nil || len(rest) > 0 || !outer.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}) || outer.Content.Class != asn1.ClassContextSpecific || outer.Content.Tag != 0 {
		return bad("this is no PKCS #7 with certificates", err)
	}
	var signed asn1.RawValue
	if rest, err = asn1.Unmarshal(outer.Content.Bytes, &signed); err != nil || len(rest) > 0 || signed.Class != asn1.ClassUniversal || signed.Tag != asn1.TagSequence {
		return bad("this is no PKCS #7 with certificates", err)
	}
	for b := signed.Bytes; len(b) > 0; {
		var e asn1.RawValue
		if b, err = asn1.Unmarshal(b, &e); err != nil {
			return bad("the PKCS #7 is broken", err)
		}
		if e.Class != asn1.ClassContextSpecific || e.Tag != 0 {
			continue
		}
		certs, err := x509.ParseCertificates(e.Bytes)
		if err != nil || len(certs) == 0 || len(certs) > maxCerts {
			return bad("the certificates in the PKCS #7 cannot be read", err)
		}
		return certs, nil
	}
	return bad("there is no certificate in the PKCS #7", nil)
}
