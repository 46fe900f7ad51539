package admin

import (
	"context"
	"net/http"

	"ringfence"
	"ringfence/internal/call/trunk"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/profile"
)

type trunkPath struct {
	Name string `path:"name" maxLength:"253" doc:"name of the trunk" example:"vcube"`
}

func (s *Server) routesTrunks() {
	look(s, op("trunk.list", http.MethodGet, "/trunks", "List the other telephone systems, and whether calls can go there now"), func(context.Context, *none) (*body[[]api.Trunk], error) {
		out := []api.Trunk{}
		for _, t := range s.c.Host.TrunkStates() {
			out = append(out, trunkOut(t))
		}
		return answer(out), nil
	})
	look(s, op("trunk.show", http.MethodGet, "/trunks/{name}", "Show one of them"), func(_ context.Context, in *trunkPath) (*body[api.Trunk], error) {
		for _, t := range s.c.Host.TrunkStates() {
			if t.Name == in.Name {
				return answer(trunkOut(t)), nil
			}
		}
		return nil, fault("admin.trunk", ringfence.KindNotFound, "there is no trunk "+clip(in.Name), "see `ringfence trunk list`; trunks are made in the configuration")
	})
	look(s, op("security.show", http.MethodGet, "/security", "The security mode of the cluster, and the security profiles of phones and trunks"), func(context.Context, *none) (*body[api.Security], error) {
		all := s.c.Host.Security()
		out := api.Security{Mode: all.Mode, Not: notServed()}
		for _, p := range all.Phones {
			out.Phones = append(out.Phones, api.PhoneProfile(p))
		}
		for _, t := range all.Trunks {
			out.Trunks = append(out.Trunks, api.TrunkProfile(t))
		}
		return answer(out), nil
	})
}

func notServed() (out []api.NotServed) {
	for _, mode := range profile.NotServed() {
		out = append(out, api.NotServed{Mode: mode, Why: profile.WhyNot(mode)})
	}
	return out
}

func trunkOut(t trunk.State) api.Trunk {
	p := t.Profile
	out := api.Trunk{Name: t.Name, Host: t.Host, Port: t.Port, Prefix: t.Prefix, Security: p.Name, Incoming: p.Incoming, Outgoing: p.Outgoing, Subjects: p.Subjects, Anchors: p.Anchors, Accept: append([]profile.Request{}, p.Accept...),
		Since: t.Since.UTC(), Cause: t.Cause}
	if t.Since.IsZero() {
		out.Since = t.Since
	}
	if len(out.Anchors) == 0 {
		out.Anchors = []string{"own"}
	}
	if t.Way != nil && t.Way.State() == "Established" {
		out.Up, out.Remote, out.TLS = true, t.Way.Remote.String(), t.Way.TLS
	}
	return out
}
