package ca

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"

	"ringfence"
	"ringfence/internal/trust/subject"
)

// Identity is a name bound to a key, as TLS presents it. It can be replaced while connections are up: those keep what they
// have, new ones get the new certificate.
type Identity struct {
	current atomic.Pointer[tls.Certificate]
}

// NewIdentity makes an identity from a chain (DER, leaf first) and its key.
func NewIdentity(chain [][]byte, key crypto.Signer) (*Identity, error) {
	i := &Identity{}
	return i, i.Replace(chain, key)
}

// Replace puts a renewed chain and its key in place; on error the old ones stay.
func (i *Identity) Replace(chain [][]byte, key crypto.Signer) error {
	const op = "ca.identity"
	if len(chain) == 0 || key == nil {
		return fault(op, ringfence.KindInvalid, "an identity needs a certificate and a key", "", nil)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fault(op, ringfence.KindInvalid, "the certificate cannot be read", "", err)
	}
	mine, err1 := x509.MarshalPKIXPublicKey(key.Public())
	theirs, err2 := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	if err1 != nil || err2 != nil || !bytes.Equal(mine, theirs) {
		return fault(op, ringfence.KindInvalid, "the certificate of "+leaf.Subject.CommonName+" belongs to another key", "", nil)
	}
	i.current.Store(&tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf})
	return nil
}

// Certificate returns the chain in use with its key.
func (i *Identity) Certificate() *tls.Certificate { return i.current.Load() }

// Leaf returns the certificate in use.
func (i *Identity) Leaf() *x509.Certificate { return i.current.Load().Leaf }

// ProofOf reads the evidence of a connection whose handshake is complete. If TLS itself did not verify the peer's chain (as on a
// server that leaves it to the application), it is verified against anchors, which may be nil; an anchor is named only if the
// chain verified.
func ProofOf(cs tls.ConnectionState, anchors *x509.CertPool) *ringfence.TLSProof {
	p := &ringfence.TLSProof{Version: tls.VersionName(cs.Version), Suite: tls.CipherSuiteName(cs.CipherSuite), Group: groupName(cs.CurveID), Resumed: cs.DidResume}
	if len(cs.PeerCertificates) == 0 {
		return p
	}
	leaf := cs.PeerCertificates[0]
	p.PeerSubject, p.PeerIssuer, p.PeerNames = leaf.Subject.String(), leaf.Issuer.String(), subject.Names(leaf)
	chains := cs.VerifiedChains
	if len(chains) == 0 && anchors != nil {
		mids := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			mids.AddCert(c)
		}
		// An error leaves no chain, and so no anchor.
		chains, _ = leaf.Verify(x509.VerifyOptions{Roots: anchors, Intermediates: mids, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	}
	if len(chains) > 0 {
		p.Anchor = chains[0][len(chains[0])-1].Subject.String()
	}
	return p
}

// groupName is the IANA name of a key-exchange group (TLS Supported Groups registry).
func groupName(id tls.CurveID) string {
	switch id {
	case 0:
		return ""
	case tls.X25519:
		return "x25519"
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	}
	return id.String() // the hybrid groups have their IANA spelling, e.g. X25519MLKEM768
}
