package acme

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"ringfence"
)

// Memory is a State that ends with the process. Its methods may be called from any goroutine.
type Memory struct {
	mu       sync.Mutex
	accounts map[string]Account
	orders   map[string]Order
	authz    map[string]Authorization
}

var _ State = (*Memory)(nil)

// NewMemory returns an empty one.
func NewMemory() *Memory {
	return &Memory{accounts: map[string]Account{}, orders: map[string]Order{}, authz: map[string]Authorization{}}
}

const opMemory = "acme.memory"

func missing(what string) error {
	return fault(opMemory, ringfence.KindNotFound, "there is no such "+what, "", nil)
}

func conflict(text string) error { return fault(opMemory, ringfence.KindConflict, text, "", nil) }

// Records are handed out with slices of their own: who changes one changes nothing here.
func copyAccount(a Account) Account {
	a.Key, a.Contact = slices.Clone(a.Key), slices.Clone(a.Contact)
	return a
}

func copyOrder(o Order) Order {
	o.Identifiers, o.Authorizations = slices.Clone(o.Identifiers), slices.Clone(o.Authorizations)
	o.Error, o.Chain = slices.Clone(o.Error), slices.Clone(o.Chain)
	return o
}

func copyAuthz(a Authorization) Authorization {
	a.Challenges = slices.Clone(a.Challenges)
	for i := range a.Challenges {
		a.Challenges[i].Error = slices.Clone(a.Challenges[i].Error)
	}
	return a
}

// CreateAccount is as State has it.
func (m *Memory) CreateAccount(_ context.Context, a Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.accounts {
		if b.ID == a.ID || b.Thumbprint == a.Thumbprint || b.Binding == a.Binding {
			return conflict("there is an account of that key or binding")
		}
	}
	m.accounts[a.ID] = copyAccount(a)
	return nil
}

// Account is as State has it.
func (m *Memory) Account(_ context.Context, id string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.accounts[id]
	if !ok {
		return Account{}, missing("account")
	}
	return copyAccount(a), nil
}

// AccountByKey is as State has it.
func (m *Memory) AccountByKey(_ context.Context, thumbprint string) (Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.accounts {
		if a.Thumbprint == thumbprint {
			return copyAccount(a), nil
		}
	}
	return Account{}, missing("account")
}

// UpdateAccount is as State has it.
func (m *Memory) UpdateAccount(_ context.Context, a Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.accounts {
		if b.ID != a.ID && b.Thumbprint == a.Thumbprint {
			return conflict("another account has that key")
		}
	}
	was, ok := m.accounts[a.ID]
	switch {
	case !ok:
		return missing("account")
	case was.Version != a.Version:
		return conflict("the account was changed meanwhile")
	}
	a.Version++
	m.accounts[a.ID] = copyAccount(a)
	return nil
}

// CreateOrder is as State has it.
func (m *Memory) CreateOrder(_ context.Context, o Order, list []Authorization) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.orders[o.ID]; ok {
		return conflict("there is an order of that id")
	}
	for _, p := range m.orders {
		if o.Replaces != "" && p.Replaces == o.Replaces && p.Status != StatusInvalid {
			return conflict("another order replaces that certificate")
		}
	}
	m.orders[o.ID] = copyOrder(o)
	for _, a := range list {
		m.authz[a.ID] = copyAuthz(a)
	}
	return nil
}

// Order is as State has it.
func (m *Memory) Order(_ context.Context, id string) (Order, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.orders[id]
	if !ok {
		return Order{}, missing("order")
	}
	return copyOrder(o), nil
}

// OrderByCertificate is as State has it.
func (m *Memory) OrderByCertificate(_ context.Context, certID string) (Order, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.orders {
		if certID != "" && o.CertID == certID {
			return copyOrder(o), nil
		}
	}
	return Order{}, missing("certificate")
}

// Orders is as State has it.
func (m *Memory) Orders(_ context.Context, account, after string, limit int) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(m.orders)) {
		if o := m.orders[id]; o.Account == account && o.Status != StatusInvalid && id > after && len(ids) < limit {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// UpdateOrder is as State has it.
func (m *Memory) UpdateOrder(_ context.Context, o Order) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, ok := m.orders[o.ID]
	switch {
	case !ok:
		return missing("order")
	case was.Version != o.Version:
		return conflict("the order was changed meanwhile")
	}
	o.Version++
	m.orders[o.ID] = copyOrder(o)
	return nil
}

// Authorization is as State has it.
func (m *Memory) Authorization(_ context.Context, id string) (Authorization, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.authz[id]
	if !ok {
		return Authorization{}, missing("authorization")
	}
	return copyAuthz(a), nil
}

// UpdateAuthorization is as State has it.
func (m *Memory) UpdateAuthorization(_ context.Context, a Authorization) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, ok := m.authz[a.ID]
	switch {
	case !ok:
		return missing("authorization")
	case was.Version != a.Version:
		return conflict("the authorization was changed meanwhile")
	}
	a.Version++
	m.authz[a.ID] = copyAuthz(a)
	return nil
}

// Authorized is as State has it.
func (m *Memory) Authorized(_ context.Context, account string, name Identifier, now time.Time) (bool, error) {
	wildcard := false
	name.Value, wildcard = strings.CutPrefix(name.Value, "*.")
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.authz {
		if a.Account == account && a.Identifier == name && a.Wildcard == wildcard && a.at(now) == StatusValid {
			return true, nil
		}
	}
	return false, nil
}

// Forget is as State has it.
func (m *Memory) Forget(_ context.Context, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, o := range m.orders {
		if o.Expires.Before(before) && o.NotAfter.Before(before) {
			for _, a := range o.Authorizations {
				delete(m.authz, a)
			}
			delete(m.orders, id)
		}
	}
	return nil
}
