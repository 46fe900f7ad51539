package est

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/url"
	"testing"

	"ringfence"
)

// FuzzRequest reads certificate requests of strangers: nothing may panic, and each refusal is a fault of theirs.
func FuzzRequest(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range []x509.CertificateRequest{
		{Subject: pkix.Name{CommonName: "phone1", Organization: []string{"Example"}}},
		{DNSNames: []string{"gw.example.org"}, URIs: []*url.URL{{Scheme: "sip", Opaque: "a@example.org"}}},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &c, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(base64.StdEncoding.EncodeToString(der)))
		f.Add(lines(der))
	}
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		csr, password, err := readRequest(text)
		if err != nil {
			if k := ringfence.KindOf(err); k != ringfence.KindInvalid && k != ringfence.KindDenied && k != ringfence.KindUnsupported {
				t.Fatalf("a refusal of kind %v: %v", k, err)
			}
			return
		}
		if csr.CheckSignature() != nil || len(password) > 255 || len(csr.Raw) > maxRequest {
			t.Fatalf("taken: %d bytes, password %q", len(csr.Raw), password)
		}
	})
}

// FuzzRequestDER reads the parts that x509 does not, from DER that no signature covers.
func FuzzRequestDER(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "phone1"}, DNSNames: []string{"a.example.org"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return
		}
		if password, err := challengePassword(csr); err == nil && len(password) > 255 {
			t.Fatalf("a password of %d bytes", len(password))
		}
		names, ok := altNames(csr.Extensions)
		if err := sameHolder(csr, &x509.Certificate{RawSubject: csr.RawSubject, Extensions: csr.Extensions}); err == nil && !ok {
			t.Fatalf("names that cannot be read are the same: %v", names)
		}
	})
}
