package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
)

const (
	issuer = "https://login.example.org/realms/staff"
	client = "ringfence"
	back   = "https://pbx.example.org:8443/oauth/provider/callback"
)

// outside is an OpenID provider in memory. What it says can be changed at every point.
type outside struct {
	*testing.T
	now time.Time

	mu     sync.Mutex
	down   bool
	about  map[string]any
	keys   []jose.JSONWebKey // with private halves
	signer jose.JSONWebKey
	alg    jose.SignatureAlgorithm
	typ    string
	claims func(map[string]any) // changes those of the next ID token
	token  func() string        // instead of a signed one
	info   string
	raw    map[string]*http.Response // by path
	hits   map[string]int
	form   url.Values // what the token endpoint got
	basic  string
	nonce  string
}

func newKey(t *testing.T, kid string, k crypto.Signer, use string) jose.JSONWebKey {
	t.Helper()
	return jose.JSONWebKey{Key: k, KeyID: kid, Use: use}
}

func ecKey(t *testing.T, kid string) jose.JSONWebKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newKey(t, kid, k, "sig")
}

func newOutside(t *testing.T) *outside {
	o := &outside{T: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), alg: jose.ES256, raw: map[string]*http.Response{}, hits: map[string]int{}}
	o.signer = ecKey(t, "k1")
	o.keys = []jose.JSONWebKey{o.signer}
	o.about = map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/auth?tenant=a", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys", "userinfo_endpoint": issuer + "/me",
		"response_types_supported": []string{"code"}, "id_token_signing_alg_values_supported": []string{"ES256", "RS256", "HS256", "none"}, "code_challenge_methods_supported": []string{"S256"}}
	return o
}

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}
}

func (o *outside) RoundTrip(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/realms/staff")
	o.hits[path]++
	if o.down {
		return nil, errors.New("no route to host")
	}
	if r.URL.Host != "login.example.org" {
		o.Errorf("somebody else was asked: %s", r.URL)
	}
	if res := o.raw[path]; res != nil {
		return res, nil
	}
	var v any
	switch path {
	case "/.well-known/openid-configuration":
		v = o.about
	case "/keys":
		set := jose.JSONWebKeySet{}
		for _, k := range o.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		v = set
	case "/token":
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if o.form, err = url.ParseQuery(string(b)); err != nil {
			return nil, err
		}
		u, p, _ := r.BasicAuth()
		o.basic = u + ":" + p
		v = map[string]any{"access_token": "access-1", "token_type": "Bearer", "id_token": o.idToken()}
	case "/me":
		if r.Header.Get("Authorization") != "Bearer access-1" {
			return answer(401, "{}"), nil
		}
		return answer(200, o.info), nil
	default:
		return answer(404, "{}"), nil
	}
	b, err := json.Marshal(v)
	return answer(200, string(b)), err
}

func (o *outside) idToken() string {
	if o.token != nil {
		return o.token()
	}
	c := map[string]any{"iss": issuer, "sub": "248289761001", "aud": client, "exp": o.now.Add(5 * time.Minute).Unix(), "iat": o.now.Unix(), "nonce": o.nonce, "preferred_username": "alice",
		"at_hash": halfHash(o.alg, "access-1"), "email": "alice@example.org", "email_verified": true}
	if o.claims != nil {
		o.claims(c)
	}
	opts := &jose.SignerOptions{}
	if o.typ != "" {
		opts = opts.WithType(jose.ContentType(o.typ))
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: o.alg, Key: o.signer}, opts)
	if err != nil {
		o.Error(err)
		return ""
	}
	text, err := json.Marshal(c)
	if err != nil {
		o.Error(err)
	}
	signed, err := s.Sign(text)
	if err != nil {
		o.Error(err)
		return ""
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		o.Error(err)
	}
	return out
}

func (o *outside) provider(change ...func(*Config)) *Provider {
	o.Helper()
	c := Config{Issuer: issuer, ClientID: client, Redirect: func() string { return back }, HTTP: &http.Client{Transport: o}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return o.now }}
	for _, f := range change {
		f(&c)
	}
	p, err := New(c)
	if err != nil {
		o.Fatal(err)
	}
	return p
}

