package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/trust/ca/internal/keys"
)

func (b *bench) offline(t *testing.T, phrase string) []byte {
	t.Helper()
	key, err := b.RootKey(t.Context(), []byte(phrase))
	must(t, err)
	sum := sha256.Sum256(b.RootCerts()[0].Raw)
	wantFault(t, b.ForgetRootKey(t.Context(), "00"), ringfence.KindInvalid, "not the fingerprint")
	must(t, b.ForgetRootKey(t.Context(), hex.EncodeToString(sum[:])))
	wantFault(t, b.ForgetRootKey(t.Context(), hex.EncodeToString(sum[:])), ringfence.KindNotFound, "is not here")
	return key
}

// TestOfflineRoot takes the root's key out, lets the issuing authority grow old, and has its successor signed where the key is.
func TestOfflineRoot(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	const phrase = "correct horse battery staple"
	_, err := b.RootKey(ctx, []byte("short"))
	wantFault(t, err, ringfence.KindInvalid, "passphrase of less than")
	old, _ := b.issue(t, RoleDevice, "old")
	key := b.offline(t, phrase)
	if _, err := b.RootKey(ctx, []byte(phrase)); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Error(err)
	}
	held, err := b.store.Secret(ctx, VaultName)
	must(t, err)
	block, _ := pem.Decode(key)
	root, err := keys.Unseal(block.Bytes, []byte(phrase))
	must(t, err)
	plain, err := root.Marshal()
	must(t, err)
	if bytes.Contains(held, plain) || !root.Public().(*ecdsa.PublicKey).Equal(b.RootCerts()[0].PublicKey) {
		t.Error("the key is still in the vault, or another one went out")
	}
	b.turn(issuingLifetime * 3 / 4)
	wantFault(t, b.Maintain(ctx), ringfence.KindUnavailable, "is not here")
	old2, _ := b.issue(t, RoleDevice, "old2") // it still signs

	csr, err := b.Request(ctx)
	must(t, err)
	s := Signer{Root: b.RootPEM(), Key: key, Passphrase: []byte("wrong wrong wrong"), Now: b.clock()}
	_, err = SignIssuing(s, csr)
	wantFault(t, err, ringfence.KindDenied, "passphrase is wrong")
	s.Passphrase = []byte(phrase)
	signed, err := SignIssuing(s, csr)
	must(t, err)
	other := newBench(t)
	_, err = other.Import(ctx, signed, false)
	wantFault(t, err, ringfence.KindConflict, "no certificate was requested")
	got, err := b.Import(ctx, signed, false)
	must(t, err)
	if got.NewRoot || len(got.Notes) > 0 {
		t.Errorf("%+v", got)
	}
	_, err = b.Import(ctx, signed, false)
	wantFault(t, err, ringfence.KindConflict, "no certificate was requested")
	fresh, _ := b.issue(t, RoleDevice, "fresh")
	if !b.Signs(fresh.Leaf) || b.Signs(old2.Leaf) {
		t.Error("the new authority does not sign")
	}
	for _, c := range []Issued{old2, fresh} {
		_, err := b.VerifyDevice([]*x509.Certificate{c.Leaf}, b.clock())
		must(t, err)
	}
	_, err = b.VerifyDevice([]*x509.Certificate{old.Leaf}, b.clock()) // its own time is over
	wantFault(t, err, ringfence.KindUnauthenticated, "expired on")
	must(t, b.Maintain(ctx))

	// Another node of the same store learns of it; so does the next start.
	again, err := Open(ctx, Config{Name: "Example", Vault: b.store, Ledger: b.store, Now: b.clock})
	must(t, err)
	if !again.Signs(fresh.Leaf) {
		t.Error("after a restart another authority signs")
	}
	csr, err = b.Request(ctx)
	must(t, err)
	signed, err = SignIssuing(s, csr)
	must(t, err)
	must(t, again.Refresh(ctx))
	_, err = again.Import(ctx, signed, false)
	must(t, err)
	must(t, b.Refresh(ctx))
	if b.Signs(fresh.Leaf) || len(b.Own()) != 4 {
		t.Error("what another node imported is not known here")
	}
}

// customer is an authority of somebody else, with one between its root and us.
type customer struct {
	root, mid       *x509.Certificate
	rootKey, midKey *keys.Key
}

func newCustomer(t *testing.T, b *bench) *customer {
	t.Helper()
	c := &customer{}
	var err error
	c.rootKey, err = keys.New()
	must(t, err)
	c.midKey, err = keys.New()
	must(t, err)
	tpl, err := (&Authority{org: "Customer", now: b.clock}).authorityTemplate("Root", c.rootKey, 10*issuingLifetime, 2)
	must(t, err)
	c.root = c.sign(t, tpl, tpl, c.rootKey, c.rootKey)
	tpl, err = (&Authority{org: "Customer", now: b.clock}).authorityTemplate("Policy", c.midKey, 5*issuingLifetime, 1)
	must(t, err)
	c.mid = c.sign(t, tpl, c.root, c.midKey, c.rootKey)
	return c
}

func (c *customer) sign(t *testing.T, tpl, parent *x509.Certificate, of, by *keys.Key) *x509.Certificate {
	t.Helper()
	der, err := by.SignCertificate(tpl, parent, of.Public())
	must(t, err)
	out, err := x509.ParseCertificate(der)
	must(t, err)
	return out
}

// answer signs a request, after change had its say.
func (c *customer) answer(t *testing.T, b *bench, csr []byte, change func(*x509.Certificate)) []byte {
	t.Helper()
	block, _ := pem.Decode(csr)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err)
	must(t, r.CheckSignature())
	tpl := &x509.Certificate{SerialNumber: c.mid.SerialNumber, Subject: r.Subject, SubjectKeyId: []byte{1, 2, 3, 4}, NotBefore: b.clock().Add(-time.Hour), NotAfter: b.clock().Add(issuingLifetime), IsCA: true,
		BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	if change != nil {
		change(tpl)
	}
	der, err := c.midKey.SignCertificate(tpl, c.mid, r.PublicKey)
	must(t, err)
	return pemOf(der)
}

