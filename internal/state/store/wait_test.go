package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"
)

// TestOpenWaits opens a database while somebody else writes to it who has not changed its journal mode yet.
func TestOpenWaits(t *testing.T) {
	dir := t.TempDir()
	// It waits for its commit as we do: while ours looks whether the database is free, it is not for a moment.
	other, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "a.db")+"?_txlock=immediate&_pragma=busy_timeout(20000)")
	noErr(t, err)
	defer other.Close()
	tx, err := other.BeginTx(context.Background(), nil)
	noErr(t, err)
	_, err = tx.Exec(`CREATE TABLE t (n INTEGER)`)
	noErr(t, err)
	opened := make(chan error)
	go func() {
		s, err := Open(ctx(), Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "seal.key"), BusyTimeout: 20 * time.Second})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	noErr(t, tx.Commit())
	noErr(t, <-opened)
}
