package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
)

const (
	keysName = "token/keys/v1"
	// keyLife is how long a key signs, and keyAhead how long before that everybody can read its public half.
	keyLife  = 30 * 24 * time.Hour
	keyAhead = 24 * time.Hour
	maxKeys  = 8
)

// key is one signing key. Keys are kept together, sealed, under one name, the newest first.
type key struct {
	ID    string    `json:"id"`
	From  time.Time `json:"from"`  // signs from then on
	PKCS8 []byte    `json:"pkcs8"` // ECDSA P-256
	priv  *ecdsa.PrivateKey
}

// keySet is what is known of the keys. It does not change.
type keySet struct {
	raw  []byte // as it was kept
	keys []*key
}

func newKey(from time.Time) (*key, error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, err
	}
	return &key{ID: randomText(8), From: from.UTC(), PKCS8: der, priv: priv}, nil
}

func readKeys(raw []byte) (*keySet, error) {
	s := &keySet{raw: raw}
	broken := fault("token.keys", ringfence.KindInternal, "the signing keys cannot be read", "restore the database and seal.key from one backup", nil)
	if err := json.Unmarshal(raw, &s.keys); err != nil || len(s.keys) == 0 {
		return nil, broken
	}
	for _, k := range s.keys {
		priv, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
		if err != nil {
			return nil, broken
		}
		var ok bool
		if k.priv, ok = priv.(*ecdsa.PrivateKey); !ok {
			return nil, broken
		}
	}
	return s, nil
}

// signer returns the newest key whose time has come.
func (s *keySet) signer(now time.Time) *key {
	for _, k := range s.keys {
		if !k.From.After(now) {
			return k
		}
	}
	return s.keys[len(s.keys)-1] // the clock was set back
}

func (s *keySet) find(id string) *key {
	for _, k := range s.keys {
		if k.ID == id {
			return k
		}
	}
	return nil
}

// public returns the keys that verify, as RFC 7517.
func (s *keySet) public() jose.JSONWebKeySet {
	var out jose.JSONWebKeySet
	for _, k := range s.keys {
		out.Keys = append(out.Keys, jose.JSONWebKey{Key: k.priv.Public(), KeyID: k.ID, Algorithm: string(jose.ES256), Use: "sig"})
	}
	return out
}

// loadKeys reads the keys, making the first one if there is none.
func (s *Server) loadKeys(ctx context.Context) error {
	raw, err := s.c.Secrets.Secret(ctx, keysName)
	if ringfence.KindOf(err) == ringfence.KindNotFound {
		k, kerr := newKey(s.c.Now())
		if kerr != nil {
			return kerr
		}
		b, jerr := json.Marshal([]*key{k})
		if jerr != nil {
			return jerr
		}
		if err := s.c.Secrets.CreateSecret(ctx, keysName, b); err != nil && ringfence.KindOf(err) != ringfence.KindConflict { // another node may be first
			return err
		}
		raw, err = s.c.Secrets.Secret(ctx, keysName)
	}
	if err != nil {
		return err
	}
	set, err := readKeys(raw)
	if err == nil {
		s.keys.Store(set)
	}
	return err
}

// Rotate makes a new key that signs from a time on, and forgets keys whose tokens have all expired. Of two nodes that do it at once one
// wins, and the other takes over the result.
func (s *Server) Rotate(ctx context.Context, from time.Time) error {
	if err := s.loadKeys(ctx); err != nil {
		return err
	}
	set, now := s.keys.Load(), s.c.Now()
	fresh, err := newKey(from)
	if err != nil {
		return err
	}
	signs := set.signer(now)
	kept := []*key{fresh}
	for i, k := range set.keys {
		// A key is needed until a token of it, made just before its successor began, has expired.
		superseded := i > 0 && set.keys[i-1].From.Add(s.c.AccessLife+leeway).Before(now)
		if k == signs || !superseded {
			kept = append(kept, k)
		}
	}
	kept = kept[:min(len(kept), maxKeys)]
	b, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := s.c.Secrets.ReplaceSecret(ctx, keysName, set.raw, b); err != nil && ringfence.KindOf(err) != ringfence.KindConflict {
		return err
	}
	return s.loadKeys(ctx)
}

// Maintain makes the next signing key when it is due and removes grants that ended long ago. Call it now and then.
func (s *Server) Maintain(ctx context.Context) error {
	if err := s.loadKeys(ctx); err != nil { // another node may have made one
		return err
	}
	now := s.c.Now()
	s.forget(now)
	if _, err := s.c.Grants.PurgeGrants(ctx, now.Add(-keepEnded)); err != nil {
		return err
	}
	if newest := s.keys.Load().keys[0]; now.After(newest.From.Add(keyLife - keyAhead)) {
		return s.Rotate(ctx, newest.From.Add(keyLife))
	}
	return nil
}

// Keys returns the ids of the keys, the newest first, and which of them signs now.
func (s *Server) Keys() (ids []string, signer string) {
	set := s.keys.Load()
	for _, k := range set.keys {
		ids = append(ids, k.ID)
	}
	return ids, set.signer(s.c.Now()).ID
}
