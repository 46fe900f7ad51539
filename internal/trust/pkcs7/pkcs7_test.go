package pkcs7_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringfence/internal/testkit"
	"ringfence/internal/trust/pkcs7"
)

// TestOpenSSLReadsCerts has OpenSSL read what was written, by both of its readers.
func TestOpenSSLReadsCerts(t *testing.T) {
	openssl := testkit.Need(t, "/usr/bin/openssl", "openssl")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var certs [][]byte
	for n := range 3 {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(n + 1)), Subject: pkix.Name{CommonName: strings.Repeat("x", 3-n) + "-end"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, der)
		wrapped, err := pkcs7.CertsOnly(certs)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), openssl, "pkcs7", "-inform", "DER", "-print_certs", "-noout")
		cmd.Stdin = bytes.NewReader(wrapped)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Count(string(out), "subject=") != n+1 {
			t.Errorf("%v %s", err, out)
		}
		cmd = exec.CommandContext(t.Context(), openssl, "cms", "-cmsout", "-inform", "DER", "-print", "-noout")
		cmd.Stdin = bytes.NewReader(wrapped)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "pkcs7-signedData") || strings.Count(string(out), "x-end") < n+1 {
			t.Errorf("%v %s", err, out)
		}
		// DER has one form: what OpenSSL writes back is the same.
		cmd = exec.CommandContext(t.Context(), openssl, "pkcs7", "-inform", "DER", "-outform", "DER")
		cmd.Stdin = bytes.NewReader(wrapped)
		if out, err := cmd.Output(); err != nil || !bytes.Equal(out, wrapped) {
			t.Errorf("OpenSSL writes it in another way: %v", err)
		}
	}
}