// visit sends somebody there and back.
func (o *outside) visit(p *Provider) (Person, error) {
	o.Helper()
	a, err := p.Begin(o.Context())
	if err != nil {
		return Person{}, err
	}
	o.nonce = a.nonce
	return p.Finish(o.Context(), a, url.Values{"code": {"c0de"}, "state": {a.State}})
}

func (o *outside) ok(p *Provider) Person {
	o.Helper()
	who, err := o.visit(p)
	if err != nil {
		o.Fatalf("%v (%s)", err, ringfence.HintOf(err))
	}
	return who
}

func TestSignsIn(t *testing.T) {
	o := newOutside(t)
	p := o.provider()
	a, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": client, "redirect_uri": back, "scope": "openid profile", "state": a.State, "nonce": a.nonce, "code_challenge_method": "S256", "tenant": "a"} {
		if q.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, q.Get(name), want)
		}
	}
	if len(a.State) < 43 || len(a.nonce) < 43 || a.State == a.nonce || q.Get("code_challenge") == "" || strings.Contains(a.URL, a.verifier) {
		t.Errorf("%s", a.URL)
	}
	if got := o.ok(p); got != (Person{"alice", "248289761001"}) {
		t.Errorf("%+v", got)
	}
	if o.form.Get("grant_type") != "authorization_code" || o.form.Get("code") != "c0de" || o.form.Get("redirect_uri") != back || o.form.Get("client_id") != client || len(o.form.Get("code_verifier")) < 43 {
		t.Errorf("%v", o.form)
	}
	o.ok(p)
	if o.hits["/.well-known/openid-configuration"] != 1 || o.hits["/keys"] != 1 || o.hits["/me"] != 0 {
		t.Errorf("%v", o.hits)
	}
}

func TestSecret(t *testing.T) {
	o := newOutside(t)
	secret := func(c *Config) { c.Secret = func() (string, error) { return "s:e/c", nil } }
	o.ok(o.provider(secret))
	if o.basic != "ringfence:s%3Ae%2Fc" || o.form.Get("client_secret") != "" {
		t.Errorf("%q %v", o.basic, o.form)
	}
	o.about["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
	o.ok(o.provider(secret))
	if o.basic != ":" || o.form.Get("client_secret") != "s:e/c" {
		t.Errorf("%q %v", o.basic, o.form)
	}
	gone := &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the file is gone"}
	if _, err := o.visit(o.provider(func(c *Config) { c.Secret = func() (string, error) { return "", gone } })); !errors.Is(err, gone) {
		t.Error(err)
	}
	// Without PKCE and without a secret, whoever sees the code could use it.
	o.about["code_challenge_methods_supported"] = []string{"plain"}
	o.ok(o.provider(secret))
	if _, err := o.visit(o.provider()); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Error(err)
	}
}

