package admin

import (
	"context"
	"net/http"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/acme"
)

// Machines keeps who may order by ACME; acme.Stored is one.
type Machines interface {
	AddBinding(ctx context.Context, name string, b acme.Binding) error
	AllBindings(ctx context.Context) ([]acme.NamedBinding, error)
	WithdrawBinding(ctx context.Context, name string) error
	Accounts(ctx context.Context, limit int) ([]acme.Account, error)
}

type (
	newBindingIn struct{ Body api.NewACMEBinding }
	bindingPath  struct {
		Name string `path:"name" maxLength:"64"`
	}
)

func (s *Server) routesACME() {
	add := op("acme.binding.add", http.MethodPost, "/acme/bindings", "Let a machine make an ACME account; its key is shown once")
	add.DefaultStatus = http.StatusCreated
	act(s, add, api.ScopeAdmin, func(in *newBindingIn) string { return in.Body.Name }, s.addBinding)
	look(s, op("acme.binding.list", http.MethodGet, "/acme/bindings", "List who may order certificates by ACME"), s.listBindings)
	act(s, op("acme.binding.withdraw", http.MethodDelete, "/acme/bindings/{name}", "End what the account of a binding may do; its certificates stay good until they are revoked"), api.ScopeAdmin,
		func(in *bindingPath) string { return in.Name }, func(ctx context.Context, in *bindingPath) (*none, error) {
			if s.c.Machines == nil {
				return nil, noACME()
			}
			return nil, s.c.Machines.WithdrawBinding(ctx, in.Name)
		})
}

func noACME() error {
	return fault("admin.acme", ringfence.KindNotFound, "machines get no certificates by ACME here", "set acme.serve in the configuration, and start the node again")
}

func (s *Server) addBinding(ctx context.Context, in *newBindingIn) (*body[api.ACMEBinding], error) {
	if s.c.Machines == nil {
		return nil, noACME()
	}
	b := acme.NewBinding(in.Body.Allow, in.Body.Expires)
	if !b.Expires.IsZero() && !b.Expires.After(s.c.Now()) {
		return nil, fault("admin.acme", ringfence.KindInvalid, "the time until which the account can be made is over", "give one that is to come")
	}
	if err := s.c.Machines.AddBinding(ctx, in.Body.Name, b); err != nil {
		if ringfence.KindOf(err) == ringfence.KindConflict {
			err = fault("admin.acme", ringfence.KindConflict, "there is a binding "+in.Body.Name+" already", "choose another name")
		}
		return nil, err
	}
	out := s.bindingOut(acme.NamedBinding{Name: in.Body.Name, Binding: b}, "")
	out.Key = b.KeyText()
	return answer(out), nil
}

func (s *Server) bindingOut(b acme.NamedBinding, account string) api.ACMEBinding {
	out := api.ACMEBinding{Name: b.Name, KeyID: b.ID, Allow: b.Names, Expires: utc(b.Expires), State: "open", Account: account, Server: s.c.SignIns.Issuer() + "/acme/directory"}
	if account != "" {
		out.State = "used"
	}
	if b.Revoked {
		out.State = "withdrawn"
	}
	return out
}

func (s *Server) listBindings(ctx context.Context, _ *none) (*body[[]api.ACMEBinding], error) {
	if s.c.Machines == nil {
		return nil, noACME()
	}
	all, err := s.c.Machines.AllBindings(ctx)
	if err != nil {
		return nil, err
	}
	accounts, err := s.c.Machines.Accounts(ctx, 1000)
	if err != nil {
		return nil, err
	}
	of := map[string]string{}
	for _, a := range accounts {
		of[a.Binding] = a.ID
	}
	out := make([]api.ACMEBinding, 0, len(all))
	for _, b := range all {
		out = append(out, s.bindingOut(b, of[b.ID]))
	}
	return answer(out), nil
}
