package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	_ "crypto/sha1" // what most questions name an authority by
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"ringfence"
)

const (
	// responderLife is how long a responder's certificate lives; a new key is made after two thirds of it.
	responderLife = 7 * 24 * time.Hour
	// answerLife is how long an answer is good for.
	answerLife = time.Hour
	// maxQuestion bounds a question, in bytes.
	maxQuestion = 4 << 10
)

// responder signs answers for one issuing authority (RFC 6960 section 4.2.2.2), so that no answer needs that authority's own key. Its key lives
// only as long as the process.
type responder struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// responders are made at first need, by key id of the authority.
type responders struct {
	mu sync.Mutex
	by map[string]responder
}

// OCSP answers a question about the state of a certificate (RFC 6960). The answer is DER. Questions that cannot be read, or are about
// certificates of others, get the answers that the RFC has for them.
func (a *Authority) OCSP(ctx context.Context, question []byte) ([]byte, error) {
	if len(question) > maxQuestion {
		return ocsp.MalformedRequestErrorResponse, nil
	}
	q, err := ocsp.ParseRequest(question)
	if err != nil || q.SerialNumber == nil || q.SerialNumber.Sign() < 0 || !q.HashAlgorithm.Available() {
		return ocsp.MalformedRequestErrorResponse, nil
	}
	is, ok := a.asked(q)
	if !ok {
		return ocsp.UnauthorizedErrorResponse, nil
	}
	now := a.now()
	t := ocsp.Response{SerialNumber: q.SerialNumber, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(answerLife), IssuerHash: q.HashAlgorithm, Status: ocsp.Good}
	c, err := a.ledger.Certificate(ctx, q.SerialNumber.Text(16))
	switch {
	case err != nil && ringfence.KindOf(err) != ringfence.KindNotFound:
		return nil, err
	case err != nil || issuerKey(c) != hex.EncodeToString(is.cert.SubjectKeyId):
		t.Status = ocsp.Unknown
	case !c.RevokedAt.IsZero():
		t.Status, t.RevokedAt, t.RevocationReason = ocsp.Revoked, c.RevokedAt, reasonCode(c.Reason)
	}
	r, err := a.responder(ctx, is)
	if err != nil {
		return nil, err
	}
	t.Certificate = r.cert
	der, err := ocsp.CreateResponse(is.cert, r.cert, t, r.key)
	if err != nil {
		return nil, fault("ca.ocsp", ringfence.KindInternal, "the answer could not be signed", "", err)
	}
	return der, nil
}

// asked returns the authority that a question is about.
func (a *Authority) asked(q *ocsp.Request) (signing, bool) {
	is := a.issuing.Load()
	for _, s := range append([]signing{is.signing}, is.older...) {
		key, err := keyBits(s.cert)
		if err == nil && bytes.Equal(hashOf(q.HashAlgorithm, s.cert.RawSubject), q.IssuerNameHash) && bytes.Equal(hashOf(q.HashAlgorithm, key), q.IssuerKeyHash) {
			return s, true
		}
	}
	return signing{}, false
}

func hashOf(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

// keyBits returns what an authority's key is hashed as: the bits of its public key, without the algorithm.
func keyBits(c *x509.Certificate) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil || len(rest) > 0 {
		return nil, errors.New("the key cannot be read")
	}
	return info.Key.RightAlign(), nil
}

// responder returns who signs answers for an authority.
func (a *Authority) responder(ctx context.Context, is signing) (responder, error) {
	const op = "ca.ocsp"
	id, now := hex.EncodeToString(is.cert.SubjectKeyId), a.now()
	a.responders.mu.Lock()
	defer a.responders.mu.Unlock()
	if r, ok := a.responders.by[id]; ok && now.Before(RenewAt(r.cert)) {
		return r, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return responder{}, fault(op, ringfence.KindInternal, "no key could be made", "", err)
	}
	serial, err := newSerial()
	if err != nil {
		return responder{}, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{Organization: []string{a.org}, CommonName: "Ringfence OCSP " + id[:8]}, NotBefore: now.Add(-backdate), NotAfter: now.Add(responderLife),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		// Nobody asks whether the responder itself was revoked: it lives for a week (RFC 6960 section 4.2.2.2.1).
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}}
	if t.NotAfter.After(is.cert.NotAfter) {
		t.NotAfter = is.cert.NotAfter
	}
	der, err := is.key.SignCertificate(t, is.cert, key.Public())
	if err != nil {
		return responder{}, fault(op, ringfence.KindInternal, "the responder could not be certified", "", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return responder{}, fault(op, ringfence.KindInternal, "the responder's certificate could not be read", "", err)
	}
	if err := a.audit(ctx, "ca.sign", cert.Subject.String()); err != nil {
		return responder{}, err
	}
	if a.responders.by == nil {
		a.responders.by = map[string]responder{}
	}
	r := responder{cert, key}
	a.responders.by[id] = r
	return r, nil
}
