package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
)

// Bounds of what a provider may send, in bytes and pieces.
const (
	maxAnswer = 256 << 10
	maxKeys   = 64
	maxSecret = 4096
	maxToken  = 16 << 10
	patience  = 10 * time.Second
)

// metadata is what a provider says of itself (OpenID Connect Discovery 1.0 section 3).
type metadata struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	UserInfo      string   `json:"userinfo_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Responses     []string `json:"response_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	SaysIssuer    bool     `json:"authorization_response_iss_parameter_supported"`

	algs []jose.SignatureAlgorithm
}

// takesPKCE reports whether the provider may take S256. One that lists no methods may; RFC 8414 lets it keep quiet.
func (m *metadata) takesPKCE() bool {
	return m.Challenges == nil || slices.Contains(m.Challenges, "S256")
}

// algorithms are those whose signatures count. "none" and those by a shared secret never do.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, jose.RS384, jose.RS512, jose.PS384, jose.PS512}
}

// parseMetadata reads a description, which has to be that of the issuer.
func parseMetadata(b []byte, issuer string) (*metadata, error) {
	m := &metadata{}
	lies := func(text string) (*metadata, error) {
		return nil, fault(ringfence.KindInsecure, text, "compare oauth.provider.issuer with what the provider's own description says", nil)
	}
	if json.Unmarshal(b, m) != nil {
		return nil, fault(ringfence.KindInvalid, "the description of the provider cannot be read", "is oauth.provider.issuer the address of an OpenID provider?", nil)
	}
	if m.Issuer != issuer {
		return lies("the provider calls itself " + clip(m.Issuer) + ", not " + issuer)
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return lies("the name of the provider cannot be read")
	}
	for name, at := range map[string]string{"authorization endpoint": m.Authorization, "token endpoint": m.Token, "jwks_uri": m.Keys, "userinfo endpoint": m.UserInfo} {
		if at == "" && name == "userinfo endpoint" {
			continue
		}
		e, err := url.Parse(at)
		switch {
		case err != nil || e.Scheme != "https" || e.Hostname() == "" || e.User != nil || e.Fragment != "" || len(at) > 2048:
			return lies("the " + name + " of the provider is no https address")
		case name != "authorization endpoint" && portOf(e) != portOf(u): // the one flow that is declared goes to that port
			return lies("the " + name + " of the provider is at another port than the provider")
		}
	}
	if m.Responses != nil && !slices.Contains(m.Responses, "code") {
		return lies("the provider does not give authorization codes")
	}
	if m.Algorithms == nil {
		m.Algorithms = []string{string(jose.RS256)}
	}
	for _, alg := range algorithms() {
		if slices.Contains(m.Algorithms, string(alg)) {
			m.algs = append(m.algs, alg)
		}
	}
	if len(m.algs) == 0 {
		return nil, fault(ringfence.KindInsecure, "the provider signs by no algorithm that is believed here", "set it to sign ID tokens with RS256 or ES256", nil)
	}
	return m, nil
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}

// parseKeys reads a JWK set (RFC 7517 section 5). Keys of kinds that are not known here, for encryption, or too weak are left out.
func parseKeys(b []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(b, &set) != nil || len(set.Keys) > maxKeys {
		return nil, fault(ringfence.KindInvalid, "the keys of the provider cannot be read", "", nil)
	}
	out := []jose.JSONWebKey{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && k.IsPublic() && k.Valid() && (k.Use == "" || k.Use == "sig") && strong(k.Key) {
			out = append(out, k)
		}
	}
	return out, nil
}

