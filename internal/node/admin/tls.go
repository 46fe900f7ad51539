package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/tlspolicy"
)

type explainTLSIn struct {
	Class  string `query:"class" required:"true" enum:"sip,sip-wss,sip-oauth,https" doc:"of the listener"`
	Max    string `query:"max" enum:"1.2,1.3" doc:"the latest version that the peer knows"`
	Suites string `query:"suites" maxLength:"4096" doc:"the peer's cipher list for TLS 1.2"`
	Groups string `query:"groups" maxLength:"200" doc:"the peer's groups, with commas"`
	Cert   bool   `query:"cert" doc:"whether the peer has a certificate of this organisation"`
}

func (s *Server) routesTLS() {
	look(s, op("tls.get", http.MethodGet, "/tls", "What is set in the tree of TLS settings, and what each listener speaks"), func(context.Context, *none) (*body[api.TLSPolicy], error) {
		out := api.TLSPolicy{Set: s.c.Host.Policy(), Listeners: []api.TLSListener{}}
		if out.Set == nil {
			out.Set = tlspolicy.Tree{}
		}
		for _, l := range s.c.Host.Listeners() {
			out.Listeners = append(out.Listeners, api.TLSListener{Place: "/interface/" + l.Class + "/" + l.Addr.String(), Decisions: out.Set.For(l).Decisions})
		}
		slices.SortFunc(out.Listeners, func(a, b api.TLSListener) int { return cmp.Compare(a.Place, b.Place) })
		return answer(out), nil
	})
	look(s, op("tls.explain", http.MethodGet, "/tls/explanation", "Which settings a listener goes by and why, and what a given peer would negotiate with it"), func(_ context.Context, in *explainTLSIn) (*body[api.TLSExplanation], error) {
		all := s.c.Host.Listeners()
		i := slices.IndexFunc(all, func(l tlspolicy.Listener) bool { return l.Class == in.Class })
		if i < 0 {
			return nil, fault("admin.tls", ringfence.KindNotFound, "nothing listens as "+in.Class, "see `ringfence flows`")
		}
		e := s.c.Host.Policy().For(all[i])
		p := tlspolicy.Peer{Max: in.Max, Suites: in.Suites, Certificate: in.Cert}
		if in.Groups != "" {
			p.Groups = strings.Split(in.Groups, ",")
		}
		outcome, err := e.Try(p)
		return answer(api.TLSExplanation{Place: "/interface/" + in.Class + "/" + all[i].Addr.String(), Decisions: e.Decisions, Outcome: outcome}), err
	})
}
