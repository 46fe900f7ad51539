package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
)

const (
	home   = "https://ringfence.example:8443"
	nearby = "https://127.0.0.1:8443"
)

// server is an authorization server in memory. A refresh token that is spent twice ends its sign-in.
type server struct {
	mu      sync.Mutex
	issuer  string
	replies []string // of the token endpoint to a device code, in order; the last one stays
	asked   []time.Time
	round   int  // refresh tokens spent
	over    bool // somebody spent one twice
	down    bool
	meta    string
	before  func() // each renewal
	raw     func(r *http.Request) *http.Response
}

const pending = `{"error":"authorization_pending"}`

func tokens(n int) string {
	return fmt.Sprintf(`{"access_token":"a.b.%d","token_type":"bearer","expires_in":3600,"refresh_token":"r%d","scope":"sip","sip":{"user":"alice","domain":"ringfence.example","host":"ringfence.example","port":5090}}`, n, n)
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("the network is unreachable")
	}
	if s.raw != nil {
		return s.raw(r), nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	switch r.URL.Path {
	case wellKnown:
		if s.meta != "" {
			return reply(200, s.meta), nil
		}
		return reply(200, fmt.Sprintf(`{"issuer":%q,"token_endpoint":%[2]q,"device_authorization_endpoint":%[3]q,"revocation_endpoint":%[4]q}`, s.issuer, home+"/token", home+"/device", home+"/revoke")), nil
	case "/device":
		return reply(200, `{"device_code":"secret","user_code":"BCDF-GHJK","verification_uri":"`+home+`/d","verification_uri_complete":"`+home+`/d?user_code=BCDF-GHJK","expires_in":600,"interval":5}`), nil
	case "/revoke":
		s.over = true
		return reply(200, ""), nil
	}
	switch form.Get("grant_type") {
	case grantDevice:
		s.asked = append(s.asked, time.Now())
		text := s.replies[0]
		if len(s.replies) > 1 {
			s.replies = s.replies[1:]
		}
		if strings.Contains(text, `"error"`) {
			return reply(400, text), nil
		}
		return reply(200, text), nil
	case grantRefresh:
		if s.before != nil {
			s.before()
		}
		if s.over || form.Get("refresh_token") != fmt.Sprintf("r%d", s.round) {
			s.over = true
			return reply(400, `{"error":"invalid_grant","error_description":"used before"}`), nil
		}
		s.round++
		return reply(200, tokens(s.round)), nil
	}
	return reply(400, `{"error":"unsupported_grant_type"}`), nil
}

func reply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json; charset=utf-8"}}, Body: io.NopCloser(strings.NewReader(body))}
}

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) client() *Client {
	return &Client{ID: "ringfence", HTTP: &http.Client{Transport: s}}
}

func newServer() *server { return &server{issuer: home, replies: []string{tokens(0)}} }

