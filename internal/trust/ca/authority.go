package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca/internal/keys"
)

// Vault keeps secrets sealed at rest; *store.Store is one.
type Vault interface {
	// Secret returns a secret, or a fault of KindNotFound.
	Secret(ctx context.Context, name string) ([]byte, error)
	// CreateSecret keeps a new secret; KindConflict if the name is taken.
	CreateSecret(ctx context.Context, name string, secret []byte) error
	// ReplaceSecret replaces a secret that is still old; KindConflict if it is not.
	ReplaceSecret(ctx context.Context, name string, old, secret []byte) error
}

// Ledger keeps what was signed and revoked, each with its audit entry in one transaction; *store.Store is one.
type Ledger interface {
	RecordCertificate(ctx context.Context, c store.Certificate, a store.AuditEntry) error
	RevokeCertificate(ctx context.Context, serial string, at time.Time, reason string, a store.AuditEntry) error
	RevokedCertificates(ctx context.Context, now time.Time) ([]store.Certificate, error)
	Certificate(ctx context.Context, serial string) (store.Certificate, error)
	AppendAudit(ctx context.Context, a store.AuditEntry) error
}

var (
	_ Vault  = (*store.Store)(nil)
	_ Ledger = (*store.Store)(nil)
)

// Config says who the authority is and where it keeps things.
type Config struct {
	Name   string // the organisation: O= of every certificate it signs
	Vault  Vault
	Ledger Ledger
	Now    func() time.Time // nil: time.Now
	// Base is where certificates say that revocation is to be asked for: an http address, below which are ocsp and crl. Nil or empty: they say
	// nothing.
	Base func() string
}

// Lifetimes of the authority's own certificates. A new issuing authority is signed when a third of the old one's life is left,
// which is longer than any leaf may live.
const (
	rootLifetime    = 10 * 365 * 24 * time.Hour
	issuingLifetime = 2 * 365 * 24 * time.Hour
	backdate        = 2 * time.Hour // for clocks that run behind, or are an hour ahead and set right: nobody who enrolled meanwhile is locked out
)

// VaultName is the name of the secret that the authority is.
const VaultName = "ca/authority/v1"

// Authority issues, revokes and verifies. Its methods may be called from any goroutine.
type Authority struct {
	org    string
	vault  Vault
	ledger Ledger
	now    func() time.Time
	base   func() string

	responders responders

	issuing atomic.Pointer[issuer]
	revoked atomic.Pointer[map[string]revocation] // by serial; copied on change, so that looking up takes no lock

	mu   sync.Mutex // guards changes of issuing and revoked, and what the vault holds
	held []byte     // what the vault holds
}

// issuer is an issuing authority: the last one signs, the ones before it are still believed.
type issuer struct {
	signing
	older  []signing
	derive *x509.CertPool // all issuing certificates, to complete chains that peers did not send

	root    *x509.Certificate   // the trust anchor of what is signed now
	rootKey *keys.Key           // nil: it is kept elsewhere, or the root is somebody else's
	former  []*x509.Certificate // roots of before, in which older certificates end
	pool    *x509.CertPool      // all roots
	asked   *keys.Key           // for which a certificate was requested from another authority, or nil
}

// signing is a certificate with its key.
type signing struct {
	cert *x509.Certificate
	key  *keys.Key
	mids [][]byte // DER: the authorities between it and its root
}

// roots returns the roots, the one of what is signed now first.
func (is *issuer) roots() []*x509.Certificate {
	return append([]*x509.Certificate{is.root}, is.former...)
}

// by returns the issuing authority with a key id in hexadecimal, or false.
func (is *issuer) by(keyID string) (signing, bool) {
	for _, s := range append([]signing{is.signing}, is.older...) {
		if hex.EncodeToString(s.cert.SubjectKeyId) == keyID {
			return s, true
		}
	}
	return signing{}, false
}

// issued reports whether a certificate is one of an issuing authority.
func (is *issuer) issued(c *x509.Certificate) bool {
	return sameCert(is.cert, c) || slices.ContainsFunc(is.older, func(s signing) bool { return sameCert(s.cert, c) })
}

