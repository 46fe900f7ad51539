package capf

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"time"

	"ringfence"
)

// LSCs verifies certificates of our own authority; *ca.Authority is one.
type LSCs interface {
	// VerifyDevice returns whose certificate it is, if it is good at now.
	VerifyDevice(chain []*x509.Certificate, now time.Time) (ringfence.DeviceID, error)
}

// MICs verifies certificates that manufacturers put into phones; *Anchors is one.
type MICs interface {
	// VerifyMIC says whether the certificate comes from a manufacturer that the administrator trusts, and is good at now.
	VerifyMIC(cert *x509.Certificate, now time.Time) error
}

// Anchors are manufacturers' certificates that the administrator added, roots and those below.
type Anchors struct{ roots, below *x509.CertPool }

// NewAnchors takes certificates of manufacturers. Those that sign themselves are roots, the others only lead there.
func NewAnchors(certs []*x509.Certificate) *Anchors {
	a := &Anchors{roots: x509.NewCertPool(), below: x509.NewCertPool()}
	for _, c := range certs {
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			a.roots.AddCert(c)
		} else {
			a.below.AddCert(c)
		}
	}
	return a
}

// VerifyMIC implements [MICs].
func (a *Anchors) VerifyMIC(cert *x509.Certificate, now time.Time) error {
	// What a manufacturer says a certificate is for differs from one model to the next; the anchors are kept for this purpose alone.
	_, err := cert.Verify(x509.VerifyOptions{Roots: a.roots, Intermediates: a.below, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fault("capf.mic", ringfence.KindUnauthenticated, "the certificate comes from no manufacturer that was added here", "add the root of the manufacturer, and what stands between it and the phone", err)
	}
	return nil
}

// proofData is what elements 6 and 20 sign: the name with its zero byte, and the certificate.
func proofData(name string, der []byte) []byte {
	return append(append([]byte(name), 0), der...)
}

// sudiData is what element 16 signs. That the session id has its low byte first here, unlike everywhere else, is how phones do it.
func sudiData(session uint32, der []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, session), der...)
}

func digestOf(kind byte, data []byte) []byte {
	if kind == digestSHA1 {
		d := sha1.Sum(data)
		return d[:]
	}
	d := sha512.Sum512(data)
	return d[:]
}

// sign proves possession of a key. With RSA it is the padding of type 1 (RFC 8017 section 9.2 without the DigestInfo) around the digest
// itself, for which crypto/rsa takes a hash of zero.
func sign(key crypto.Signer, kind byte, data []byte) ([]byte, error) {
	d := digestOf(kind, data)
	if k, ok := key.(*rsa.PrivateKey); ok {
		return rsa.SignPKCS1v15(nil, k, crypto.Hash(0), d)
	}
	return key.Sign(rand.Reader, d, crypto.Hash(0))
}

// signed says whether a signature holds.
func signed(pub crypto.PublicKey, kind byte, data, sig []byte) bool {
	d := digestOf(kind, data)
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.Hash(0), d, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, d, sig)
	}
	return false
}

// readCertificate parses the certificate of a phone whose outer form was checked, and bounds the work that its key makes.
func readCertificate(der []byte) (*x509.Certificate, error) {
	const op = "capf.certificate"
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault(op, ringfence.KindInvalid, "the certificate of the phone cannot be read", "", err)
	}
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 1024 && n <= 4096 {
			return c, nil
		}
	case *ecdsa.PublicKey:
		return c, nil
	}
	return nil, fault(op, ringfence.KindInvalid, "the certificate of the phone has a key that is not looked at", "RSA with 1024 to 4096 bits and ECDSA are", nil)
}

// checkProof verifies that the sender of an authenticate response holds the key of the order's device. It returns the public key it did that with.
func (s *Server) checkProof(o Order, name string, session uint32, m message) (crypto.PublicKey, error) {
	const op = "capf.proof"
	denied := func(text, hint string) error { return fault(op, ringfence.KindUnauthenticated, text, hint, nil) }
	der, ok, err := m.certificateOf()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, denied("the phone showed no certificate, and the order asks for one", "order it by authentication string if the phone has none")
	}
	cert, err := readCertificate(der)
	if err != nil {
		return nil, err
	}
	// The proof before the issuer: whose key it is matters only if the phone holds it.
	kind, sig, err := bestProof(o, m)
	if err != nil {
		return nil, err
	}
	if len(sig) == 0 || len(sig) > maxProof || !signed(cert.PublicKey, kind, proofData(name, der), sig) {
		return nil, denied("the phone does not hold the key of the certificate that it showed", "")
	}
	if err := s.belongs(o, name, cert); err != nil {
		return nil, err
	}
	sudi, ok := m.get(tagSUDI)
	if !ok && o.Old {
		return cert.PublicKey, nil
	}
	if !ok {
		return nil, denied("the proof does not cover the session, so it may be one that was used before", "say in the order that the phone is old, if it cannot sign the session id")
	}
	return cert.PublicKey, s.checkSUDI(o, name, session, sudi)
}

// bestProof returns the signature that counts: the one with SHA-512, or for an old phone that has none the one with SHA-1.
func bestProof(o Order, m message) (kind byte, sig []byte, err error) {
	b, ok := m.get(tagSignedSHA2)
	if !ok && o.Old {
		sig, _ = m.get(tagSigned)
		return digestSHA1, sig, nil
	}
	if !ok {
		return 0, nil, fault("capf.proof", ringfence.KindUnauthenticated, "the phone did not prove itself with SHA-512", "say in the order that the phone is old, if it is", nil)
	}
	parts, err := parseTagged(b, 1)
	if err != nil {
		return 0, nil, err
	}
	if parts[0].kind != digestSHA512 {
		return 0, nil, malformed("the proof is with a digest other than SHA-512")
	}
	return digestSHA512, parts[0].value, nil
}

func (s *Server) checkSUDI(o Order, name string, session uint32, b []byte) error {
	const op = "capf.proof"
	der, _, sig, err := parseSUDI(b)
	if err != nil {
		return err
	}
	cert, err := readCertificate(der)
	if err != nil {
		return err
	}
	if !signed(cert.PublicKey, digestSHA512, sudiData(session, der), sig) {
		return fault(op, ringfence.KindUnauthenticated, "the SUDI signature is not for this session", "it may be a recording of another one", nil)
	}
	return s.belongs(o, name, cert)
}

// belongs says whether a certificate is one of the order's device: an LSC of ours with its id, or a MIC with the MAC address in its name.
func (s *Server) belongs(o Order, name string, cert *x509.Certificate) error {
	const op = "capf.proof"
	now := s.c.Now()
	id, lsc := s.c.LSCs.VerifyDevice([]*x509.Certificate{cert}, now)
	if lsc == nil {
		if id != o.Device {
			return fault(op, ringfence.KindDenied, "the certificate is that of the device "+string(id)+", not of "+string(o.Device), "", nil)
		}
		return nil
	}
	if ringfence.KindOf(lsc) == ringfence.KindDenied { // one of ours, revoked or for somebody else than a device: it must not pass as a MIC either
		return fault(op, ringfence.KindDenied, "the certificate does not hold", ringfence.HintOf(lsc), lsc)
	}
	if s.c.MICs == nil {
		return fault(op, ringfence.KindUnauthenticated, "the certificate is none of ours, and no manufacturer was added", "add the root of the manufacturer, or order it by authentication string", lsc)
	}
	if err := s.c.MICs.VerifyMIC(cert, now); err != nil {
		return fault(op, ringfence.KindUnauthenticated, "the certificate is neither ours nor of a manufacturer that was added", "add the root of the manufacturer, or order it by authentication string", errors.Join(lsc, err))
	}
	subject, err := Subject(cert.Subject)
	if err != nil {
		return err
	}
	if subject.DeviceName() != name {
		return fault(op, ringfence.KindDenied, "the certificate of the manufacturer is for "+subject.DeviceName()+", and the phone says that it is "+name, "a phone that was replaced needs a new device", nil)
	}
	return nil
}
