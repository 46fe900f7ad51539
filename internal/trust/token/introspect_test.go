package token

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
)

// counted counts look-ups, and fails when it is told to.
type counted struct {
	Grants
	n     int
	fails error
}

func (c *counted) Grant(ctx context.Context, id string) (store.Grant, error) {
	c.n++
	if c.fails != nil {
		return store.Grant{}, c.fails
	}
	return c.Grants.Grant(ctx, id)
}

func (c *counted) Device(ctx context.Context, id ringfence.DeviceID) (store.Device, error) {
	c.n++
	return c.Grants.Device(ctx, id)
}

// ask introspects as somebody.
func (s *site) ask(as, body string) (*http.Response, string) {
	s.Helper()
	r := httptest.NewRequest(http.MethodPost, pathIntrospect, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", as)
	w := httptest.NewRecorder()
	s.s.Handler().ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

func TestIntrospection(t *testing.T) {
	s := newSite(t)
	a := s.tokens(redeem(s.code("alice-app")))
	if res, _ := s.ask("reader", "token="+a.Access); res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("nobody may look, and somebody does: %d", res.StatusCode)
	}
	s.s.c.Inspector = func(r *http.Request) (string, error) {
		switch as := r.Header.Get("Authorization"); as {
		case "reader":
			return as, nil
		case "weak":
			return "", &ringfence.Fault{Kind: ringfence.KindDenied, Text: "more rights are needed"}
		case "broken":
			return "", errors.New("the disk is gone")
		}
		return "", &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "a token is needed"}
	}
	for as, want := range map[string]int{"": 401, "weak": 403, "broken": 503} {
		res, body := s.ask(as, "token="+a.Access)
		if res.StatusCode != want || strings.Contains(body, "active") || strings.Contains(body, "disk") || (want != 503) != (res.Header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %d %s %v", as, res.StatusCode, body, res.Header)
		}
	}
	for _, body := range []string{"", "token=", "token=a&token=b"} {
		if res, text := s.ask("reader", body); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %d %s", body, res.StatusCode, text)
		}
	}

	c := &counted{Grants: s.db}
	s.s.c.Grants = c
	res, body := s.ask("reader", "token_type_hint=access_token&token="+a.Access)
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	for name, want := range map[string]any{"active": true, "token_type": "Bearer", "scope": "sip", "sub": "alice", "device": "alice-app", "client_id": "phone", "iss": issuer, "aud": "ringfence.internal", "exp": float64(s.now.Add(time.Hour).Unix())} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if c.n != lookups {
		t.Errorf("%d look-ups", c.n)
	}

	// Whatever is wrong with a token, the answer is the same, and so is what it takes.
	other := s.tokens(redeem(s.code("alice-two")))
	s.ok(s.s.Revoke(t.Context(), s.good(other.Access).Grant, "test"))
	same := func(what, token string) {
		t.Helper()
		c.n = 0
		if res, body := s.ask("reader", "token="+token); res.StatusCode != 200 || body != `{"active":false}` || c.n != lookups {
			t.Errorf("%s: %d %s after %d look-ups", what, res.StatusCode, body, c.n)
		}
	}
	same("a refresh token", a.Refresh)
	same("a revoked one", other.Access)
	same("another signature", a.Access[:len(a.Access)-8]+"AAAAAAAA")
	same("no token", "x")
	same("one that is too long", strings.Repeat("x", maxToken+1))
	// A store that does not answer is no reason to say that a token is not good.
	c.fails = errors.New("the disk is gone")
	for _, token := range []string{a.Access, "x", other.Access} {
		if res, body := s.ask("reader", "token="+token); res.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "active") || strings.Contains(body, "disk") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	c.fails = nil
	s.now = s.now.Add(2 * time.Hour)
	same("one that has expired", a.Access)

	_, body = s.do(http.MethodGet, pathMetadata, nil)
	if !strings.Contains(body, `"introspection_endpoint":"`+issuer+pathIntrospect+`"`) {
		t.Error(body)
	}
}
