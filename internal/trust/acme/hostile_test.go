package acme_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/trust/acme"
)

// expect checks an answer that is a problem: it has a type of RFC 8555 and a fresh nonce.
func expect(t *testing.T, a answer, status int, kind string) {
	t.Helper()
	if a.status != status || a.kind() != kind || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, type %q; want %d, %q: %s", a.status, a.kind(), status, kind, a.body)
	}
}

// TestRequestsThatAreWrong sends requests with one thing wrong each (RFC 8555 section 6).
func TestRequestsThatAreWrong(t *testing.T) {
	s := newSite(t, nil)
	r := s.rawClient("pbx.example.org")
	url := s.base + "/acme/new-order"
	payload := []byte(`{"identifiers":[{"type":"dns","value":"pbx.example.org"}]}`)
	change := func(name string, v any) map[string]any {
		h := r.header(url)
		if v == nil {
			delete(h, name)
		} else {
			h[name] = v
		}
		return h
	}
	sign := func(h map[string]any) []byte { return jws(t, r.key, h, payload) }
	used := r.header(url)
	if a := s.send(url, sign(used)); a.status != http.StatusCreated {
		t.Fatalf("the right request: %d %s", a.status, a.body)
	}
	edit := func(change func(m map[string]any)) []byte {
		m := map[string]any{}
		if err := json.Unmarshal(sign(r.header(url)), &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := sign(r.header(url))
	for _, tc := range []struct {
		name   string
		body   []byte
		status int
		kind   string
	}{
		{"a nonce twice", sign(used), 400, "badNonce"},
		{"no nonce", sign(change("nonce", nil)), 400, "badNonce"},
		{"a nonce made up", sign(change("nonce", "AAAA")), 400, "badNonce"},
		{"another url", sign(change("url", s.base+"/acme/new-account")), 403, "unauthorized"},
		{"no url", sign(change("url", nil)), 403, "unauthorized"},
		{"url of another host", sign(change("url", "https://evil.example.org/acme/new-order")), 403, "unauthorized"},
		{"none", sign(change("alg", "none")), 400, "badSignatureAlgorithm"},
		{"MAC by the public key", sign(change("alg", "HS256")), 400, "badSignatureAlgorithm"},
		{"RS256 over ECDSA", sign(change("alg", "RS256")), 400, "malformed"},
		{"kid and jwk", sign(change("jwk", jwk(t, r.key))), 400, "malformed"},
		{"no kid", sign(change("kid", nil)), 400, "malformed"},
		{"unknown kid", sign(change("kid", s.base+"/acme/account/AAAAAAAAAAAAAAAAAAAAAA")), 400, "accountDoesNotExist"},
		{"kid of another host", sign(change("kid", "https://evil.example.org"+strings.TrimPrefix(r.kid, s.base))), 400, "accountDoesNotExist"},
		{"crit", sign(change("crit", []string{"exp"})), 400, "malformed"},
		{"b64", sign(change("b64", false)), 400, "malformed"},
		{"another key", jws(t, newKey(t), r.header(url), payload), 400, "malformed"},
		{"an unprotected header", edit(func(m map[string]any) { m["header"] = map[string]string{"kid": "x"} }), 400, "malformed"},
		{"signatures", edit(func(m map[string]any) { m["signatures"] = []any{} }), 400, "malformed"},
		{"another payload", edit(func(m map[string]any) { m["payload"] = b64([]byte(`{"identifiers":[]}`)) }), 400, "malformed"},
		{"no signature", edit(func(m map[string]any) { delete(m, "signature") }), 400, "malformed"},
		{"an empty signature", edit(func(m map[string]any) { m["signature"] = "" }), 400, "malformed"},
		{"padding", edit(func(m map[string]any) { m["payload"] = m["payload"].(string) + "=" }), 400, "malformed"},
		{"a name twice", bytes.Replace(good, []byte(`{`), []byte(`{"payload":"",`), 1), 400, "malformed"},
		{"compact form", []byte("e30.e30.e30"), 400, "malformed"},
		{"nothing", nil, 400, "malformed"},
		{"too long", bytes.Repeat([]byte(" "), 64<<10+1), 413, "malformed"},
		{"a header too long", sign(change("x", strings.Repeat("x", 8<<10))), 400, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.send(url, tc.body)
			expect(t, a, tc.status, tc.kind)
			if a.header.Get("Replay-Nonce") == "" {
				t.Error("no nonce to try again with")
			}
		})
	}
	if a := s.send(url, good); a.status != http.StatusCreated {
		t.Errorf("the nonce of a request that was refused before is spent: %d %s", a.status, a.body)
	}
	algs := struct{ Algorithms []string }{}
	if err := json.Unmarshal(s.send(url, sign(change("alg", "none"))).body, &algs); err != nil || !slices.Contains(algs.Algorithms, "ES256") {
		t.Errorf("the algorithms to use are not told: %v %v", algs, err)
	}
	resp, err := s.client.Post(url, "application/json", bytes.NewReader(sign(r.header(url))))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("another content type: %d", resp.StatusCode)
	}
}

