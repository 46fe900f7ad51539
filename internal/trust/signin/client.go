package signin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ringfence"
)

const (
	wellKnown    = "/.well-known/oauth-authorization-server" // RFC 8414
	grantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
	grantRefresh = "refresh_token"
	scope        = "sip"
	maxAnswer    = 64 << 10 // bytes
	patience     = 30 * time.Second
	// What RFC 8628 says of polling: the interval where the server says nothing, and how much longer it gets by slow_down.
	pollEvery = 5 * time.Second
	pollMost  = time.Minute
)

// Client is a program of an authorization server. It keeps no secret of its own (RFC 6749 section 2.1).
type Client struct {
	ID   string       // as the server knows the program
	HTTP *http.Client // verifies the server; redirects are not followed
}

// Server is what an authorization server says of itself (RFC 8414). All addresses are at the issuer.
type Server struct {
	Issuer string
	Token  string // endpoints
	Device string
	Revoke string
}

// Discover returns the authorization server at an address such as https://pbx.example.com:8443. That may be another spelling of its
// name; what counts is that the server proves the name by which it issues tokens, and says the same there (RFC 8414 section 3.3).
func (c *Client) Discover(ctx context.Context, at string) (Server, error) {
	s, err := c.describe(ctx, at)
	if err != nil || s.Issuer == at {
		return s, err
	}
	again, err := c.describe(ctx, s.Issuer)
	if err == nil && again.Issuer != s.Issuer {
		err = fault(ringfence.KindInsecure, "the server calls itself "+s.Issuer+" at one address and "+again.Issuer+" there", "somebody may be in between; check --node", nil)
	}
	return again, err
}

func (c *Client) describe(ctx context.Context, at string) (Server, error) {
	b, err := c.ask(ctx, http.MethodGet, at+wellKnown, nil)
	if err != nil {
		return Server{}, err
	}
	return parseServer(b)
}

// Pairing is a device code that waits for somebody to approve it.
type Pairing struct {
	UserCode string // what is typed
	URI      string // and where
	Complete string // the same address with the code in it, for a QR code; may be empty
	Expires  time.Time

	code  string
	every time.Duration
}

// Begin asks for a device code.
func (c *Client) Begin(ctx context.Context, s Server) (Pairing, error) {
	b, err := c.ask(ctx, http.MethodPost, s.Device, url.Values{"client_id": {c.ID}, "scope": {scope}})
	if err != nil {
		return Pairing{}, err
	}
	return parsePairing(b, time.Now())
}

// Wait asks until somebody has approved the device code, it has expired, or ctx ends (RFC 8628 section 3.4).
func (c *Client) Wait(ctx context.Context, s Server, p Pairing) (Tokens, error) {
	form := url.Values{"grant_type": {grantDevice}, "client_id": {c.ID}, "device_code": {p.code}}
	timer := time.NewTimer(p.every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return Tokens{}, fault(ringfence.KindCancelled, "nobody has approved this device yet", "", ctx.Err())
		case <-timer.C:
		}
		if !time.Now().Before(p.Expires) {
			return Tokens{}, fault(ringfence.KindTimeout, "nobody approved the device in time", "begin again", nil)
		}
		b, err := c.ask(ctx, http.MethodPost, s.Token, form)
		if err == nil {
			return parseTokens(b, time.Now())
		}
		r, answered := errors.AsType[*refusal](err)
		switch {
		case answered && r.code == "authorization_pending":
		case answered && r.code == "slow_down":
			p.every += pollEvery
		case answered && r.code != "temporarily_unavailable":
			return Tokens{}, err
		case ringfence.KindOf(err) == ringfence.KindInsecure:
			return Tokens{}, err
		default: // it may come back
			p.every = min(2*p.every, pollMost)
		}
		timer.Reset(p.every)
	}
}

