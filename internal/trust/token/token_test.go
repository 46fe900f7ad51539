package token

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"ringfence"
	"ringfence/internal/state/store"
)

// site is an authorization server with a clock of its own. Activation codes are names of devices, good once.
type site struct {
	*testing.T
	s     *Server
	db    *store.Store
	now   time.Time
	used  map[string]bool
	ended []string
}

const (
	issuer   = "https://ringfence.internal:8443"
	verifier = "a-verifier-that-is-long-enough-to-be-one-of-them"
	redirect = "http://127.0.0.1:5000/callback"
)

func newSite(t *testing.T) *site {
	s := &site{T: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), used: map[string]bool{}}
	dir := t.TempDir()
	var err error
	if s.db, err = store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "seal.key")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	s.ok(s.db.CreateUser(t.Context(), store.User{ID: "alice"}))
	for id, auth := range map[ringfence.DeviceID]ringfence.Auth{"alice-app": ringfence.AuthToken, "alice-two": ringfence.AuthToken, "alice-desk": ringfence.AuthCertificate} {
		s.ok(s.db.CreateDevice(t.Context(), store.Device{ID: id, User: "alice", Profile: store.DeviceProfile{Auth: []ringfence.Auth{auth}}}))
	}
	s.s = s.open()
	return s
}

// open opens a server on the database, as another node would.
func (s *site) open() *Server {
	s.Helper()
	srv, err := New(s.Context(), Config{Issuer: func() string { return issuer }, Registrar: func() (string, uint16) { return "sip.ringfence.internal", 5090 }, Audience: "ringfence.internal", Grants: s.db, Secrets: s.db, Log: slog.New(slog.DiscardHandler),
		Clients: func() []Client {
			return []Client{{ID: "phone", Redirects: []string{"http://127.0.0.1/callback", "https://phone.example.org/cb?x=1"}}, {ID: "other", Redirects: []string{"other:/cb"}}}
		},
		Redeem: func(_ context.Context, remote, code string) (ringfence.DeviceID, error) {
			if s.used[code] || code == "" || remote == "" {
				return "", &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "the activation code is wrong"}
			}
			s.used[code] = true
			return ringfence.DeviceID(code), nil
		},
		Ended: func(g store.Grant) { s.ended = append(s.ended, g.ID) }, Now: func() time.Time { return s.now }})
	s.ok(err)
	return srv
}

func (s *site) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%v (%s)", err, ringfence.HintOf(err))
	}
}

