package admin

import (
	"context"
	"net/http"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/publicname"
)

// Public keeps a certificate for public names; *publicname.Keeper is one.
type Public interface {
	Status() publicname.Status
	Renew(ctx context.Context) error
}

func (s *Server) routesPublic() {
	look(s, op("public.status", http.MethodGet, "/public", "The certificate for public names, and how its orders go"), func(context.Context, *none) (*body[api.PublicNames], error) {
		if s.c.Public == nil {
			return nil, noPublic()
		}
		return answer(publicOut(s.c.Public.Status())), nil
	})
	renew := op("public.renew", http.MethodPost, "/public/renewal", "Begin an order now; how it goes is in the status. The certificate that is there stays in use until there is a new one")
	renew.DefaultStatus = http.StatusAccepted
	act(s, renew, api.ScopeAdmin, func(*none) string { return "public names" }, func(ctx context.Context, _ *none) (*body[api.PublicNames], error) {
		if s.c.Public == nil {
			return nil, noPublic()
		}
		err := s.c.Public.Renew(ctx)
		return answer(publicOut(s.c.Public.Status())), err
	})
}

func noPublic() error {
	return fault("admin.public", ringfence.KindNotFound, "no certificate for public names is kept here", "set trust.public in the configuration, and start the node again; docs/guides/public-names.md")
}

func publicOut(p publicname.Status) api.PublicNames {
	out := api.PublicNames{Names: p.Names, Alias: p.Alias, Directory: p.Directory, Challenge: p.Challenge, State: string(p.State), Account: p.Account, Serial: p.Serial, Issuer: p.Issuer, Until: p.Until, Renewal: p.Renewal, Next: p.Next, Tried: p.Tried,
		Failures: p.Failures, Error: p.Error, Hint: p.Hint, Steps: []api.PublicStep{}}
	for _, step := range p.Steps {
		out.Steps = append(out.Steps, api.PublicStep{At: step.At, Text: step.Text})
	}
	return out
}

// publicNumbers returns when the certificate for public names ends, in seconds since 1970, and how many orders failed in a row.
func (s *Server) publicNumbers() (until, failures float64) {
	if s.c.Public == nil {
		return 0, 0
	}
	p := s.c.Public.Status()
	if !p.Until.IsZero() {
		until = float64(p.Until.Unix())
	}
	return until, float64(p.Failures)
}

// publicExpiry returns until when public names have a certificate; false if none is kept, or there is none yet.
func (s *Server) publicExpiry() (e api.Expiry, failing string, ok bool) {
	if s.c.Public == nil {
		return e, "", false
	}
	p := s.c.Public.Status()
	if p.Until.IsZero() {
		return e, "", false
	}
	e = api.Expiry{Role: "public", Name: p.Names[0], Until: p.Until, Renew: "by itself"}
	if p.Error != "" {
		e.Renew = "by itself; the last attempt failed"
	}
	return e, p.Error, true
}
