package feed

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
)

// Vault keeps secrets sealed at rest; *store.Store is one.
type Vault interface {
	Secret(ctx context.Context, name string) ([]byte, error)
	CreateSecret(ctx context.Context, name string, secret []byte) error
	ReplaceSecret(ctx context.Context, name string, old, secret []byte) error
}

const vaultName = "network/feed/v1"

// Keeper signs the feeds of a node: it keeps the key, and which serial number each set has. Its methods may be called from any goroutine, of several nodes too.
type Keeper struct {
	vault Vault
	now   func() time.Time
}

// NewKeeper returns a keeper; now may be nil.
func NewKeeper(v Vault, now func() time.Time) *Keeper {
	if now == nil {
		now = time.Now
	}
	return &Keeper{v, now}
}

// held is what the vault has.
type held struct {
	Key  []byte          `json:"key"`  // the seed
	Sets map[string]mark `json:"sets"` // by name
}

// mark is what was signed last of a set.
type mark struct {
	Serial int64     `json:"serial"`
	Sum    string    `json:"sum"` // of the set, so that only a change gets a new number
	Made   time.Time `json:"made"`
}

func (k *Keeper) load(ctx context.Context) (h held, raw []byte, err error) {
	raw, err = k.vault.Secret(ctx, vaultName)
	if err != nil && ringfence.KindOf(err) == ringfence.KindNotFound {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		if raw, err = json.Marshal(held{Key: seed, Sets: map[string]mark{}}); err != nil {
			return h, nil, fault(ringfence.KindInternal, "the key of feeds cannot be written", "")
		}
		if err = k.vault.CreateSecret(ctx, vaultName, raw); err != nil && ringfence.KindOf(err) == ringfence.KindConflict {
			raw, err = k.vault.Secret(ctx, vaultName) // another node was faster
		}
	}
	if err != nil {
		return h, nil, err
	}
	if err := json.Unmarshal(raw, &h); err != nil || len(h.Key) != ed25519.SeedSize {
		return h, nil, fault(ringfence.KindInvalid, "the sealed key of feeds is damaged", "restore the database from a backup")
	}
	return h, raw, nil
}

// Key returns the public key that feeds are signed by.
func (k *Keeper) Key(ctx context.Context) (ed25519.PublicKey, error) {
	h, _, err := k.load(ctx)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(h.Key).Public().(ed25519.PublicKey), nil
}

// Feed returns a set as a signed feed. It has the number of the last one if nothing changed, and the next one otherwise, which is kept before anybody sees it.
func (k *Keeper) Feed(ctx context.Context, s *need.Set) ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fault(ringfence.KindInternal, "the set cannot be written", "")
	}
	sum := sha256.Sum256(text)
	const tries = 5
	for range tries {
		h, raw, err := k.load(ctx)
		if err != nil {
			return nil, err
		}
		m := h.Sets[s.ID]
		if now := hex.EncodeToString(sum[:]); m.Sum != now {
			m = mark{Serial: m.Serial + 1, Sum: now, Made: k.now().UTC().Truncate(time.Second)}
			h.Sets = maps.Clone(h.Sets)
			if h.Sets == nil {
				h.Sets = map[string]mark{}
			}
			h.Sets[s.ID] = m
			next, err := json.Marshal(h)
			if err != nil {
				return nil, fault(ringfence.KindInternal, "the number of the feed cannot be written", "")
			}
			if err = k.vault.ReplaceSecret(ctx, vaultName, raw, next); err != nil && ringfence.KindOf(err) == ringfence.KindConflict {
				continue // another node was faster
			}
			if err != nil {
				return nil, err
			}
		}
		return Sign(Feed{Serial: m.Serial, Made: m.Made, Set: *s}, ed25519.NewKeyFromSeed(h.Key))
	}
	return nil, fault(ringfence.KindOverload, "other nodes sign feeds at the same time", "try again")
}
