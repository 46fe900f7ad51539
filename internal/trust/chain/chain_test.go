package chain

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// signed returns a certificate of an authority of that name, by another or by itself.
func signed(t testing.TB, name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	if by == nil {
		by, byKey = tpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

// TestOrder mixes up a chain in every way that three certificates can be mixed up.
func TestOrder(t *testing.T) {
	root, rootKey := signed(t, "root", nil, nil)
	mid, midKey := signed(t, "mid", root, rootKey)
	leaf, key := signed(t, "leaf", mid, midKey)
	for _, in := range [][]*x509.Certificate{{leaf, mid, root}, {leaf, root, mid}, {mid, leaf, root}, {mid, root, leaf}, {root, leaf, mid}, {root, mid, leaf}} {
		out, notes, err := Order(in, key.Public())
		if err != nil || len(out) != 2 || !out[0].Equal(leaf) || !out[1].Equal(mid) || notes[len(notes)-1] != "left out the root, which whoever verifies has already: CN=root" {
			t.Errorf("%v %v %v", out, notes, err)
		}
	}
	// Two authorities of one name: the signature says which.
	twin, _ := signed(t, "mid", root, rootKey)
	out, notes, err := Order([]*x509.Certificate{leaf, twin, mid}, key.Public())
	if err != nil || len(out) != 2 || !out[1].Equal(mid) || len(notes) != 2 {
		t.Errorf("%v %v %v", out, notes, err)
	}
	if _, _, err := Order([]*x509.Certificate{mid, root}, key.Public()); err == nil || !strings.Contains(err.Error(), "belongs to none") {
		t.Error(err)
	}
	if !SelfSigned(root) || SelfSigned(mid) {
		t.Error("who signed itself is not known")
	}
}

func FuzzRead(f *testing.F) {
	root, _ := signed(f, "root", nil, nil)
	f.Add(root.Raw)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte{0x30, 0x80, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := Read(b)
		if (err == nil) != (len(certs) > 0) || len(certs) > MaxCerts {
			t.Fatal(len(certs), err)
		}
		if len(certs) > 0 {
			if out, _, err := Order(certs, certs[0].PublicKey); (err == nil) != (len(out) > 0) {
				t.Fatal(out, err)
			}
		}
	})
}