// do asks the server, and returns the answer with its body.
func (s *site) do(method, path string, v url.Values) (*http.Response, string) {
	s.Helper()
	var r *http.Request
	if method == http.MethodGet {
		r = httptest.NewRequest(method, path+"?"+v.Encode(), nil)
	} else {
		r = httptest.NewRequest(method, path, strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	s.s.Handler().ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func form1(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v
}

func with(v url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, x := range v {
		out[k] = x
	}
	for i := 0; i < len(pairs); i += 2 {
		if out.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			out.Del(pairs[i])
		}
	}
	return out
}

func askFor() url.Values {
	return form1("response_type", "code", "client_id", "phone", "redirect_uri", redirect, "code_challenge", challenge(), "code_challenge_method", "S256", "state", "s&1", "scope", "sip")
}

// code signs in on the page and returns the authorization code.
func (s *site) code(device string) string {
	s.Helper()
	res, body := s.do(http.MethodPost, pathAuthorize, with(askFor(), "activation", device))
	to, err := url.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to.String(), redirect+"?") || to.Query().Get("state") != "s&1" || to.Query().Get("iss") != issuer {
		s.Fatalf("%d %s %v\n%s", res.StatusCode, to, err, body)
	}
	return to.Query().Get("code")
}

func redeem(code string) url.Values {
	return form1("grant_type", grantCode, "client_id", "phone", "code", code, "redirect_uri", redirect, "code_verifier", verifier)
}

// tokens asks the token endpoint and expects tokens.
func (s *site) tokens(v url.Values) answer {
	s.Helper()
	res, body := s.do(http.MethodPost, pathToken, v)
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil || res.StatusCode != 200 || a.Access == "" || a.Refresh == "" || a.Type != "Bearer" || a.Expires != 3600 {
		s.Fatalf("%d %s", res.StatusCode, body)
	}
	if res.Header.Get("Cache-Control") != "no-store" {
		s.Error("tokens may be cached")
	}
	return a
}

// problem asks the token endpoint and expects an error.
func (s *site) problem(v url.Values, want string) {
	s.Helper()
	res, body := s.do(http.MethodPost, pathToken, v)
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || res.StatusCode < 400 || p.Code != want {
		s.Errorf("%v: %d %s, want %s", v, res.StatusCode, body, want)
	}
}

func (s *site) good(token string) Access {
	s.Helper()
	a, err := s.s.Verify(s.Context(), token)
	s.ok(err)
	return a
}

func (s *site) bad(token, why string) {
	s.Helper()
	if _, err := s.s.Verify(s.Context(), token); err == nil || ringfence.KindOf(err) != ringfence.KindUnauthenticated || !strings.Contains(err.Error(), why) {
		s.Errorf("%v, want %q", err, why)
	}
}

func TestCode(t *testing.T) {
	s := newSite(t)
	res, page := s.do(http.MethodGet, pathAuthorize, askFor())
	if res.StatusCode != 200 || !strings.Contains(page, "phone</strong>") || !strings.Contains(page, `value="s&amp;1"`) || !strings.Contains(res.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Fatalf("%d\n%s", res.StatusCode, page)
	}
	a := s.tokens(redeem(s.code("alice-app")))
	if a.SIP == nil || *a.SIP != (sip{"alice", "ringfence.internal", "sip.ringfence.internal", 5090}) {
		t.Errorf("%+v", a.SIP)
	}
	got := s.good(a.Access)
	if got.Device != "alice-app" || got.User != "alice" || got.Client != "phone" || got.Scope != "sip" || !got.Expires.Equal(s.now.Add(time.Hour)) {
		t.Errorf("%+v", got)
	}
	// A wrong activation code shows the page again and sends nobody anywhere.
	res, page = s.do(http.MethodPost, pathAuthorize, with(askFor(), "activation", "alice-app"))
	if res.StatusCode != http.StatusForbidden || res.Header.Get("Location") != "" || !strings.Contains(page, "the activation code is wrong") {
		t.Errorf("%d %s", res.StatusCode, page)
	}
	// A device that proves itself otherwise cannot be signed in.
	if res, _ = s.do(http.MethodPost, pathAuthorize, with(askFor(), "activation", "alice-desk")); res.StatusCode != http.StatusForbidden {
		t.Error(res.Status)
	}
}

func TestCodeIsRefused(t *testing.T) {
	s := newSite(t)
	code := s.code("alice-app")
	for _, wrong := range [][]string{{"code_verifier", "another-verifier-that-is-long-enough-to-be-one-of-them"}, {"client_id", "other"}, {"redirect_uri", "http://127.0.0.1:5001/callback"}} {
		device := fmt.Sprintf("d%s", wrong[0])
		s.ok(s.db.CreateDevice(t.Context(), store.Device{ID: ringfence.DeviceID(device), User: "alice", Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthToken}}}))
		c := s.code(device)
		s.problem(with(redeem(c), wrong...), "invalid_grant")
		s.problem(redeem(c), "invalid_grant") // whoever was wrong has a code that is not theirs
	}
	s.problem(with(redeem(code), "client_id", "nobody"), "invalid_client")
	s.problem(with(redeem(code), "grant_type", "password"), "unsupported_grant_type")
	twice := redeem(code)
	twice.Add("code", code)
	s.problem(twice, "invalid_request")
	s.now = s.now.Add(2 * time.Minute)
	s.problem(redeem(code), "invalid_grant")
	s.problem(redeem(""), "invalid_grant")
}

func TestCodeUsedTwiceEndsTheSignIn(t *testing.T) {
	s := newSite(t)
	code := s.code("alice-app")
	a := s.tokens(redeem(code))
	s.good(a.Access)
	s.problem(redeem(code), "invalid_grant")
	s.bad(a.Access, "revoked")
	if len(s.ended) != 1 {
		t.Errorf("%v", s.ended)
	}
}

