package keyring

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"ringfence"
)

// Bounds on what a file may hold.
const (
	maxFile  = 256 << 10 // bytes
	maxCerts = 20
)

// readCertificates reads the certificates of a file: PEM blocks with anything between them, or one certificate in DER.
func readCertificates(file []byte) (out []*x509.Certificate, err error) {
	const op = "keyring.read"
	if len(file) > maxFile {
		return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("the file has more than %d KiB", maxFile>>10), "give the certificates alone", nil)
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
		if len(ders) > maxCerts {
			return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("the file has more than %d certificates", maxCerts), "", nil)
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

// readKey reads a private key: PKCS #8, or the older forms of EC and RSA keys, as PEM.
func readKey(file []byte) (crypto.Signer, error) {
	const op, forms = "keyring.key", "give an unencrypted key as PEM; decrypt one with: openssl pkey -in KEY -out PLAIN"
	if len(file) > maxFile {
		return nil, fault(op, ringfence.KindInvalid, "the key file is too long", "", nil)
	}
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fault(op, ringfence.KindInvalid, "the file holds no private key", forms, nil)
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, fault(op, ringfence.KindInvalid, "the private key is encrypted", forms, nil)
			}
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, fault(op, ringfence.KindInvalid, "the private key is encrypted", forms, nil)
		default:
			continue
		}
		if err != nil { // what the parser says may tell of the key
			return nil, fault(op, ringfence.KindInvalid, "the private key cannot be read", forms, nil)
		}
		switch k := key.(type) {
		case *ecdsa.PrivateKey:
			return k, nil
		case ed25519.PrivateKey:
			return k, nil
		case *rsa.PrivateKey:
			if k.N.BitLen() < 2048 {
				return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("an RSA key of %d bits is too short", k.N.BitLen()), "use at least 2048 bits", nil)
			}
			return k, nil
		}
		return nil, fault(op, ringfence.KindInvalid, "a key of this kind cannot be used in TLS", "use an ECDSA, Ed25519 or RSA key", nil)
	}
}

// Order puts the certificates of a chain in the order that TLS wants, the one of the key first, and each signed by the next. It leaves out what does
// not belong to the chain, and the root, which who verifies has already. Notes say what was changed.
func Order(certs []*x509.Certificate, pub crypto.PublicKey) (ordered []*x509.Certificate, notes []string, err error) {
	const op = "keyring.chain"
	own, ok := pub.(interface{ Equal(crypto.PublicKey) bool })
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return ok && own.Equal(c.PublicKey) })
	if i < 0 {
		names := ""
		for _, c := range certs {
			names += ", " + nameOf(c)
		}
		return nil, nil, fault(op, ringfence.KindInvalid, "the key belongs to none of the certificates: "+names[2:], "give the certificate that was issued for this key; compare: openssl pkey -in KEY -pubout, openssl x509 -in CERT -noout -pubkey", nil)
	}
	ordered = []*x509.Certificate{certs[i]}
	left := slices.Delete(slices.Clone(certs), i, i+1)
	for last := certs[i]; !selfSigned(last); {
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
		notes = append(notes, "left out, since it signed nothing of this chain: "+nameOf(c))
	}
	if last := ordered[len(ordered)-1]; len(ordered) > 1 && selfSigned(last) {
		ordered = ordered[:len(ordered)-1]
		notes = append(notes, "left out the root, which whoever verifies has already: "+nameOf(last))
	} else if !selfSigned(last) && len(ordered) == 1 && len(certs) == 1 {
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
		s += nameOf(c)
	}
	return s
}

// mayAnchor says why a certificate cannot be believed for what it signs, or nil.
func mayAnchor(c *x509.Certificate, now time.Time) error {
	const op = "keyring.anchor"
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return fault(op, ringfence.KindInvalid, nameOf(c)+" is no authority: its certificate may not sign others", "give the certificate of the authority that signed it: "+c.Issuer.String(), nil)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fault(op, ringfence.KindInvalid, "the key of "+nameOf(c)+" may not sign certificates", "give the certificate of an authority", nil)
	case now.After(c.NotAfter):
		return fault(op, ringfence.KindInvalid, "the certificate of "+nameOf(c)+" expired on "+day(c.NotAfter), "ask the authority for its present one", nil)
	}
	return nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func nameOf(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return s
	}
	return fmt.Sprintf("serial %x", c.SerialNumber)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
