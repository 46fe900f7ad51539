package tvs

import (
	"context"
	"crypto/sha256"
	"crypto/x509"

	"ringfence"
	"ringfence/internal/trust/trustlist"
)

// ListBook believes the certificates that a trust list is built of, so that both say the same. It does not change: make another when the list changes.
type ListBook struct {
	byHash   map[[sha256.Size]byte]listed
	bySerial map[string][]*x509.Certificate
	revoked  func(context.Context, *x509.Certificate) (bool, error)
}

type listed struct {
	cert  *x509.Certificate
	roles []trustlist.Role
}

// NewListBook makes a book of entries. revoked is asked at each question; nil: nothing is revoked.
func NewListBook(entries []trustlist.Entry, revoked func(context.Context, *x509.Certificate) (bool, error)) *ListBook {
	b := &ListBook{byHash: map[[sha256.Size]byte]listed{}, bySerial: map[string][]*x509.Certificate{}, revoked: revoked}
	for _, e := range entries {
		hash := sha256.Sum256(e.Cert.Raw)
		l, known := b.byHash[hash]
		if !known {
			serial := string(e.Cert.SerialNumber.Bytes())
			b.bySerial[serial] = append(b.bySerial[serial], e.Cert)
		}
		b.byHash[hash] = listed{cert: e.Cert, roles: append(l.roles, e.Role)}
	}
	return b
}

// Believed implements Book.
func (b *ListBook) Believed(ctx context.Context, hash [sha256.Size]byte) (Standing, error) {
	l, ok := b.byHash[hash]
	if !ok {
		return Standing{}, fault("tvs.book", ringfence.KindNotFound, "the certificate is in no list", "", nil)
	}
	st := Standing{Roles: l.roles}
	if b.revoked == nil {
		return st, nil
	}
	var err error
	st.Revoked, err = b.revoked(ctx, l.cert)
	return st, err
}

// Named implements Book.
func (b *ListBook) Named(_ context.Context, serial []byte) ([]*x509.Certificate, error) {
	return b.bySerial[string(serial)], nil
}
