package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// Request says what certificate is wanted. Who may ask for what is decided by the caller; this room only enforces the role's rule.
type Request struct {
	Role      Role
	Name      string       // common name: a node, device, person, trunk or client id
	DNSNames  []string     // nodes and trunks only
	IPs       []netip.Addr // nodes and trunks only
	URIs      []string     // sip: and sips: URIs, for nodes, devices and trunks (RFC 5922)
	PublicKey crypto.PublicKey
	Lifetime  time.Duration // zero: the role's usual one
}

// Constraints is a Request without a key, for IssueFromCSR.
type Constraints struct {
	Role     Role
	Name     string
	DNSNames []string
	IPs      []netip.Addr
	URIs     []string
	Lifetime time.Duration
}

// Issued is a new certificate.
type Issued struct {
	Chain [][]byte // DER: leaf, issuing authority and what is between it and the root, which is left out, as in TLS
	PEM   []byte   // the chain as PEM
	Leaf  *x509.Certificate
}

// Issue signs a certificate and keeps it, with an audit entry, before it returns.
func (a *Authority) Issue(ctx context.Context, req Request) (Issued, error) {
	const op = "ca.issue"
	rule, ok := req.Role.rule()
	if !ok {
		return Issued{}, fault(op, ringfence.KindInvalid, "there is no role "+string(req.Role), "", nil)
	}
	uris, err := rule.check(req)
	if err != nil {
		return Issued{}, err
	}
	if err := checkKey(op, req.PublicKey); err != nil {
		return Issued{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return Issued{}, err
	}
	if req.Lifetime == 0 {
		req.Lifetime = rule.life
	}
	is, now := a.issuing.Load(), a.now()
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{Organization: []string{a.org}, CommonName: req.Name}, DNSNames: req.DNSNames, URIs: uris,
		NotBefore: now.Add(-min(backdate, req.Lifetime)), NotAfter: now.Add(req.Lifetime), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: rule.usage}
	for _, ip := range req.IPs {
		if !ip.IsValid() {
			return Issued{}, fault(op, ringfence.KindInvalid, "an address in the request is empty", "", nil)
		}
		t.IPAddresses = append(t.IPAddresses, ip.Unmap().AsSlice())
	}
	return a.finish(ctx, is, t, req)
}

// finish signs what a template says, by is, and keeps it.
func (a *Authority) finish(ctx context.Context, is *issuer, t *x509.Certificate, req Request) (Issued, error) {
	const op = "ca.issue"
	if t.NotAfter.After(is.cert.NotAfter) {
		t.NotAfter = is.cert.NotAfter
	}
	if !t.NotAfter.After(a.now()) {
		return Issued{}, fault(op, ringfence.KindUnavailable, "the issuing authority expired on "+day(is.cert.NotAfter), "see `ringfence trust status` for how it gets a successor", nil)
	}
	if base := a.base(); base != "" {
		t.OCSPServer = []string{base + "/ocsp"}
		t.CRLDistributionPoints = []string{base + "/crl/" + hex.EncodeToString(is.cert.SubjectKeyId) + ".crl"}
	}
	der, err := is.key.SignCertificate(t, is.cert, req.PublicKey)
	if err != nil {
		return Issued{}, fault(op, ringfence.KindInternal, "the certificate could not be signed", "", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return Issued{}, fault(op, ringfence.KindInternal, "the certificate could not be read", "", err)
	}
	out := Issued{Chain: append([][]byte{der, is.cert.Raw}, is.mids...), Leaf: leaf}
	for _, c := range out.Chain {
		out.PEM = append(out.PEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	rec := store.Certificate{Serial: serialText(leaf), Subject: leaf.Subject.String(), Role: string(req.Role), Name: req.Name, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		PEM: string(out.PEM)}
	if req.Role == RoleDevice {
		rec.Device = ringfence.DeviceID(req.Name)
	}
	if err := a.ledger.RecordCertificate(ctx, rec, a.entry("certificate.issue", string(req.Role)+" "+req.Name+" serial "+rec.Serial)); err != nil {
		return Issued{}, err
	}
	return out, nil
}

// maxCSR bounds a certificate request, in bytes.
const maxCSR = 16 << 10

// IssueFromCSR signs a certificate for the key of a PKCS #10 request (RFC 2986). The request must be signed by that key; all
// else that it asks for is ignored, the constraints alone decide.
func (a *Authority) IssueFromCSR(ctx context.Context, csr []byte, c Constraints) (Issued, error) {
	pub, err := CSRKey(csr)
	if err != nil {
		return Issued{}, err
	}
	return a.Issue(ctx, Request{Role: c.Role, Name: c.Name, DNSNames: c.DNSNames, IPs: c.IPs, URIs: c.URIs, PublicKey: pub, Lifetime: c.Lifetime})
}

// CSRKey returns the public key of a certificate request, after checking that whoever made the request holds its private half.
func CSRKey(csr []byte) (crypto.PublicKey, error) {
	const op = "ca.csr"
	if len(csr) > maxCSR {
		return nil, fault(op, ringfence.KindInvalid, "the certificate request is too long", "", nil)
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fault(op, ringfence.KindInvalid, "the certificate request cannot be read", "it must be PKCS #10 in DER", err)
	}
	if err := checkKey(op, r.PublicKey); err != nil { // before the signature: checking one under a huge key would be costly
		return nil, err
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fault(op, ringfence.KindDenied, "the certificate request is not signed by its own key", "make the request with the private key itself", err)
	}
	return r.PublicKey, nil
}

// checkKey accepts ECDSA on P-256 and P-384, and RSA from 2048 to 8192 bits.
func checkKey(op string, pub crypto.PublicKey) error {
	const hint = "use ECDSA P-256 or P-384, or RSA with 2048 to 8192 bits"
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= 2048 && n <= 8192 {
			return nil
		}
	}
	return fault(op, ringfence.KindInvalid, "a key of this kind or size is not certified", hint, nil)
}

// IssueDevice signs a certificate for a device from its certificate request, for enrolment. sipURI, if not empty, is the
// user's address-of-record (RFC 5922). The chain is DER: leaf, issuing authority.
func (a *Authority) IssueDevice(ctx context.Context, csr []byte, id ringfence.DeviceID, sipURI string) ([][]byte, error) {
	c := Constraints{Role: RoleDevice, Name: string(id)}
	if sipURI != "" {
		c.URIs = []string{sipURI}
	}
	out, err := a.IssueFromCSR(ctx, csr, c)
	return out.Chain, err
}
