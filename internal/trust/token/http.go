package token

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// The endpoints.
const (
	pathMetadata  = "/.well-known/oauth-authorization-server"
	pathKeys      = "/oauth/keys"
	pathAuthorize = "/oauth/authorize"
	pathToken     = "/oauth/token"
	pathRevoke    = "/oauth/revoke"
	pathBegin     = "/oauth/device_authorization"
	pathDevice    = "/oauth/device"
)

const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
)

// maxForm bounds a request, in bytes.
const maxForm = 16 << 10

// Handler answers the endpoints. Serve it over TLS.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathMetadata, s.metadata)
	mux.HandleFunc("GET "+pathKeys, s.serveKeys)
	mux.HandleFunc("GET "+pathAuthorize, s.askAuthorize)
	mux.HandleFunc("POST "+pathAuthorize, s.authorize)
	mux.HandleFunc("POST "+pathToken, s.token)
	mux.HandleFunc("POST "+pathRevoke, s.revoke)
	if s.c.Inspector != nil {
		mux.HandleFunc("POST "+pathIntrospect, s.introspect)
	}
	if s.c.Outside != nil {
		mux.HandleFunc("POST "+pathOutside, s.leave)
		mux.HandleFunc("GET "+pathReturn, s.comeBack)
		mux.HandleFunc("POST "+pathChoose, s.choose)
	}
	mux.HandleFunc("POST "+pathBegin, s.begin)
	mux.HandleFunc("GET "+pathDevice, s.askDevice)
	mux.HandleFunc("POST "+pathDevice, s.approve)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		mux.ServeHTTP(w, r)
	})
}

// metadata describes the server (RFC 8414).
func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	at := s.c.Issuer()
	m := map[string]any{
		"issuer": at, "jwks_uri": at + pathKeys, "authorization_endpoint": at + pathAuthorize, "token_endpoint": at + pathToken,
		"revocation_endpoint": at + pathRevoke, "device_authorization_endpoint": at + pathBegin,
		"response_types_supported": []string{"code"}, "response_modes_supported": []string{"query"},
		"grant_types_supported":            []string{grantCode, grantRefresh, grantDevice},
		"code_challenge_methods_supported": []string{"S256"}, "scopes_supported": []string{Scope},
		"token_endpoint_auth_methods_supported": []string{"none"}, "revocation_endpoint_auth_methods_supported": []string{"none"},
		"authorization_response_iss_parameter_supported": true,
	}
	if s.c.Inspector != nil {
		m["introspection_endpoint"] = at + pathIntrospect
		m["introspection_endpoint_auth_methods_supported"] = []string{"Bearer", "tls_client_auth"} // RFC 8414 section 2, RFC 8705
	}
	writeJSON(w, http.StatusOK, m)
}

func (s *Server) serveKeys(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, s.keys.Load().public())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // if the asker is gone, nobody is left to tell
}

// problem is an error as OAuth words it (RFC 6749 section 5.2).
type problem struct {
	Code string `json:"error"`
	Text string `json:"error_description,omitempty"`
}

func (p *problem) Error() string { return p.Code + ": " + p.Text }

func bad(code, text string) error { return &problem{code, text} }

// refuse answers a program with an error. What went wrong inside of us is not its business.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	p, ok := errors.AsType[*problem](err)
	status := http.StatusBadRequest
	switch kind := ringfence.KindOf(err); {
	case ok:
	case kind == ringfence.KindUnauthenticated || kind == ringfence.KindDenied:
		p = &problem{"invalid_grant", textOf(err)}
	case kind == ringfence.KindOverload:
		p, status = &problem{"temporarily_unavailable", textOf(err)}, http.StatusServiceUnavailable
	default:
		s.c.Log.Error("a program could not be signed in", "err", err, "hint", ringfence.HintOf(err))
		p, status = &problem{"server_error", "the node failed; look at its log"}, http.StatusInternalServerError
	}
	writeJSON(w, status, p)
}

// textOf words a fault for whoever signs in.
func textOf(err error) string {
	f, ok := errors.AsType[*ringfence.Fault](err)
	switch {
	case !ok:
		return "it failed"
	case f.Hint != "":
		return f.Text + ": " + f.Hint
	}
	return f.Text
}

// form reads a request's parameters. One that is there twice is an error (RFC 6749 section 3.1).
func form(r *http.Request) (url.Values, error) {
	if err := r.ParseForm(); err != nil {
		return nil, bad("invalid_request", "the form cannot be read")
	}
	v := r.PostForm
	if r.Method == http.MethodGet {
		v = r.Form
	}
	for name, values := range v {
		if len(values) > 1 {
			return nil, bad("invalid_request", "a parameter is there twice: "+clip(name))
		}
	}
	return v, nil
}

func clip(s string) string { return s[:min(len(s), 40)] }

