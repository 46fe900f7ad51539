package store

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringfence"
)

func testSealer(t *testing.T, fill byte) *sealer {
	t.Helper()
	s, err := newSealer(bytes.Repeat([]byte{fill}, 32))
	noErr(t, err)
	return s
}

func TestSeal(t *testing.T) {
	s := testSealer(t, 1)
	sealed := s.seal([]byte("secret"), "t", "c", "row")
	got, err := s.open(sealed, "t", "c", "row")
	noErr(t, err)
	same(t, string(got), "secret")
	if again := s.seal([]byte("secret"), "t", "c", "row"); again == sealed {
		t.Fatal("sealing twice gives the same text")
	}
	for _, key := range [][]string{{"t", "c", "other"}, {"t", "d", "row"}, {"u", "c", "row"}, {"t", "c", "row", ""}, {"t", "cr", "ow"}} {
		_, err := s.open(sealed, key[0], key[1], key[2:]...)
		wantKind(t, err, ringfence.KindInvalid)
	}
	_, err = testSealer(t, 2).open(sealed, "t", "c", "row")
	wantKind(t, err, ringfence.KindConflict)
	head := len(sealVersion) + 1 + len(s.id) + 1
	for i := range sealed {
		bad := []byte(sealed)
		if bad[i]++; i >= head && bad[i] == 'z'+1 {
			bad[i] = 'a'
		}
		if _, err := s.open(string(bad), "t", "c", "row"); err == nil {
			t.Fatalf("changing byte %d goes unnoticed", i)
		}
	}
	for _, bad := range []string{"", "rf1", "rf1.", "rf2." + sealed[4:], sealed[:head], sealed[:head+8]} {
		if _, err := s.open(bad, "t", "c", "row"); err == nil {
			t.Fatalf("%q opens", bad)
		}
	}
}

func FuzzOpenSealed(f *testing.F) {
	s, err := newSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	// The nonce is fixed here, since each process of the fuzzer must come to the same text.
	nonce := []byte("twelve bytes")
	good := sealVersion + "." + s.id + "." + base64.RawStdEncoding.EncodeToString(s.aead.Seal(nonce, nonce, []byte("secret"), place("t", "c", "row")))
	f.Add(good)
	f.Add(good + "\n")
	f.Add("rf1." + s.id + ".AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := s.open(text, "t", "c", "row"); err == nil && (text != good || string(got) != "secret") {
			t.Fatalf("%q opens", text)
		}
	})
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	_, err := loadKey(path, nil, false)
	wantKind(t, err, ringfence.KindNotFound)
	key, err := loadKey(path, nil, true)
	noErr(t, err)
	again, err := loadKey(path, nil, true)
	noErr(t, err)
	if !bytes.Equal(key, again) || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
		t.Fatal("the key changes, or is none")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	noErr(t, err)
	same(t, len(left), 1) // no temporary file stays
	_, err = loadKey(path, []byte("pass"), true)
	wantKind(t, err, ringfence.KindConflict)
	noErr(t, os.Chmod(path, 0o640))
	_, err = loadKey(path, nil, true)
	wantKind(t, err, ringfence.KindInsecure)
	noErr(t, os.WriteFile(path, []byte("ringfence-key-1 plain AAAA\n"), 0o600))
	noErr(t, os.Chmod(path, 0o600))
	_, err = loadKey(path, nil, true)
	wantKind(t, err, ringfence.KindInvalid)

	path = filepath.Join(t.TempDir(), "wrapped")
	key, err = loadKey(path, []byte("pass"), true)
	noErr(t, err)
	again, err = loadKey(path, []byte("pass"), true)
	noErr(t, err)
	same(t, again, key)
	for _, wrong := range [][]byte{nil, []byte("Pass")} {
		_, err = loadKey(path, wrong, true)
		wantKind(t, err, ringfence.KindUnauthenticated)
	}
}

func TestPIN(t *testing.T) {
	hash, err := HashPIN("4711")
	noErr(t, err)
	if !CheckPIN(hash, "4711") || CheckPIN(hash, "4712") || CheckPIN("", "") || CheckPIN("", "4711") || CheckPIN(strings.Replace(hash, "$2$", "$1$", 1), "4711") {
		t.Fatal("a PIN is checked wrongly")
	}
	for _, bad := range []string{"", "123", "12345678901234567", "12a4"} {
		_, err := HashPIN(bad)
		wantKind(t, err, ringfence.KindInvalid)
	}
}
