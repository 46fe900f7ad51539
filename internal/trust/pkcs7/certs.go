package pkcs7

import (
	"bytes"
	"encoding/asn1"
	"slices"

	"ringfence"
)

// CertsOnly returns a SignedData that nobody signed, in DER, the customary wrapping of a chain (RFC 2315 section 9.1, RFC 5652 section
// 5.1; "certs-only" in RFC 5751 section 3.2.2). The certificates are DER; their order is lost, since DER orders the members of a SET OF.
func CertsOnly(certs [][]byte) ([]byte, error) {
	sorted := slices.Clone(certs)
	slices.SortFunc(sorted, bytes.Compare)
	type contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional"`
	}
	tagged := func(b []byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: b}
	}
	signed, err := asn1.Marshal(struct {
		Version      int
		Digests      []asn1.RawValue `asn1:"set"`
		Content      contentInfo
		Certificates asn1.RawValue
		Signers      []asn1.RawValue `asn1:"set"`
	}{1, []asn1.RawValue{}, contentInfo{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}}, tagged(bytes.Join(sorted, nil)), []asn1.RawValue{}})
	if err != nil {
		return nil, failed(err)
	}
	out, err := asn1.Marshal(contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, tagged(signed)})
	if err != nil {
		return nil, failed(err)
	}
	return out, nil
}

func failed(err error) error {
	return &ringfence.Fault{Op: "pkcs7.certs", Kind: ringfence.KindInternal, Text: "the certificates cannot be written as PKCS #7", Err: err}
}
