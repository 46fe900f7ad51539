package ca

import (
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// question asks about a certificate as a client does.
func question(t testing.TB, i Issued, a *Authority) []byte {
	t.Helper()
	q, err := ocsp.CreateRequest(i.Leaf, a.issuing.Load().cert, nil)
	must(t, err)
	return q
}

func TestOCSP(t *testing.T) {
	b := newBench(t)
	a := b.Authority
	i, err := a.Issue(t.Context(), Request{Role: RoleCTI, Name: "c", PublicKey: newKey(t).Public()})
	must(t, err)
	issuer := a.issuing.Load().cert
	ask := func() *ocsp.Response {
		t.Helper()
		der, err := a.OCSP(t.Context(), question(t, i, a))
		must(t, err)
		r, err := ocsp.ParseResponseForCert(der, i.Leaf, issuer)
		must(t, err)
		return r
	}
	first := ask()
	if first.Status != ocsp.Good || !first.NextUpdate.Equal(b.clock().Add(time.Hour).Truncate(time.Second).UTC()) || first.Certificate == nil || first.Certificate.IsCA {
		t.Errorf("%+v", first)
	}
	if again := ask(); !sameCert(again.Certificate, first.Certificate) {
		t.Error("each answer has a responder of its own")
	}
	must(t, a.Revoke(t.Context(), serialText(i.Leaf), "key compromise"))
	if r := ask(); r.Status != ocsp.Revoked || r.RevocationReason != 1 {
		t.Errorf("%+v", r)
	}
	b.turn(6 * 24 * time.Hour)
	if later := ask(); sameCert(later.Certificate, first.Certificate) {
		t.Error("the responder was not renewed")
	}
	if der, err := a.OCSP(t.Context(), make([]byte, maxQuestion+1)); err != nil || string(der) != string(ocsp.MalformedRequestErrorResponse) {
		t.Errorf("%x %v", der, err)
	}
	if i.Leaf.OCSPServer != nil || i.Leaf.CRLDistributionPoints != nil {
		t.Error("the certificate names a place that is not there")
	}
}

func FuzzOCSP(f *testing.F) {
	b := newBench(f)
	a := b.Authority
	i, err := a.Issue(f.Context(), Request{Role: RoleCTI, Name: "c", PublicKey: newKey(f).Public()})
	must(f, err)
	f.Add(question(f, i, a))
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, q []byte) {
		der, err := a.OCSP(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ocsp.ParseResponse(der, nil); err != nil {
			if _, known := err.(ocsp.ResponseError); !known {
				t.Fatal(err)
			}
		}
	})
}
