package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// maxCodes bounds the authorization codes that wait, each of which somebody has paid for with an activation code.
const maxCodes = 10_000

// authorization is what an authorization code stands for. A used one is kept until it expires, to notice a second use.
type authorization struct {
	client, redirect, challenge string
	device                      ringfence.DeviceID
	expires                     time.Time
	used                        bool
	grant                       string // that was made of it
}

// ask is a request of a program to sign somebody in.
type ask struct {
	Client, Redirect, Challenge, State, Scope string
}

// readAsk checks a request. While trusted is false the redirect address must not be used, because it may be an attacker's.
func (s *Server) readAsk(r *http.Request) (a ask, trusted bool, err error) {
	v, err := form(r)
	if err != nil {
		return a, false, err
	}
	a = ask{v.Get("client_id"), v.Get("redirect_uri"), v.Get("code_challenge"), v.Get("state"), v.Get("scope")}
	c, ok := s.client(a.Client)
	switch {
	case !ok:
		return a, false, bad("invalid_client", "this program is not known here; an administrator lists programs under oauth.clients")
	case !c.allows(a.Redirect):
		return a, false, bad("invalid_request", "this program may not have its answer sent there; an administrator lists addresses under oauth.clients")
	case v.Get("response_type") != "code":
		return a, true, bad("unsupported_response_type", "the only response type is code")
	case !isChallenge(a.Challenge) || v.Get("code_challenge_method") != "S256":
		return a, true, bad("invalid_request", "a code_challenge with the method S256 is needed (RFC 7636)")
	case a.Scope != "" && a.Scope != Scope:
		return a, true, bad("invalid_scope", "the only scope is "+Scope)
	case len(a.State) > 512:
		return a, true, bad("invalid_request", "the state is too long")
	}
	return a, true, nil
}

// isChallenge reports whether s is the SHA-256 of something in base64url.
func isChallenge(s string) bool {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// askAuthorize shows the page on which somebody signs in.
func (s *Server) askAuthorize(w http.ResponseWriter, r *http.Request) {
	a, trusted, err := s.readAsk(r)
	if err != nil {
		s.refuseAsk(w, r, a, trusted, err)
		return
	}
	s.page(w, http.StatusOK, view{Title: "Sign in", Program: a.Client, Action: pathAuthorize, Ask: &a})
}

// refuseAsk sends an error back to the program, or shows it where the program's address cannot be trusted.
func (s *Server) refuseAsk(w http.ResponseWriter, r *http.Request, a ask, trusted bool, err error) {
	p := pageProblem(err)
	if !trusted {
		s.page(w, http.StatusBadRequest, view{Title: "This cannot be done", Error: p.Text})
		return
	}
	s.send(w, r, a, url.Values{"error": {p.Code}, "error_description": {p.Text}})
}

// send leads the browser back to the program (RFC 6749 section 4.1.2, RFC 9207).
func (s *Server) send(w http.ResponseWriter, r *http.Request, a ask, v url.Values) {
	to, err := url.Parse(a.Redirect)
	if err != nil { // it was checked
		s.page(w, http.StatusBadRequest, view{Title: "This cannot be done", Error: "the address of the program cannot be read"})
		return
	}
	q := to.Query()
	for name, values := range v {
		q[name] = values
	}
	if a.State != "" {
		q.Set("state", a.State)
	}
	q.Set("iss", s.c.Issuer())
	to.RawQuery = q.Encode()
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
}

// authorize takes the activation code that was typed and sends an authorization code to the program.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	a, trusted, err := s.readAsk(r)
	if err != nil {
		s.refuseAsk(w, r, a, trusted, err)
		return
	}
	device, err := s.proved(r)
	if err != nil {
		s.page(w, http.StatusForbidden, view{Title: "Sign in", Program: a.Client, Action: pathAuthorize, Ask: &a, Error: pageProblem(err).Text})
		return
	}
	s.giveCode(w, r, a, device)
}

// giveCode sends an authorization code for a device to the program.
func (s *Server) giveCode(w http.ResponseWriter, r *http.Request, a ask, device ringfence.DeviceID) {
	code := randomText(32)
	now := s.c.Now()
	s.forget(now)
	s.mu.Lock()
	full := len(s.codes) >= maxCodes
	if !full {
		s.codes[store.HashToken(code)] = &authorization{client: a.Client, redirect: a.Redirect, challenge: a.Challenge, device: device, expires: now.Add(codeLife)}
	}
	s.mu.Unlock()
	if full {
		s.send(w, r, a, url.Values{"error": {"temporarily_unavailable"}})
		return
	}
	s.send(w, r, a, url.Values{"code": {code}})
}

// proved uses up the activation code of a form and returns whose it was, if that device may sign in by token.
func (s *Server) proved(r *http.Request) (ringfence.DeviceID, error) {
	id, err := s.c.Redeem(r.Context(), r.RemoteAddr, r.PostForm.Get("activation"))
	if err != nil {
		s.c.Log.Warn("a sign-in was refused", "remote", r.RemoteAddr, "cause", err, "hint", ringfence.HintOf(err))
		return "", err
	}
	d, err := s.device(r.Context(), id)
	return d.ID, err
}

// redeemCode trades an authorization code for tokens.
func (s *Server) redeemCode(r *http.Request, v url.Values) (answer, error) {
	wrong := bad("invalid_grant", "the authorization code is unknown, expired or used, or was made for another program or address")
	hash := store.HashToken(v.Get("code"))
	now := s.c.Now()
	s.mu.Lock()
	a := s.codes[hash]
	again := a != nil && a.used
	good := a != nil && !a.used && now.Before(a.expires) && a.client == v.Get("client_id") && a.redirect == v.Get("redirect_uri") && verifies(v.Get("code_verifier"), a.challenge)
	grant := ""
	if a != nil {
		grant, a.used = a.grant, true // whoever tries with a wrong verifier has a code that is not theirs
	}
	s.mu.Unlock()
	if again && grant != "" {
		if g, err := s.c.Grants.Grant(r.Context(), grant); err == nil && g.Revoked.IsZero() {
			return answer{}, s.stolen(r, g)
		}
	}
	if !good {
		return answer{}, wrong
	}
	out, err := s.grant(r.Context(), a.device, a.client)
	s.mu.Lock()
	a.grant = out.grant
	s.mu.Unlock()
	return out, err
}

// verifies checks a PKCE verifier (RFC 7636 section 4.6).
func verifies(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}