// Refresh trades the refresh token of an account for new tokens. The old one is spent when this is called, whatever comes of it.
func (c *Client) Refresh(ctx context.Context, a Account) (Tokens, error) {
	b, err := c.ask(ctx, http.MethodPost, a.TokenEndpoint, url.Values{"grant_type": {grantRefresh}, "client_id": {a.Client}, "refresh_token": {a.Refresh}})
	if err != nil {
		return Tokens{}, err
	}
	t, err := parseTokens(b, time.Now())
	if t.Refresh == "" { // RFC 6749 section 6: then the old one stays good
		t.Refresh = a.Refresh
	}
	return t, err
}

// Revoke ends the sign-in of an account at its server (RFC 7009).
func (c *Client) Revoke(ctx context.Context, a Account) error {
	if a.RevokeEndpoint == "" {
		return fault(ringfence.KindUnsupported, "the server does not let programs end their sign-in", "an administrator can: ringfence signin revoke ID", nil)
	}
	_, err := c.ask(ctx, http.MethodPost, a.RevokeEndpoint, url.Values{"client_id": {a.Client}, "token": {a.Refresh}, "token_type_hint": {"refresh_token"}})
	return err
}

// refusal is an error that the server answered with (RFC 6749 section 5.2).
type refusal struct{ code, text string }

func (r *refusal) Error() string {
	if r.text == "" {
		return r.code
	}
	return r.code + ": " + r.text
}

// ask sends one request and returns the body of its answer.
func (c *Client) ask(ctx context.Context, method, at string, form url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(form.Encode()))
	if err != nil || r.URL.Scheme != "https" {
		return nil, fault(ringfence.KindInvalid, "this is no address of an authorization server: "+clip(at), "", err)
	}
	r.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	h := *c.HTTP
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := h.Do(r)
	if err != nil {
		kind := ringfence.KindUnavailable
		if f, ok := errors.AsType[*ringfence.Fault](err); ok {
			kind = f.Kind
		}
		return nil, fault(kind, "the authorization server "+r.URL.Host+" cannot be reached", ringfence.HintOf(err), err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case err != nil || len(b) > maxAnswer:
		return nil, fault(ringfence.KindUnavailable, "the answer of the authorization server broke off or is too long", "", err)
	case res.StatusCode >= 400:
		return nil, refused(res.StatusCode, b)
	case res.StatusCode != http.StatusOK:
		return nil, fault(ringfence.KindInvalid, fmt.Sprintf("the authorization server answered with status %d", res.StatusCode), "is there one at "+r.URL.Host+"?", nil)
	case len(b) > 0 && kind != "application/json":
		return nil, fault(ringfence.KindInvalid, "the answer is not that of an authorization server", "is there one at "+r.URL.Host+"?", nil)
	}
	return b, nil
}

// refused words an error of the server.
func refused(status int, b []byte) error {
	r := parseRefusal(b)
	if r == nil {
		kind := ringfence.KindInvalid
		if status >= 500 {
			kind = ringfence.KindUnavailable
		}
		return fault(kind, fmt.Sprintf("the authorization server answered with status %d", status), "", nil)
	}
	switch r.code {
	case "authorization_pending", "slow_down":
		return fault(ringfence.KindUnavailable, "nobody has approved this device yet", "", r)
	case "temporarily_unavailable", "server_error":
		return fault(ringfence.KindUnavailable, "the authorization server has a problem of its own", "try again later; its log says more", r)
	case "expired_token":
		return fault(ringfence.KindTimeout, "nobody approved the device in time", "begin again", r)
	case "invalid_grant", "access_denied":
		return fault(ringfence.KindUnauthenticated, "the sign-in is over or was refused", "sign in again: ringfence signin start", r)
	case "invalid_client", "unauthorized_client":
		return fault(ringfence.KindDenied, "the server does not know this program", "an administrator lists programs under oauth.clients", r)
	}
	return fault(ringfence.KindInvalid, "the authorization server refused the request", "", r)
}

func fault(k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: "signin", Kind: k, Text: text, Hint: hint, Err: cause}
}
