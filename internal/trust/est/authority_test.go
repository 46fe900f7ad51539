package est_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/est"
)

// ours is the organisation's own authority for devices, which is how a node joins the two rooms. Codes are those of the test.
type ours struct {
	*office
	authority *ca.Authority
}

func (o ours) Enrol(ctx context.Context, c est.Client, csr *x509.CertificateRequest) ([]byte, time.Duration, error) {
	out, err := o.authority.IssueFromCSR(ctx, csr.Raw, ca.Constraints{Role: ca.RoleDevice, Name: c.Name})
	if err != nil {
		return nil, 0, err
	}
	return out.Chain[0], 0, nil
}

func (o ours) Renew(ctx context.Context, c est.Client, csr *x509.CertificateRequest) ([]byte, time.Duration, error) {
	return o.Enrol(ctx, c, csr)
}

func (o ours) Certificate(_ context.Context, chain []*x509.Certificate) (est.Client, error) {
	id, err := o.authority.VerifyDevice(chain, time.Now())
	return est.Client{Name: string(id)}, err
}

// TestOwnAuthority enrols and renews a device with the authority of the product, until the device is revoked.
func TestOwnAuthority(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	authority, err := ca.Open(t.Context(), ca.Config{Name: "Example", Vault: st, Ledger: st})
	if err != nil {
		t.Fatal(err)
	}
	c := newClinic(t, func(c *est.Config) {
		o := ours{c.Issuer.(*office), authority}
		c.Issuer, c.Authenticator = o, o
	})
	key := newKey(t)
	cert := only(t, c.do(request{method: "POST", path: "simpleenroll", user: "phone1", code: "1234-5678", body: func(string) []byte { return csr(t, key, named("admin"), "") }}))
	if id, err := authority.VerifyDevice([]*x509.Certificate{cert}, time.Now()); id != "phone1" || err != nil {
		t.Fatalf("%q %v", id, err)
	}
	renew := request{method: "POST", path: "simplereenroll", cert: &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, body: func(string) []byte {
		return csr(t, newKey(t), x509.CertificateRequest{RawSubject: cert.RawSubject, URIs: cert.URIs}, "")
	}}
	next := only(t, c.do(renew))
	if id, err := authority.VerifyDevice([]*x509.Certificate{next}, time.Now()); id != ringfence.DeviceID("phone1") || err != nil {
		t.Fatalf("%q %v", id, err)
	}
	if err := authority.Revoke(t.Context(), cert.SerialNumber.Text(16), "superseded"); err != nil {
		t.Fatal(err)
	}
	if a := c.do(renew); a.StatusCode != http.StatusForbidden || !strings.Contains(string(a.body), "revoked") {
		t.Errorf("a revoked certificate renews: %d %s", a.StatusCode, a.body)
	}
}
