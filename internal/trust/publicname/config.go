package publicname

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"ringfence"
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

// Ring is where the certificate goes, under its alias.
type Ring interface {
	// Certificate returns an identity, or a fault of KindNotFound.
	Certificate(alias string) (*tls.Certificate, error)
	// Put keeps a chain and its key, both as PEM, in the place of the identity that is there, if there is one.
	Put(ctx context.Context, alias string, chain, key []byte) error
}

// Answers opens the port at which the authority looks, and has what comes there answered by a [Responder] until it is closed.
type Answers interface {
	Open(ctx context.Context, r *Responder) (close func(), err error)
}

// Kinds of challenge (RFC 8555 section 8.3, RFC 8737).
const (
	HTTP01    = "http-01"
	TLSALPN01 = "tls-alpn-01"
)

// Binding ties the account to one that the authority knows already (RFC 8555 section 7.3.4).
type Binding struct {
	ID  string
	Key []byte
}

// Config says what is to be kept, and holds what a Keeper needs.
type Config struct {
	Names     []string // host names in lower case, no wildcards
	Directory string   // URL of the directory, https
	Contact   []string // as URIs, such as mailto:admin@example.com
	Agree     bool     // to the terms of service of the directory, if it has some
	Challenge string   // HTTP01 or TLSALPN01
	Alias     string   // of the identity in the ring
	Binding   *Binding // nil: none
	Node      string   // who orders

	Vault   Vault
	Ring    Ring
	Answers Answers
	// Transport carries requests to the directory. It must have verified the server.
	Transport http.RoundTripper
	// Audit keeps what was done; nil: nobody does.
	Audit func(ctx context.Context, what, target, outcome string) error
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now
}

func fault(k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: "publicname", Kind: k, Text: text, Hint: hint, Err: cause}
}
