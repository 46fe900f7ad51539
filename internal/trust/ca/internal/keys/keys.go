// Package keys holds the signing keys of the certificate authority and is the only code that can use them.
//
// It sits in an internal folder of trust/ca, so the compiler refuses every other room.
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
)

// Key is an ECDSA P-256 signing key. It has no String method, and formatting it shows nothing of the key.
type Key struct{ priv *ecdsa.PrivateKey }

// New makes a key.
func New() (*Key, error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return &Key{priv}, nil
}

// Parse reads the form that Marshal wrote (PKCS #8, RFC 5958).
func Parse(der []byte) (*Key, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the signing key is damaged") // the cause could quote key bytes
	}
	priv, ok := k.(*ecdsa.PrivateKey)
	if !ok || priv.Curve != elliptic.P256() {
		return nil, errors.New("the signing key is not ECDSA P-256")
	}
	return &Key{priv}, nil
}

// Marshal returns the key for sealing, and for nothing else.
func (k *Key) Marshal() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.priv) }

// Public returns the public half.
func (k *Key) Public() crypto.PublicKey { return k.priv.Public() }

// Format keeps the key out of every log, whatever the verb (fmt.Formatter).
func (k *Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "signing key (hidden)") }

// SignCertificate signs a certificate for pub by the holder of parent, and checks that parent is really this key's certificate.
func (k *Key) SignCertificate(template, parent *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	if template != parent && !k.priv.PublicKey.Equal(parent.PublicKey) {
		return nil, errors.New("the signing key does not belong to the issuing certificate")
	}
	return x509.CreateCertificate(rand.Reader, template, parent, pub, k.priv)
}

// SignCRL signs a revocation list (RFC 5280 section 5).
func (k *Key) SignCRL(template *x509.RevocationList, issuer *x509.Certificate) ([]byte, error) {
	return x509.CreateRevocationList(rand.Reader, template, issuer, k.priv)
}
