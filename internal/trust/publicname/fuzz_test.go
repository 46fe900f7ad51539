package publicname

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

// FuzzCertificate checks what an authority may send as a certificate: whatever is taken verifies for the name and fits the key.
func FuzzCertificate(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(strings.Repeat("k", 32))) // the same in each process of the fuzzer
	if err != nil {
		f.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{host}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := certificate([][]byte{leafDER, rootDER}, key.Public(), []string{host}, now); err != nil {
		f.Fatal(err)
	}
	f.Add(leafDER, rootDER)
	f.Add(rootDER, leafDER)
	f.Add(leafDER, []byte{})
	f.Add([]byte{0x30, 0x82, 0xff, 0xff}, rootDER)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		chain := [][]byte{a, b}
		if len(b) == 0 {
			chain = chain[:1]
		}
		pem, got, err := certificate(chain, key.Public(), []string{host}, now)
		if err != nil {
			return
		}
		if got.VerifyHostname(host) != nil || !key.PublicKey.Equal(got.PublicKey) || now.After(got.NotAfter) || len(pem) == 0 {
			t.Errorf("taken: %v", got.DNSNames)
		}
	})
}

// FuzzAnswer asks the port of challenges for all sorts of things: only the one file of the one name is there.
func FuzzAnswer(f *testing.F) {
	const token = "token-of-sixteen-or-more"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	r := &Responder{}
	if _, err := r.show(&acme.Client{Key: key}, HTTP01, host, token); err != nil {
		f.Fatal(err)
	}
	if _, err := r.show(&acme.Client{Key: key}, TLSALPN01, host, token); err != nil {
		f.Fatal(err)
	}
	f.Add("GET", host, wellKnown+token, host, "acme-tls/1")
	f.Add("POST", host, wellKnown+token, host, "h2")
	f.Add("GET", host+":80", wellKnown+"../"+token, "", "")
	f.Add("GET", "[::1]:80", "//"+token, host+".", "acme-tls/1")
	f.Fuzz(func(t *testing.T, method, name, path, server, proto string) {
		q := httptest.NewRequest(http.MethodGet, "/", nil)
		q.Method, q.Host, q.URL.Path = method, name, path
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		at := strings.EqualFold(name, host) || strings.HasPrefix(strings.ToLower(name), host+":")
		if want := at && path == wellKnown+token && (method == http.MethodGet || method == http.MethodHead); w.Code == 200 && !want || w.Code != 200 && w.Body.Len() > 0 {
			t.Errorf("%s %q %q: %d", method, name, path, w.Code)
		}
		if _, err := r.Certificate(&tls.ClientHelloInfo{ServerName: server, SupportedProtos: []string{proto}}); err == nil && (!strings.EqualFold(server, host) || proto != acme.ALPNProto) {
			t.Errorf("a certificate for %q by %q", server, proto)
		}
	})
}

// FuzzAfter reads what an authority may say of time, and clean what it may say at all.
func FuzzAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, s := range []string{"", "1", "-1", "99999999999999999999", "Mon, 05 Jan 2026 00:00:00 GMT", "\x1b[31m", strings.Repeat("ä", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := after(s, now); d < 0 {
			t.Errorf("%q: %s", s, d)
		}
		if c := clean(s, 100); len(c) > 110 || strings.ContainsAny(c, "\r\n\x1b\x00") {
			t.Errorf("%q: %q", s, c)
		}
	})
}
