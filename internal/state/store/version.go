package store

import (
	"context"
	"fmt"
	"math"
	"time"

	"ringfence"
)

// ConfigVersion is one configuration that was in force.
type ConfigVersion struct {
	N      int64  // counts from 1, over all nodes of the database
	Node   string // whose configuration it is; empty: kept before nodes were told apart
	YAML   string
	Author string
	At     time.Time
	Note   string
}

const versionColumns = `n, node, yaml, author, at, note`

func scanVersion(row scanner) (v ConfigVersion, err error) {
	var at int64
	err = row.Scan(&v.N, &v.Node, &v.YAML, &v.Author, &at, &v.Note)
	v.At = instant(at)
	return v, err
}

// AddConfigVersion keeps a configuration as version v.N, which must follow the latest: if somebody else was faster it is
// KindConflict and nothing is kept.
func (r repos) AddConfigVersion(ctx context.Context, v ConfigVersion) error {
	const op = "store.version.add"
	n, err := r.exec(ctx, op, `INSERT INTO config_versions (`+versionColumns+`)
		SELECT CAST($1 AS BIGINT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS BIGINT), CAST($6 AS TEXT)
		WHERE (SELECT COALESCE(MAX(n), 0) FROM config_versions) = CAST($1 AS BIGINT) - 1`, v.N, v.Node, v.YAML, v.Author, micros(v.At), v.Note)
	if err == nil && n == 0 || ringfence.KindOf(err) == ringfence.KindConflict {
		return fault(op, ringfence.KindConflict, fmt.Sprintf("version %d does not follow the latest one", v.N), "look at the latest version and repeat the change", nil)
	}
	return err
}

// ConfigVersion returns version n; n = 0 is the latest of any node.
func (r repos) ConfigVersion(ctx context.Context, n int64) (ConfigVersion, error) {
	const op, cols = "store.version", `SELECT ` + versionColumns + ` FROM config_versions `
	if n == 0 {
		return selectOne(ctx, r.r, op, "no configuration was kept yet", scanVersion, cols+`ORDER BY n DESC LIMIT 1`)
	}
	return selectOne(ctx, r.r, op, fmt.Sprintf("there is no configuration version %d", n), scanVersion, cols+`WHERE n=$1`, n)
}

// ConfigVersionBefore returns the latest version of a node before version n; n = 0 is its latest of all.
func (r repos) ConfigVersionBefore(ctx context.Context, node string, n int64) (ConfigVersion, error) {
	if n == 0 {
		n = math.MaxInt64
	}
	return selectOne(ctx, r.r, "store.version", "there is no earlier configuration of "+node, scanVersion,
		`SELECT `+versionColumns+` FROM config_versions WHERE n<$1 AND (node=$2 OR node='') ORDER BY n DESC LIMIT 1`, n, node)
}

// ConfigVersions returns up to limit versions of a node, latest first.
func (r repos) ConfigVersions(ctx context.Context, node string, limit int) ([]ConfigVersion, error) {
	return selectAll(ctx, r.r, "store.versions", scanVersion,
		`SELECT `+versionColumns+` FROM config_versions WHERE node=$1 OR node='' ORDER BY n DESC LIMIT $2`, node, limit)
}

// LatestConfigVersions returns the latest version of each node, by node.
func (r repos) LatestConfigVersions(ctx context.Context) ([]ConfigVersion, error) {
	return selectAll(ctx, r.r, "store.versions.latest", scanVersion,
		`SELECT `+versionColumns+` FROM config_versions WHERE n IN (SELECT MAX(n) FROM config_versions WHERE node<>'' GROUP BY node) ORDER BY node`)
}