// account signs in and keeps the account in a file.
func (s *server) account(t *testing.T) string {
	t.Helper()
	c := s.client()
	srv, err := c.Discover(t.Context(), nearby)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Begin(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Wait(t.Context(), srv, p)
	if err != nil {
		t.Fatal(err)
	}
	a := Account{Issuer: srv.Issuer, Client: c.ID, TokenEndpoint: srv.Token, RevokeEndpoint: srv.Revoke, Node: "127.0.0.1:8443", SIP: got.SIP}
	a.Take(got)
	file := filepath.Join(t.TempDir(), "alice.json")
	if err := Create(t.Context(), file, a, false); err != nil {
		t.Fatal(err)
	}
	return file
}

func (s *server) keeper(file string) *Keeper {
	return &Keeper{Path: file, Client: s.client(), Log: slog.New(slog.DiscardHandler)}
}

func token(t *testing.T, k *Keeper, refused string) string {
	t.Helper()
	text, err := k.Token(t.Context(), refused)
	if err != nil {
		t.Fatalf("%v (%s)", err, ringfence.HintOf(err))
	}
	return text
}

func TestDeviceCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.replies = []string{pending, `{"error":"slow_down"}`, pending, tokens(0)}
		began := time.Now()
		file := s.account(t)
		var waits []time.Duration
		for i, at := range s.asked {
			if i == 0 {
				waits = append(waits, at.Sub(began))
			} else {
				waits = append(waits, at.Sub(s.asked[i-1]))
			}
		}
		if fmt.Sprint(waits) != "[5s 5s 10s 10s]" {
			t.Errorf("%v", waits)
		}
		st, err := os.Stat(file)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", st.Mode(), err)
		}
		a, err := Read(file)
		if err != nil || a.Issuer != home || a.Access != "a.b.0" || a.Refresh != "r0" || a.SIP != (SIP{"alice", "ringfence.example", "ringfence.example", 5090}) || a.Expires.Sub(a.Issued) != time.Hour {
			t.Errorf("%+v %v", a, err)
		}
		if err := Create(t.Context(), file, a, false); ringfence.KindOf(err) != ringfence.KindConflict {
			t.Errorf("a file was replaced: %v", err)
		}
		if err := Create(t.Context(), file, a, true); err != nil {
			t.Error(err)
		}
		if err := Check(file, false); ringfence.KindOf(err) != ringfence.KindConflict {
			t.Error(err)
		}
		if err := Check(file, true); err != nil {
			t.Error(err)
		}
		if err := Check(filepath.Join(t.TempDir(), "nowhere", "x"), false); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Error(err)
		}
		left, err := os.ReadDir(filepath.Dir(file))
		if err != nil || len(left) != 2 { // it and its lock
			t.Errorf("%v %v", left, err)
		}
		if err := s.client().Revoke(t.Context(), a); err != nil || !s.over {
			t.Error(err)
		}
		if err := Remove(t.Context(), file); err != nil {
			t.Error(err)
		}
		if _, err := Read(file); ringfence.KindOf(err) != ringfence.KindNotFound {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 0 {
			t.Errorf("%v %v", left, err)
		}
	})
}