func pemOf(ders ...[]byte) (out []byte) {
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// TestSubordinate puts the authority under that of a customer: what was issued before stays good, what comes after ends in the customer's root.
func TestSubordinate(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	before, _ := b.issue(t, RoleDevice, "before")
	formerRoot := b.RootCerts()[0]
	c := newCustomer(t, b)
	csr, err := b.Request(ctx)
	must(t, err)
	above := pemOf(c.root.Raw, c.mid.Raw)
	for words, change := range map[string]func(*x509.Certificate){
		"is none of an authority": func(x *x509.Certificate) {
			x.IsCA, x.MaxPathLenZero, x.KeyUsage = false, false, x509.KeyUsageDigitalSignature
		},
		"may not sign certificates": func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageCertSign },
		"expired on": func(x *x509.Certificate) {
			x.NotBefore, x.NotAfter = x.NotBefore.AddDate(-2, 0, 0), b.clock().Add(-time.Hour)
		},
		"TLS servers and TLS clients": func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
	} {
		_, err := b.Import(ctx, append(c.answer(t, b, csr, change), above...), true)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
		if csr2, err := b.Request(ctx); err == nil { // nothing was changed half-way
			csr = csr2
		}
	}
	good := c.answer(t, b, csr, nil)
	_, err = b.Import(ctx, append(slices.Clone(good), pemOf(c.mid.Raw)...), true)
	wantFault(t, err, ringfence.KindInvalid, "does not end in a root")
	_, err = b.Import(ctx, above, true)
	wantFault(t, err, ringfence.KindInvalid, "belongs to none")
	_, err = b.Import(ctx, append(slices.Clone(good), above...), false)
	wantFault(t, err, ringfence.KindConflict, "another root, CN=Ringfence Root")
	got, err := b.Import(ctx, append(slices.Clone(above), good...), true) // in the wrong order
	must(t, err)
	if !got.NewRoot || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "put in order") {
		t.Errorf("%+v", got)
	}
	after, _ := b.issue(t, RoleDevice, "after")
	if len(after.Chain) != 3 {
		t.Errorf("the chain has %d", len(after.Chain))
	}
	for _, x := range []Issued{before, after} {
		_, err := b.VerifyDevice([]*x509.Certificate{x.Leaf}, b.clock())
		must(t, err)
	}
	// Somebody who knows the customer's root only.
	mids, roots := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(c.root)
	for _, der := range after.Chain[1:] {
		m, err := x509.ParseCertificate(der)
		must(t, err)
		mids.AddCert(m)
	}
	if _, err := after.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mids, CurrentTime: b.clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	must(t, b.Revoke(ctx, serialText(after.Leaf), "lost"))
	der, err := b.CRL(ctx)
	must(t, err)
	list, err := x509.ParseRevocationList(der)
	must(t, err)
	if len(list.RevokedCertificateEntries) != 1 {
		t.Error("the list of the new authority does not have it")
	}
	again, err := Open(ctx, Config{Name: "Example", Vault: b.store, Ledger: b.store, Now: b.clock})
	must(t, err)
	if r := again.RootCerts(); len(r) != 2 || !r[0].Equal(c.root) || !r[1].Equal(formerRoot) {
		t.Error("the roots are not remembered")
	}
	wantFault(t, again.Rotate(ctx), ringfence.KindUnavailable, "certified elsewhere")
}

func FuzzUnseal(f *testing.F) {
	k, err := keys.New()
	must(f, err)
	der, err := k.Seal([]byte("correct horse"))
	must(f, err)
	f.Add(der[:60])
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 110 { // a whole one is longer, and costs a second on purpose
			return
		}
		if k, err := keys.Unseal(b, []byte("x")); (k == nil) != (err != nil) {
			t.Fatal(k, err)
		}
	})
}

// TestOnlyOwnIssuersSpeakForRoles has another authority below the customer's root sign a certificate that claims a role here: it proves nothing.
func TestOnlyOwnIssuersSpeakForRoles(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	c := newCustomer(t, b)
	csr, err := b.Request(ctx)
	must(t, err)
	_, err = b.Import(ctx, append(c.answer(t, b, csr, nil), pemOf(c.mid.Raw, c.root.Raw)...), true)
	must(t, err)
	good, _ := b.issue(t, RoleAdmin, "root")
	_, err = b.Verify([]*x509.Certificate{good.Leaf}, RoleAdmin, b.clock())
	must(t, err)

	key, err := keys.New()
	must(t, err)
	for _, role := range []Role{RoleAdmin, RoleDevice, RoleNode} {
		role1, err := url.Parse(rolePrefix + string(role))
		must(t, err)
		device, err := url.Parse(devicePrefix + "alice-desk")
		must(t, err)
		uris := []*url.URL{role1}
		if role == RoleDevice {
			uris = append(uris, device)
		}
		leaf := c.sign(t, &x509.Certificate{SerialNumber: good.Leaf.SerialNumber, Subject: pkix.Name{CommonName: "root"}, URIs: uris, NotBefore: b.clock().Add(-time.Hour), NotAfter: b.clock().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, c.mid, key, c.midKey)
		for _, chain := range [][]*x509.Certificate{{leaf}, {leaf, c.mid}, {leaf, c.mid, c.root}} {
			_, err = b.Verify(chain, role, b.clock())
			wantFault(t, err, ringfence.KindUnauthenticated, "none of this organisation's issuing authorities")
		}
	}
}