func TestIDTokenIsChecked(t *testing.T) {
	o := newOutside(t)
	p := o.provider()
	set := func(name string, v any) func(map[string]any) {
		return func(c map[string]any) {
			if c[name] = v; v == nil {
				delete(c, name)
			}
		}
	}
	both := func(fs ...func(map[string]any)) func(map[string]any) {
		return func(c map[string]any) {
			for _, f := range fs {
				f(c)
			}
		}
	}
	at := func(d time.Duration) int64 { return o.now.Add(d).Unix() }
	for name, change := range map[string]func(map[string]any){
		"another issuer":                 set("iss", "https://login.example.org/realms/other"),
		"an issuer with a slash":         set("iss", issuer+"/"),
		"no issuer":                      set("iss", nil),
		"no subject":                     set("sub", ""),
		"a subject that is too long":     set("sub", strings.Repeat("x", 256)),
		"a subject of spaces":            set("sub", "  "),
		"a subject for the terminal":     set("sub", "a\x1b[2J"),
		"another audience":               set("aud", "other"),
		"no audience":                    set("aud", nil),
		"a number as audience":           set("aud", 7),
		"an audience that is a prefix":   set("aud", "ringfence2"),
		"several and nobody it is given": set("aud", []string{client, "other"}),
		"several, given to another":      both(set("aud", []string{client, "other"}), set("azp", "other")),
		"given to another":               set("azp", "other"),
		"given to nobody":                set("azp", ""),
		"expired":                        both(set("exp", at(-2*time.Minute)), set("iat", at(-5*time.Minute))),
		"no end":                         set("exp", nil),
		"an end that is text":            set("exp", "tomorrow"),
		"an end that overflows":          set("exp", 1e300),
		"a negative end":                 set("exp", -1),
		"no beginning":                   set("iat", nil),
		"from the future":                set("iat", at(2*time.Minute)),
		"old":                            set("iat", at(-11*time.Minute)),
		"not yet":                        set("nbf", at(2*time.Minute)),
		"another nonce":                  set("nonce", "x"),
		"no nonce":                       set("nonce", nil),
		"another access token":           set("at_hash", halfHash(jose.ES256, "access-2")),
		"an empty hash":                  set("at_hash", ""),
		"a hash of the whole":            set("at_hash", halfHash(jose.ES384, "access-1")),
		"issuer in other letters":        both(set("iss", nil), set("ISS", issuer)),
		"a second nonce":                 func(c map[string]any) { c["Nonce"] = c["nonce"]; c["nonce"] = "x" },
	} {
		o.claims = change
		if who, err := o.visit(p); ringfence.KindOf(err) != ringfence.KindInsecure || who != (Person{}) {
			t.Errorf("%s: %+v %v", name, who, err)
		}
	}
	for name, change := range map[string]func(map[string]any){
		"a list of one":              set("aud", []string{client}),
		"several, given to us":       both(set("aud", []string{"other", client}), set("azp", client)),
		"a clock a little behind":    set("iat", at(50*time.Second)),
		"a date with a fraction":     set("iat", float64(at(0))+0.5),
		"no hash of an access token": set("at_hash", nil),
	} {
		o.claims = change
		if _, err := o.visit(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignatureIsChecked(t *testing.T) {
	o := newOutside(t)
	p := o.provider()
	bad := func(name string) {
		t.Helper()
		o.now = o.now.Add(time.Minute) // a key that is not known may be asked for again
		if who, err := o.visit(p); ringfence.KindOf(err) != ringfence.KindInsecure {
			t.Errorf("%s: %+v %v", name, who, err)
		}
	}
	good := o.signer
	o.signer = ecKey(t, "k1")
	bad("somebody else's key under the same id")
	o.signer = ecKey(t, "k9")
	bad("a key that is not published")
	o.signer = good
	o.token = func() string {
		head := o.idTokenSigned(t)
		return head[:strings.LastIndexByte(head, '.')+1]
	}
	bad("no signature")
	o.token = func() string { return "eyJhbGciOiJub25lIn0.e30." }
	bad("alg none")
	o.token = func() string { return o.idTokenSigned(t) + "." }
	bad("five parts, almost")
	o.token = nil
	for _, typ := range []string{"at+jwt", "logout+jwt"} {
		o.typ = typ
		bad("a token of the type " + typ)
	}
	o.typ = "jwt"
	if _, err := o.visit(p); err != nil {
		t.Error(err)
	}
	o.typ = ""
	// The public key as a shared secret: the old trick.
	pub, err := json.Marshal(good.Public())
	if err != nil {
		t.Fatal(err)
	}
	o.signer, o.alg = jose.JSONWebKey{Key: pub, KeyID: "k1"}, jose.HS256
	bad("a shared secret")
	// An algorithm that the provider does not name.
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o.signer, o.alg = newKey(t, "k384", p384, "sig"), jose.ES384
	o.keys = append(o.keys, o.signer)
	bad("an algorithm that is not named")
	// Keys that do not count.
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]jose.JSONWebKey{"a weak key": newKey(t, "kw", weak, "sig"), "a key for encryption": newKey(t, "ke", ecKey(t, "").Key.(crypto.Signer), "enc")} {
		o.signer, o.alg = k, jose.ES256
		if _, isRSA := k.Key.(*rsa.PrivateKey); isRSA {
			o.alg = jose.RS256
		}
		o.keys = []jose.JSONWebKey{good, k}
		bad(name)
	}
}

func (o *outside) idTokenSigned(t *testing.T) string {
	t.Helper()
	f := o.token
	o.token = nil
	defer func() { o.token = f }()
	return o.idToken()
}

func TestAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[jose.SignatureAlgorithm]crypto.Signer{jose.RS256: rsaKey, jose.PS384: rsaKey, jose.EdDSA: ed, jose.ES512: p521} {
		o := newOutside(t)
		o.about["id_token_signing_alg_values_supported"] = []string{string(alg)}
		o.alg, o.signer = alg, newKey(t, "", key, "")
		o.keys = []jose.JSONWebKey{o.signer}
		o.ok(o.provider())
		// Without an id, one of two could be anybody's.
		o.keys = append(o.keys, o.signer)
		if _, err := o.visit(o.provider()); ringfence.KindOf(err) != ringfence.KindInsecure {
			t.Errorf("%s: %v", alg, err)
		}
	}
	o := newOutside(t)
	delete(o.about, "id_token_signing_alg_values_supported") // RS256, then
	if _, err := o.visit(o.provider()); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Error(err)
	}
	o.about["id_token_signing_alg_values_supported"] = []string{"none", "HS256"}
	if _, err := o.visit(o.provider()); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Error(err)
	}
}