// TestResources checks what needs no signature, and what is not there.
func TestResources(t *testing.T) {
	s := newSite(t, nil)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/acme/directory", 200}, {"HEAD", "/acme/new-nonce", 200}, {"GET", "/acme/new-nonce", 204}, {"GET", "/acme/new-order", 405}, {"PUT", "/acme/new-order", 405},
		{"GET", "/acme/order/AAAAAAAAAAAAAAAAAAAAAA", 405}, {"GET", "/acme/new-authz", 404}, {"GET", "/", 404}, {"GET", "/acme/renewal-info/x", 400},
		{"GET", "/acme/renewal-info/AQIDBA.AQ", 404}, {"POST", "/acme/directory", 405}, {"GET", "/acme/../acme/order", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, s.base+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		h := resp.Header
		if resp.StatusCode != tc.status {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, resp.StatusCode, tc.status)
		}
		if tc.status >= 400 && h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s", tc.method, tc.path, h.Get("Content-Type"))
		}
		if tc.status == 405 && h.Get("Allow") == "" {
			t.Errorf("%s %s: the methods are not told", tc.method, tc.path)
		}
		if h.Get("Cache-Control") != "no-store" || (h.Get("Link") == "") != (tc.path == "/acme/directory") {
			t.Errorf("%s %s: %v", tc.method, tc.path, h)
		}
		if strings.HasSuffix(tc.path, "new-nonce") && h.Get("Replay-Nonce") == "" {
			t.Errorf("%s: no nonce", tc.method)
		}
	}
}

