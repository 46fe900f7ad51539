package publicname

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"time"

	"ringfence"
)

// record is what is kept from one attempt to the next, and shared by the nodes of a database.
type record struct {
	Directory string    `json:"directory"`
	Key       []byte    `json:"key"` // of the account, PKCS #8
	Account   string    `json:"account,omitempty"`
	Node      string    `json:"node,omitempty"`  // who ordered last
	Names     []string  `json:"names,omitempty"` // and for what
	Leaves    []string  `json:"leaves,omitempty"`
	Tried     time.Time `json:"tried,omitzero"`
	Done      time.Time `json:"done,omitzero"` // when a certificate came last
	Failures  int       `json:"failures,omitempty"`
	Next      time.Time `json:"next,omitzero"`     // not before
	Limited   bool      `json:"limited,omitempty"` // the authority itself said so
	Error     string    `json:"error,omitempty"`
	Hint      string    `json:"hint,omitempty"`
	Lease     time.Time `json:"lease,omitzero"` // until when Node may be ordering
}

func newRecord(directory string) (record, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return record{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return record{Directory: directory, Key: der}, err
}

// accountKey reads the key of the account.
func (r record) accountKey() (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(r.Key)
	if key, ok := k.(*ecdsa.PrivateKey); ok && err == nil {
		return key, nil
	}
	return nil, fault(ringfence.KindInvalid, "the sealed key of the ACME account is damaged", "restore the database from a backup", nil)
}

// load reads the record, and makes it if there is none or if it belongs to another directory, where the account is unknown.
func (k *Keeper) load(ctx context.Context) (record, []byte, error) {
	const tries = 3
	for range tries {
		b, err := k.c.Vault.Secret(ctx, k.vaultName())
		if err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
			return record{}, nil, err
		}
		var r record
		if err == nil {
			if err := json.Unmarshal(b, &r); err != nil {
				return record{}, nil, fault(ringfence.KindInvalid, "what is kept of the ACME account is damaged", "restore the database from a backup", err)
			}
			if r.Directory == k.c.Directory {
				return r, b, nil
			}
		}
		fresh, made := newRecord(k.c.Directory)
		if made != nil {
			return record{}, nil, fault(ringfence.KindInternal, "a key cannot be made", "", made)
		}
		fresh.Leaves, fresh.Names, fresh.Node, fresh.Done = r.Leaves, r.Names, r.Node, r.Done // the certificate is ours whoever signed it
		text, made := json.Marshal(fresh)
		if made != nil {
			return record{}, nil, fault(ringfence.KindInternal, "the ACME account cannot be kept", "", made)
		}
		if err == nil {
			err = k.c.Vault.ReplaceSecret(ctx, k.vaultName(), b, text)
		} else {
			err = k.c.Vault.CreateSecret(ctx, k.vaultName(), text)
		}
		if err == nil {
			return fresh, text, nil
		}
		if ringfence.KindOf(err) != ringfence.KindConflict {
			return record{}, nil, err
		}
	}
	return record{}, nil, fault(ringfence.KindOverload, "another node changes the ACME account at the same time", "try again", nil)
}

func (k *Keeper) vaultName() string { return "publicname/v1/" + k.c.Alias }

// change changes the record, again if another node was faster. do may refuse.
func (k *Keeper) change(ctx context.Context, do func(*record) error) (record, error) {
	const tries = 5
	for range tries {
		r, b, err := k.load(ctx)
		if err != nil {
			return r, err
		}
		if err := do(&r); err != nil {
			return r, err
		}
		text, err := json.Marshal(r)
		if err != nil {
			return r, fault(ringfence.KindInternal, "the ACME account cannot be kept", "", err)
		}
		if err = k.c.Vault.ReplaceSecret(ctx, k.vaultName(), b, text); err == nil || ringfence.KindOf(err) != ringfence.KindConflict {
			return r, err
		}
	}
	return record{}, fault(ringfence.KindOverload, "another node changes the ACME account at the same time", "try again", nil)
}