func TestKeysRollOver(t *testing.T) {
	o := newOutside(t)
	p := o.provider()
	o.ok(p)
	old := o.signer
	o.signer = ecKey(t, "k2")
	o.keys = []jose.JSONWebKey{o.signer}
	o.ok(p)
	o.signer = old
	for range 20 {
		if _, err := o.visit(p); err == nil {
			t.Error("a withdrawn key is believed")
		}
	}
	if o.hits["/keys"] > maxLooks+1 {
		t.Errorf("no limit on asking for keys: %v", o.hits)
	}
	// A withdrawn key is forgotten within the hour, even if nobody shows another.
	o.now = o.now.Add(2 * time.Minute)
	o.signer = o.keys[0]
	o.ok(p)
	o.keys = []jose.JSONWebKey{ecKey(t, "k3")}
	o.now = o.now.Add(2 * time.Hour)
	if _, err := o.visit(p); err == nil {
		t.Error("a withdrawn key is believed")
	}
}

// TestKeysRollOverUnderOneName is about providers that give their keys no ids, or the same one again.
func TestKeysRollOverUnderOneName(t *testing.T) {
	for _, kid := range []string{"", "signing"} {
		o := newOutside(t)
		p := o.provider()
		for range 2 {
			o.signer = ecKey(t, kid)
			o.keys = []jose.JSONWebKey{o.signer}
			o.ok(p)
		}
		o.signer = ecKey(t, kid)
		for range 20 {
			if _, err := o.visit(p); ringfence.KindOf(err) != ringfence.KindInsecure {
				t.Errorf("%q: %v", kid, err)
			}
		}
		if o.hits["/keys"] > maxLooks+1 {
			t.Errorf("%v", o.hits)
		}
	}
}

func TestProviderIsDown(t *testing.T) {
	o := newOutside(t)
	p := o.provider()
	o.down = true
	for range 50 { // who comes in that moment does not wait in turn
		if _, err := o.visit(p); ringfence.KindOf(err) != ringfence.KindUnavailable || ringfence.HintOf(err) == "" {
			t.Fatal(err)
		}
	}
	if n := o.hits["/.well-known/openid-configuration"]; n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	o.down, o.now = false, o.now.Add(6*time.Second)
	o.ok(p)
	// What it said counts for a day if it does not answer, but its keys do not.
	o.down, o.now = true, o.now.Add(2*time.Hour)
	if _, err := p.Begin(t.Context()); err != nil {
		t.Error(err)
	}
	o.now = o.now.Add(24 * time.Hour)
	if _, err := p.Begin(t.Context()); ringfence.KindOf(err) != ringfence.KindUnavailable {
		t.Error(err)
	}
	o.down, o.now = false, o.now.Add(6*time.Second)
	for name, res := range map[string]*http.Response{
		"a page":        {StatusCode: 200, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html>"))},
		"elsewhere":     {StatusCode: 302, Header: http.Header{"Location": {"https://evil.example/"}}, Body: io.NopCloser(strings.NewReader(""))},
		"without end":   answer(200, strings.Repeat(" ", maxAnswer+1)),
		"a failure":     answer(500, "{}"),
		"an error":      answer(400, `{"error":"invalid_grant","error_description":"no\u001b[2J"}`),
		"no tokens":     answer(200, "{}"),
		"no ID token":   answer(200, `{"access_token":"a","token_type":"Bearer"}`),
		"another kind":  answer(200, `{"access_token":"a","token_type":"DPoP","id_token":"a.b.c"}`),
		"a long token":  answer(200, `{"access_token":"a","token_type":"Bearer","id_token":"`+strings.Repeat("x", maxToken+1)+`"}`),
		"not even JSON": answer(200, "]"),
	} {
		o.raw["/token"] = res
		who, err := o.visit(p)
		if err == nil || who != (Person{}) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %+v %v", name, who, err)
		}
	}
}

