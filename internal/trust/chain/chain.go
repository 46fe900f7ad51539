package chain

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	"ringfence"
)

// Bounds on what a file of certificates may hold.
const (
	MaxFile  = 256 << 10 // bytes
	MaxCerts = 20
)

// Read reads the certificates of a file: PEM blocks with anything between them, or one certificate in DER.
func Read(file []byte) (out []*x509.Certificate, err error) {
	const op = "chain.read"
	if len(file) > MaxFile {
		return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("the file has more than %d KiB", MaxFile>>10), "give the certificates alone", nil)
	}
	var ders [][]byte
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
		if len(ders) > MaxCerts {
			return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("the file has more than %d certificates", MaxCerts), "", nil)
		}
	}
	if len(ders) == 0 && len(file) > 0 && file[0] == 0x30 {
		ders = [][]byte{file}
	}
	if len(ders) == 0 {
		return nil, fault(op, ringfence.KindInvalid, "the file holds no certificate", "give PEM, with BEGIN CERTIFICATE lines, or DER", nil)
	}
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("certificate %d of the file cannot be read", i+1), "", err)
		}
		if slices.ContainsFunc(out, c.Equal) {
			continue // the same one twice says nothing new
		}
		out = append(out, c)
	}
	return out, nil
}

// Order puts the certificates of a chain in the order that TLS wants, the one of the key first, and each signed by the next. It leaves out what does
// not belong to the chain, and the root, which who verifies has already. Notes say what was changed.
func Order(certs []*x509.Certificate, pub crypto.PublicKey) (ordered []*x509.Certificate, notes []string, err error) {
	const op = "chain.order"
	own, ok := pub.(interface{ Equal(crypto.PublicKey) bool })
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return ok && own.Equal(c.PublicKey) })
	if i < 0 {
		names := ""
		for _, c := range certs {
			names += ", " + Name(c)
		}
		return nil, nil, fault(op, ringfence.KindInvalid, "the key belongs to none of the certificates: "+names[2:], "give the certificate that was issued for this key; compare: openssl pkey -in KEY -pubout, openssl x509 -in CERT -noout -pubkey", nil)
	}
	ordered = []*x509.Certificate{certs[i]}
	left := slices.Delete(slices.Clone(certs), i, i+1)
	for last := certs[i]; !SelfSigned(last); {
		j := slices.IndexFunc(left, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(c) == nil
		})
		if j < 0 {
			break
		}
		last = left[j]
		ordered = append(ordered, last)
		left = slices.Delete(left, j, j+1)
	}
	for j, c := range ordered {
		if !c.Equal(certs[j]) {
			notes = append(notes, "the chain was in another order, and was put in order: "+chainText(ordered))
			break
		}
	}
	for _, c := range left {
		notes = append(notes, "left out, since it signed nothing of this chain: "+Name(c))
	}
	if last := ordered[len(ordered)-1]; len(ordered) > 1 && SelfSigned(last) {
		ordered = ordered[:len(ordered)-1]
		notes = append(notes, "left out the root, which whoever verifies has already: "+Name(last))
	} else if !SelfSigned(last) && len(ordered) == 1 && len(certs) == 1 {
		notes = append(notes, "there is no authority beside the certificate: who does not know "+last.Issuer.String()+" will refuse it")
	}
	return ordered, notes, nil
}

func chainText(chain []*x509.Certificate) string {
	s := ""
	for i, c := range chain {
		if i > 0 {
			s += ", signed by "
		}
		s += Name(c)
	}
	return s
}

// SelfSigned reports whether a certificate was signed by its own key.
func SelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// Name returns how a certificate is called in messages: its subject, or its serial number if that is empty.
func Name(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return s
	}
	return fmt.Sprintf("serial %x", c.SerialNumber)
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}
