package store

import (
	"context"

	"ringfence"
)

// Secret returns a secret that was kept under a name, unsealed.
func (r repos) Secret(ctx context.Context, name string) ([]byte, error) {
	sealed, err := r.sealedSecret(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.seal.open(sealed, "secrets", "sealed", name)
}

func (r repos) sealedSecret(ctx context.Context, name string) (string, error) {
	return selectOne(ctx, r.r, "store.secret", "there is no secret "+name, func(row scanner) (v string, err error) { return v, row.Scan(&v) },
		`SELECT sealed FROM secrets WHERE name=$1`, name)
}

// CreateSecret seals and keeps a secret under a new name; of several callers one succeeds and the others get KindConflict.
func (r repos) CreateSecret(ctx context.Context, name string, secret []byte) error {
	_, err := r.exec(ctx, "store.secret.create", `INSERT INTO secrets (name, sealed) VALUES ($1,$2)`, name, r.seal.seal(secret, "secrets", "sealed", name))
	return err
}

// ReplaceSecret replaces a secret whose value is still old; otherwise it is KindConflict and nothing changes.
func (r repos) ReplaceSecret(ctx context.Context, name string, old, secret []byte) error {
	const op = "store.secret.replace"
	return r.atomically(ctx, func(r repos) error {
		was, err := r.sealedSecret(ctx, name)
		if err != nil {
			return err
		}
		have, err := r.seal.open(was, "secrets", "sealed", name)
		if err != nil {
			return err
		}
		if string(have) != string(old) {
			return fault(op, ringfence.KindConflict, "the secret "+name+" was changed meanwhile", "", nil)
		}
		n, err := r.exec(ctx, op, `UPDATE secrets SET sealed=$3 WHERE name=$1 AND sealed=$2`, name, was, r.seal.seal(secret, "secrets", "sealed", name))
		if err == nil && n == 0 {
			return fault(op, ringfence.KindConflict, "the secret "+name+" was changed meanwhile", "", nil)
		}
		return err
	})
}

// DeleteSecret removes a secret.
func (r repos) DeleteSecret(ctx context.Context, name string) error {
	return r.execOne(ctx, "store.secret.delete", "there is no secret "+name, `DELETE FROM secrets WHERE name=$1`, name)
}