func TestMetadataThatLies(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"another issuer":        func(m map[string]any) { m["issuer"] = "https://evil.example" },
		"a slash more":          func(m map[string]any) { m["issuer"] = issuer + "/" },
		"tokens in the clear":   func(m map[string]any) { m["token_endpoint"] = "http://login.example.org/token" },
		"keys at another port":  func(m map[string]any) { m["jwks_uri"] = "https://login.example.org:8443/keys" },
		"a page in the clear":   func(m map[string]any) { m["authorization_endpoint"] = "http://login.example.org/auth" },
		"a page that is script": func(m map[string]any) { m["authorization_endpoint"] = "javascript:alert(1)" },
		"no keys":               func(m map[string]any) { delete(m, "jwks_uri") },
		"a name before the host": func(m map[string]any) {
			m["token_endpoint"] = "https://login.example.org@evil.example/token"
		},
		"no codes": func(m map[string]any) { m["response_types_supported"] = []string{"id_token"} },
	} {
		o := newOutside(t)
		change(o.about)
		if _, err := o.provider().Begin(t.Context()); ringfence.KindOf(err) != ringfence.KindInsecure {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"", "http://a", "https://", "https://a?x", "https://a#", "https://u@a", "https://a?", "a"} {
		if CheckIssuer(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := New(Config{Issuer: issuer}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
}

func TestAnswerOfTheBrowser(t *testing.T) {
	o := newOutside(t)
	p := o.provider()
	a, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.nonce = a.nonce
	for query, want := range map[string]ringfence.Kind{
		"error=access_denied":                   ringfence.KindDenied,
		"error=server_error":                    ringfence.KindUnavailable,
		"code=a&code=b":                         ringfence.KindInvalid,
		"":                                      ringfence.KindInvalid,
		"code=a%20b":                            ringfence.KindInvalid,
		"code=a&iss=https://evil.example":       ringfence.KindInsecure,
		"code=" + strings.Repeat("x", 1+4096):   ringfence.KindInvalid,
		"error=x%1b%5b2J&error_description=%1b": ringfence.KindUnavailable,
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Finish(t.Context(), a, v); ringfence.KindOf(err) != want || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%.40s: %v", query, err)
		}
	}
	if o.hits["/token"] != 0 {
		t.Error("a code was traded that is none")
	}
	o.about["authorization_response_iss_parameter_supported"] = true
	p = o.provider()
	if _, err := o.visit(p); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("it says that it names itself, and did not: %v", err)
	}
	if a, err = p.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.nonce = a.nonce
	if _, err := p.Finish(t.Context(), a, url.Values{"code": {"c"}, "iss": {issuer}}); err != nil {
		t.Error(err)
	}
}

func TestWhoThatIsHere(t *testing.T) {
	for _, tc := range []struct {
		claim, strip string
		change       func(map[string]any)
		info         string
		want         ringfence.UserID
	}{
		{"", "", nil, "", "alice"},
		{"sub", "", nil, "", "248289761001"},
		{"email", "@example.org", nil, "", "alice"},
		{"email", "@EXAMPLE.org", nil, "", "alice"},
		{"email", "@example.com", nil, "", ""},
		{"email", "@example.org", func(c map[string]any) { c["email"] = "@example.org" }, "", ""},
		{"email", "@example.org", func(c map[string]any) { c["email"] = "alice@evil.example@example.org" }, "", "alice@evil.example"}, // no user has such a name
		{"email", "@example.org", func(c map[string]any) { c["email_verified"] = false }, "", ""},
		{"email", "@example.org", func(c map[string]any) { c["email_verified"] = "true" }, "", ""},
		{"email", "@example.org", func(c map[string]any) { delete(c, "email_verified") }, "", ""},
		{"", "", func(c map[string]any) { c["preferred_username"] = "a b" }, "", ""},
		{"", "", func(c map[string]any) { c["preferred_username"] = []string{"alice"} }, "", ""},
		{"", "", func(c map[string]any) { c["preferred_username"] = strings.Repeat("x", 65) }, "", ""},
		// A claim that is not in the ID token is asked for, and has to be about the same person.
		{"", "", func(c map[string]any) { delete(c, "preferred_username") }, `{"sub":"248289761001","preferred_username":"bob"}`, "bob"},
		{"", "", func(c map[string]any) { delete(c, "preferred_username") }, `{"sub":"248289761002","preferred_username":"bob"}`, ""},
		{"", "", func(c map[string]any) { delete(c, "preferred_username") }, `{"preferred_username":"bob"}`, ""},
		{"", "", func(c map[string]any) { delete(c, "preferred_username") }, `[]`, ""},
		{"", "", func(c map[string]any) { delete(c, "preferred_username") }, `{"sub":"248289761001"}`, ""},
	} {
		o := newOutside(t)
		o.claims, o.info = tc.change, tc.info
		who, err := o.visit(o.provider(func(c *Config) { c.Claim, c.Strip = tc.claim, tc.strip }))
		if (err == nil) != (tc.want != "") || who.User != tc.want {
			t.Errorf("%s %s %s: %+v %v", tc.claim, tc.strip, tc.info, who, err)
		}
	}
}

// FuzzProvider feeds what a provider, or a browser on its way back, may bring.
func FuzzProvider(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "a", Use: "sig"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set)
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQ","e":"Aw"},7]}`))
	f.Add(fmt.Appendf(nil, `{"issuer":%q,"authorization_endpoint":"https://login.example.org/a","token_endpoint":"https://login.example.org/t","jwks_uri":"https://login.example.org/k"}`, issuer))
	f.Add([]byte(`{"access_token":"a","token_type":"bearer","id_token":"a.b.c"}`))
	f.Add(fmt.Appendf(nil, `{"iss":%q,"sub":"s","aud":["ringfence"],"exp":1e9,"iat":1e9,"nonce":"n"}`, issuer))
	f.Add([]byte("code=a&state=b&iss=c&error=d"))
	f.Add([]byte("eyJhbGciOiJub25lIn0.e30."))
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMetadata(b, issuer)
		if err == nil {
			for _, at := range []string{m.Authorization, m.Token, m.Keys} {
				if u, err := url.Parse(at); err != nil || u.Scheme != "https" || u.User != nil || u.Host == "" {
					t.Errorf("%q", at)
				}
			}
			if len(m.algs) == 0 {
				t.Error("no algorithm")
			}
		}
		keys, _ := parseKeys(b)
		for _, k := range keys {
			if !k.IsPublic() || !strong(k.Key) {
				t.Errorf("%+v", k)
			}
		}
		if tr, err := parseTraded(b); err == nil && (tr.ID == "" || strings.ContainsAny(tr.Access, "\r\n ")) {
			t.Errorf("%+v", tr)
		}
		if c, err := parseClaims(b); err == nil {
			if c.check(expected{issuer: issuer, client: client, nonce: "n", access: "a", alg: jose.ES256, now: now}) == nil && (c.Issuer != issuer || c.Nonce != "n" || c.Subject == "") {
				t.Errorf("%+v", c)
			}
			if user, err := userOf(c, "email", "@example.org"); err == nil && strings.ContainsAny(string(user), " \r\n") {
				t.Errorf("%q", user)
			}
		}
		if v, err := url.ParseQuery(string(b)); err == nil {
			if code, err := readAnswer(v, &metadata{Issuer: issuer}); err == nil && strings.ContainsAny(code, "\r\n \x00") {
				t.Errorf("%q", code)
			}
		}
		var who audience
		if who.UnmarshalJSON(b) == nil && len(who) > len(b) {
			t.Errorf("%q", who)
		}
		var at date
		if at.UnmarshalJSON(b) == nil && (at.Unix() < 0 || at.Year() > 9999) {
			t.Errorf("%v", at)
		}
		if parseRefusal(b) == nil {
			t.Error("no reason")
		}
		_, _ = parseMore(b)
		if signed, err := jose.ParseSignedCompact(string(b), algorithms()); err == nil {
			if c, err := verified(signed, []jose.JSONWebKey{{Key: key.Public()}}); err == nil {
				t.Errorf("%+v", c)
			}
		}
	})
}
