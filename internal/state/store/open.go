package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"ringfence"
)

// Config says where the facts are and with which key secrets are sealed.
type Config struct {
	// DSN is "sqlite:/path/to/file.db" or a PostgreSQL URL "postgres://user@host/name?sslmode=verify-full".
	// A PostgreSQL server on another host must be reached over verified TLS; a socket directory (host=/run/postgresql) is local.
	DSN string
	// KeyFile holds the sealing key. It is made, readable by its owner only, when a new database is opened for the first time.
	KeyFile string
	// Passphrase, if not empty, wraps the key in KeyFile with argon2id; [RewrapKey] changes it.
	Passphrase []byte
	// FullSync flushes the disk at each commit, so that acknowledged facts survive a power cut (SQLite only; PostgreSQL does so by itself).
	FullSync bool
	// BusyTimeout is how long a write waits for another process; zero means five seconds.
	BusyTimeout time.Duration
	// Network reaches PostgreSQL servers on the network by the flows that [Config.Flows] declares. It is not used for a socket directory.
	Network Network
}

// Validate reports the first contradiction in the configuration, without touching the disk.
func (c Config) Validate() error {
	switch {
	case !strings.HasPrefix(c.DSN, "sqlite:") && !c.postgres():
		return fault("store.config", ringfence.KindInvalid, "the database address must begin with sqlite: or postgres://",
			"write for example sqlite:/var/lib/ringfence/ringfence.db", nil)
	case strings.HasPrefix(c.DSN, "sqlite:") && !filepath.IsAbs(strings.TrimPrefix(c.DSN, "sqlite:")):
		return fault("store.config", ringfence.KindInvalid, "the SQLite file must be named by an absolute path",
			"write for example sqlite:/var/lib/ringfence/ringfence.db", nil)
	case c.KeyFile == "":
		return fault("store.config", ringfence.KindInvalid, "no sealing key file is named", "name a file outside the database's backup", nil)
	case c.BusyTimeout < 0:
		return fault("store.config", ringfence.KindInvalid, "the busy timeout is negative", "", nil)
	}
	if c.postgres() {
		_, _, err := c.pgConfig()
		return err
	}
	return nil
}

func (c Config) busy() time.Duration {
	if c.BusyTimeout == 0 {
		return 5 * time.Second
	}
	return c.BusyTimeout
}

// Store is the open database. Its methods may be called from any goroutine.
type Store struct {
	repos
	writer *sql.DB
	reader *sql.DB // the same as writer on PostgreSQL
	postgr bool

	keepCDR, keepMany statement
}

// Open opens the database, makes it if it is not there, brings its tables up to date and checks that the sealing key is the
// one that the database was sealed with. Close the Store when done.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	// Before the database is touched: a wrong passphrase changes nothing.
	if err := sweepKey(c.KeyFile); err != nil {
		return nil, err
	}
	key, err := readKey(c.KeyFile, c.Passphrase)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &Store{}
	if c.postgres() {
		err = s.openPostgres(c)
	} else {
		err = s.openSQLite(c)
	}
	if err != nil {
		return nil, err
	}
	if err = s.prepare(ctx, c, key); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) openSQLite(c Config) error {
	const op = "store.open"
	path := strings.TrimPrefix(c.DSN, "sqlite:")
	// SQLite gives its -wal and -shm files the mode of the main file, so only the owner can read any of them.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fault(op, ringfence.KindUnavailable, "the database file "+path+" cannot be opened", "make its directory, owned by the service's user", err)
	}
	if err := f.Close(); err != nil {
		return mapError(op, err)
	}
	sync := "NORMAL"
	if c.FullSync {
		sync = "FULL"
	}
	q := url.Values{}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", c.busy().Milliseconds()))
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous("+sync+")")
	q.Add("_pragma", "foreign_keys(1)")
	q.Set("_txlock", "immediate")
	uri := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	if s.writer, err = sql.Open("sqlite", uri.String()); err != nil {
		return mapError(op, err)
	}
	s.writer.SetMaxOpenConns(1)
	q.Add("_pragma", "query_only(1)")
	q.Del("_txlock")
	uri.RawQuery = q.Encode()
	if s.reader, err = sql.Open("sqlite", uri.String()); err != nil {
		s.writer.Close()
		return mapError(op, err)
	}
	n := max(4, 2*runtime.NumCPU())
	s.reader.SetMaxOpenConns(n)
	s.reader.SetMaxIdleConns(n)
	return nil
}

// connect opens the first connection. While another process writes to a SQLite file whose journal mode is still the old one, SQLite does
// not wait for it as it does later.
func (s *Store) connect(ctx context.Context, patience time.Duration) error {
	for until := time.Now().Add(patience); ; {
		err := s.writer.PingContext(ctx)
		if err == nil || s.postgr || ringfence.KindOf(mapError("store.open", err)) != ringfence.KindOverload || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// prepare migrates, makes the key if there is none yet (key is nil), and checks it against the mark that the database carries.
func (s *Store) prepare(ctx context.Context, c Config, key []byte) error {
	const op = "store.open"
	if err := s.connect(ctx, c.busy()); err != nil {
		return mapError(op, err)
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	s.repos = repos{r: s.reader, w: s.writer, store: s, rows: sqliteRows}
	if s.postgr {
		s.rows = postgresRows
	}
	mark, err := s.Setting(ctx, "seal.key_id")
	fresh := ringfence.KindOf(err) == ringfence.KindNotFound
	if err != nil && !fresh {
		return err
	}
	if key == nil {
		if key, err = loadKey(c.KeyFile, c.Passphrase, fresh); err != nil {
			return err
		}
	}
	if s.seal, err = newSealer(key); err != nil {
		return err
	}
	if fresh {
		// Two nodes may start on one new database; the first mark wins and the other node learns that its key is wrong.
		if _, err := s.exec(ctx, op, `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, "seal.key_id", s.seal.id); err != nil {
			return err
		}
		if mark, err = s.Setting(ctx, "seal.key_id"); err != nil {
			return err
		}
	}
	if mark != s.seal.id {
		return fault(op, ringfence.KindConflict, fmt.Sprintf("the database was sealed with key %s, but %s holds key %s", mark, c.KeyFile, s.seal.id),
			"put back the key file that belongs to this database", nil)
	}
	return nil
}

// Close closes the database. Calls under way fail.
func (s *Store) Close() error {
	err := s.writer.Close()
	if s.reader != s.writer {
		err = firstOf(err, s.reader.Close())
	}
	if err != nil {
		return mapError("store.close", err)
	}
	return nil
}

func firstOf(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}
