package capf

import (
	"context"
	"crypto"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// ours lets the node's authority issue, for the room of the test: the device has the name that it has on the wire.
type ours struct{ *ca.Authority }

func (o ours) IssueLSC(ctx context.Context, device ringfence.DeviceID, _ string, pub crypto.PublicKey) ([]byte, error) {
	is, err := o.Issue(ctx, ca.Request{Role: ca.RoleDevice, Name: string(device), PublicKey: pub})
	if err != nil {
		return nil, err
	}
	return is.Chain[0], nil
}

// TestWithTheAuthority has the node's own authority, on a store, sign, verify and revoke.
func TestWithTheAuthority(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	auth, err := ca.Open(t.Context(), ca.Config{Name: "Example", Vault: st, Ledger: st})
	if err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, func(c *Config) { c.Issuer, c.LSCs = ours{auth}, auth })
	want := order(InstallUpgrade)
	want.Device = phoneName
	e := o.book.add(phoneName, want)
	c := client()
	if s := o.meet(t, c); s.err != nil || s.phone != nil || e.status != UpgradeSuccess {
		t.Fatalf("%+v %+v", s, e)
	}
	first := c.Keeper.(*pocket)
	if id, err := auth.VerifyDevice([]*x509.Certificate{first.cert}, time.Now()); id != phoneName || err != nil {
		t.Fatal(id, err)
	}

	// The next one, by the first.
	want.Auth, want.String = ByLSC, ""
	e = o.book.add(phoneName, want)
	c.String, c.Keeper, c.Proof = "", &pocket{}, &Credential{first.cert.Raw, first.key}
	if s := o.meet(t, c); s.err != nil || s.phone != nil || e.status != UpgradeSuccess {
		t.Fatalf("%+v %+v", s, e)
	}

	// One that the phone does not store is revoked, and proves nothing afterwards.
	e = o.book.add(phoneName, want)
	var made Credential
	c.Keeper = refuser{func(cert *x509.Certificate, key crypto.Signer) { made = Credential{cert.Raw, key} }}
	if s := o.meet(t, c); s.err == nil || e.status != UpgradeFailed || !auth.IsRevoked(e.last.Serial) {
		t.Fatalf("%+v %+v", s, e)
	}
	e = o.book.add(phoneName, want)
	c.Keeper, c.Proof = &pocket{}, &made
	if s := o.meet(t, c); ringfence.KindOf(s.err) != ringfence.KindDenied || e.status != OperationPending || c.Keeper.Certificate() != nil {
		t.Fatalf("%+v %+v", s, e)
	}

	// What the authority says no to ends the order before a phone is told to make a key that nobody certifies.
	want.Key = ECP521
	if err := o.Check(want); ringfence.KindOf(err) != ringfence.KindUnsupported {
		t.Fatal(err)
	}
	for _, k := range o.c.Keys {
		key, err := generate(k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (ours{auth}).IssueLSC(t.Context(), phoneName, phoneName, key.Public()); err != nil {
			t.Errorf("the authority does not certify %s: %v", k, err)
		}
	}
	if key, err := generate(ECP521); err != nil {
		t.Fatal(err)
	} else if _, err := (ours{auth}).IssueLSC(t.Context(), phoneName, phoneName, key.Public()); err == nil {
		t.Error("the authority certifies P-521 by now: add it to the keys that are taken by default")
	}
}

// refuser is a phone that looks at a certificate and does not store it.
type refuser struct {
	saw func(*x509.Certificate, crypto.Signer)
}

func (r refuser) Store(c *x509.Certificate, k crypto.Signer) error {
	r.saw(c, k)
	return context.Canceled
}
func (refuser) Delete() (bool, error) { return false, nil }
func (refuser) Certificate() []byte   { return nil }
