package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ringfence/internal/state/store"
)

// TestSealingSurvivesKill kills the change of a passphrase at many moments: the key then opens with the old one or with the new one.
func TestSealingSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	phrase := []string{"the words of before", "the words of after"}
	names := []string{file("a", phrase[0]), file("b", phrase[1])}
	open := func(words string) error {
		s, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "ringfence.db"), KeyFile: filepath.Join(dir, "seal.key"), Passphrase: []byte(words)})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := open(phrase[0]); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	now, killed, done := 0, 0, 0
	const times = 12
	for i := range times {
		other := 1 - now
		cmd := exec.Command(program)
		cmd.Args = []string{"ringfence", "trust", "seal", "--data", dir, "--old-passphrase-file", names[now], "--passphrase-file", names[other]}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The delays reach from before it has begun to after it is done, whatever the machine: the last ones are not killed.
		kill := time.AfterFunc(time.Duration(4*i*i)*time.Millisecond, func() {
			if i < times-2 {
				_ = cmd.Process.Kill()
			}
		})
		err := cmd.Wait()
		kill.Stop()
		before, after := open(phrase[now]), open(phrase[other])
		switch {
		case err == nil && after == nil:
			now, done = other, done+1
		case err != nil && after == nil: // killed when it was in place
			now, killed = other, killed+1
		case err != nil && before == nil:
			killed++
		default:
			t.Fatalf("killed after %d ms (%v): with the old passphrase %v, with the new one %v", 4*i*i, err, before, after)
		}
		if (before == nil) == (after == nil) {
			t.Fatalf("killed after %d ms: it opens with both passphrases, or with none", 4*i*i)
		}
		if _, err := os.Stat(filepath.Join(dir, "seal.key.new")); !os.IsNotExist(err) {
			t.Errorf("killed after %d ms: what it left is still there after an opening: %v", 4*i*i, err)
		}
	}
	if killed == 0 || done == 0 {
		t.Errorf("%d were killed and %d were done: the test has seen only one of both", killed, done)
	}
}
