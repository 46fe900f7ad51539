package keyring

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/trust/chain"
)

// Vault keeps secrets sealed at rest; *store.Store is one.
type Vault interface {
	// Secret returns a secret, or a fault of KindNotFound.
	Secret(ctx context.Context, name string) ([]byte, error)
	// CreateSecret keeps a new secret; KindConflict if the name is taken.
	CreateSecret(ctx context.Context, name string, secret []byte) error
	// ReplaceSecret replaces a secret that is still old; KindConflict if it is not.
	ReplaceSecret(ctx context.Context, name string, old, secret []byte) error
}

// Config says where a keyring is kept.
type Config struct {
	Vault Vault
	Now   func() time.Time // nil: time.Now
}

// Anchor is a certificate of an authority that settings may name.
type Anchor struct {
	Alias string
	Cert  *x509.Certificate
	Added time.Time
}

// SelfSigned reports whether the authority signed its own certificate.
func (a Anchor) SelfSigned() bool { return chain.SelfSigned(a.Cert) }

// Identity is a certificate with its key that settings may name.
type Identity struct {
	Alias string
	Chain []*x509.Certificate // leaf first
	Added time.Time
	cert  *tls.Certificate
}

// contents is what the vault holds.
type contents struct {
	Anchors    map[string]heldAnchor   `json:"anchors,omitempty"`
	Identities map[string]heldIdentity `json:"identities,omitempty"`
}

type heldAnchor struct {
	Cert  []byte    `json:"cert"` // DER
	Added time.Time `json:"added"`
}

type heldIdentity struct {
	Chain [][]byte  `json:"chain"` // DER, leaf first
	Key   []byte    `json:"key"`   // PKCS #8
	Added time.Time `json:"added"`
}

const (
	vaultName = "keyring/v1"
	maxThings = 200 // anchors, and identities
)

// Ring is a keyring. Its methods may be called from any goroutine; looking up takes no lock.
type Ring struct {
	vault Vault
	now   func() time.Time
	view  atomic.Pointer[view]

	mu   sync.Mutex // makes changes one at a time
	held []byte     // what the vault holds; nil: nothing yet
}

// view is the contents, read.
type view struct {
	anchors    map[string]Anchor
	identities map[string]Identity
}

// Open reads a keyring, which may not be there yet.
func Open(ctx context.Context, c Config) (*Ring, error) {
	r := &Ring{vault: c.Vault, now: c.Now}
	if r.now == nil {
		r.now = time.Now
	}
	return r, r.Reload(ctx)
}

// Reload reads the keyring again: call it when another node may have changed it.
func (r *Ring) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.reload(ctx)
	return err
}

func (r *Ring) reload(ctx context.Context) (contents, error) {
	var c contents
	b, err := r.vault.Secret(ctx, vaultName)
	if err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
		return c, err
	}
	if err == nil {
		if err := json.Unmarshal(b, &c); err != nil {
			return c, damaged(err)
		}
		r.held = b
	}
	v, err := c.read()
	if err != nil {
		return c, damaged(err)
	}
	r.view.Store(v)
	return c, nil
}

func damaged(cause error) error {
	return fault("keyring.open", ringfence.KindInvalid, "the sealed keyring is damaged", "restore the database from a backup", cause)
}

func (c contents) read() (*view, error) {
	v := &view{anchors: map[string]Anchor{}, identities: map[string]Identity{}}
	for alias, h := range c.Anchors {
		cert, err := x509.ParseCertificate(h.Cert)
		if err != nil {
			return nil, err
		}
		v.anchors[alias] = Anchor{alias, cert, h.Added}
	}
	for alias, h := range c.Identities {
		key, err := x509.ParsePKCS8PrivateKey(h.Key)
		if err != nil {
			return nil, err
		}
		id := Identity{Alias: alias, Added: h.Added, cert: &tls.Certificate{Certificate: h.Chain, PrivateKey: key}}
		for _, der := range h.Chain {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, err
			}
			id.Chain = append(id.Chain, cert)
		}
		id.cert.Leaf = id.Chain[0]
		v.identities[alias] = id
	}
	return v, nil
}