func TestNobodyApproves(t *testing.T) {
	for text, want := range map[string]ringfence.Kind{
		pending:                      ringfence.KindTimeout,
		`{"error":"expired_token"}`:  ringfence.KindTimeout,
		`{"error":"access_denied"}`:  ringfence.KindUnauthenticated,
		`{"error":"invalid_client"}`: ringfence.KindDenied,
		`{"access_token":"a\r\nb","token_type":"Bearer"}`: ringfence.KindInvalid,
		`{"access_token":"a.b.c","token_type":"mac"}`:     ringfence.KindInvalid,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			s.replies = []string{text}
			c := s.client()
			srv, err := c.Discover(t.Context(), home)
			if err != nil {
				t.Fatal(err)
			}
			p, err := c.Begin(t.Context(), srv)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Wait(t.Context(), srv, p); ringfence.KindOf(err) != want {
				t.Errorf("%s: %v", text, err)
			}
			if n := len(s.asked); n > 120 {
				t.Errorf("%s: asked %d times", text, n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // an outage on the way is waited for, less and less often
		s := newServer()
		c := s.client()
		srv, err := c.Discover(t.Context(), home)
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.Begin(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		s.set(func() { s.down = true })
		back := time.AfterFunc(time.Minute, func() { s.set(func() { s.down = false }) })
		defer back.Stop()
		began := time.Now()
		if _, err := c.Wait(t.Context(), srv, p); err != nil || time.Since(began) != 75*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestServerThatLies(t *testing.T) {
	meta := func(issuer, token, device string) string {
		return fmt.Sprintf(`{"issuer":%q,"token_endpoint":%q,"device_authorization_endpoint":%q}`, issuer, token, device)
	}
	s := newServer()
	for name, text := range map[string]string{
		"an endpoint elsewhere":      meta(home, "https://evil.example/token", home+"/device"),
		"one in the clear":           meta(home, "http://ringfence.example:8443/token", home+"/device"),
		"one at another port":        meta(home, "https://ringfence.example:8444/token", home+"/device"),
		"somebody's name before it":  meta(home, "https://x@ringfence.example:8443/token", home+"/device"),
		"no device code":             meta(home, home+"/token", ""),
		"an issuer in the clear":     meta("http://ringfence.example", "http://ringfence.example/token", "http://ringfence.example/device"),
		"an issuer with a path":      meta(home+"/x", home+"/token", home+"/device"),
		"no issuer":                  meta("", home+"/token", home+"/device"),
		"no JSON":                    "<html>",
		"an issuer that is no host":  meta("https://a b/", "https://a b/token", "https://a b/device"),
		"an issuer with a backslash": meta(`https://a\b`, `https://a\b/token`, `https://a\b/device`),
	} {
		s.meta = text
		if _, err := s.client().Discover(t.Context(), home); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// It names another server than the one that was asked, which does not know of it.
	s.meta, s.raw = "", func(r *http.Request) *http.Response {
		at := "https://" + r.URL.Host
		issuer := map[string]string{nearby: home, home: "https://third.example:8443"}[at]
		return reply(200, fmt.Sprintf(`{"issuer":%q,"token_endpoint":%[2]q,"device_authorization_endpoint":%[2]q}`, issuer, issuer+"/x"))
	}
	if _, err := s.client().Discover(t.Context(), nearby); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Error(err)
	}
	for name, res := range map[string]*http.Response{
		"too long":   reply(200, `{"issuer":"`+strings.Repeat("x", maxAnswer)+`"}`),
		"elsewhere":  {StatusCode: 307, Header: http.Header{"Location": {"https://evil.example/"}}, Body: io.NopCloser(strings.NewReader(""))},
		"a page":     {StatusCode: 200, Header: http.Header{"Content-Type": {"text/html"}}, Body: io.NopCloser(strings.NewReader("<html>"))},
		"a failure":  reply(502, "bad gateway"),
		"an error":   reply(400, `{"error":"x\u0007y"}`),
		"its own":    reply(500, `{"error":"server_error","error_description":"oh \u001b[2J dear"}`),
		"not served": reply(404, "{}"),
	} {
		n := 0
		s.raw = func(*http.Request) *http.Response { n++; return res }
		_, err := s.client().Discover(t.Context(), home)
		if err == nil || n != 1 || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %v after %d requests", name, err, n)
		}
	}
}

func TestKeeperRenewsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		k := s.keeper(s.account(t))
		if got := token(t, k, ""); got != "a.b.0" || s.round != 0 {
			t.Errorf("%s after %d renewals", got, s.round)
		}
		<-time.After(39 * time.Minute)
		if got := token(t, k, ""); got != "a.b.0" {
			t.Error(got)
		}
		<-time.After(2 * time.Minute)
		if got := token(t, k, ""); got != "a.b.1" {
			t.Error(got)
		}
		// One that the server did not take is replaced; one that another process has replaced already is not replaced again.
		other := s.keeper(k.Path)
		if got := token(t, other, "a.b.1"); got != "a.b.2" {
			t.Error(got)
		}
		if got := token(t, k, "a.b.1"); got != "a.b.2" || s.round != 2 {
			t.Errorf("%s after %d renewals", got, s.round)
		}
		// While the server is away, the token in hand does until it ends.
		s.set(func() { s.down = true })
		<-time.After(50 * time.Minute)
		if got := token(t, k, ""); got != "a.b.2" {
			t.Error(got)
		}
		<-time.After(10 * time.Minute)
		if _, err := k.Token(t.Context(), ""); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Error(err)
		}
		s.set(func() { s.down = false })
		if got := token(t, k, ""); got != "a.b.3" {
			t.Error(got)
		}
		s.set(func() { s.over = true })
		<-time.After(50 * time.Minute)
		if _, err := k.Token(t.Context(), ""); ringfence.KindOf(err) != ringfence.KindUnauthenticated || ringfence.HintOf(err) == "" {
			t.Error(err)
		}
	})
}

func TestManyRenewAtOnceAndSpendOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		file := s.account(t)
		for round := 1; round <= 3; round++ {
			<-time.After(50 * time.Minute)
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					if got, err := s.keeper(file).Token(t.Context(), ""); err != nil || got != fmt.Sprintf("a.b.%d", round) {
						t.Errorf("%s %v", got, err)
					}
				})
			}
			wg.Wait()
		}
		if s.round != 3 || s.over {
			t.Errorf("%d tokens were spent", s.round)
		}
	})
}

func TestNothingIsSpentThatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		file := s.account(t)
		k := s.keeper(file)
		<-time.After(50 * time.Minute)
		// The directory is full, or gone.
		away := filepath.Dir(file) + "-away"
		if err := os.Rename(filepath.Dir(file), away); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Token(t.Context(), ""); err == nil || s.round != 0 {
			t.Errorf("%v after %d renewals", err, s.round)
		}
		if err := os.Rename(away, filepath.Dir(file)); err != nil {
			t.Fatal(err)
		}
		// It goes wrong after the token is spent: then this process goes on with the new one, and writes it when it can.
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.before = func() {
			if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
				t.Error(err)
			}
		}
		if got := token(t, k, ""); got != "a.b.1" {
			t.Error(got)
		}
		s.set(func() { s.before = nil })
		if err := errors.Join(os.Remove(file), os.WriteFile(file, old, 0o600)); err != nil {
			t.Fatal(err)
		}
		if got := token(t, k, ""); got != "a.b.1" {
			t.Error(got)
		}
		if a, err := Read(file); err != nil || a.Refresh != "r1" {
			t.Errorf("%s %v", a.Refresh, err)
		}
		// Whoever loses patience while the server answers does not lose the answer.
		<-time.After(50 * time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		s.before = cancel
		if _, err := k.Token(ctx, ""); err != nil {
			t.Error(err)
		}
		if a, err := Read(file); err != nil || a.Refresh != "r2" || s.over {
			t.Errorf("%s %v", a.Refresh, err)
		}
	})
}

func TestFileThatIsNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		file := s.account(t)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			make func(p string) error
			want ringfence.Kind
		}{
			"others can read it": {func(p string) error { return errors.Join(os.WriteFile(p, good, 0o600), os.Chmod(p, 0o640)) }, ringfence.KindInsecure},
			"a link":             {func(p string) error { return os.Symlink(file, p) }, ringfence.KindInvalid},
			"too long":           {func(p string) error { return os.WriteFile(p, make([]byte, maxFile+1), 0o600) }, ringfence.KindInvalid},
			"empty":              {func(p string) error { return os.WriteFile(p, nil, 0o600) }, ringfence.KindInvalid},
			"no user": {func(p string) error {
				return os.WriteFile(p, []byte(strings.ReplaceAll(string(good), "alice", "a b")), 0o600)
			}, ringfence.KindInvalid},
			"not there": {func(string) error { return nil }, ringfence.KindNotFound},
		} {
			p := filepath.Join(t.TempDir(), "x")
			if err := tc.make(p); err != nil {
				t.Fatal(err)
			}
			if _, err := s.keeper(p).Token(t.Context(), ""); ringfence.KindOf(err) != tc.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Somebody holds the lock for ever.
		unlock, err := lock(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.keeper(file).Token(ctx, "a.b.0"); ringfence.KindOf(err) != ringfence.KindTimeout {
			t.Error(err)
		}
	})
}

// FuzzAnswers feeds what servers may send and files may hold.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(tokens(1)))
	f.Add([]byte(pending))
	f.Add([]byte(`{"issuer":"https://a:1","token_endpoint":"https://a:1/t","device_authorization_endpoint":"https://a:1/d"}`))
	f.Add([]byte(`{"device_code":"x","user_code":"y","verification_uri":"https://a/","expires_in":1e300,"interval":-1}`))
	f.Add([]byte(`{"issuer":"https://a:1","token_endpoint":"https://a:1/t","node":"a:1","access_token":"a","refresh_token":"b","sip":{"user":"u","domain":"d","host":"h","port":1}}`))
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseServer(b); err == nil {
			for _, at := range []string{s.Token, s.Device} {
				u, err := url.Parse(at)
				if err != nil || "https://"+u.Host != s.Issuer || u.User != nil {
					t.Errorf("%q of %q", at, s.Issuer)
				}
			}
		}
		if p, err := parsePairing(b, now); err == nil && (p.every < time.Second || p.every > pollMost || p.Expires.Sub(now) > time.Hour || strings.ContainsAny(p.UserCode+p.URI+p.Complete, "\x1b\r\n")) {
			t.Errorf("%+v", p)
		}
		if k, err := parseTokens(b, now); err == nil && (strings.ContainsAny(k.Access, " \r\n\"") || k.Access == "" || k.Expires.Sub(now) > mostLife || k.Expires.Before(now)) {
			t.Errorf("%+v", k)
		}
		if r := parseRefusal(b); r != nil && strings.ContainsAny(r.Error(), "\x1b\r\n\x00") {
			t.Errorf("%q", r.Error())
		}
		if a, err := parseAccount(b); err == nil {
			again, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parseAccount(again); err != nil {
				t.Errorf("%s: %v", again, err)
			}
		}
	})
}
