package acme

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// Documents keeps records of any shape; *store.Store is one.
type Documents interface {
	CreateDocuments(ctx context.Context, all ...store.Document) error
	ReplaceDocument(ctx context.Context, d store.Document) error
	Document(ctx context.Context, kind, id string) (store.Document, error)
	DocumentByKey(ctx context.Context, kind, key string) (store.Document, error)
	Documents(ctx context.Context, kind, owner, tag, state, after string, limit int) ([]store.Document, error)
	ForgetDocuments(ctx context.Context, kind string, before time.Time) (int, error)
}

// Stored is a State and Bindings in a store, for any number of nodes.
type Stored struct{ store Documents }

var (
	_ State    = Stored{}
	_ Bindings = Stored{}
)

// NewStored returns the records of a store.
func NewStored(d Documents) Stored { return Stored{d} }

// The kinds of documents.
const (
	kindAccount = "acme account"
	kindOrder   = "acme order"
	kindAuthz   = "acme authorization"
	kindBinding = "acme binding"
)

func pack(d store.Document, record any) (store.Document, error) {
	b, err := json.Marshal(record)
	if err != nil {
		return d, fault("acme.stored", ringfence.KindInternal, "a record cannot be written", "", err)
	}
	d.Body = b
	return d, nil
}

// unpack reads a record; version is where its number goes.
func unpack(d store.Document, err error, record any, version *int) error {
	if err != nil {
		return err
	}
	if err := json.Unmarshal(d.Body, record); err != nil {
		return fault("acme.stored", ringfence.KindInternal, "a record is damaged", "restore the database from a backup", err)
	}
	*version = int(d.Version)
	return nil
}

func accountDoc(a Account) (store.Document, error) {
	return pack(store.Document{Kind: kindAccount, ID: a.ID, Version: int64(a.Version), Owner: a.Binding, State: string(a.Status), Keys: []string{"key:" + a.Thumbprint, "binding:" + a.Binding}}, a)
}

// CreateAccount is as State has it.
func (s Stored) CreateAccount(ctx context.Context, a Account) error {
	d, err := accountDoc(a)
	if err != nil {
		return err
	}
	return s.store.CreateDocuments(ctx, d)
}

// Account is as State has it.
func (s Stored) Account(ctx context.Context, id string) (a Account, err error) {
	d, err := s.store.Document(ctx, kindAccount, id)
	return a, unpack(d, err, &a, &a.Version)
}

// AccountByKey is as State has it.
func (s Stored) AccountByKey(ctx context.Context, thumbprint string) (a Account, err error) {
	d, err := s.store.DocumentByKey(ctx, kindAccount, "key:"+thumbprint)
	return a, unpack(d, err, &a, &a.Version)
}

// UpdateAccount is as State has it.
func (s Stored) UpdateAccount(ctx context.Context, a Account) error {
	d, err := accountDoc(a)
	if err != nil {
		return err
	}
	return s.store.ReplaceDocument(ctx, d)
}