// change reads what is there, changes it and keeps it, again if another node was faster.
func (r *Ring) change(ctx context.Context, do func(*contents) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	const tries = 5
	for range tries {
		c, err := r.reload(ctx)
		if err != nil {
			return err
		}
		if c.Anchors == nil {
			c.Anchors = map[string]heldAnchor{}
		}
		if c.Identities == nil {
			c.Identities = map[string]heldIdentity{}
		}
		if err := do(&c); err != nil {
			return err
		}
		if len(c.Anchors) > maxThings || len(c.Identities) > maxThings {
			return fault("keyring.add", ringfence.KindInvalid, fmt.Sprintf("there would be more than %d", maxThings), "remove some first", nil)
		}
		next, err := c.read()
		if err != nil {
			return damaged(err)
		}
		b, err := json.Marshal(c)
		if err != nil {
			return fault("keyring.add", ringfence.KindInternal, "the keyring cannot be written", "", err)
		}
		if r.held == nil {
			err = r.vault.CreateSecret(ctx, vaultName, b)
		} else {
			err = r.vault.ReplaceSecret(ctx, vaultName, r.held, b)
		}
		if err != nil && ringfence.KindOf(err) == ringfence.KindConflict {
			continue
		}
		if err == nil {
			r.held = b
			r.view.Store(next)
		}
		return err
	}
	return fault("keyring.change", ringfence.KindOverload, "another node changed the keyring at the same time", "try again", nil)
}

// Anchors returns the anchors by alias.
func (r *Ring) Anchors() (out []Anchor) {
	for _, a := range r.view.Load().anchors {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Anchor) int { return strings.Compare(a.Alias, b.Alias) })
	return out
}

// Identities returns the identities by alias.
func (r *Ring) Identities() (out []Identity) {
	for _, i := range r.view.Load().identities {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Identity) int { return strings.Compare(a.Alias, b.Alias) })
	return out
}

// Anchor returns the anchor with an alias.
func (r *Ring) Anchor(alias string) (Anchor, error) {
	a, ok := r.view.Load().anchors[alias]
	if !ok {
		return a, fault("keyring", ringfence.KindNotFound, "there is no anchor "+clip(alias), "see `ringfence trust anchor list`", nil)
	}
	return a, nil
}

// Certificate returns the identity with an alias, as TLS presents it.
func (r *Ring) Certificate(alias string) (*tls.Certificate, error) {
	i, ok := r.view.Load().identities[alias]
	if !ok {
		return nil, fault("keyring", ringfence.KindNotFound, "there is no identity "+clip(alias), "see `ringfence trust identity list`", nil)
	}
	return i.cert, nil
}

// AddAnchors keeps the certificates of a file, PEM or DER, under an alias. If the file has several, each gets an alias of its own: ALIAS-root for one
// that signed itself, ALIAS-issuing for others, and a number from the second on. It is all of them or none.
func (r *Ring) AddAnchors(ctx context.Context, alias string, file []byte) ([]Anchor, error) {
	if err := checkAlias(alias); err != nil {
		return nil, err
	}
	certs, err := chain.Read(file)
	if err != nil {
		return nil, err
	}
	now := r.now().UTC().Truncate(time.Second)
	added := make([]Anchor, 0, len(certs))
	seen := map[string]int{}
	for _, c := range certs {
		if err := mayAnchor(c, now); err != nil {
			return nil, err
		}
		name := alias
		if len(certs) > 1 {
			name += "-issuing"
			if chain.SelfSigned(c) {
				name = alias + "-root"
			}
			if seen[name]++; seen[name] > 1 {
				name = fmt.Sprintf("%s-%d", name, seen[name])
			}
		}
		added = append(added, Anchor{name, c, now})
	}
	return added, r.change(ctx, func(c *contents) error {
		for _, a := range added {
			if _, ok := c.Anchors[a.Alias]; ok {
				return fault("keyring.anchor", ringfence.KindConflict, "there is an anchor "+a.Alias+" already", "choose another alias, or remove it first", nil)
			}
			for other, h := range c.Anchors {
				if slices.Equal(h.Cert, a.Cert.Raw) {
					return fault("keyring.anchor", ringfence.KindConflict, "the certificate of "+a.Cert.Subject.String()+" is there already, as "+other, "one alias is enough", nil)
				}
			}
			c.Anchors[a.Alias] = heldAnchor{a.Cert.Raw, a.Added}
		}
		return nil
	})
}