// revocation is what a relying party is told.
type revocation struct {
	at     time.Time
	reason string
	code   int    // RFC 5280 section 5.3.1
	akid   string // key id of the issuing authority
}

// estate is what is sealed in the vault.
type estate struct {
	Root    owned    `json:"root"`             // without a key if that is kept elsewhere
	Former  [][]byte `json:"former,omitempty"` // DER: roots of before
	Issuing []owned  `json:"issuing"`          // oldest first
	Asked   []byte   `json:"asked,omitempty"`  // PKCS #8: the key of a request that was not answered yet
}

type owned struct {
	Cert []byte   `json:"cert"`           // DER
	Key  []byte   `json:"key,omitempty"`  // PKCS #8
	Mids [][]byte `json:"mids,omitempty"` // DER: between this and the root
}

// Open loads the authority, or makes it if the vault has none: then a root and an issuing key come to be, and stay sealed.
func Open(ctx context.Context, c Config) (*Authority, error) {
	const op = "ca.open"
	if c.Name == "" || c.Vault == nil || c.Ledger == nil {
		return nil, fault(op, ringfence.KindInvalid, "the authority needs a name, a vault and a ledger", "set the organisation's name", nil)
	}
	a := &Authority{org: c.Name, vault: c.Vault, ledger: c.Ledger, now: c.Now, base: c.Base}
	if a.now == nil {
		a.now = time.Now
	}
	if a.base == nil {
		a.base = func() string { return "" }
	}
	held, err := a.vault.Secret(ctx, VaultName)
	if ringfence.KindOf(err) == ringfence.KindNotFound && err != nil {
		if err = a.found(ctx); err == nil || ringfence.KindOf(err) == ringfence.KindConflict { // another node was first: use its authority
			held, err = a.vault.Secret(ctx, VaultName)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := a.load(held); err != nil {
		return nil, err
	}
	if err := a.Refresh(ctx); err != nil {
		return nil, err
	}
	return a, a.Maintain(ctx)
}

// found makes a root and a first issuing authority.
func (a *Authority) found(ctx context.Context) error {
	const op = "ca.found"
	rootKey, err := keys.New()
	if err != nil {
		return fault(op, ringfence.KindInternal, "no key could be made", "", err)
	}
	t, err := a.authorityTemplate("Root", rootKey, rootLifetime, 1)
	if err != nil {
		return err
	}
	der, err := rootKey.SignCertificate(t, t, rootKey.Public())
	if err != nil {
		return fault(op, ringfence.KindInternal, "the root could not be signed", "", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return fault(op, ringfence.KindInternal, "the root could not be read", "", err)
	}
	rootOwned, err := own(root, rootKey)
	if err != nil {
		return err
	}
	first, err := a.newIssuing(root, rootKey)
	if err != nil {
		return err
	}
	b, err := json.Marshal(estate{Root: rootOwned, Issuing: []owned{first}})
	if err != nil {
		return fault(op, ringfence.KindInternal, "the authority cannot be written", "", err)
	}
	if err := a.vault.CreateSecret(ctx, VaultName, b); err != nil {
		return err
	}
	return firstOf(a.audit(ctx, "ca.sign", root.Subject.String()), a.audit(ctx, "ca.sign", "issuing authority of "+root.Subject.String()))
}

func (a *Authority) authorityTemplate(kind string, k *keys.Key, life time.Duration, pathLen int) (*x509.Certificate, error) {
	t, err := authorityTemplate(k.Public(), a.now(), life, pathLen)
	if err == nil {
		t.Subject = authorityName(a.org, kind, t.SubjectKeyId[:4])
	}
	return t, err
}

// authorityTemplate is a certificate of an authority for a key, without a subject.
func authorityTemplate(pub crypto.PublicKey, now time.Time, life time.Duration, pathLen int) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fault("ca.sign", ringfence.KindInternal, "the key cannot be written", "", err)
	}
	id := sha256.Sum256(spki)
	return &x509.Certificate{SerialNumber: serial, SubjectKeyId: id[:20], NotBefore: now.Add(-backdate), NotAfter: now.Add(life), IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, nil
}

// newIssuing makes an issuing authority signed by the root. It may sign leaves only (path length 0).
func (a *Authority) newIssuing(root *x509.Certificate, rootKey *keys.Key) (owned, error) {
	const op = "ca.sign"
	key, err := keys.New()
	if err != nil {
		return owned{}, fault(op, ringfence.KindInternal, "no key could be made", "", err)
	}
	t, err := a.authorityTemplate("Issuing", key, issuingLifetime, 0)
	if err != nil {
		return owned{}, err
	}
	if t.NotAfter.After(root.NotAfter) {
		t.NotAfter = root.NotAfter
	}
	der, err := rootKey.SignCertificate(t, root, key.Public())
	if err != nil {
		return owned{}, fault(op, ringfence.KindInternal, "the issuing authority could not be signed", "", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return owned{}, fault(op, ringfence.KindInternal, "the issuing authority could not be read", "", err)
	}
	return own(cert, key)
}

func own(cert *x509.Certificate, key *keys.Key) (owned, error) {
	der, err := key.Marshal()
	if err != nil {
		return owned{}, fault("ca.sign", ringfence.KindInternal, "the key cannot be written", "", nil)
	}
	return owned{Cert: cert.Raw, Key: der}, nil
}

// load reads what the vault holds.
func (a *Authority) load(held []byte) error {
	bad := func(cause error) error {
		return fault("ca.open", ringfence.KindInvalid, "the sealed authority is damaged", "restore the database from a backup", cause)
	}
	var e estate
	if err := json.Unmarshal(held, &e); err != nil || len(e.Issuing) == 0 {
		return bad(nil)
	}
	is := &issuer{derive: x509.NewCertPool(), pool: x509.NewCertPool()}
	for i, o := range e.Issuing {
		cert, key, err := o.open()
		if err != nil || key == nil {
			return bad(err)
		}
		is.derive.AddCert(cert)
		for _, der := range o.Mids {
			mid, err := x509.ParseCertificate(der)
			if err != nil {
				return bad(err)
			}
			is.derive.AddCert(mid)
		}
		if i < len(e.Issuing)-1 {
			is.older = append(is.older, signing{cert, key, o.Mids})
		}
		is.signing = signing{cert, key, o.Mids}
	}
	var err error
	if is.root, is.rootKey, err = e.Root.open(); err != nil {
		return bad(err)
	}
	for _, der := range e.Former {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return bad(err)
		}
		is.former = append(is.former, c)
	}
	for _, c := range is.roots() {
		is.pool.AddCert(c)
	}
	if e.Asked != nil {
		if is.asked, err = keys.Parse(e.Asked); err != nil {
			return bad(err)
		}
	}
	a.issuing.Store(is)
	a.held = held
	return nil
}

func (o owned) open() (*x509.Certificate, *keys.Key, error) {
	cert, err := x509.ParseCertificate(o.Cert)
	if err != nil {
		return nil, nil, err
	}
	if o.Key == nil {
		return cert, nil, nil
	}
	key, err := keys.Parse(o.Key)
	return cert, key, err
}

// Maintain signs a new issuing authority when less than a third of the old one's life is left. Call it daily; certificates
// that the old one signed stay good. Two nodes may do it at once: one wins, the other takes over the result.
func (a *Authority) Maintain(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, is := a.now(), a.issuing.Load()
	if now.Before(RenewAt(is.cert)) {
		return nil
	}
	if !now.Before(is.root.NotAfter) {
		return fault("ca.maintain", ringfence.KindUnavailable, "the root certificate expired on "+day(is.root.NotAfter), "found a new authority and enrol every device again", nil)
	}
	return a.succeed(ctx)
}

// Rotate signs a new issuing authority at once, as Maintain does when it is due. Certificates that the old one signed stay good.
func (a *Authority) Rotate(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.succeed(ctx)
}

// succeed signs the next issuing authority. It is called with mu held.
func (a *Authority) succeed(ctx context.Context) error {
	is := a.issuing.Load()
	if is.rootKey == nil {
		return fault("ca.rotate", ringfence.KindUnavailable, "the key of the root "+is.root.Subject.String()+" is not here, so that the next issuing authority must be certified elsewhere; the present one ends on "+day(is.cert.NotAfter),
			"ringfence trust ca request > issuing.csr; have it signed; ringfence trust ca import CHAIN", nil)
	}
	_, err := a.change(ctx, "ca.sign", "issuing authority of "+is.root.Subject.String(), func(e *estate) error {
		next, err := a.newIssuing(is.root, is.rootKey)
		e.Issuing = append(e.Issuing, next)
		return err
	})
	return err
}

// change alters what the vault holds. It is called with mu held. If another node was faster, what that one did is taken over instead, and done is false.
func (a *Authority) change(ctx context.Context, what, target string, do func(*estate) error) (done bool, err error) {
	var e estate
	if err := json.Unmarshal(a.held, &e); err != nil {
		return false, fault("ca.change", ringfence.KindInternal, "the authority cannot be read", "", nil)
	}
	if err := do(&e); err != nil {
		return false, err
	}
	b, err := json.Marshal(e)
	if err != nil {
		return false, fault("ca.change", ringfence.KindInternal, "the authority cannot be written", "", nil)
	}
	err = a.vault.ReplaceSecret(ctx, VaultName, a.held, b)
	if ringfence.KindOf(err) == ringfence.KindConflict && err != nil {
		if b, err = a.vault.Secret(ctx, VaultName); err != nil {
			return false, err
		}
		return false, a.load(b)
	}
	if err != nil {
		return false, err
	}
	if err := a.load(b); err != nil {
		return false, err
	}
	return true, a.audit(ctx, what, target)
}

// Standing is one of the authority's own certificates.
type Standing struct {
	Kind  string // "root" or "issuing"
	Cert  *x509.Certificate
	Signs bool // certificates of others, now
	Away  bool // its key is kept elsewhere
}

// Own returns the authority's own certificates: the root, the issuing ones, the latest first, and the roots of before.
func (a *Authority) Own() []Standing {
	is := a.issuing.Load()
	out := []Standing{{Kind: "root", Cert: is.root, Away: is.rootKey == nil}, {Kind: "issuing", Cert: is.cert, Signs: true}}
	for _, s := range slices.Backward(is.older) {
		out = append(out, Standing{Kind: "issuing", Cert: s.cert})
	}
	for _, c := range is.former {
		out = append(out, Standing{Kind: "former root", Cert: c, Away: true})
	}
	return out
}

// Roots returns a pool with the trust anchors of this authority. It is a copy.
func (a *Authority) Roots() *x509.CertPool { return a.issuing.Load().pool.Clone() }

// Signs reports whether a certificate was signed by what signs now.
func (a *Authority) Signs(leaf *x509.Certificate) bool {
	return bytes.Equal(leaf.AuthorityKeyId, a.issuing.Load().cert.SubjectKeyId)
}

// RootCerts returns the trust anchors of this authority, the one of what is signed now first.
func (a *Authority) RootCerts() []*x509.Certificate { return a.issuing.Load().roots() }

// AnchorCerts returns what verifies certificates of this authority: its roots, and its issuing authorities, since a phone that has its certificate by CAPF
// shows it without the one above.
func (a *Authority) AnchorCerts() []*x509.Certificate {
	is := a.issuing.Load()
	out := append(is.roots(), is.cert)
	for _, s := range is.older {
		out = append(out, s.cert)
	}
	return out
}

// Anchors reports whether one of some verified chains ends in one of [Authority.AnchorCerts].
func (a *Authority) Anchors(chains [][]*x509.Certificate) bool {
	own := a.AnchorCerts()
	return slices.ContainsFunc(chains, func(c []*x509.Certificate) bool { return len(c) > 0 && slices.ContainsFunc(own, c[len(c)-1].Equal) })
}

// RootPEM returns the trust anchor of what is signed now as PEM.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.issuing.Load().root.Raw})
}

func (a *Authority) audit(ctx context.Context, what, target string) error {
	return a.ledger.AppendAudit(ctx, a.entry(what, target))
}

func (a *Authority) entry(what, target string) store.AuditEntry {
	return store.AuditEntry{At: a.now(), Who: "trust/ca", What: what, Target: target, Outcome: "done"}
}

// RenewAt returns when a certificate should be renewed: after two thirds of its life.
func RenewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}

func firstOf(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

// serialText is the one spelling of a serial number: lower-case hexadecimal without leading zeros.
func serialText(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }
