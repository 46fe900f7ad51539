package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/trust/ca/internal/keys"
	"ringfence/internal/trust/chain"
)

// Request makes a key for the next issuing authority and returns a certificate request for it (PKCS #10, PEM), for a root that is kept elsewhere or for
// the authority of somebody else. Nothing changes until [Authority.Import] brings the certificate; a new request forgets the one before.
func (a *Authority) Request(ctx context.Context) ([]byte, error) {
	const op = "ca.request"
	key, err := keys.New()
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "no key could be made", "", err)
	}
	sealed, err := key.Marshal()
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the key cannot be written", "", nil)
	}
	t, err := a.authorityTemplate("Issuing", key, issuingLifetime, 0)
	if err != nil {
		return nil, err
	}
	// What an authority usually copies, or at least looks at: CA with no authority below it, and what its key is for (RFC 5280 section 4.2.1).
	constraints, err1 := asn1.Marshal(struct {
		CA     bool
		MaxLen int
	}{true, 0})
	usage, err2 := asn1.Marshal(asn1.BitString{Bytes: []byte{0b0000_0110}, BitLength: 7})
	if err := firstOf(err1, err2); err != nil {
		return nil, fault(op, ringfence.KindInternal, "the request cannot be written", "", err)
	}
	csr, err := key.SignRequest(&x509.CertificateRequest{Subject: t.Subject, ExtraExtensions: []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints}, {Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage}}})
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the request could not be signed", "", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	done, err := a.change(ctx, "ca.request", t.Subject.String(), func(e *estate) error { e.Asked = sealed; return nil })
	if err == nil && !done {
		err = fault(op, ringfence.KindConflict, "another node changed the authority at the same time", "try again", nil)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), err
}

// Imported says what came of an import.
type Imported struct {
	Notes   []string // what was repaired, and what the new authority may not do
	NewRoot bool     // what is signed from now on ends in another root
}

// Import takes the certificate that answers the last request, with the authorities above it up to a root, as PEM in any order or as DER. From then on it signs;
// what was signed before stays good. Under another root than now, whoever knows only the present one would not believe the node any more: that is
// done only if newRoot says so.
func (a *Authority) Import(ctx context.Context, file []byte, newRoot bool) (out Imported, err error) {
	const op = "ca.import"
	a.mu.Lock()
	defer a.mu.Unlock()
	is := a.issuing.Load()
	if is.asked == nil {
		return out, fault(op, ringfence.KindConflict, "no certificate was requested", "ringfence trust ca request > issuing.csr", nil)
	}
	certs, err := chain.Read(file)
	if err != nil {
		return out, err
	}
	ordered, notes, err := chain.Order(certs, is.asked.Public())
	if err != nil {
		return out, err
	}
	root, err := rootOf(ordered, certs, is.roots(), a.now())
	if err != nil {
		return out, err
	}
	for _, n := range notes {
		if !strings.HasPrefix(n, "left out the root") { // it is kept: it is the anchor
			out.Notes = append(out.Notes, n)
		}
	}
	if err := a.mayIssue(ordered, root); err != nil {
		return out, err
	}
	cert := ordered[0]
	if len(cert.PermittedDNSDomains)+len(cert.PermittedURIDomains)+len(cert.PermittedIPRanges) > 0 {
		out.Notes = append(out.Notes, "the authority may sign for certain names only: "+fmt.Sprint(cert.PermittedDNSDomains, cert.PermittedURIDomains, cert.PermittedIPRanges))
	}
	out.NewRoot = !sameCert(root, is.root)
	if out.NewRoot && !newRoot {
		return out, fault(op, ringfence.KindConflict, "the certificate ends in another root, "+root.Subject.String()+", which phones that are enrolled do not know: they would not believe this node any more",
			"`ringfence trust list --role device --state live` shows them; to go on and enrol them again: --new-root", nil)
	}
	key, err := is.asked.Marshal()
	if err != nil {
		return out, fault(op, ringfence.KindInternal, "the key cannot be written", "", nil)
	}
	next := owned{Cert: cert.Raw, Key: key}
	for _, c := range ordered[1:] {
		next.Mids = append(next.Mids, c.Raw)
	}
	done, err := a.change(ctx, "ca.import", cert.Subject.String()+" by "+cert.Issuer.String(), func(e *estate) error {
		e.Issuing, e.Asked = append(e.Issuing, next), nil
		if out.NewRoot {
			e.Former = append(slices.DeleteFunc(e.Former, func(der []byte) bool { return bytes.Equal(der, root.Raw) }), e.Root.Cert)
			e.Root = owned{Cert: root.Raw} // the key of the root of before has nothing more to sign
		}
		return nil
	})
	if err == nil && !done {
		err = fault(op, ringfence.KindConflict, "another node changed the authority at the same time", "see `ringfence trust status`, and try again", nil)
	}
	return out, err
}

