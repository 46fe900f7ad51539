package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"ringfence"
	"ringfence/internal/trust/chain"
)

// readKey reads a private key: PKCS #8, or the older forms of EC and RSA keys, as PEM.
func readKey(file []byte) (crypto.Signer, error) {
	const op, forms = "keyring.key", "give an unencrypted key as PEM; decrypt one with: openssl pkey -in KEY -out PLAIN"
	if len(file) > chain.MaxFile {
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

// mayAnchor says why a certificate cannot be believed for what it signs, or nil.
func mayAnchor(c *x509.Certificate, now time.Time) error {
	const op = "keyring.anchor"
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return fault(op, ringfence.KindInvalid, chain.Name(c)+" is no authority: its certificate may not sign others", "give the certificate of the authority that signed it: "+c.Issuer.String(), nil)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fault(op, ringfence.KindInvalid, "the key of "+chain.Name(c)+" may not sign certificates", "give the certificate of an authority", nil)
	case now.After(c.NotAfter):
		return fault(op, ringfence.KindInvalid, "the certificate of "+chain.Name(c)+" expired on "+day(c.NotAfter), "ask the authority for its present one", nil)
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
