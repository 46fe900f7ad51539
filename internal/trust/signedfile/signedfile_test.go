package signedfile_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/signedfile"
)

func newKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certify makes a certificate that signs itself.
func certify(t testing.TB, name string, serial int64, key crypto.Signer) *x509.Certificate {
	t.Helper()
	tpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{Country: []string{"ZZ"}, Organization: []string{"Example"}, CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func at() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// openssl runs OpenSSL on files in a directory.
func openssl(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testkit.Need(t, "openssl", "openssl"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func publicPEM(t *testing.T, c *x509.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(c.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// TestLayout holds the header to the one that phones read, byte by byte, and the signature to OpenSSL.
func TestLayout(t *testing.T) {
	key := newKey(t, 2048)
	cert := certify(t, "sast.example", 0x1001, key)
	dir := t.TempDir()
	write(t, dir, "key.pem", publicPEM(t, cert))
	body := []byte("<device/>\n")
	for _, x := range []struct {
		digest crypto.Hash
		code   byte
		name   string
	}{{crypto.SHA1, 1, "-sha1"}, {crypto.SHA512, 3, "-sha512"}} {
		b, err := signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1, Minor: 2}, SignerVersion: signedfile.Version{Major: 1}, Name: "ITLFile.tlv", Time: at(), Digest: x.digest}, body, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []struct {
			at  int
			hex string
		}{{0, "0100020102"}, {5, "0200020188"}, {0xa, "1c00020100"}, {0xf, "030049"}, {0x12, "04001f" + hex.EncodeToString([]byte("C=ZZ,O=Example,CN=sast.example\x00"))}, {0x34, "06001f"}, {0x56, "0500021001"}, {0x5b, "07000f"},
			{0x5e, fmt.Sprintf("080001%02x", x.code)}, {0x62, "090008"}, {0x65, "0a000100"}, {0x69, "0b000102"}, {0x6d, "0c0100"}, {0x170, "0e000c"}, {0x17f, "0f0004"}, {0x186, "0d0d"}} {
			raw, _ := hex.DecodeString(want.hex)
			if !bytes.Equal(b[want.at:want.at+len(raw)], raw) {
				t.Errorf("at %#x: %x, want %s", want.at, b[want.at:want.at+len(raw)], want.hex)
			}
		}
		if !bytes.Equal(b[0x188:], body) {
			t.Errorf("the body is %q", b[0x188:])
		}
		// What is signed is everything but the signature itself.
		write(t, dir, "cut", append(bytes.Clone(b[:0x6d]), b[0x6d+259:]...))
		write(t, dir, "sig", b[0x70:0x70+256])
		if out := openssl(t, dir, "dgst", x.name, "-verify", "key.pem", "-signature", "sig", "cut"); !bytes.Contains(out, []byte("Verified OK")) {
			t.Errorf("%s", out)
		}
		f, err := signedfile.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name != "ITLFile.tlv" || !f.Time.Equal(at()) || f.Digest != x.digest || f.Bits != 2048 || !f.Signer.Is(cert) || !bytes.Equal(f.Body, body) || f.BodyOffset != 0x188 {
			t.Errorf("%+v", f)
		}
		if err := f.Verify(cert); err != nil {
			t.Error(err)
		}
		if err := f.Verify(certify(t, "sast.example", 0x1001, newKey(t, 2048))); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("another key: %v", err)
		}
		if err := f.Verify(certify(t, "sast.example", 0x1002, key)); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("another serial: %v", err)
		}
		for i := range b { // whatever is changed, it does not hold, or cannot be read
			changed := bytes.Clone(b)
			changed[i] ^= 1
			if f, err := signedfile.Parse(changed); err == nil && f.Verify(cert) == nil {
				t.Fatalf("byte %#x may be changed", i)
			}
			if f, err := signedfile.Parse(b[:i]); err == nil && f.Verify(cert) == nil {
				t.Fatalf("it may be cut off at %#x", i)
			}
		}
	}
}

func TestSize(t *testing.T) {
	key := newKey(t, 2048)
	b, err := signedfile.Sign(signedfile.Options{Version: signedfile.Version{Major: 1}, Name: "a.cnf.xml.sgn", Time: at()}, []byte("x"), certify(t, "s", 1, key), key)
	if err != nil || int(binary.BigEndian.Uint16(b[8:]))%4 != 0 || len(b) != int(binary.BigEndian.Uint16(b[8:]))+1 {
		t.Errorf("%v %d", err, len(b))
	}
}

func TestSignRefuses(t *testing.T) {
	key := newKey(t, 2048)
	cert := certify(t, "s", 1, key)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := signedfile.Options{Version: signedfile.Version{Major: 1}, Name: "a", Time: at()}
	for name, do := range map[string]func() error{
		"another key": func() error { _, err := signedfile.Sign(o, nil, cert, newKey(t, 2048)); return err },
		"an EC key":   func() error { _, err := signedfile.Sign(o, nil, certify(t, "s", 1, ec), ec); return err },
		"an odd size": func() error {
			k := newKey(t, 3072)
			_, err := signedfile.Sign(o, nil, certify(t, "s", 1, k), k)
			return err
		},
		"no name": func() error { _, err := signedfile.Sign(signedfile.Options{}, nil, cert, key); return err },
		"another digest": func() error {
			p := o
			p.Digest = crypto.SHA256
			_, err := signedfile.Sign(p, nil, cert, key)
			return err
		},
		"to an EC phone": func() error { _, err := signedfile.Encrypt(o, nil, certify(t, "p", 1, ec), cert, key); return err },
	} {
		if err := do(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestEncrypted encrypts to a phone, and has OpenSSL undo it with the phone's key.
func TestEncrypted(t *testing.T) {
	signer, phone := newKey(t, 2048), newKey(t, 2048)
	cert, to := certify(t, "tftp.example", 7, signer), certify(t, "SEP001122334455", 8, phone)
	dir := t.TempDir()
	for _, plain := range []string{"", "x", "0123456789abcdef", strings.Repeat("<a/>", 1000)} {
		b, err := signedfile.Encrypt(signedfile.Options{Name: "SEP001122334455.cnf.xml.enc.sgn", Time: at()}, []byte(plain), to, cert, signer)
		if err != nil {
			t.Fatal(err)
		}
		f, err := signedfile.Parse(b)
		if err != nil || f.Version != (signedfile.Version{Major: 2}) || f.Sealed == nil || f.Sealed.Bits != 2048 {
			t.Fatalf("%v %+v", err, f)
		}
		if err := f.Verify(cert); err != nil {
			t.Error(err)
		}
		got, err := f.Decrypt(phone)
		if err != nil || string(got) != plain {
			t.Errorf("%v: %d bytes became %d", err, len(plain), len(got))
		}
		if _, err := f.Decrypt(signer); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Errorf("another key: %v", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(phone)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "phone.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		write(t, dir, "wrapped", f.Sealed.Key)
		write(t, dir, "body", f.Body)
		openssl(t, dir, "pkeyutl", "-decrypt", "-inkey", "phone.pem", "-in", "wrapped", "-out", "secret")
		secret, err := os.ReadFile(filepath.Join(dir, "secret"))
		if err != nil {
			t.Fatal(err)
		}
		openssl(t, dir, "enc", "-d", "-aes-128-cbc", "-nopad", "-K", hex.EncodeToString(secret), "-iv", hex.EncodeToString(f.Sealed.IV), "-in", "body", "-out", "plain")
		theirs, err := os.ReadFile(filepath.Join(dir, "plain"))
		if err != nil || string(theirs) != plain+strings.Repeat("\r", f.Sealed.Pad) {
			t.Errorf("OpenSSL has %q %v", theirs, err)
		}
	}
}

func TestPassphrase(t *testing.T) {
	dir := t.TempDir()
	for _, plain := range []string{"", "<flat-profile/>", strings.Repeat("a", 4096)} {
		b, err := signedfile.EncryptPassphrase([]byte(plain), "a secret")
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "ours", b)
		openssl(t, dir, "enc", "-d", "-aes-256-cbc", "-md", "sha256", "-pass", "pass:a secret", "-in", "ours", "-out", "plain")
		if got, err := os.ReadFile(filepath.Join(dir, "plain")); err != nil || string(got) != plain {
			t.Errorf("OpenSSL has %q %v", got, err)
		}
		openssl(t, dir, "enc", "-aes-256-cbc", "-md", "sha256", "-pass", "pass:a secret", "-in", "plain", "-out", "theirs")
		theirs, err := os.ReadFile(filepath.Join(dir, "theirs"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := signedfile.DecryptPassphrase(theirs, "a secret"); err != nil || string(got) != plain {
			t.Errorf("%q %v", got, err)
		}
	}
	if _, err := signedfile.EncryptPassphrase(nil, ""); err == nil {
		t.Error("an empty passphrase was taken")
	}
	for _, bad := range []string{"", "Salted__", "Salted__12345678short", "something else entirely......................."} {
		if _, err := signedfile.DecryptPassphrase([]byte(bad), "x"); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestCoding reads the example of RFC 8188 section 3.1, and what is written here.
func TestCoding(t *testing.T) {
	raw := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ikm := raw("yqdlZ-tYemfogSmv7Ws5PQ")
	if got, id, err := signedfile.DecryptCoding(raw("I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg"), ikm); err != nil || string(got) != "I am the walrus" || id != "" {
		t.Errorf("%q %q %v", got, id, err)
	}
	for _, n := range []int{0, 1, 4078, 4079, 4080, 8158, 20_000} {
		plain := bytes.Repeat([]byte("x"), n)
		b, err := signedfile.EncryptCoding(plain, ikm, "k1")
		if err != nil {
			t.Fatal(err)
		}
		got, id, err := signedfile.DecryptCoding(b, ikm)
		if err != nil || !bytes.Equal(got, plain) || id != "k1" {
			t.Errorf("%d bytes: %d %q %v", n, len(got), id, err)
		}
		for _, cut := range []int{len(b) - 1, len(b) - 16, 24} { // also at the end of a record
			if _, _, err := signedfile.DecryptCoding(b[:cut], ikm); err == nil {
				t.Errorf("%d bytes, cut off at %d of %d", n, cut, len(b))
			}
		}
		b[len(b)-1] ^= 1
		if _, _, err := signedfile.DecryptCoding(b, ikm); ringfence.KindOf(err) != ringfence.KindDenied {
			t.Error(err)
		}
	}
	if b, err := signedfile.EncryptCoding(bytes.Repeat([]byte("x"), 9000), ikm, ""); err != nil {
		t.Fatal(err)
	} else if _, _, err := signedfile.DecryptCoding(b[:21+4096], ikm); ringfence.KindOf(err) != ringfence.KindDenied {
		t.Errorf("whole records may be cut off: %v", err)
	}
	if _, err := signedfile.EncryptCoding(nil, ikm[:8], ""); err == nil {
		t.Error("a short key was taken")
	}
}

func FuzzParse(f *testing.F) {
	key := newKey(f, 2048)
	cert := certify(f, "s", 1, key)
	o := signedfile.Options{Version: signedfile.Version{Major: 1}, Name: "a", Time: at()}
	signed, err := signedfile.Sign(o, []byte("x"), cert, key)
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := signedfile.Encrypt(o, []byte("x"), cert, cert, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(sealed)
	f.Add(signed[:50])
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := signedfile.Parse(b)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Fatal(err)
			}
			return
		}
		if file.Verify(cert) == nil && !bytes.Equal(b, signed) && !bytes.Equal(b, sealed) {
			t.Fatalf("%x holds", b)
		}
		_, _ = file.Decrypt(key)
	})
}

func FuzzElements(f *testing.F) {
	f.Add([]byte{1, 0, 2, 1, 2, 13, 13})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := signedfile.Elements(b, 0)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range all {
			if e.Tag == signedfile.TagPadding {
				again = append(again, e.Tag)
			} else {
				again = signedfile.Append(again, e.Tag, e.Value)
			}
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzDecryptCoding(f *testing.F) {
	ikm := bytes.Repeat([]byte{7}, 16)
	b, err := signedfile.EncryptCoding([]byte("hello"), ikm, "id")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		plain, id, err := signedfile.DecryptCoding(in, ikm)
		if err == nil && (len(plain) > len(in) || len(id) > 255) {
			t.Fatalf("%d bytes became %d", len(in), len(plain))
		}
	})
}

func FuzzDecryptPassphrase(f *testing.F) {
	b, err := signedfile.EncryptPassphrase([]byte("hello"), "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) { _, _ = signedfile.DecryptPassphrase(in, "x") })
}