// rootOf returns the root that a chain ends in: one of the file, or one of ours.
func rootOf(ordered, file, ours []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	const op = "ca.import"
	top := ordered[len(ordered)-1]
	if chain.SelfSigned(top) {
		return nil, fault(op, ringfence.KindInvalid, chain.Name(top)+" signed itself", "have the request signed by the root: `ringfence trust ca sign`, or the customer's authority", nil)
	}
	for _, c := range append(slices.Clone(ours), file...) {
		if chain.SelfSigned(c) && bytes.Equal(c.RawSubject, top.RawIssuer) && top.CheckSignatureFrom(c) == nil {
			if now.After(c.NotAfter) {
				return nil, fault(op, ringfence.KindInvalid, "the root "+chain.Name(c)+" expired on "+day(c.NotAfter), "ask its owner for the present one", nil)
			}
			return c, nil
		}
	}
	return nil, fault(op, ringfence.KindInvalid, "the chain does not end in a root: "+chain.Name(top)+" was signed by "+top.Issuer.String()+", which is not in the file", "add the certificates above it, up to the one that signed itself", nil)
}

// mayIssue says why an authority could not sign for the roles of this one.
func (a *Authority) mayIssue(ordered []*x509.Certificate, root *x509.Certificate) error {
	const op, hint = "ca.import", "ask the authority to sign the request as a subordinate authority"
	c, now := ordered[0], a.now()
	if !c.BasicConstraintsValid || !c.IsCA {
		return fault(op, ringfence.KindInvalid, "the certificate of "+chain.Name(c)+" is none of an authority", hint, nil)
	}
	if c.KeyUsage&x509.KeyUsageCertSign == 0 || c.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return fault(op, ringfence.KindInvalid, "the key of "+chain.Name(c)+" may not sign certificates and revocation lists", hint+", with keyCertSign and cRLSign", nil)
	}
	if len(c.SubjectKeyId) == 0 {
		return fault(op, ringfence.KindInvalid, "the certificate of "+chain.Name(c)+" has no subject key identifier", hint+", with one (RFC 5280 section 4.2.1.2)", nil)
	}
	mids, roots := x509.NewCertPool(), x509.NewCertPool()
	for _, m := range ordered[1:] {
		mids.AddCert(m)
	}
	roots.AddCert(root)
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mids, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return explain(op, c, now, err)
	}
	allows := func(u x509.ExtKeyUsage) bool {
		return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, u) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
	}
	if !allows(x509.ExtKeyUsageServerAuth) || !allows(x509.ExtKeyUsageClientAuth) {
		return fault(op, ringfence.KindInvalid, "the authority "+chain.Name(c)+" may not sign for both TLS servers and TLS clients", hint+" without extended key usage, or with both", nil)
	}
	return nil
}