func TestAskIsRefused(t *testing.T) {
	s := newSite(t)
	for _, wrong := range [][]string{{"client_id", "nobody"}, {"redirect_uri", "https://evil.example.org/"}, {"redirect_uri", "http://127.0.0.1:5000/other"}, {"redirect_uri", "http://localhost:5000/callback"},
		{"redirect_uri", ""}, {"redirect_uri", "http://127.0.0.1@evil.example.org/callback"}, {"redirect_uri", "https://phone.example.org/cb"}} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			res, body := s.do(method, pathAuthorize, with(askFor(), append(wrong, "activation", "alice-app")...))
			if res.StatusCode != http.StatusBadRequest || res.Header.Get("Location") != "" {
				t.Errorf("%v: %d %s\n%s", wrong, res.StatusCode, res.Header.Get("Location"), body)
			}
		}
	}
	for want, wrong := range map[string][]string{"unsupported_response_type": {"response_type", "token"}, "invalid_scope": {"scope", "sip admin"}, "invalid_request": {"code_challenge_method", "plain"}} {
		res, _ := s.do(http.MethodGet, pathAuthorize, with(askFor(), wrong...))
		to, _ := url.Parse(res.Header.Get("Location"))
		if to == nil || to.Query().Get("error") != want || to.Query().Get("state") != "s&1" {
			t.Errorf("%v: %v", wrong, to)
		}
	}
	if len(s.used) != 0 {
		t.Error("an activation code was used up for a request that was refused")
	}
}

