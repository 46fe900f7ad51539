package acme

import (
	"context"
	"time"
)

// Status is the state of an account, order, authorization or challenge (RFC 8555 section 7.1.6).
type Status string

// The states.
const (
	StatusPending     Status = "pending"
	StatusReady       Status = "ready"
	StatusProcessing  Status = "processing"
	StatusValid       Status = "valid"
	StatusInvalid     Status = "invalid"
	StatusDeactivated Status = "deactivated" // by the client
	StatusExpired     Status = "expired"
	StatusRevoked     Status = "revoked" // by the server
)

// Account is who orders certificates. Its key identifies it.
type Account struct {
	ID         string
	Status     Status // valid, deactivated or revoked
	Key        []byte // public key as JWK (RFC 7517), JSON
	Thumbprint string // of the key (RFC 7638), SHA-256 in base64url; unique
	Contact    []string
	Binding    string // key id of the external account binding
	Created    time.Time
	Version    int // counts updates; a State compares it
}

// Identifier is a name that a certificate is for.
type Identifier struct {
	Type  string `json:"type"` // "dns" (RFC 8555) or "ip" (RFC 8738)
	Value string `json:"value"`
}

// Order is a wish for one certificate, and the certificate once it is there.
type Order struct {
	ID             string
	Account        string
	Status         Status
	Identifiers    []Identifier
	Authorizations []string // ids, in the order of the identifiers
	Created        time.Time
	Expires        time.Time
	Error          []byte // problem document (RFC 9457), JSON; nil unless invalid
	CertID         string // of the certificate (RFC 9773 section 4.1); "" until there is one; unique
	Chain          []byte // PEM, leaf first
	NotAfter       time.Time
	Replaces       string // CertID of the certificate that this order renews; unique among orders that are not invalid
	Started        time.Time
	Version        int
}

// Authorization is the question whether an account controls a name, and the answer.
type Authorization struct {
	ID         string
	Account    string
	Order      string
	Identifier Identifier // without the *. of a wildcard
	Wildcard   bool
	Status     Status
	Expires    time.Time
	Challenges []Challenge
	Version    int
}

// Challenge is one way to show control of a name.
type Challenge struct {
	Type      string // "http-01", "dns-01" or "tls-alpn-01"
	Token     string
	Status    Status // pending, processing, valid or invalid
	Started   time.Time
	Validated time.Time
	Error     []byte // problem document, JSON
}

// State keeps the records. Create refuses with KindConflict what is there already or breaks a rule of uniqueness; Update does so if the
// stored Version is not that of the record it is given, and stores it with the next Version otherwise. Reading what is not there is
// KindNotFound. [Memory] is one; a table for each record, with its unique columns, is another.
type State interface {
	// CreateAccount refuses a thumbprint or a binding that another account has, whatever its status.
	CreateAccount(ctx context.Context, a Account) error
	Account(ctx context.Context, id string) (Account, error)
	AccountByKey(ctx context.Context, thumbprint string) (Account, error)
	UpdateAccount(ctx context.Context, a Account) error
	// CreateOrder stores an order with its authorizations, all or none.
	CreateOrder(ctx context.Context, o Order, authorizations []Authorization) error
	Order(ctx context.Context, id string) (Order, error)
	// OrderByCertificate returns the order whose certificate has the id.
	OrderByCertificate(ctx context.Context, certID string) (Order, error)
	// Orders returns the ids of an account's orders that are not invalid, in the order of the ids, at most limit, beginning after the one given.
	Orders(ctx context.Context, account, after string, limit int) ([]string, error)
	UpdateOrder(ctx context.Context, o Order) error
	Authorization(ctx context.Context, id string) (Authorization, error)
	UpdateAuthorization(ctx context.Context, a Authorization) error
	// Authorized reports whether an account has an authorization that is valid at the time for a name, perhaps with *. in front.
	Authorized(ctx context.Context, account string, name Identifier, now time.Time) (bool, error)
	// Forget removes orders that expired before the time, with their authorizations, unless their certificate is good for longer.
	Forget(ctx context.Context, before time.Time) error
}

// Binding is the key that a stranger needs to make an account (RFC 8555 section 7.3.4). Who shows it has it from the administrator.
type Binding struct {
	ID      string    // the key id
	Key     []byte    // the MAC key, 32 bytes
	Names   []string  // what the account may order, as [Names] reads it
	Expires time.Time // until when an account can be made with it; zero: always
	Revoked bool      // its account can do nothing any more
}

// Bindings looks up external account bindings; KindNotFound if there is none.
type Bindings interface {
	Binding(ctx context.Context, id string) (Binding, error)
}
