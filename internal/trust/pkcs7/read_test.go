package pkcs7_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/pkcs7"
)

// TestCertificates reads what openssl writes, and what this room does.
func TestCertificates(t *testing.T) {
	openssl := testkit.Need(t, "/usr/bin/openssl", "openssl")
	ca := testkit.NewAuthority("CA")
	leaf := ca.Issue("phone").Certificate[0]
	dir := t.TempDir()
	file := filepath.Join(dir, "chain.pem")
	if err := os.WriteFile(file, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root()})...), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs, err := exec.Command(openssl, "crl2pkcs7", "-nocrl", "-certfile", file, "-outform", "DER").Output()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := pkcs7.CertsOnly([][]byte{leaf, ca.Root()})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"openssl": theirs, "ours": ours} {
		certs, err := pkcs7.Certificates(b)
		if err != nil || len(certs) != 2 || !bytes.Equal(certs[0].Raw, leaf) && !bytes.Equal(certs[1].Raw, leaf) {
			t.Errorf("%s: %d %v", name, len(certs), err)
		}
		for i := range b {
			if _, err := pkcs7.Certificates(b[:i]); ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Fatalf("%s: the first %d bytes: %v", name, i, err)
			}
		}
		if _, err := pkcs7.Certificates(append(bytes.Clone(b), 0)); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: something behind it: %v", name, err)
		}
	}
	empty, err := pkcs7.CertsOnly(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"none": empty, "a certificate alone": leaf, "too long": make([]byte, 256<<10+1)} {
		if certs, err := pkcs7.Certificates(b); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %d %v", name, len(certs), err)
		}
	}
}

func FuzzCertificates(f *testing.F) {
	ca := testkit.NewAuthority("CA")
	b, err := pkcs7.CertsOnly([][]byte{ca.Root()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		if certs, err := pkcs7.Certificates(b); (err == nil) != (len(certs) > 0) || err != nil && ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Error(len(certs), err)
		}
	})
}
