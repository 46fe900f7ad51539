package ca

import (
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"ringfence"
)

// Verified is what a certificate proved.
type Verified struct {
	Name          string // common name
	Role          Role
	Serial        string // lower-case hexadecimal
	AnchorSubject string // of the trust anchor the chain ends in, RFC 4514
	NotAfter      time.Time
}

// maxChain bounds the certificates that a peer may show.
const maxChain = 10

// Verify checks that chain (leaf first, the rest may be missing) comes from this authority, is in its time at now, is not
// revoked and has the role. The fault names the cause and its hint says what to do.
func (a *Authority) Verify(chain []*x509.Certificate, role Role, now time.Time) (Verified, error) {
	const op = "ca.verify"
	if len(chain) == 0 {
		return Verified{}, fault(op, ringfence.KindUnauthenticated, "the peer showed no certificate", "enrol the device or client first", nil)
	}
	if len(chain) > maxChain {
		return Verified{}, fault(op, ringfence.KindUnauthenticated, "the peer showed too many certificates", "", nil)
	}
	leaf := chain[0]
	is := a.issuing.Load()
	mids := is.derive.Clone()
	for _, c := range chain[1:] {
		mids.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: is.pool, Intermediates: mids, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return Verified{}, explain(op, leaf, now, err)
	}
	serial := serialText(leaf)
	if r, ok := (*a.revoked.Load())[serial]; ok {
		return Verified{}, fault(op, ringfence.KindDenied, "the certificate of "+leaf.Subject.CommonName+" was revoked at "+day(r.at)+" ("+r.reason+")",
			"if that was a mistake, enrol again with a new activation code", nil)
	}
	got, ok := roleOf(leaf)
	if !ok {
		return Verified{}, fault(op, ringfence.KindDenied, "the certificate of "+leaf.Subject.CommonName+" has no role", "issue it with this authority", nil)
	}
	// The root may be somebody else's, who signs for others too: what counts is what one of our own issuing authorities signed.
	i := slices.IndexFunc(chains, func(path []*x509.Certificate) bool { return len(path) > 1 && is.issued(path[1]) })
	if i < 0 {
		return Verified{}, fault(op, ringfence.KindUnauthenticated, "the certificate of "+leaf.Subject.CommonName+" was issued by "+leaf.Issuer.String()+", which is none of this organisation's issuing authorities",
			"enrol with this organisation's node: that another authority has the same root is not enough", nil)
	}
	path := chains[i]
	if got != role {
		return Verified{}, fault(op, ringfence.KindDenied, "the certificate of "+leaf.Subject.CommonName+" has the role "+string(got)+", not "+string(role),
			"use a certificate that was issued for the role "+string(role), nil)
	}
	name := leaf.Subject.CommonName
	if got == RoleDevice {
		name = deviceOf(leaf)
	}
	return Verified{Name: name, Role: got, Serial: serial, AnchorSubject: path[len(path)-1].Subject.String(), NotAfter: leaf.NotAfter}, nil
}

// explain words the reasons of x509.
func explain(op string, leaf *x509.Certificate, now time.Time, err error) error {
	name := leaf.Subject.CommonName
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		who := "the certificate of " + name
		if !sameCert(e.Cert, leaf) {
			who = "the authority " + e.Cert.Subject.CommonName + " that signed the certificate of " + name
		}
		if now.Before(e.Cert.NotBefore) {
			return fault(op, ringfence.KindUnauthenticated, who+" is not valid before "+day(e.Cert.NotBefore), "check the clocks of both sides", nil)
		}
		return fault(op, ringfence.KindUnauthenticated, who+" expired on "+day(e.Cert.NotAfter), "renew it, or enrol again with a new activation code; check the clocks of both sides", nil)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fault(op, ringfence.KindUnauthenticated, "the certificate of "+name+" was issued by "+leaf.Issuer.String()+", which is an unknown issuer",
			"enrol with this organisation's node, or add the issuer to the trust anchors", nil)
	}
	return fault(op, ringfence.KindUnauthenticated, "the certificate of "+name+" does not hold", "enrol again with a new activation code", err)
}

// VerifyDevice is Verify for devices; it returns the device's id.
func (a *Authority) VerifyDevice(chain []*x509.Certificate, now time.Time) (ringfence.DeviceID, error) {
	v, err := a.Verify(chain, RoleDevice, now)
	return ringfence.DeviceID(v.Name), err
}
