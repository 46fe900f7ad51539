package admin

import (
	"context"
	"net/http"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

type (
	signInsIn struct {
		Device ringfence.DeviceID `query:"device" maxLength:"64" doc:"only those of this device"`
	}
	signInPath struct {
		ID string `path:"id" maxLength:"64" doc:"id of the sign-in"`
	}
)

// routesSignIns registers what administrators do with the grants and keys of the authorization server.
func (s *Server) routesSignIns() {
	look(s, op("signin.list", http.MethodGet, "/signins", "List sign-ins, the latest first"), func(ctx context.Context, in *signInsIn) (*body[[]api.SignIn], error) {
		all, err := s.c.Store.Grants(ctx, in.Device)
		out := make([]api.SignIn, 0, len(all))
		for _, g := range all {
			out = append(out, api.SignIn{ID: g.ID, Device: g.Device, Program: g.Client, Scope: g.Scope, Created: g.Created, Used: g.Used, Expires: g.Expires, Revoked: g.Revoked})
		}
		return answer(out), err
	})
	act(s, op("signin.revoke", http.MethodDelete, "/signins/{id}", "Revoke a sign-in: its tokens, registrations, connections and calls end at once"), api.ScopeWrite,
		func(in *signInPath) string { return "sign-in " + in.ID },
		func(ctx context.Context, in *signInPath) (*none, error) {
			return nil, unknown(s.c.SignIns.Revoke(ctx, in.ID, "by "+whoOf(ctx).Name), "sign-in", in.ID)
		})
	look(s, op("signin.keys", http.MethodGet, "/signin-keys", "List the keys of access tokens"), func(context.Context, *none) (*body[[]api.TokenKey], error) { return answer(s.tokenKeys()), nil })
	act(s, op("signin.rotate", http.MethodPost, "/signin-keys", "Sign access tokens with a new key from now on; tokens of the old one stay good until they expire"), api.ScopeAdmin,
		func(*none) string { return "the key of access tokens" },
		func(ctx context.Context, _ *none) (*body[[]api.TokenKey], error) {
			err := s.c.SignIns.Rotate(ctx, s.c.Now())
			return answer(s.tokenKeys()), err
		})
}

func (s *Server) tokenKeys() []api.TokenKey {
	ids, signer := s.c.SignIns.Keys()
	out := make([]api.TokenKey, 0, len(ids))
	for _, id := range ids {
		out = append(out, api.TokenKey{ID: id, Signs: id == signer})
	}
	return out
}