// answer is what the token endpoint gives (RFC 6749 section 5.1).
type answer struct {
	Access  string `json:"access_token"`
	Type    string `json:"token_type"`
	Expires int    `json:"expires_in"` // seconds
	Refresh string `json:"refresh_token"`
	Scope   string `json:"scope"`
	SIP     *sip   `json:"sip,omitempty"`
	grant   string
}

// sip says where the token is good, and for whom, so that a phone needs to be told nothing else. The RFC lets other members in; programs
// that do not know this one ignore it.
type sip struct {
	User   ringfence.UserID `json:"user"`
	Domain string           `json:"domain"`
	Host   string           `json:"host"`
	Port   uint16           `json:"port"`
}

func (s *Server) answer(g store.Grant, user ringfence.UserID, refresh string, now time.Time) (answer, error) {
	access, err := s.sign(g, user, now)
	out := answer{Access: access, Type: "Bearer", Expires: int(s.c.AccessLife / time.Second), Refresh: refresh, Scope: g.Scope, grant: g.ID}
	if s.c.Registrar != nil {
		host, port := s.c.Registrar()
		out.SIP = &sip{User: user, Domain: s.c.Audience, Host: host, Port: port}
	}
	return out, err
}

// token is the token endpoint.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	v, err := form(r)
	var out answer
	if err == nil {
		switch kind := v.Get("grant_type"); {
		case !s.known(v.Get("client_id")):
			err = bad("invalid_client", "this program is not known here; an administrator lists programs under oauth.clients")
		case kind == grantCode:
			out, err = s.redeemCode(r, v)
		case kind == grantRefresh:
			out, err = s.refresh(r, v)
		case kind == grantDevice:
			out, err = s.poll(r, v)
		default:
			err = bad("unsupported_grant_type", "use "+grantCode+", "+grantRefresh+" or "+grantDevice)
		}
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) known(client string) bool {
	_, ok := s.client(client)
	return ok
}

// refresh trades a refresh token for new ones. One that was used before means that somebody else has it too: then nobody keeps the grant
// (RFC 9700 section 4.14.2).
func (s *Server) refresh(r *http.Request, v url.Values) (answer, error) {
	ctx, now := r.Context(), s.c.Now()
	hash := store.HashToken(v.Get("refresh_token"))
	unknown := bad("invalid_grant", "the refresh token is unknown or its sign-in is over: sign in again")
	g, err := s.c.Grants.GrantByRefresh(ctx, hash)
	switch {
	case ringfence.KindOf(err) == ringfence.KindNotFound && err != nil:
		return answer{}, unknown
	case err != nil:
		return answer{}, err
	case g.Client != v.Get("client_id") || !g.Holds(now):
		return answer{}, unknown
	case v.Get("scope") != "" && v.Get("scope") != g.Scope:
		return answer{}, bad("invalid_scope", "the only scope is "+Scope)
	}
	if g.Refresh != hash {
		return answer{}, s.stolen(r, g)
	}
	d, err := s.device(ctx, g.Device)
	if err != nil {
		return answer{}, err
	}
	fresh := randomText(32)
	err = s.c.Grants.RotateGrant(ctx, g.ID, hash, store.HashToken(fresh), now)
	switch {
	case ringfence.KindOf(err) == ringfence.KindConflict && err != nil:
		return answer{}, s.stolen(r, g)
	case err != nil:
		return answer{}, err
	}
	return s.answer(g, d.User, fresh, now)
}

// stolen ends a grant whose secret was used twice.
func (s *Server) stolen(r *http.Request, g store.Grant) error {
	s.c.Log.Warn("a secret that signs in was used twice; the sign-in was revoked", "device", g.Device, "client", g.Client, "remote", r.RemoteAddr, "hint", "if the device did not do it, somebody has a copy")
	if err := s.Revoke(r.Context(), g.ID, "its secret was used twice"); err != nil {
		return err
	}
	return bad("invalid_grant", "this was used before; for safety the sign-in was ended: sign in again")
}

// revoke is the revocation endpoint (RFC 7009): whoever has a token may end its grant. Tokens that are none get the same answer.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	v, err := form(r)
	if err == nil {
		err = s.revokeToken(r, v.Get("token"), v.Get("client_id"))
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) revokeToken(r *http.Request, token, client string) error {
	ctx := r.Context()
	g, err := s.c.Grants.GrantByRefresh(ctx, store.HashToken(token))
	if err != nil && ringfence.KindOf(err) == ringfence.KindNotFound {
		c, oerr := s.open(ctx, token)
		if oerr != nil {
			return nil
		}
		g, err = s.c.Grants.Grant(ctx, c.Grant)
	}
	switch {
	case err != nil && ringfence.KindOf(err) == ringfence.KindNotFound:
		return nil
	case err != nil:
		return err
	case client != "" && client != g.Client:
		return bad("invalid_client", "the token belongs to another program")
	case !g.Revoked.IsZero():
		return nil
	}
	return s.Revoke(ctx, g.ID, "by its holder")
}
