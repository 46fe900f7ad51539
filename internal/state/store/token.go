package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"ringfence"
)

// Token is an access token for the admin interface. The token itself is never kept, only its SHA-256: it is 256 random bits, so
// a plain hash cannot be searched.
type Token struct {
	ID      string
	Hash    string // of HashToken
	Name    string // what it is for
	Scopes  []string
	Expires time.Time // zero: never
}

// HashToken is the form in which a token is kept and looked up: SHA-256 in lower-case hexadecimal.
func HashToken(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func scanToken(row scanner) (t Token, err error) {
	var scopes string
	var expires int64
	err = row.Scan(&t.ID, &t.Hash, &t.Name, &scopes, &expires)
	t.Expires = instant(expires)
	return t, firstOf(err, decode(scopes, &t.Scopes))
}

// CreateToken adds a token; an id or hash that is taken is KindConflict.
func (r repos) CreateToken(ctx context.Context, t Token) error {
	const op = "store.token.create"
	if len(t.Hash) != 2*sha256.Size {
		return fault(op, ringfence.KindInvalid, "the token's hash is not a SHA-256", "use HashToken", nil)
	}
	scopes, err := encode(op, t.Scopes)
	if err != nil {
		return err
	}
	_, err = r.exec(ctx, op, `INSERT INTO tokens (id, hash, name, scopes, expires) VALUES ($1,$2,$3,$4,$5)`, t.ID, t.Hash, t.Name, scopes, micros(t.Expires))
	return err
}

// TokenByHash returns the token with this hash if it has not expired at now; otherwise it is KindNotFound.
func (r repos) TokenByHash(ctx context.Context, hash string, now time.Time) (Token, error) {
	return selectOne(ctx, r.r, "store.token", "there is no such token, or it has expired", scanToken,
		`SELECT id, hash, name, scopes, expires FROM tokens WHERE hash=$1 AND (expires=0 OR expires>$2)`, hash, micros(now))
}

// Tokens returns all tokens, by id.
func (r repos) Tokens(ctx context.Context) ([]Token, error) {
	return selectAll(ctx, r.r, "store.tokens", scanToken, `SELECT id, hash, name, scopes, expires FROM tokens ORDER BY id`)
}

// DeleteToken removes a token; it stops working at once.
func (r repos) DeleteToken(ctx context.Context, id string) error {
	return r.execOne(ctx, "store.token.delete", "there is no token "+id, `DELETE FROM tokens WHERE id=$1`, id)
}