// TestAccountsNeedABinding tries to have an account without a right from an administrator (RFC 8555 section 7.3.4).
func TestAccountsNeedABinding(t *testing.T) {
	s := newSite(t, nil)
	url := s.base + "/acme/new-account"
	r := &raw{s: s, key: newKey(t)}
	b := s.bind("pbx.example.org")
	old := acme.NewBinding(nil, time.Now().Add(-time.Second))
	gone := acme.NewBinding(nil, time.Time{})
	gone.Revoked = true
	s.bindings.put(old)
	s.bindings.put(gone)
	forged := b
	forged.Key = make([]byte, 32)
	ask := func(e json.RawMessage, more string) string {
		return `{` + more + `"externalAccountBinding":` + string(e) + `}`
	}
	unknown := acme.NewBinding(nil, time.Time{})
	for _, tc := range []struct {
		name, payload string
		status        int
		kind          string
	}{
		{"without", `{}`, 403, "externalAccountRequired"},
		{"looking for an account", `{"onlyReturnExisting":true}`, 400, "accountDoesNotExist"},
		{"wrong MAC", ask(s.eab(forged, r.key, url), ""), 403, "unauthorized"},
		{"unknown key id", ask(s.eab(unknown, r.key, url), ""), 403, "unauthorized"},
		{"expired", ask(s.eab(old, r.key, url), ""), 403, "unauthorized"},
		{"withdrawn", ask(s.eab(gone, r.key, url), ""), 403, "unauthorized"},
		{"for another key", ask(s.eab(b, newKey(t), url), ""), 400, "malformed"},
		{"for another url", ask(s.eab(b, r.key, s.base+"/acme/new-order"), ""), 400, "malformed"},
		{"no JWS", `{"externalAccountBinding":"x"}`, 400, "malformed"},
		{"signed by the key itself", ask(jws(t, r.key, map[string]any{"alg": "ES256", "kid": b.ID, "url": url}, jwk(t, r.key)), ""), 400, "badSignatureAlgorithm"},
		{"telephone contact", ask(s.eab(b, r.key, url), `"contact":["tel:+12025550100"],`), 400, "unsupportedContact"},
		{"two in a contact", ask(s.eab(b, r.key, url), `"contact":["mailto:a@example.org,b@example.org"],`), 400, "invalidContact"},
		{"headers in a contact", ask(s.eab(b, r.key, url), `"contact":["mailto:a@example.org?cc=b@example.org"],`), 400, "invalidContact"},
		{"no URI", ask(s.eab(b, r.key, url), `"contact":["%zz"],`), 400, "invalidContact"},
		{"too many contacts", ask(s.eab(b, r.key, url), `"contact":["a","b","c","d","e","f"],`), 400, "invalidContact"},
		{"empty payload", ``, 400, "malformed"},
		{"null", `null`, 400, "malformed"},
		{"an array", `[]`, 400, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, r.post(url, tc.payload), tc.status, tc.kind) })
	}
	// None of it used the binding up. It is good for one account, whose key finds it again.
	a := r.post(url, ask(s.eab(b, r.key, url), ""))
	if a.status != http.StatusCreated || a.member(t, "status") != "valid" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if again := r.post(url, `{"onlyReturnExisting":true}`); again.status != http.StatusOK || again.header.Get("Location") != a.header.Get("Location") {
		t.Errorf("the account is not found again: %d %s", again.status, again.body)
	}
	second := &raw{s: s, key: newKey(t)}
	expect(t, second.post(url, ask(s.eab(b, second.key, url), "")), 403, "unauthorized")
	// Withdrawing the binding ends the account.
	b.Revoked = true
	s.bindings.put(b)
	r.kid = a.header.Get("Location")
	expect(t, r.post(r.kid, ""), 403, "unauthorized")
	if len(b.Key) != 32 || len(b.ID) != 22 {
		t.Errorf("a binding of %d bytes and %d characters", len(b.Key), len(b.ID))
	}
}

// meeting is a State whose first lookups by key wait for each other, so that all of them find nothing.
type meeting struct {
	*acme.Memory
	once sync.WaitGroup
	left atomic.Int32
}

func (m *meeting) AccountByKey(ctx context.Context, thumbprint string) (acme.Account, error) {
	a, err := m.Memory.AccountByKey(ctx, thumbprint)
	if m.left.Add(-1) >= 0 {
		m.once.Done()
		m.once.Wait()
	}
	return a, err
}

// TestOneAccountForAKey makes one account many times at once: one request makes it, the others find it.
func TestOneAccountForAKey(t *testing.T) {
	m := &meeting{Memory: acme.NewMemory()}
	m.once.Add(8)
	m.left.Store(8)
	s := newSite(t, func(c *acme.Config) { c.State = m })
	r := &raw{s: s, key: newKey(t)}
	url := s.base + "/acme/new-account"
	e := s.eab(s.bind("a.example.org"), r.key, url)
	var bodies [8][]byte
	for i := range bodies {
		bodies[i] = jws(t, r.key, r.header(url), []byte(`{"externalAccountBinding":`+string(e)+`}`))
	}
	var answers [len(bodies)]answer
	var wait sync.WaitGroup
	for i := range bodies {
		wait.Go(func() { answers[i] = s.send(url, bodies[i]) })
	}
	wait.Wait()
	made := 0
	for _, a := range answers {
		if a.status == http.StatusCreated {
			made++
		} else if a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a.header.Get("Location") != answers[0].header.Get("Location") {
			t.Errorf("two accounts: %v", a.header)
		}
	}
	if made != 1 {
		t.Errorf("%d requests made the account", made)
	}
}

