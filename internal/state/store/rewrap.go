package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"ringfence"
)

// KeyWrapping says how the key in a key file is kept.
type KeyWrapping struct {
	Wrapped bool   // false: whoever can read the file has the key
	KDF     string // how a passphrase becomes the key that wraps it; empty if it is not wrapped
}

// keyKDF are the parameters of [wrapping], in words.
const keyKDF = "argon2id, 64 MiB, 3 passes, 4 lanes"

// WrappingOf says how a key file is kept. It needs no passphrase.
func WrappingOf(path string) (KeyWrapping, error) {
	_, err := readKey(path, nil)
	if err == nil {
		return KeyWrapping{}, nil
	}
	if ringfence.KindOf(err) == ringfence.KindUnauthenticated {
		return KeyWrapping{Wrapped: true, KDF: keyKDF}, nil
	}
	return KeyWrapping{}, missing(path, err)
}

// RewrapKey wraps the key in a key file with another passphrase; an empty one stands for none, before or after. The key stays the same, so that the database does not change and a node may
// run meanwhile. Whenever it is stopped, the file opens with the old passphrase or with the new one.
func RewrapKey(path string, old, new []byte) error {
	const op = "store.rewrap"
	unlock, err := lockKey(path)
	if err != nil {
		return err
	}
	defer unlock()
	key, err := readKey(path, old)
	if err != nil {
		return missing(path, err)
	}
	fresh := path + freshKey
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return fault(op, ringfence.KindUnavailable, "what an earlier change left cannot be removed", "remove "+fresh, err)
	}
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fault(op, ringfence.KindUnavailable, "the sealing key file cannot be made", "run it as the user who owns "+path, err)
	}
	defer os.Remove(fresh)
	_, err = f.Write(keyLine(key, new))
	if err = firstOf(err, f.Sync(), f.Close()); err != nil {
		return fault(op, ringfence.KindUnavailable, "the sealing key file cannot be written", "", err)
	}
	// What is about to replace the only way to every secret is read back first.
	if again, err := readKey(fresh, new); err != nil || !bytes.Equal(again, key) {
		return fault(op, ringfence.KindInternal, "the new sealing key file does not hold the key; the old one stays", "", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fault(op, ringfence.KindUnavailable, "the sealing key file cannot be put in place", "", err)
	}
	return syncDir(filepath.Dir(path))
}

func missing(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault("store.key", ringfence.KindNotFound, "there is no sealing key file "+path, "it is made at the first start of a node; choose its directory with --data", nil)
	}
	return err
}

// lockKey lets one process at a time change a key file. The directory is what is locked: the file itself is replaced.
func lockKey(path string) (func(), error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fault("store.key", ringfence.KindNotFound, "the directory of the sealing key cannot be read", "choose another with --data", err)
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		dir.Close()
		return nil, fault("store.key", ringfence.KindConflict, "the sealing key file is being changed by another process", "wait until it is done", nil)
	}
	return func() { dir.Close() }, nil
}

// sweepKey removes what a change of the key file left that was killed: it may hold the key with a passphrase that is not to count any more, or with none.
func sweepKey(path string) error {
	if _, err := os.Lstat(path + freshKey); os.IsNotExist(err) {
		return nil
	}
	unlock, err := lockKey(path)
	if ringfence.KindOf(err) == ringfence.KindConflict && err != nil {
		return nil // it is being made right now
	}
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Remove(path + freshKey); err != nil && !os.IsNotExist(err) {
		return fault("store.key", ringfence.KindUnavailable, "what an earlier change of the sealing key left cannot be removed", "remove "+path+freshKey, err)
	}
	return nil
}
