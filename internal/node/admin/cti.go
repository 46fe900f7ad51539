package admin

import (
	"context"
	"net/http"

	"ringfence/internal/node/admin/api"
)

func (s *Server) routesCTI() {
	look(s, op("cti.sessions", http.MethodGet, "/cti/sessions", "List the systems that follow calls now, with the proof of each"), func(context.Context, *none) (*body[[]api.CTISession], error) {
		out := []api.CTISession{}
		all, _ := s.c.Host.CTIState()
		for _, x := range all {
			out = append(out, api.CTISession{Identity: x.Identity, Remote: x.Remote.String(), Since: x.Since, Channel: x.Channel, Subscriptions: x.Subscriptions, Sent: x.Sent, Unanswered: x.Unanswered, TLS: x.TLS})
		}
		return answer(out), nil
	})
}