// TestKeysOfAccounts refuses keys that are weak, secret or of kinds that are not taken.
func TestKeysOfAccounts(t *testing.T) {
	s := newSite(t, nil)
	url := s.base + "/acme/new-account"
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{s: s, key: newKey(t)}
	for name, key := range map[string]any{
		"RSA 1024": jwk(t, weak), "P-521": jwk(t, p521), "symmetric": map[string]string{"kty": "oct", "k": "AAAA"}, "nothing": map[string]string{},
		"a point off the curve": map[string]string{"kty": "EC", "crv": "P-256", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))},
		"a secret key":          json.RawMessage(strings.Replace(string(jwk(t, r.key)), `{`, `{"d":"`+b64(make([]byte, 32))+`",`, 1)),
		"a string":              "x", "even exponent": map[string]string{"kty": "RSA", "n": b64(bytes.Repeat([]byte{0xff}, 256)), "e": "Ag"},
		"a huge modulus": map[string]string{"kty": "RSA", "n": b64(bytes.Repeat([]byte{0xff}, 2048)), "e": "AQAB"},
	} {
		t.Run(name, func(t *testing.T) {
			h := r.header(url)
			h["jwk"] = key
			a := s.send(url, jws(t, r.key, h, []byte(`{}`)))
			expect(t, a, 400, "badPublicKey")
		})
	}
}

