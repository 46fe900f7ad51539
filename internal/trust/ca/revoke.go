package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// crlLife is how long a revocation list is good for.
const crlLife = 24 * time.Hour

// Revoke withdraws a certificate. When it returns, the fact is on disk and IsRevoked knows it.
func (a *Authority) Revoke(ctx context.Context, serial, reason string) error {
	if reason == "" {
		return fault("ca.revoke", ringfence.KindInvalid, "a revocation needs a reason", "", nil)
	}
	if err := a.ledger.RevokeCertificate(ctx, serial, a.now(), reason, a.entry("certificate.revoke", "serial "+serial+": "+reason)); err != nil {
		return err
	}
	return a.Refresh(ctx)
}

// Refresh reads the revocations from the ledger, and the authority itself from the vault: call it when another node says that it changed something.
func (a *Authority) Refresh(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	held, err := a.vault.Secret(ctx, VaultName)
	if err != nil {
		return err
	}
	if !bytes.Equal(held, a.held) {
		if err := a.load(held); err != nil {
			return err
		}
	}
	list, err := a.ledger.RevokedCertificates(ctx, a.now())
	if err != nil {
		return err
	}
	m := make(map[string]revocation, len(list))
	for _, c := range list {
		m[c.Serial] = revocation{at: c.RevokedAt, reason: c.Reason, code: reasonCode(c.Reason), akid: issuerKey(c)}
	}
	a.revoked.Store(&m)
	return nil
}

// issuerKey returns the key id of the authority that signed a certificate.
func issuerKey(c store.Certificate) string {
	block, _ := pem.Decode([]byte(c.PEM))
	if block == nil {
		return ""
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(cert.AuthorityKeyId)
}

// reasonCode returns the code of RFC 5280 section 5.3.1 for the well-known reasons, otherwise 0 (unspecified).
func reasonCode(reason string) int {
	switch reason {
	case "key compromise":
		return 1
	case "affiliation changed":
		return 3
	case "superseded":
		return 4
	case "cessation of operation":
		return 5
	case "privilege withdrawn":
		return 9
	}
	return 0
}

// IsRevoked reports whether the certificate with this serial (lower-case hexadecimal) is revoked. It takes no lock.
func (a *Authority) IsRevoked(serial string) bool {
	_, ok := (*a.revoked.Load())[serial]
	return ok
}

// CRL signs and returns the revocation list of the present issuing authority (DER, RFC 5280 section 5).
func (a *Authority) CRL(ctx context.Context) ([]byte, error) {
	return a.crl(ctx, a.issuing.Load().signing)
}

// CRLBy is CRL of the issuing authority with a key id in hexadecimal, which may be one that signs no certificates any more.
func (a *Authority) CRLBy(ctx context.Context, keyID string) ([]byte, error) {
	is, ok := a.issuing.Load().by(keyID)
	if !ok {
		return nil, fault("ca.crl", ringfence.KindNotFound, "there is no authority with this key", "", nil)
	}
	return a.crl(ctx, is)
}

func (a *Authority) crl(ctx context.Context, is signing) ([]byte, error) {
	const op = "ca.crl"
	now, all := a.now(), *a.revoked.Load()
	// The number must grow from list to list, on whichever node it is made: the time does (RFC 5280 section 5.2.3).
	t := &x509.RevocationList{Number: big.NewInt(now.UnixMicro()), ThisUpdate: now, NextUpdate: now.Add(crlLife)}
	akid := hex.EncodeToString(is.cert.SubjectKeyId)
	for _, serial := range slices.Sorted(maps.Keys(all)) {
		r := all[serial]
		n, ok := new(big.Int).SetString(serial, 16)
		if !ok || r.akid != akid { // signed by another of our authorities, which has a list of its own
			continue
		}
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: r.at, ReasonCode: r.code})
	}
	der, err := is.key.SignCRL(t, is.cert)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the revocation list could not be signed", "", err)
	}
	return der, a.audit(ctx, "crl.sign", is.cert.Subject.String())
}

// sameCert reports whether two certificates are one.
func sameCert(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) }
