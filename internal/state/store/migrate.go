package store

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered step; steps are only ever added.
type migration struct {
	n    int
	name string
	text string
}

// migrations reads the embedded steps for one dialect: "0001_name.sql" is for both, "0002_name.sqlite.sql" for one. In the text,
// {{serial}} stands for a primary key that counts up by itself and {{bytes}} for a column of bytes, which the two databases spell
// differently.
func migrations(postgres bool) ([]migration, error) {
	mine, other := "sqlite", "postgres"
	words := strings.NewReplacer("{{serial}}", "INTEGER PRIMARY KEY AUTOINCREMENT", "{{bytes}}", "BLOB")
	if postgres {
		mine, other = other, mine
		words = strings.NewReplacer("{{serial}}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "{{bytes}}", "BYTEA")
	}
	entries, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	var out []migration
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".sql")
		if strings.HasSuffix(name, "."+other) {
			continue
		}
		digits, title, _ := strings.Cut(strings.TrimSuffix(name, "."+mine), "_")
		n, err := strconv.Atoi(digits)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", e.Name(), err)
		}
		b, err := migrationFiles.ReadFile(path.Join("migrations", e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, migration{n, title, words.Replace(string(b))})
	}
	slices.SortFunc(out, func(a, b migration) int { return cmp.Compare(a.n, b.n) })
	for i, m := range out {
		if m.n != i+1 {
			return nil, fmt.Errorf("migration %d is missing or doubled", i+1)
		}
	}
	return out, nil
}

// migrate applies, in one transaction, the steps that this database has not seen. Several nodes may start at once: one does
// the work, the others wait and find it done.
func (s *Store) migrate(ctx context.Context) error {
	const op = "store.migrate"
	steps, err := migrations(s.postgr)
	if err != nil {
		return fault(op, ringfence.KindInternal, "the built-in migrations are broken", "", err)
	}
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return mapError(op, err)
	}
	defer tx.Rollback()
	if s.postgr {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(7464347)`); err != nil {
			return mapError(op, err)
		}
	}
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS schema_steps (n INTEGER PRIMARY KEY, name TEXT NOT NULL, at BIGINT NOT NULL)`); err != nil {
		return mapError(op, err)
	}
	var have int
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(n), 0) FROM schema_steps`).Scan(&have); err != nil {
		return mapError(op, err)
	}
	if have > len(steps) {
		return fault(op, ringfence.KindUnsupported, fmt.Sprintf("the database is at step %d, this program knows only %d", have, len(steps)),
			"start the newer version that wrote it, or restore a backup made before the upgrade", nil)
	}
	for _, m := range steps[have:] {
		if _, err := tx.ExecContext(ctx, m.text); err != nil {
			return mapError(fmt.Sprintf("%s: step %d (%s)", op, m.n, m.name), err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO schema_steps (n, name, at) VALUES ($1, $2, $3)`, m.n, m.name, micros(time.Now())); err != nil {
			return mapError(op, err)
		}
	}
	return mapError(op, tx.Commit())
}
