package token

import (
	"context"
	"net/http"

	"ringfence"
)

const (
	pathIntrospect = "/oauth/introspect"
	// noneSuch is the id of no grant and of no device.
	noneSuch = "-"
	// lookups is how often the store is asked about a good token.
	lookups = 2
)

// inactive is all that is said of a token that is not good (RFC 7662 section 2.2).
type inactive struct {
	Active bool `json:"active"`
}

// state is what is said of a good one.
type state struct {
	Active bool   `json:"active"`
	Type   string `json:"token_type"`
	claims
}

// introspect is the introspection endpoint (RFC 7662), for services of this organisation. They learn of access tokens only: a refresh
// token is between its program and this server, and is inactive to everybody else.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	who, err := s.c.Inspector(r)
	if err != nil {
		s.refuseInspector(w, r, err)
		return
	}
	v, err := form(r)
	if err == nil && v.Get("token") == "" {
		err = bad("invalid_request", "a token is needed, in the form")
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	c, err := s.inspect(r.Context(), v.Get("token"))
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, state{Active: true, Type: "Bearer", claims: c})
	case isRefusal(err):
		s.c.Log.Debug("a token is not good", "asked_by", who, "cause", err)
		writeJSON(w, http.StatusOK, inactive{})
	default: // "inactive" would be believed
		s.c.Log.Error("a token could not be looked up", "asked_by", who, "err", err, "hint", ringfence.HintOf(err))
		w.Header().Set("Retry-After", "5")
		writeJSON(w, http.StatusServiceUnavailable, &problem{"temporarily_unavailable", "the node cannot look the token up; try again"})
	}
}

// inspect is Verify for somebody who may watch the clock: a token that was never good takes the same look-ups as one that is.
func (s *Server) inspect(ctx context.Context, token string) (claims, error) {
	c, _, looked, err := s.check(ctx, token)
	if err != nil && !isRefusal(err) {
		return claims{}, err
	}
	for ; looked < lookups; looked++ {
		if _, gerr := s.c.Grants.Grant(ctx, noneSuch); gerr != nil && ringfence.KindOf(gerr) != ringfence.KindNotFound {
			return claims{}, gerr
		}
	}
	return c, err
}

// isRefusal reports whether an error says that a token is not good, and not that it could not be checked.
func isRefusal(err error) bool {
	kind := ringfence.KindOf(err)
	return kind == ringfence.KindUnauthenticated || kind == ringfence.KindDenied
}

// refuseInspector answers somebody who may not ask (RFC 6750 section 3).
func (s *Server) refuseInspector(w http.ResponseWriter, r *http.Request, err error) {
	s.c.Log.Warn("somebody asked about a token who may not", "remote", r.RemoteAddr, "cause", err, "hint", ringfence.HintOf(err))
	switch ringfence.KindOf(err) {
	case ringfence.KindUnauthenticated:
		w.Header().Set("WWW-Authenticate", `Bearer realm="ringfence"`)
		writeJSON(w, http.StatusUnauthorized, &problem{"invalid_client", textOf(err)})
	case ringfence.KindDenied:
		w.Header().Set("WWW-Authenticate", `Bearer realm="ringfence", error="insufficient_scope"`)
		writeJSON(w, http.StatusForbidden, &problem{"insufficient_scope", textOf(err)})
	default:
		writeJSON(w, http.StatusServiceUnavailable, &problem{"temporarily_unavailable", "the node cannot tell who you are; try again"})
	}
}