func strong(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192 && k.E >= 3
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// fitting returns the keys that can have signed by an algorithm, those with the id if there is one. Without an id only a single key counts
// (OpenID Connect Core section 10.1).
func fitting(keys []jose.JSONWebKey, kid string, alg jose.SignatureAlgorithm) (out []jose.JSONWebKey) {
	for _, k := range keys {
		if (kid == "" || k.KeyID == kid) && (k.Algorithm == "" || k.Algorithm == string(alg)) && suits(k.Key, alg) {
			out = append(out, k)
		}
	}
	if kid == "" && len(out) > 1 {
		return nil
	}
	return out
}

func suits(key any, alg jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(string(alg), "RS") || strings.HasPrefix(string(alg), "PS")
	case *ecdsa.PublicKey:
		return map[jose.SignatureAlgorithm]int{jose.ES256: 256, jose.ES384: 384, jose.ES512: 521}[alg] == k.Curve.Params().BitSize
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// traded is what the token endpoint gave (OpenID Connect Core section 3.1.3.3).
type traded struct {
	Access string `json:"access_token"`
	Type   string `json:"token_type"`
	ID     string `json:"id_token"`
}

func parseTraded(b []byte) (traded, error) {
	var t traded
	switch {
	case json.Unmarshal(b, &t) != nil || !strings.EqualFold(t.Type, "Bearer") || !isShown(t.Access, maxToken):
		return traded{}, fault(ringfence.KindInvalid, "the provider's answer with the tokens cannot be used", "", nil)
	case !isShown(t.ID, maxToken):
		return traded{}, fault(ringfence.KindInvalid, "the provider gave no ID token", "is it an OpenID provider, and may this client use the scope openid?", nil)
	}
	return t, nil
}

// trade gives the code for tokens.
func (p *Provider) trade(ctx context.Context, m *metadata, a Attempt, code string) (traded, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {a.redirect}, "code_verifier": {a.verifier}}
	user, secret := "", ""
	switch {
	case p.c.Secret == nil:
		form.Set("client_id", p.c.ClientID)
	default:
		text, err := p.c.Secret()
		if err != nil {
			return traded{}, err
		}
		if m.TokenAuth != nil && !slices.Contains(m.TokenAuth, "client_secret_basic") && slices.Contains(m.TokenAuth, "client_secret_post") {
			form.Set("client_id", p.c.ClientID)
			form.Set("client_secret", text)
		} else {
			user, secret = url.QueryEscape(p.c.ClientID), url.QueryEscape(text) // RFC 6749 section 2.3.1
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return traded{}, fault(ringfence.KindInvalid, "the token endpoint of the provider cannot be used", "", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if user != "" {
		r.SetBasicAuth(user, secret)
	}
	b, err := p.do(r)
	if err != nil {
		return traded{}, err
	}
	return parseTraded(b)
}

// get fetches a document, with an access token if there is one.
func (p *Provider) get(ctx context.Context, at, access string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, fault(ringfence.KindInvalid, "an address of the provider cannot be used", "", err)
	}
	if access != "" {
		r.Header.Set("Authorization", "Bearer "+access)
	}
	return p.do(r)
}

// do sends one request and returns the JSON that answers it.
func (p *Provider) do(r *http.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	r = r.WithContext(ctx)
	r.Header.Set("Accept", "application/json")
	res, err := p.c.HTTP.Do(r)
	if err != nil {
		return nil, fault(ringfence.KindUnavailable, "the provider "+p.Name()+" cannot be reached", "try again later, or use an activation code", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	isJSON := kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")
	down := func(cause error) error {
		return fault(ringfence.KindUnavailable, "the provider "+p.Name()+" did not answer as it should", "try again later, or use an activation code; the node's log says more", cause)
	}
	switch {
	case err != nil:
		return nil, down(err)
	case len(b) > maxAnswer:
		return nil, down(fmt.Errorf("%s: more than %d bytes", r.URL.Path, maxAnswer))
	case res.StatusCode != http.StatusOK:
		return nil, down(fmt.Errorf("%s: status %d: %w", r.URL.Path, res.StatusCode, parseRefusal(b)))
	case !isJSON:
		return nil, down(fmt.Errorf("%s: not JSON but %s", r.URL.Path, clip(kind)))
	}
	return b, nil
}

// parseRefusal reads an error of OAuth, for the log.
func parseRefusal(b []byte) error {
	var m struct {
		Code string `json:"error"`
		Text string `json:"error_description"`
	}
	if json.Unmarshal(b, &m) != nil || m.Code == "" {
		return errors.New("it does not say why")
	}
	return refusalOf(m.Code, m.Text)
}

func refusalOf(code, text string) error { return errors.New(clip(code) + ": " + clip(text)) }

// isShown reports whether s is visible ASCII, not empty and not too long.
func isShown(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// clip bounds words that came from outside and drops what could disturb a terminal.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
