package acme_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/trust/acme"
)

func conflict(err error) bool { return err != nil && ringfence.KindOf(err) == ringfence.KindConflict }
func missing(err error) bool  { return err != nil && ringfence.KindOf(err) == ringfence.KindNotFound }

// TestMemory holds the State of this room to what the interface promises; a State on a database is held to the same.
func TestMemory(t *testing.T) { stateRules(t, func() acme.State { return acme.NewMemory() }) }

// stateRules are what the server relies on.
func stateRules(t *testing.T, empty func() acme.State) {
	ctx, now := t.Context(), time.Now().UTC().Truncate(time.Second)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("accounts", func(t *testing.T) {
		s := empty()
		a := acme.Account{ID: "a", Status: acme.StatusValid, Key: []byte(`{}`), Thumbprint: "ta", Contact: []string{"mailto:a@example.org"}, Binding: "ba", Created: now}
		must(s.CreateAccount(ctx, a))
		for _, other := range []acme.Account{{ID: "a", Thumbprint: "x", Binding: "x"}, {ID: "x", Thumbprint: "ta", Binding: "x"}, {ID: "x", Thumbprint: "x", Binding: "ba"}} {
			if err := s.CreateAccount(ctx, other); !conflict(err) {
				t.Errorf("%+v: %v", other, err)
			}
		}
		got, err := s.AccountByKey(ctx, "ta")
		must(err)
		if got.ID != "a" || got.Binding != "ba" || !got.Created.Equal(now) || !slices.Equal(got.Contact, a.Contact) || string(got.Key) != `{}` {
			t.Errorf("%+v", got)
		}
		got.Contact[0], got.Key[0] = "changed", 'x'
		if again, err := s.Account(ctx, "a"); err != nil || again.Contact[0] != "mailto:a@example.org" || again.Key[0] != '{' {
			t.Errorf("a record is shared with its reader: %+v %v", again, err)
		}
		must(s.CreateAccount(ctx, acme.Account{ID: "b", Thumbprint: "tb", Binding: "bb"}))
		a.Thumbprint = "tb"
		if err := s.UpdateAccount(ctx, a); !conflict(err) {
			t.Errorf("the key of another: %v", err)
		}
		a.Thumbprint = "tc"
		must(s.UpdateAccount(ctx, a))
		if err := s.UpdateAccount(ctx, a); !conflict(err) {
			t.Errorf("an old version: %v", err)
		}
		if _, err := s.AccountByKey(ctx, "ta"); !missing(err) {
			t.Errorf("the old key: %v", err)
		}
		_, err = s.Account(ctx, "none")
		if err2 := s.UpdateAccount(ctx, acme.Account{ID: "none"}); !missing(err) || !missing(err2) {
			t.Errorf("%v %v", err, err2)
		}
	})
	t.Run("orders", func(t *testing.T) {
		s := empty()
		id := acme.Identifier{Type: "dns", Value: "a.example.org"}
		o := acme.Order{ID: "o1", Account: "a", Status: acme.StatusPending, Identifiers: []acme.Identifier{id}, Authorizations: []string{"z1", "z2"}, Created: now, Expires: now.Add(time.Hour), Replaces: "c0"}
		z := acme.Authorization{ID: "z1", Account: "a", Order: "o1", Identifier: id, Status: acme.StatusPending, Expires: o.Expires, Challenges: []acme.Challenge{{Type: "http-01", Token: "t", Status: acme.StatusPending}}}
		w := z
		w.ID, w.Wildcard = "z2", true
		must(s.CreateOrder(ctx, o, []acme.Authorization{z, w}))
		if err := s.CreateOrder(ctx, acme.Order{ID: "o1"}, nil); !conflict(err) {
			t.Errorf("the same id: %v", err)
		}
		if err := s.CreateOrder(ctx, acme.Order{ID: "o2", Replaces: "c0"}, []acme.Authorization{{ID: "z9"}}); !conflict(err) {
			t.Errorf("replaced twice: %v", err)
		}
		if _, err := s.Authorization(ctx, "z9"); !missing(err) {
			t.Errorf("half an order was stored: %v", err)
		}
		got, err := s.Authorization(ctx, "z1")
		must(err)
		if got.Identifier != id || len(got.Challenges) != 1 || got.Challenges[0].Token != "t" || !got.Expires.Equal(o.Expires) {
			t.Errorf("%+v", got)
		}
		if ok, err := s.Authorized(ctx, "a", id, now); ok || err != nil {
			t.Errorf("a pending authorization counts: %v", err)
		}
		got.Status = acme.StatusValid
		must(s.UpdateAuthorization(ctx, got))
		if err := s.UpdateAuthorization(ctx, got); !conflict(err) {
			t.Errorf("an old version: %v", err)
		}
		if ok, err := s.Authorized(ctx, "a", id, now); !ok || err != nil {
			t.Errorf("a valid authorization does not count: %v", err)
		}
		for name, ask := range map[string][2]string{"another account": {"b", id.Value}, "the wildcard": {"a", "*." + id.Value}} {
			if ok, err := s.Authorized(ctx, ask[0], acme.Identifier{Type: "dns", Value: ask[1]}, now); ok || err != nil {
				t.Errorf("%s: %v %v", name, ok, err)
			}
		}
		if ok, err := s.Authorized(ctx, "a", id, o.Expires); ok || err != nil {
			t.Errorf("an authorization that expired counts: %v", err)
		}
		if _, err := s.OrderByCertificate(ctx, ""); !missing(err) {
			t.Errorf("an order without a certificate: %v", err)
		}
		o.Status, o.CertID, o.Chain, o.NotAfter = acme.StatusValid, "c1", []byte("pem"), now.Add(48*time.Hour)
		must(s.UpdateOrder(ctx, o))
		if err := s.UpdateOrder(ctx, o); !conflict(err) {
			t.Errorf("an old version: %v", err)
		}
		if p, err := s.OrderByCertificate(ctx, "c1"); err != nil || p.ID != "o1" || string(p.Chain) != "pem" || p.Version != 1 {
			t.Errorf("%+v %v", p, err)
		}
		must(s.CreateOrder(ctx, acme.Order{ID: "o3", Account: "a", Status: acme.StatusInvalid, Expires: now.Add(time.Hour), Replaces: "c1"}, nil))
		must(s.CreateOrder(ctx, acme.Order{ID: "o4", Account: "a", Status: acme.StatusPending, Expires: now.Add(time.Hour), Replaces: "c1"}, nil)) // the one before failed
		must(s.CreateOrder(ctx, acme.Order{ID: "o5", Account: "b", Status: acme.StatusPending, Expires: now.Add(time.Hour)}, nil))
		for _, tc := range []struct {
			after string
			limit int
			want  []string
		}{{"", 10, []string{"o1", "o4"}}, {"", 1, []string{"o1"}}, {"o1", 10, []string{"o4"}}, {"o4", 10, nil}} {
			if ids, err := s.Orders(ctx, "a", tc.after, tc.limit); err != nil || !slices.Equal(ids, tc.want) {
				t.Errorf("%+v: %v %v", tc, ids, err)
			}
		}
		must(s.Forget(ctx, now.Add(2*time.Hour)))
		if ids, err := s.Orders(ctx, "a", "", 10); err != nil || !slices.Equal(ids, []string{"o1"}) {
			t.Errorf("%v %v", ids, err)
		}
		must(s.Forget(ctx, now.Add(49*time.Hour)))
		_, err = s.Order(ctx, "o1")
		_, err2 := s.Authorization(ctx, "z1")
		if !missing(err) || !missing(err2) {
			t.Errorf("what is over is still there: %v %v", err, err2)
		}
	})
	t.Run("at once", func(t *testing.T) {
		s := empty()
		must(s.CreateOrder(ctx, acme.Order{ID: "o", Account: "a", Status: acme.StatusReady, Expires: now}, nil))
		o, err := s.Order(ctx, "o")
		must(err)
		var won, made atomic.Int32
		var wait sync.WaitGroup
		for i := range 16 {
			wait.Go(func() {
				if mine := o; s.UpdateOrder(ctx, mine) == nil {
					won.Add(1)
				}
				if s.CreateAccount(ctx, acme.Account{ID: fmt.Sprint(i), Thumbprint: fmt.Sprint(i), Binding: "one"}) == nil {
					made.Add(1)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 || made.Load() != 1 {
			t.Errorf("%d updates of one version, %d accounts of one binding", won.Load(), made.Load())
		}
	})
}