// RemoveAnchor forgets an anchor.
func (r *Ring) RemoveAnchor(ctx context.Context, alias string) error {
	return r.change(ctx, func(c *contents) error {
		if _, ok := c.Anchors[alias]; !ok {
			_, err := r.Anchor(alias)
			return err
		}
		delete(c.Anchors, alias)
		return nil
	})
}

// AddIdentity keeps a certificate with its chain and key under an alias. The chain may be in any order, and is put in order; notes say what was
// repaired. An identity that is there already is replaced if replace says so, as for renewal.
func (r *Ring) AddIdentity(ctx context.Context, alias string, file, key []byte, replace bool) (id Identity, notes []string, err error) {
	if err := checkAlias(alias); err != nil {
		return id, nil, err
	}
	signer, err := readKey(key)
	if err != nil {
		return id, nil, err
	}
	certs, err := chain.Read(file)
	if err != nil {
		return id, nil, err
	}
	ordered, notes, err := chain.Order(certs, signer.Public())
	if err != nil {
		return id, nil, err
	}
	now := r.now()
	if leaf := ordered[0]; now.After(leaf.NotAfter) {
		return id, nil, fault("keyring.identity", ringfence.KindInvalid, "the certificate of "+chain.Name(leaf)+" expired on "+day(leaf.NotAfter), "renew it first", nil)
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return id, nil, fault("keyring.identity", ringfence.KindInvalid, "the key cannot be kept", "use an ECDSA, Ed25519 or RSA key", nil)
	}
	h := heldIdentity{Key: der, Added: now.UTC().Truncate(time.Second)}
	for _, c := range ordered {
		h.Chain = append(h.Chain, c.Raw)
	}
	err = r.change(ctx, func(c *contents) error {
		if _, ok := c.Identities[alias]; ok && !replace {
			return fault("keyring.identity", ringfence.KindConflict, "there is an identity "+alias+" already", "replace it with --replace, or choose another alias", nil)
		}
		c.Identities[alias] = h
		return nil
	})
	if err != nil {
		return id, nil, err
	}
	return r.view.Load().identities[alias], notes, nil
}

// RemoveIdentity forgets an identity and its key.
func (r *Ring) RemoveIdentity(ctx context.Context, alias string) error {
	return r.change(ctx, func(c *contents) error {
		if _, ok := c.Identities[alias]; !ok {
			_, err := r.Certificate(alias)
			return err
		}
		delete(c.Identities, alias)
		return nil
	})
}

func checkAlias(alias string) error {
	ok := alias != "" && len(alias) <= 64
	for i := range len(alias) {
		c := alias[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '_' || c == '.'))
	}
	if !ok {
		return fault("keyring", ringfence.KindInvalid, fmt.Sprintf("%.80q cannot be an alias", alias), "use 1 to 64 lower-case letters, digits and . _ -", nil)
	}
	if slices.Contains([]string{"own", "host", "node", "tvs", "capf"}, alias) {
		return fault("keyring", ringfence.KindInvalid, alias+" cannot be an alias: it has a meaning of its own", "choose another", nil)
	}
	return nil
}

func fault(op string, k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: op, Kind: k, Text: text, Hint: hint, Err: cause}
}

func clip(s string) string { return fmt.Sprintf("%.64q", s) }