// TestOrdersThatAreRefused asks for names in wrong forms, and for those of others.
func TestOrdersThatAreRefused(t *testing.T) {
	s := newSite(t, nil)
	r := s.rawClient(".example.org", "192.0.2.0/24", "2001:db8::1")
	url := s.base + "/acme/new-order"
	many := `{"identifiers":[` + strings.TrimSuffix(strings.Repeat(`{"type":"dns","value":"a.example.org"},`, 21), ",") + `]}`
	one := func(kind, value string) string {
		b, err := json.Marshal(map[string]any{"identifiers": []acme.Identifier{{Type: kind, Value: value}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tc := range []struct {
		payload string
		kind    string
	}{
		{`{}`, "malformed"}, {`{"identifiers":[]}`, "malformed"}, {many, "malformed"}, {`{"identifiers":"x"}`, "malformed"},
		{one("email", "a@example.org"), "unsupportedIdentifier"},
		{one("dns", ""), "rejectedIdentifier"}, {one("dns", "a_b.example.org"), "rejectedIdentifier"}, {one("dns", "a.example.org."), "rejectedIdentifier"},
		{one("dns", "a..example.org"), "rejectedIdentifier"}, {one("dns", "-a.example.org"), "rejectedIdentifier"}, {one("dns", "192.0.2.1"), "rejectedIdentifier"},
		{one("dns", "a.*.example.org"), "rejectedIdentifier"}, {one("dns", "*.*.example.org"), "rejectedIdentifier"}, {one("dns", "ä.example.org"), "rejectedIdentifier"},
		{one("dns", "a.example.org\u0000.evil.org"), "rejectedIdentifier"}, {one("dns", strings.Repeat("a", 64)+".example.org"), "rejectedIdentifier"},
		{one("dns", strings.Repeat("a.", 130)+"example.org"), "rejectedIdentifier"},
		{one("dns", "example.org"), "rejectedIdentifier"}, {one("dns", "evilexample.org"), "rejectedIdentifier"}, {one("dns", "a.example.org.evil.org"), "rejectedIdentifier"},
		{one("dns", "*.example.org"), "rejectedIdentifier"}, {one("dns", "localhost"), "rejectedIdentifier"},
		{one("ip", "198.51.100.1"), "rejectedIdentifier"}, {one("ip", "2001:db8::2"), "rejectedIdentifier"}, {one("ip", "2001:DB8::1"), "rejectedIdentifier"},
		{one("ip", "::ffff:192.0.2.1"), "rejectedIdentifier"}, {one("ip", "192.0.2.01"), "rejectedIdentifier"}, {one("ip", "fe80::1%eth0"), "rejectedIdentifier"},
		{one("ip", "a.example.org"), "rejectedIdentifier"},
		{`{"identifiers":[{"type":"dns","value":"a.example.org"}],"notAfter":"2030-01-01T00:00:00Z"}`, "malformed"},
		{`{"identifiers":[{"type":"dns","value":"a.example.org"}],"replaces":"x"}`, "malformed"},
		{`{"identifiers":[{"type":"dns","value":"a.example.org"}],"replaces":"AQIDBA.AQ"}`, "unauthorized"},
	} {
		a := r.post(url, tc.payload)
		status := 400
		if tc.kind == "rejectedIdentifier" || tc.kind == "unauthorized" {
			status = 403
		}
		expect(t, a, status, tc.kind)
		if t.Failed() {
			t.Fatalf("for %s", tc.payload)
		}
	}
	// Each refused name is a subproblem of its own.
	a := r.post(url, `{"identifiers":[{"type":"dns","value":"a.example.org"},{"type":"dns","value":"b.example.net"},{"type":"ip","value":"203.0.113.1"}]}`)
	var p struct {
		Subproblems []struct{ Identifier acme.Identifier }
	}
	if err := json.Unmarshal(a.body, &p); err != nil || len(p.Subproblems) != 2 || p.Subproblems[1].Identifier.Value != "203.0.113.1" {
		t.Errorf("%s %v", a.body, err)
	}
	a = r.post(url, `{"identifiers":[{"type":"dns","value":"A.Example.ORG"},{"type":"dns","value":"a.example.org"},{"type":"ip","value":"2001:db8::1"},{"type":"ip","value":"192.0.2.200"}]}`)
	var o struct{ Identifiers []acme.Identifier }
	if err := json.Unmarshal(a.body, &o); err != nil || len(o.Identifiers) != 3 || o.Identifiers[0].Value != "a.example.org" {
		t.Errorf("%s %v", a.body, err)
	}
}

// TestOthersSeeNothing has one account ask for what belongs to another.
func TestOthersSeeNothing(t *testing.T) {
	s := newSite(t, nil)
	mine, other := s.rawClient("pbx.example.org"), s.rawClient("pbx.example.org")
	a := mine.post(s.base+"/acme/new-order", `{"identifiers":[{"type":"dns","value":"pbx.example.org"}]}`)
	order := a.header.Get("Location")
	var o struct{ Authorizations []string }
	if err := json.Unmarshal(a.body, &o); err != nil || len(o.Authorizations) != 1 {
		t.Fatalf("%s %v", a.body, err)
	}
	authz := o.Authorizations[0]
	challenge := strings.Replace(authz, "/authz/", "/challenge/", 1) + "/http-01"
	for url, payload := range map[string]string{order: "", order + "/finalize": `{"csr":"AA"}`, authz: "", challenge: `{}`, strings.Replace(order, "/order/", "/cert/", 1): "", mine.kid: "", mine.kid + "/orders": ""} {
		expect(t, other.post(url, payload), 403, "unauthorized")
	}
	for _, url := range []string{order[:len(order)-1] + "!", authz + "A", s.base + "/acme/order/AAAAAAAAAAAAAAAAAAAAAA", s.base + "/acme/authz/AAAAAAAAAAAAAAAAAAAAAA", challenge + "x",
		strings.Replace(order, "/order/", "/cert/", 1)} {
		expect(t, mine.post(url, ""), 404, "malformed")
	}
	for _, url := range []string{order, mine.kid + "/orders", strings.Replace(order, "/order/", "/cert/", 1)} {
		expect(t, mine.post(url, `{}`), 400, "malformed")
	}
	expect(t, mine.post(authz, `{"status":"valid"}`), 400, "malformed")
	expect(t, mine.post(mine.kid, `{"status":"revoked"}`), 400, "malformed")
	expect(t, mine.post(order+"/finalize", `{"csr":"AA"}`), 403, "orderNotReady")
	// Giving an authorization back ends its order.
	if a := mine.post(authz, `{"status":"deactivated"}`); a.member(t, "status") != "deactivated" {
		t.Errorf("%s", a.body)
	}
	if a := mine.post(order, ""); a.member(t, "status") != "invalid" {
		t.Errorf("%s", a.body)
	}
	expect(t, mine.post(authz, `{"status":"deactivated"}`), 400, "malformed")
}

// TestLimits counts requests of a source, orders of an account and tries for a name.
func TestLimits(t *testing.T) {
	s := newSite(t, func(c *acme.Config) { c.OrdersPerHour, c.TriesPerHour = 3, 1 })
	r := s.rawClient("pbx.example.org")
	url := s.base + "/acme/new-order"
	var last answer
	for range 3 {
		if last = r.post(url, `{"identifiers":[{"type":"dns","value":"pbx.example.org"}]}`); last.status != http.StatusCreated {
			t.Fatalf("%d %s", last.status, last.body)
		}
		var o struct{ Authorizations []string }
		if err := json.Unmarshal(last.body, &o); err != nil {
			t.Fatal(err)
		}
		last.header.Set("Authz", o.Authorizations[0])
		last = r.post(strings.Replace(o.Authorizations[0], "/authz/", "/challenge/", 1)+"/dns-01", `{}`)
	}
	expect(t, last, 429, "rateLimited")
	a := r.post(url, `{"identifiers":[{"type":"dns","value":"pbx.example.org"}]}`)
	expect(t, a, 429, "rateLimited")
	if a.header.Get("Retry-After") == "" {
		t.Error("when to come back is not told")
	}
	s.clock.forward(time.Hour)
	if a := r.post(url, `{"identifiers":[{"type":"dns","value":"pbx.example.org"}]}`); a.status != http.StatusCreated {
		t.Errorf("an hour later: %d %s", a.status, a.body)
	}

	few := newSite(t, func(c *acme.Config) { c.PerMinute = 2 })
	few.nonce()
	few.nonce()
	expect(t, few.send(few.base+"/acme/new-order", nil), 429, "rateLimited")
}

// TestConfiguration refuses what cannot work.
func TestConfiguration(t *testing.T) {
	for _, change := range []func(*acme.Config){
		func(c *acme.Config) { c.Base = "http://node.example.org" }, func(c *acme.Config) { c.Base = "https://node.example.org/" }, func(c *acme.Config) { c.Base = "" },
		func(c *acme.Config) { c.Base = "https://a@node.example.org" }, func(c *acme.Config) { c.State = nil }, func(c *acme.Config) { c.Tries = 11 },
		func(c *acme.Config) { c.PerMinute = -1 }, func(c *acme.Config) { c.LookTime = time.Hour }, func(c *acme.Config) { c.MaxIdentifiers = 101 },
	} {
		var full acme.Config
		newSite(t, func(c *acme.Config) { full = *c })
		change(&full)
		if _, err := acme.New(full); ringfence.KindOf(err) != ringfence.KindInvalid || err == nil {
			t.Errorf("%+v: %v", full.Base, err)
		}
	}
}

// TestReachable holds the usual rule to addresses that lead somewhere else than they seem to.
func TestReachable(t *testing.T) {
	for text, want := range map[string]bool{
		"192.168.1.1": true, "10.0.0.1": true, "203.0.113.9": true, "fd00::1": true, "2a00::1": true, "::ffff:10.0.0.1": true,
		"127.0.0.1": false, "127.9.9.9": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "::": false, "0.1.2.3": false, "169.254.169.254": false,
		"fe80::1": false, "fe80::1%eth0": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::7f00:1": false,
	} {
		if got := acme.Reachable(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if acme.Reachable(netip.Addr{}) {
		t.Error("no address is reachable")
	}
}