// Accounts returns the accounts by id, at most limit.
func (s Stored) Accounts(ctx context.Context, limit int) (out []Account, err error) {
	all, err := s.store.Documents(ctx, kindAccount, "", "", "", "", limit)
	for _, d := range all {
		var a Account
		if err := unpack(d, nil, &a, &a.Version); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, err
}

func orderDoc(o Order) (store.Document, error) {
	d := store.Document{Kind: kindOrder, ID: o.ID, Version: int64(o.Version), Owner: o.Account, State: "open", Until: o.Expires}
	if o.NotAfter.After(o.Expires) {
		d.Until = o.NotAfter
	}
	if o.CertID != "" {
		d.Keys = append(d.Keys, "certificate:"+o.CertID)
	}
	if o.Status == StatusInvalid {
		d.State = string(StatusInvalid)
	} else if o.Replaces != "" {
		d.Keys = append(d.Keys, "replaces:"+o.Replaces)
	}
	return pack(d, o)
}

// nameTag is what an authorization is found by.
func nameTag(name Identifier, wildcard bool) string {
	if wildcard {
		return name.Type + ":*." + name.Value
	}
	return name.Type + ":" + name.Value
}

func authzDoc(a Authorization, until time.Time) (store.Document, error) {
	if a.Expires.After(until) {
		until = a.Expires
	}
	return pack(store.Document{Kind: kindAuthz, ID: a.ID, Version: int64(a.Version), Owner: a.Account, Tag: nameTag(a.Identifier, a.Wildcard), State: string(a.Status), Until: until}, a)
}

// CreateOrder is as State has it.
func (s Stored) CreateOrder(ctx context.Context, o Order, list []Authorization) error {
	d, err := orderDoc(o)
	if err != nil {
		return err
	}
	all := []store.Document{d}
	for _, a := range list {
		if d, err = authzDoc(a, o.Expires); err != nil {
			return err
		}
		all = append(all, d)
	}
	return s.store.CreateDocuments(ctx, all...)
}

// Order is as State has it.
func (s Stored) Order(ctx context.Context, id string) (o Order, err error) {
	d, err := s.store.Document(ctx, kindOrder, id)
	return o, unpack(d, err, &o, &o.Version)
}

// OrderByCertificate is as State has it.
func (s Stored) OrderByCertificate(ctx context.Context, certID string) (o Order, err error) {
	d, err := s.store.DocumentByKey(ctx, kindOrder, "certificate:"+certID)
	return o, unpack(d, err, &o, &o.Version)
}

// Orders is as State has it.
func (s Stored) Orders(ctx context.Context, account, after string, limit int) (ids []string, err error) {
	all, err := s.store.Documents(ctx, kindOrder, account, "", "open", after, limit)
	for _, d := range all {
		ids = append(ids, d.ID)
	}
	return ids, err
}

// UpdateOrder is as State has it.
func (s Stored) UpdateOrder(ctx context.Context, o Order) error {
	d, err := orderDoc(o)
	if err != nil {
		return err
	}
	return s.store.ReplaceDocument(ctx, d)
}

// Authorization is as State has it.
func (s Stored) Authorization(ctx context.Context, id string) (a Authorization, err error) {
	d, err := s.store.Document(ctx, kindAuthz, id)
	return a, unpack(d, err, &a, &a.Version)
}

// UpdateAuthorization is as State has it.
func (s Stored) UpdateAuthorization(ctx context.Context, a Authorization) error {
	was, err := s.store.Document(ctx, kindAuthz, a.ID)
	if err != nil {
		return err
	}
	d, err := authzDoc(a, was.Until)
	if err != nil {
		return err
	}
	return s.store.ReplaceDocument(ctx, d)
}

// Authorized is as State has it.
func (s Stored) Authorized(ctx context.Context, account string, name Identifier, now time.Time) (bool, error) {
	wildcard := false
	name.Value, wildcard = strings.CutPrefix(name.Value, "*.")
	for after := ""; ; {
		all, err := s.store.Documents(ctx, kindAuthz, account, nameTag(name, wildcard), string(StatusValid), after, 100)
		if err != nil || len(all) == 0 {
			return false, err
		}
		for _, d := range all {
			var a Authorization
			if err := unpack(d, nil, &a, &a.Version); err != nil {
				return false, err
			}
			if a.at(now) == StatusValid {
				return true, nil
			}
			after = d.ID
		}
	}
}

// Forget is as State has it. Authorizations outlive their order by no more than their own time.
func (s Stored) Forget(ctx context.Context, before time.Time) error {
	for _, kind := range []string{kindOrder, kindAuthz} {
		if _, err := s.store.ForgetDocuments(ctx, kind, before); err != nil {
			return err
		}
	}
	return nil
}

// AddBinding keeps a binding under a name that an administrator gave it; KindConflict if the name is taken.
func (s Stored) AddBinding(ctx context.Context, name string, b Binding) error {
	d, err := pack(store.Document{Kind: kindBinding, ID: b.ID, Owner: name, Keys: []string{"name:" + name}}, b)
	if err != nil {
		return err
	}
	return s.store.CreateDocuments(ctx, d)
}

// Binding is as Bindings has it.
func (s Stored) Binding(ctx context.Context, id string) (b Binding, err error) {
	d, err := s.store.Document(ctx, kindBinding, id)
	var version int
	return b, unpack(d, err, &b, &version)
}

// NamedBinding is a binding with the name that an administrator gave it.
type NamedBinding struct {
	Name string
	Binding
}

// AllBindings returns the bindings.
func (s Stored) AllBindings(ctx context.Context) (out []NamedBinding, err error) {
	all, err := s.store.Documents(ctx, kindBinding, "", "", "", "", 1000)
	for _, d := range all {
		n := NamedBinding{Name: d.Owner}
		var version int
		if err := unpack(d, nil, &n.Binding, &version); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, err
}

// WithdrawBinding ends what the account of a binding may do.
func (s Stored) WithdrawBinding(ctx context.Context, name string) error {
	d, err := s.store.DocumentByKey(ctx, kindBinding, "name:"+name)
	var b Binding
	var version int
	if err := unpack(d, err, &b, &version); err != nil {
		return err
	}
	b.Revoked = true
	if d, err = pack(d, b); err != nil {
		return err
	}
	d.State, d.Keys = "withdrawn", []string{"name:" + name}
	return s.store.ReplaceDocument(ctx, d)
}

// KeyText is how a client is given the key of a binding.
func (b Binding) KeyText() string { return base64.RawURLEncoding.EncodeToString(b.Key) }