func TestRefresh(t *testing.T) {
	s := newSite(t)
	first := s.tokens(redeem(s.code("alice-app")))
	again := form1("grant_type", grantRefresh, "client_id", "phone", "refresh_token", first.Refresh)
	s.problem(with(again, "client_id", "other"), "invalid_grant")
	s.problem(with(again, "scope", "admin"), "invalid_scope")
	s.problem(with(again, "refresh_token", "x"), "invalid_grant")
	s.now = s.now.Add(50 * time.Minute)
	second := s.tokens(again)
	s.good(first.Access)
	s.good(second.Access)
	s.now = s.now.Add(20 * time.Minute)
	s.bad(first.Access, "expired")
	s.good(second.Access)
	third := s.tokens(with(again, "refresh_token", second.Refresh))
	// Somebody has a copy of the second: everybody is out, whoever was first.
	s.problem(with(again, "refresh_token", second.Refresh), "invalid_grant")
	s.bad(third.Access, "revoked")
	s.problem(with(again, "refresh_token", third.Refresh), "invalid_grant")
	// A sign-in ends by itself too.
	last := s.tokens(redeem(s.code("alice-two")))
	s.now = s.now.Add(91 * 24 * time.Hour)
	s.problem(with(again, "refresh_token", last.Refresh), "invalid_grant")
	s.now = s.now.Add(31 * 24 * time.Hour)
	s.ok(s.s.Maintain(t.Context()))
	if all, err := s.db.Grants(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
}

func TestDevice(t *testing.T) {
	s := newSite(t)
	begin := func() (device, user string) {
		t.Helper()
		res, body := s.do(http.MethodPost, pathBegin, form1("client_id", "phone"))
		var a struct {
			Device   string `json:"device_code"`
			User     string `json:"user_code"`
			URI      string `json:"verification_uri"`
			Interval int    `json:"interval"`
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil || res.StatusCode != 200 || len(a.User) != 9 || a.URI != issuer+pathDevice || a.Interval != 5 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		return a.Device, a.User
	}
	device, user := begin()
	poll := form1("grant_type", grantDevice, "client_id", "phone", "device_code", device)
	s.problem(poll, "authorization_pending")
	s.problem(poll, "slow_down")
	s.now = s.now.Add(11 * time.Second)
	s.problem(poll, "authorization_pending")
	if res, page := s.do(http.MethodPost, pathDevice, form1("user_code", "BBBB-BBBB", "activation", "alice-app")); res.StatusCode != http.StatusForbidden || s.used["alice-app"] {
		t.Errorf("%d %s", res.StatusCode, page)
	}
	res, page := s.do(http.MethodPost, pathDevice, form1("user_code", strings.ToLower(strings.ReplaceAll(user, "-", " ")), "activation", "alice-app"))
	if res.StatusCode != 200 || !strings.Contains(page, "alice-app") {
		t.Fatalf("%d %s", res.StatusCode, page)
	}
	s.problem(with(poll, "client_id", "other"), "invalid_grant")
	s.now = s.now.Add(11 * time.Second)
	if a := s.good(s.tokens(poll).Access); a.Device != "alice-app" {
		t.Errorf("%+v", a)
	}
	s.problem(poll, "invalid_grant")
	// Nobody approves the second one in time.
	device, user = begin()
	s.now = s.now.Add(11 * time.Minute)
	s.problem(with(poll, "device_code", device), "expired_token")
	if res, _ := s.do(http.MethodPost, pathDevice, form1("user_code", user, "activation", "alice-two")); res.StatusCode != http.StatusForbidden {
		t.Error(res.Status)
	}
	// One source cannot fill the table.
	for i := range maxPerSource + 1 {
		res, body := s.do(http.MethodPost, pathBegin, form1("client_id", "phone"))
		if (res.StatusCode == 200) != (i < maxPerSource) {
			t.Fatalf("%d: %d %s", i, res.StatusCode, body)
		}
	}
}

func TestRevoke(t *testing.T) {
	s := newSite(t)
	for i, device := range []string{"alice-app", "alice-two"} {
		a := s.tokens(redeem(s.code(device)))
		token := []string{a.Access, a.Refresh}[i]
		if res, _ := s.do(http.MethodPost, pathRevoke, form1("token", token, "client_id", "other")); res.StatusCode == 200 {
			t.Error("another program revoked it")
		}
		s.good(a.Access)
		if res, body := s.do(http.MethodPost, pathRevoke, form1("token", token, "client_id", "phone")); res.StatusCode != 200 {
			t.Fatal(res.Status, body)
		}
		s.bad(a.Access, "revoked")
		s.problem(form1("grant_type", grantRefresh, "client_id", "phone", "refresh_token", a.Refresh), "invalid_grant")
	}
	if len(s.ended) != 2 {
		t.Errorf("%v", s.ended)
	}
	for _, stranger := range []string{"", "x", strings.Repeat("x", 9000)} {
		if res, _ := s.do(http.MethodPost, pathRevoke, form1("token", stranger)); res.StatusCode != 200 {
			t.Error("who asks learns whether a token exists")
		}
	}
	if err := s.s.Revoke(t.Context(), "nothing", ""); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Error(err)
	}
}

func TestDeviceGone(t *testing.T) {
	s := newSite(t)
	a := s.tokens(redeem(s.code("alice-app")))
	d, err := s.db.Device(t.Context(), "alice-app")
	s.ok(err)
	d.State = store.DeviceRevoked
	s.ok(s.db.UpdateDevice(t.Context(), d))
	s.bad(a.Access, "revoked")
	s.problem(form1("grant_type", grantRefresh, "client_id", "phone", "refresh_token", a.Refresh), "invalid_grant")
	s.ok(s.db.DeleteDevice(t.Context(), "alice-app"))
	s.bad(a.Access, "revoked")
}

func TestRotate(t *testing.T) {
	s := newSite(t)
	other := s.open() // a second node
	a := s.tokens(redeem(s.code("alice-app")))
	s.ok(s.s.Rotate(t.Context(), s.now))
	b := s.tokens(redeem(s.code("alice-two")))
	s.good(a.Access)
	if _, err := other.Verify(t.Context(), b.Access); err != nil {
		t.Errorf("the other node does not know the new key: %v", err)
	}
	if ids, signer := s.s.Keys(); len(ids) != 2 || signer != ids[0] {
		t.Error(ids, signer)
	}
	for range 20 {
		s.now = s.now.Add(2 * time.Hour)
		s.ok(s.s.Rotate(t.Context(), s.now))
	}
	if ids, _ := s.s.Keys(); len(ids) > 3 {
		t.Errorf("%d keys are kept", len(ids))
	}
	// By itself: the next key is there a day before it signs.
	_, signer := s.s.Keys()
	s.now = s.now.Add(keyLife - keyAhead + time.Minute)
	s.ok(s.s.Maintain(t.Context()))
	ids, still := s.s.Keys()
	if len(ids) < 2 || still != signer || ids[0] == signer {
		t.Error(ids, still, signer)
	}
	s.now = s.now.Add(keyAhead)
	if _, now := s.s.Keys(); now != ids[0] {
		t.Error(now, ids)
	}
}

// TestForged gives the server tokens that are nearly right.
func TestForged(t *testing.T) {
	s := newSite(t)
	a := s.tokens(redeem(s.code("alice-app")))
	good, err := s.s.open(t.Context(), a.Access)
	s.ok(err)
	k := s.s.keys.Load().signer(s.now)
	stranger, err := newKey(s.now)
	s.ok(err)
	sign := func(key any, alg jose.SignatureAlgorithm, id, kind string, change func(*claims)) string {
		t.Helper()
		c := good
		change(&c)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, (&jose.SignerOptions{}).WithType(jose.ContentType(kind)))
		s.ok(err)
		text, err := json.Marshal(c)
		s.ok(err)
		o, err := signer.Sign(text)
		s.ok(err)
		out, err := o.CompactSerialize()
		s.ok(err)
		return out
	}
	same := func(*claims) {}
	s.good(sign(k.priv, jose.ES256, k.ID, typeAccess, same))
	s.bad(sign(stranger.priv, jose.ES256, k.ID, typeAccess, same), "signature")
	s.bad(sign(stranger.priv, jose.ES256, stranger.ID, typeAccess, same), "unknown key")
	s.bad(sign(k.priv, jose.ES256, k.ID, "JWT", same), "no access token")
	s.bad(sign([]byte("0123456789abcdef0123456789abcdef"), jose.HS256, k.ID, typeAccess, same), "cannot be read")
	s.bad(sign(k.priv, jose.ES256, k.ID, typeAccess, func(c *claims) { c.Issuer = "https://elsewhere" }), "somebody else")
	s.bad(sign(k.priv, jose.ES256, k.ID, typeAccess, func(c *claims) { c.Audience = "elsewhere" }), "somebody else")
	s.bad(sign(k.priv, jose.ES256, k.ID, typeAccess, func(c *claims) { c.Expires = s.now.Add(-time.Minute).Unix() }), "expired")
	s.bad(sign(k.priv, jose.ES256, k.ID, typeAccess, func(c *claims) { c.Issued = s.now.Add(365 * 24 * time.Hour).Unix() }), "clock")
	s.bad(sign(k.priv, jose.ES256, k.ID, typeAccess, func(c *claims) { c.Device = "alice-two" }), "revoked")
	s.bad(sign(k.priv, jose.ES256, k.ID, typeAccess, func(c *claims) { c.Grant = "g" }), "revoked")
	head, rest, _ := strings.Cut(a.Access, ".")
	_, sig, _ := strings.Cut(rest, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	body, err := json.Marshal(good)
	s.ok(err)
	for _, forged := range []string{"", ".", "..", head + "..", none + "." + base64.RawURLEncoding.EncodeToString(body) + ".", a.Access + "x", head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{}`)) + "." + sig, strings.Repeat("a", maxToken+1)} {
		s.bad(forged, "token")
	}
}

func TestMetadata(t *testing.T) {
	s := newSite(t)
	res, body := s.do(http.MethodGet, pathMetadata, nil)
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil || res.StatusCode != 200 || m["issuer"] != issuer || m["token_endpoint"] != issuer+"/oauth/token" {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	_, body = s.do(http.MethodGet, pathKeys, nil)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(body), &set); err != nil || len(set.Keys) != 1 || !set.Keys[0].IsPublic() || strings.Contains(body, `"d"`) {
		t.Fatalf("%v %s", err, body)
	}
}

func TestBodyIsBounded(t *testing.T) {
	s := newSite(t)
	res, body := s.do(http.MethodPost, pathToken, form1("grant_type", strings.Repeat("x", 2*maxForm)))
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("%d %.80s", res.StatusCode, body)
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(t.Context(), Config{}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
	if !errors.As(bad("a", "b"), new(*problem)) {
		t.Error("no problem")
	}
}

// FuzzVerify feeds hostile tokens.
func FuzzVerify(f *testing.F) {
	k, err := newKey(time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	raw, err := json.Marshal([]*key{k})
	if err != nil {
		f.Fatal(err)
	}
	set, err := readKeys(raw)
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{c: Config{Now: func() time.Time { return time.Unix(0, 0) }, Issuer: func() string { return issuer }, Audience: "a"}}
	s.keys.Store(set)
	s.reload.last = time.Unix(0, 0) // never ask the store
	signed, err := s.sign(store.Grant{ID: "g", Device: "d"}, "u", time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	good, err := s.open(f.Context(), signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0..")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := s.open(t.Context(), text); err == nil && c != good {
			t.Fatalf("%q was taken", text)
		}
	})
}