// RootKey returns the key of the root encrypted by a passphrase (PKCS #8, PEM), to be kept elsewhere. It stays here too until [Authority.ForgetRootKey].
func (a *Authority) RootKey(ctx context.Context, passphrase []byte) ([]byte, error) {
	const op = "ca.root"
	const shortest = 12
	if len(passphrase) < shortest {
		return nil, fault(op, ringfence.KindInvalid, fmt.Sprintf("a passphrase of less than %d characters does not protect the root", shortest), "use several random words", nil)
	}
	is := a.issuing.Load()
	if is.rootKey == nil {
		return nil, notHere(op)
	}
	der, err := is.rootKey.Seal(passphrase)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the key cannot be sealed", "", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), a.audit(ctx, "ca.root.export", is.root.Subject.String())
}

func notHere(op string) error {
	return fault(op, ringfence.KindNotFound, "the key of the root is not here", "it was taken out, or the root is somebody else's", nil)
}

// ForgetRootKey takes the key of the root out, once it is kept elsewhere: the root certificate must be named by its SHA-256, so that nobody forgets another one.
// From then on a successor of the issuing authority is requested and imported.
func (a *Authority) ForgetRootKey(ctx context.Context, fingerprint string) error {
	const op = "ca.root"
	a.mu.Lock()
	defer a.mu.Unlock()
	is := a.issuing.Load()
	if is.rootKey == nil {
		return notHere(op)
	}
	if sum := sha256.Sum256(is.root.Raw); hex.EncodeToString(sum[:]) != fingerprint {
		return fault(op, ringfence.KindInvalid, "this is not the fingerprint of the root", "see `ringfence trust`", nil)
	}
	done, err := a.change(ctx, "ca.root.forget", is.root.Subject.String(), func(e *estate) error { e.Root.Key = nil; return nil })
	if err == nil && !done {
		err = fault(op, ringfence.KindConflict, "another node changed the authority at the same time", "try again", nil)
	}
	return err
}

// Signer is a root that is kept elsewhere, with its key, for a moment on a machine without a network.
type Signer struct {
	Root       []byte // certificate, PEM or DER
	Key        []byte // encrypted, PEM: what [Authority.RootKey] returned
	Passphrase []byte
	Now        time.Time
}

// SignIssuing signs the certificate of an issuing authority for a request, and returns it with the root as PEM: what [Authority.Import] takes.
func SignIssuing(s Signer, csr []byte) ([]byte, error) {
	const op = "ca.sign"
	certs, err := chain.Read(s.Root)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(s.Key)
	if block == nil || block.Type != "ENCRYPTED PRIVATE KEY" {
		return nil, fault(op, ringfence.KindInvalid, "the file holds no encrypted private key", "give what `ringfence trust ca offline` wrote", nil)
	}
	key, err := keys.Unseal(block.Bytes, s.Passphrase)
	if err != nil {
		return nil, fault(op, ringfence.KindDenied, err.Error(), "", nil)
	}
	ordered, _, err := chain.Order(certs, key.Public())
	if err != nil {
		return nil, err
	}
	root := ordered[0]
	if !root.IsCA || !chain.SelfSigned(root) {
		return nil, fault(op, ringfence.KindInvalid, chain.Name(root)+" is no root", "", nil)
	}
	block, _ = pem.Decode(csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fault(op, ringfence.KindInvalid, "the file holds no certificate request", "give what `ringfence trust ca request` printed", nil)
	}
	pub, err := CSRKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fault(op, ringfence.KindInvalid, "the certificate request cannot be read", "", err)
	}
	t, err := authorityTemplate(pub, s.Now, issuingLifetime, 0)
	if err != nil {
		return nil, err
	}
	t.Subject = r.Subject
	if t.NotAfter.After(root.NotAfter) {
		t.NotAfter = root.NotAfter
	}
	if !t.NotAfter.After(s.Now) {
		return nil, fault(op, ringfence.KindInvalid, "the root expired on "+day(root.NotAfter), "check this machine's clock", nil)
	}
	der, err := key.SignCertificate(t, root, pub)
	if err != nil {
		return nil, fault(op, ringfence.KindInternal, "the certificate could not be signed", "", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...), nil
}
