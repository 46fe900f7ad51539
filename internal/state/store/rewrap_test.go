package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"ringfence"
)

func TestRewrapKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k")
	wantKind(t, RewrapKey(path, nil, []byte("first words")), ringfence.KindNotFound)
	_, err := WrappingOf(path)
	wantKind(t, err, ringfence.KindNotFound)
	key, err := loadKey(path, nil, true)
	noErr(t, err)
	opens := func(pass string, want bool) {
		t.Helper()
		got, err := readKey(path, []byte(pass))
		if want != (err == nil && bytes.Equal(got, key)) {
			t.Errorf("%q: %v, want it to open: %v", pass, err, want)
		}
	}
	unchanged := func(old, new string, kind ringfence.Kind) {
		t.Helper()
		before, err := os.ReadFile(path)
		noErr(t, err)
		wantKind(t, RewrapKey(path, []byte(old), []byte(new)), kind)
		after, err := os.ReadFile(path)
		noErr(t, err)
		if !bytes.Equal(before, after) {
			t.Error("a refused change has changed the file")
		}
	}
	unchanged("not there", "first words", ringfence.KindConflict)
	noErr(t, RewrapKey(path, nil, []byte("first words")))
	opens("first words", true)
	opens("", false)
	w, err := WrappingOf(path)
	noErr(t, err)
	if !w.Wrapped || w.KDF == "" {
		t.Errorf("%+v", w)
	}
	unchanged("", "second words", ringfence.KindUnauthenticated)
	unchanged("wrong words", "second words", ringfence.KindUnauthenticated)
	unchanged("wrong words", "", ringfence.KindUnauthenticated)

	// A change that was killed has left its file; the next one goes over it, and an opening removes it.
	noErr(t, os.WriteFile(path+freshKey, keyLine(key, nil), 0o600))
	noErr(t, RewrapKey(path, []byte("first words"), []byte("second words")))
	opens("second words", true)
	opens("first words", false)
	noErr(t, RewrapKey(path, []byte("second words"), nil))
	opens("", true)
	noErr(t, os.WriteFile(path+freshKey, keyLine(key, nil), 0o600))
	noErr(t, sweepKey(path))
	info, err := os.Stat(path)
	noErr(t, err)
	same(t, info.Mode().Perm(), os.FileMode(0o600))
	left, err := os.ReadDir(filepath.Dir(path))
	noErr(t, err)
	same(t, len(left), 1)

	// Two at a time would not know each other's passphrase.
	unlock, err := lockKey(path)
	noErr(t, err)
	unchanged("", "third words", ringfence.KindConflict)
	noErr(t, os.WriteFile(path+freshKey, keyLine(key, nil), 0o600))
	noErr(t, sweepKey(path)) // the other one's
	_, err = os.Stat(path + freshKey)
	noErr(t, err)
	unlock()
}

// A wrong passphrase is found out before the database is touched, so that it is not even brought to the form of this version.
func TestWrongPassphraseLeavesTheDatabaseAlone(t *testing.T) {
	dir := t.TempDir()
	db := filepath.Join(dir, "ringfence.db")
	c := Config{DSN: "sqlite:" + db, KeyFile: filepath.Join(dir, "k"), Passphrase: []byte("right words")}
	_, err := loadKey(c.KeyFile, c.Passphrase, true)
	noErr(t, err)
	for _, pass := range []string{"", "wrong words"} {
		c.Passphrase = []byte(pass)
		_, err := Open(t.Context(), c)
		wantKind(t, err, ringfence.KindUnauthenticated)
	}
	if _, err := os.Stat(db); !os.IsNotExist(err) {
		t.Errorf("the database was made: %v", err)
	}
	c.Passphrase = []byte("right words")
	s, err := Open(t.Context(), c)
	noErr(t, err)
	noErr(t, s.Close())
}
