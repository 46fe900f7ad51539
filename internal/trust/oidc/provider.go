package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
)

// Config holds what a Provider needs. All but Secret, Claim, Strip and Now are required.
type Config struct {
	Issuer   string                 // the provider, exactly as it calls itself
	ClientID string                 // how it knows this node
	Secret   func() (string, error) // read at each use; nil: this node is a public client
	Redirect func() string          // where it sends browsers back
	Claim    string                 // which claim names our user; empty: preferred_username
	Strip    string                 // what has to end the claim and is taken off, such as @example.org; empty: nothing
	HTTP     *http.Client           // verifies the provider's servers; redirects are not followed
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

const (
	defaultClaim = "preferred_username"
	wellKnown    = "/.well-known/openid-configuration"
	freshFor     = time.Hour       // the description and the keys
	staleFor     = 24 * time.Hour  // the description, while the provider does not answer
	maxLooks     = 3               // for a key that is not known, in a minute
	calmDown     = 5 * time.Second // after a failure, in which nobody else waits for the same
)

// Provider is an OpenID provider outside. Its methods may be called from any goroutine.
type Provider struct {
	c Config

	mu     sync.Mutex // held while the provider is asked, so that many who sign in at once ask once
	about  *metadata
	since  time.Time
	keys   []jose.JSONWebKey
	keysAt time.Time // when they were fetched last
	looks  []time.Time
	failed map[string]failure
}

// failure is why an address could not be fetched, and when.
type failure struct {
	err error
	at  time.Time
}

// New returns a provider. It is asked nothing before somebody signs in.
func New(c Config) (*Provider, error) {
	if c.Issuer == "" || c.ClientID == "" || c.Redirect == nil || c.HTTP == nil || c.Log == nil {
		return nil, fault(ringfence.KindInvalid, "a provider needs an issuer, a client id, an address to send browsers back to, a client and a log", "", nil)
	}
	if err := CheckIssuer(c.Issuer); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Claim == "" {
		c.Claim = defaultClaim
	}
	h := *c.HTTP
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.HTTP = &h
	return &Provider{c: c, failed: map[string]failure{}}, nil
}

// CheckIssuer says what is wrong with the name of a provider (OpenID Connect Discovery 1.0 section 3): it is an https address without
// query and fragment.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" || len(issuer) > 512 || strings.HasSuffix(issuer, "#") {
		return fault(ringfence.KindInvalid, "the issuer is no https address without query and fragment", "write it exactly as the provider does, e.g. https://login.example.org/realms/staff", nil)
	}
	return nil
}

// Name is what people know the provider by: its host.
func (p *Provider) Name() string {
	u, err := url.Parse(p.c.Issuer)
	if err != nil { // it was checked
		return p.c.Issuer
	}
	return u.Hostname()
}

// Attempt is somebody who was sent to the provider. Keep it where only their browser leads back to, and use it once.
type Attempt struct {
	URL   string // where their browser is sent
	State string // what comes back with it

	nonce, verifier, redirect string
}

// Begin prepares an attempt.
func (p *Provider) Begin(ctx context.Context) (Attempt, error) {
	m, err := p.describe(ctx)
	if err != nil {
		return Attempt{}, err
	}
	if p.c.Secret == nil && !m.takesPKCE() {
		return Attempt{}, fault(ringfence.KindInsecure, "the provider does not take PKCE with S256, which a client without a secret needs", "register this node with a secret and name it in oauth.provider.secret-file", nil)
	}
	a := Attempt{State: random(), nonce: random(), verifier: random(), redirect: p.c.Redirect()}
	sum := sha256.Sum256([]byte(a.verifier))
	to, err := url.Parse(m.Authorization)
	if err != nil { // it was checked
		return Attempt{}, fault(ringfence.KindInvalid, "the authorization endpoint of the provider cannot be read", "", err)
	}
	q := to.Query()
	for name, v := range map[string]string{"response_type": "code", "client_id": p.c.ClientID, "redirect_uri": a.redirect, "scope": p.scopes(), "state": a.State, "nonce": a.nonce,
		"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256"} {
		q.Set(name, v)
	}
	to.RawQuery = q.Encode()
	a.URL = to.String()
	return a, nil
}

// scopes asks for no more than the claim that counts (OpenID Connect Core section 5.4).
func (p *Provider) scopes() string {
	switch p.c.Claim {
	case "sub":
		return "openid"
	case "email":
		return "openid email"
	}
	return "openid profile"
}

// Person is who somebody is at the provider.
type Person struct {
	User    ringfence.UserID // by the claim and the rule of the configuration; nobody has looked yet whether there is one
	Subject string           // the provider's own name for them
}

