package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/argon2"

	"ringfence"
)

// The key file is one line: "ringfence-key-1 plain BASE64" or "ringfence-key-1 argon2id BASE64SALT BASE64WRAPPED".
const keyHeader = "ringfence-key-1"

// freshKey is what a key file is called before it takes the place of the other one.
const freshKey = ".new"

// loadKey reads the 32-byte sealing key; if the file is not there and create is true, it makes one.
func loadKey(path string, passphrase []byte, create bool) ([]byte, error) {
	const op = "store.key"
	key, err := readKey(path, passphrase)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if !create {
		return nil, fault(op, ringfence.KindNotFound, "the sealing key file "+path+" is missing, but the database holds sealed secrets",
			"restore the key file from its backup; a new key could not open them", nil)
	}
	if err := writeKey(path, passphrase); err != nil {
		return nil, err
	}
	return readKey(path, passphrase) // another process may have been first: then its key is ours
}

func readKey(path string, passphrase []byte) ([]byte, error) {
	const op = "store.key"
	f, err := os.Open(path)
	if err != nil {
		return nil, fault(op, ringfence.KindUnavailable, "the sealing key file cannot be read", "check that the service's user owns "+path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault(op, ringfence.KindUnavailable, "the sealing key file cannot be read", "", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault(op, ringfence.KindInsecure, fmt.Sprintf("the sealing key file %s may be read by others (mode %o)", path, info.Mode().Perm()), "chmod 600 "+path, nil)
	}
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, fault(op, ringfence.KindUnavailable, "the sealing key file cannot be read", "", err)
	}
	damaged := fault(op, ringfence.KindInvalid, "the sealing key file "+path+" is damaged", "restore it from its backup", nil)
	w := strings.Fields(string(b))
	switch {
	case len(w) == 3 && w[0] == keyHeader && w[1] == "plain":
		if len(passphrase) > 0 {
			return nil, fault(op, ringfence.KindConflict, "a passphrase is given, but the sealing key file is not wrapped", "wrap it with `ringfence trust seal --passphrase-file FILE`, or leave the passphrase out", nil)
		}
		key, err := base64.RawStdEncoding.DecodeString(w[2])
		if err != nil || len(key) != 32 {
			return nil, damaged
		}
		return key, nil
	case len(w) == 4 && w[0] == keyHeader && w[1] == "argon2id":
		if len(passphrase) == 0 {
			return nil, fault(op, ringfence.KindUnauthenticated, "the sealing key is wrapped with a passphrase, and none is given", "name the file that has it: ringfence up --passphrase-file FILE", nil)
		}
		salt, err1 := base64.RawStdEncoding.DecodeString(w[2])
		wrapped, err2 := base64.RawStdEncoding.DecodeString(w[3])
		if err1 != nil || err2 != nil || len(wrapped) < 12 {
			return nil, damaged
		}
		key, err := wrapping(passphrase, salt).Open(nil, wrapped[:12], wrapped[12:], []byte(keyHeader))
		if err != nil || len(key) != 32 {
			return nil, fault(op, ringfence.KindUnauthenticated, "the passphrase does not open the sealing key "+path, "check the passphrase; nothing was changed", nil)
		}
		return key, nil
	}
	return nil, damaged
}

// wrapping is the cipher that wraps the key: argon2id with 64 MiB and three passes (RFC 9106 section 4, second choice).
func wrapping(passphrase, salt []byte) cipher.AEAD {
	block, err := aes.NewCipher(argon2.IDKey(passphrase, salt, 3, 64<<10, 4, 32))
	if err != nil {
		panic("store: a 32-byte key is always a valid AES key")
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("store: AES always has a GCM mode")
	}
	return aead
}

// keyLine is what a key file holds: the key itself, or wrapped with a passphrase.
func keyLine(key, passphrase []byte) []byte {
	if len(passphrase) == 0 {
		return fmt.Appendf(nil, "%s plain %s\n", keyHeader, base64.RawStdEncoding.EncodeToString(key))
	}
	salt, nonce := make([]byte, 16), make([]byte, 12)
	rand.Read(salt)
	rand.Read(nonce)
	wrapped := wrapping(passphrase, salt).Seal(nonce, nonce, key, []byte(keyHeader))
	return fmt.Appendf(nil, "%s argon2id %s %s\n", keyHeader, base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(wrapped))
}

// writeKey makes a new key and puts it in place in one step; if the file appears meanwhile, that one stays.
func writeKey(path string, passphrase []byte) error {
	const op = "store.key"
	key := make([]byte, 32)
	rand.Read(key)
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // CreateTemp makes it 0600
	if err != nil {
		return fault(op, ringfence.KindUnavailable, "the sealing key file cannot be made", "make its directory, owned by the service's user", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(keyLine(key, passphrase))
	err = firstOf(err, tmp.Sync(), tmp.Close())
	if err == nil {
		if err = os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err != nil {
		return fault(op, ringfence.KindUnavailable, "the sealing key file cannot be written", "", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err == nil {
		err = firstOf(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fault("store.key", ringfence.KindUnavailable, "the sealing key's directory cannot be flushed", "", err)
	}
	return nil
}