// Finish takes the parameters that a browser came back with, whose state the caller has checked, and says who that is.
func (p *Provider) Finish(ctx context.Context, a Attempt, answer url.Values) (Person, error) {
	m, err := p.describe(ctx)
	if err != nil {
		return Person{}, err
	}
	code, err := readAnswer(answer, m)
	if err != nil {
		return Person{}, err
	}
	t, err := p.trade(ctx, m, a, code)
	if err != nil {
		return Person{}, err
	}
	c, alg, err := p.open(ctx, m, t.ID)
	if err != nil {
		return Person{}, err
	}
	if err := c.check(expected{issuer: p.c.Issuer, client: p.c.ClientID, nonce: a.nonce, access: t.Access, alg: alg, now: p.c.Now()}); err != nil {
		return Person{}, err
	}
	if _, there := c.rest[p.c.Claim]; !there && m.UserInfo != "" {
		if err := p.more(ctx, m, t.Access, c); err != nil {
			return Person{}, err
		}
	}
	user, err := userOf(c, p.c.Claim, p.c.Strip)
	return Person{User: user, Subject: c.Subject}, err
}

// readAnswer returns the code of an authorization response (RFC 6749 section 4.1.2, RFC 9207).
func readAnswer(v url.Values, m *metadata) (string, error) {
	for name, values := range v {
		if len(values) > 1 {
			return "", fault(ringfence.KindInvalid, "the provider sent a parameter twice: "+clip(name), "begin again", nil)
		}
	}
	if iss := v.Get("iss"); iss != m.Issuer && (iss != "" || m.SaysIssuer) {
		return "", fault(ringfence.KindInsecure, "the answer is not from the provider that was asked", "begin again; if it stays so, look at the log", errors.New("iss is "+clip(iss)))
	}
	switch problem := v.Get("error"); {
	case problem == "access_denied":
		return "", fault(ringfence.KindDenied, "the provider says that you did not sign in there", "begin again, or use an activation code", refusalOf(problem, v.Get("error_description")))
	case problem != "":
		return "", fault(ringfence.KindUnavailable, "the provider could not sign you in", "begin again, or use an activation code; the node's log says more", refusalOf(problem, v.Get("error_description")))
	case !isShown(v.Get("code"), maxSecret):
		return "", fault(ringfence.KindInvalid, "the provider's answer has no code", "begin again", nil)
	}
	return v.Get("code"), nil
}

// describe returns what the provider says of itself. While it does not answer, what it said within a day still counts.
func (p *Provider) describe(ctx context.Context) (*metadata, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.c.Now()
	age := now.Sub(p.since)
	if p.about != nil && age >= 0 && age < freshFor {
		return p.about, nil
	}
	var m *metadata
	err := p.once(ctx, strings.TrimSuffix(p.c.Issuer, "/")+wellKnown, func(b []byte) (err error) {
		m, err = parseMetadata(b, p.c.Issuer)
		return err
	})
	if err != nil {
		if p.about != nil && age >= 0 && age < staleFor && ringfence.KindOf(err) == ringfence.KindUnavailable {
			p.c.Log.Warn("the OpenID provider does not say how to use it; what it said before still counts", "issuer", p.c.Issuer, "age", age, "cause", err)
			return p.about, nil
		}
		return nil, err
	}
	if p.about != nil && p.about.Keys != m.Keys {
		p.keys = nil
	}
	p.about, p.since = m, now
	return m, nil
}

// find returns the keys that may have made a signature.
func (p *Provider) find(ctx context.Context, m *metadata, kid string, alg jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := p.c.Now().Sub(p.keysAt)
	if p.keys == nil || age < 0 || age >= freshFor {
		if err := p.fetchKeys(ctx, m); err != nil {
			return nil, err
		}
	}
	return fitting(p.keys, kid, alg), nil
}

// findNew looks for keys once more, since none of those that were known made the signature: there may be a new one, perhaps under the same
// id. It returns none if that was done too often.
func (p *Provider) findNew(ctx context.Context, m *metadata, kid string, alg jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.c.Now()
	p.looks = slices.DeleteFunc(p.looks, func(at time.Time) bool { return now.Sub(at) >= time.Minute || at.After(now) })
	if len(p.looks) >= maxLooks {
		return nil, nil
	}
	p.looks = append(p.looks, now)
	if err := p.fetchKeys(ctx, m); err != nil {
		return nil, err
	}
	return fitting(p.keys, kid, alg), nil
}

func (p *Provider) fetchKeys(ctx context.Context, m *metadata) error {
	return p.once(ctx, m.Keys, func(b []byte) error {
		keys, err := parseKeys(b)
		if err == nil {
			p.keys, p.keysAt = keys, p.c.Now()
		}
		return err
	})
}

// once fetches what everybody needs. Who comes just after a failure hears of that one: a provider that hangs must not make a queue of
// people who each wait for it in turn. p.mu is held. One who gives up does not speak for the others.
func (p *Provider) once(ctx context.Context, at string, take func([]byte) error) error {
	if f, there := p.failed[at]; there {
		if d := p.c.Now().Sub(f.at); d >= 0 && d < calmDown {
			return f.err
		}
		delete(p.failed, at)
	}
	b, err := p.get(context.WithoutCancel(ctx), at, "")
	if err == nil {
		err = take(b)
	}
	if err != nil {
		clear(p.failed) // there are two addresses at most, and they seldom change
		p.failed[at] = failure{err, p.c.Now()}
	}
	return err
}

func random() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func fault(k ringfence.Kind, text, hint string, cause error) error {
	return &ringfence.Fault{Op: "oidc", Kind: k, Text: text, Hint: hint, Err: cause}
}
