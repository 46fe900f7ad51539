package acme_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/trust/acme"
)

// ready returns an order whose names are shown.
func (r *raw) ready(names ...string) (order string) {
	r.s.t.Helper()
	ids := []acme.Identifier{}
	for _, n := range names {
		ids = append(ids, acme.Identifier{Type: "dns", Value: n})
	}
	ask, err := json.Marshal(map[string]any{"identifiers": ids})
	if err != nil {
		r.s.t.Fatal(err)
	}
	return r.readyFor(string(ask))
}

func (r *raw) readyFor(ask string) (order string) {
	t := r.s.t
	t.Helper()
	a := r.post(r.s.base+"/acme/new-order", ask)
	order = a.header.Get("Location")
	var o struct{ Authorizations []string }
	if err := json.Unmarshal(a.body, &o); err != nil || a.status != http.StatusCreated {
		t.Fatalf("%s %v", a.body, err)
	}
	for _, z := range o.Authorizations {
		// The state says what no machine of this test shows.
		id := z[strings.LastIndexByte(z, '/')+1:]
		x, err := r.s.state.Authorization(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		x.Status, x.Challenges[0].Status = acme.StatusValid, acme.StatusValid
		if err := r.s.state.UpdateAuthorization(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.post(order, "").member(t, "status"); got != "ready" {
		t.Fatalf("the order is %s", got)
	}
	return order
}

func csrPayload(der []byte) string { return `{"csr":"` + b64(der) + `"}` }

// issued returns a certificate of an account and its key.
func (r *raw) issued(names ...string) (*x509.Certificate, crypto.Signer) {
	t := r.s.t
	t.Helper()
	order, key := r.ready(names...), newKey(t)
	a := r.post(order+"/finalize", csrPayload(csrFor(t, key, names...)))
	if a.status != http.StatusOK || a.member(t, "status") != "valid" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	c := r.post(a.member(t, "certificate"), "")
	block, rest := pem.Decode(c.body)
	if block == nil || c.header.Get("Content-Type") != "application/pem-certificate-chain" || !strings.Contains(string(rest), "BEGIN CERTIFICATE") {
		t.Fatalf("%s %s", c.header, c.body)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, key
}

// TestRequestsForCertificates holds certificate requests to their order.
func TestRequestsForCertificates(t *testing.T) {
	s := newSite(t, nil)
	r := s.rawClient(".example.org")
	order, key := r.ready("a.example.org", "b.example.org"), newKey(t)
	make := func(c x509.CertificateRequest, key crypto.Signer) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &c, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	both := []string{"a.example.org", "b.example.org"}
	forged := csrFor(t, key, both...)
	forged[len(forged)-1] ^= 1
	for name, der := range map[string][]byte{
		"one name missing": csrFor(t, key, "a.example.org"), "one too many": csrFor(t, key, "a.example.org", "b.example.org", "c.example.org"), "an address": csrFor(t, key, "a.example.org", "b.example.org", "192.0.2.1"),
		"a common name of its own": make(x509.CertificateRequest{DNSNames: both, Subject: pkix.Name{CommonName: "c.example.org"}}, key),
		"mail":                     make(x509.CertificateRequest{DNSNames: both, EmailAddresses: []string{"a@example.org"}}, key),
		"a SIP URI":                make(x509.CertificateRequest{DNSNames: both, URIs: []*url.URL{{Scheme: "sip", Opaque: "a.example.org"}}}, key),
		"the key of the account":   csrFor(t, r.key, both...), "P-521": csrFor(t, p521, both...), "not signed by its key": forged,
		"nothing": {}, "garbage": []byte("garbage"), "too long": bytes.Repeat([]byte{0x30}, 17<<10), "something behind": append(csrFor(t, key, both...), 0),
	} {
		t.Run(name, func(t *testing.T) { expect(t, r.post(order+"/finalize", csrPayload(der)), 400, "badCSR") })
	}
	expect(t, r.post(order+"/finalize", `{"csr":"@"}`), 400, "badCSR")
	expect(t, r.post(order+"/finalize", ``), 400, "malformed")
	if s.ca.signed != 0 {
		t.Fatal("something was signed")
	}
	// A common name that is one of the names, in any case of letters, changes nothing; the order took no harm.
	a := r.post(order+"/finalize", csrPayload(make(x509.CertificateRequest{DNSNames: []string{"b.example.org", "a.example.org"}, Subject: pkix.Name{CommonName: "A.example.org"}}, key)))
	if a.status != http.StatusOK || a.member(t, "status") != "valid" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	expect(t, r.post(order+"/finalize", csrPayload(csrFor(t, key, both...))), 403, "orderNotReady")
}

// TestOneCertificateForAnOrder finishes one order many times at once.
func TestOneCertificateForAnOrder(t *testing.T) {
	s := newSite(t, nil)
	r := s.rawClient(".example.org")
	order, key := r.ready("a.example.org"), newKey(t)
	payload := []byte(csrPayload(csrFor(t, key, "a.example.org")))
	var bodies [8][]byte
	for i := range bodies {
		bodies[i] = jws(t, r.key, r.header(order+"/finalize"), payload)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for _, b := range bodies {
		wait.Go(func() {
			a := s.send(order+"/finalize", b)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case a.status == http.StatusOK:
				good++
			case a.kind() != "orderNotReady" && a.status != http.StatusServiceUnavailable: // found out before or after looking
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wait.Wait()
	if good != 1 || s.ca.signed != 1 {
		t.Errorf("%d requests were answered with a certificate, %d were signed", good, s.ca.signed)
	}
}

// TestAuthorityRefuses has the authority fail, refuse, and sign something else.
func TestAuthorityRefuses(t *testing.T) {
	s := newSite(t, nil)
	r := s.rawClient(".example.org")
	for _, tc := range []struct {
		set    func()
		status int
		kind   string
		tells  string
	}{
		{func() { s.ca.refuse = &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "too many names"} }, 400, "badCSR", "too many names"},
		{func() { s.ca.refuse = context.DeadlineExceeded }, 500, "serverInternal", "log"},
		{func() { s.ca.refuse = &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "secret place"} }, 503, "serverInternal", "later"},
		{func() { s.ca.refuse, s.ca.other = nil, true }, 500, "serverInternal", "log"},
	} {
		order := r.ready("a.example.org")
		tc.set()
		a := r.post(order+"/finalize", csrPayload(csrFor(t, newKey(t), "a.example.org")))
		expect(t, a, tc.status, tc.kind)
		if !strings.Contains(a.member(t, "detail"), tc.tells) || strings.Contains(string(a.body), "secret") {
			t.Errorf("%s", a.body)
		}
		now := r.post(order, "")
		if now.member(t, "status") != "invalid" || !strings.Contains(string(now.body), tc.kind) {
			t.Errorf("%s", now.body)
		}
		expect(t, r.post(strings.Replace(order, "/order/", "/cert/", 1), ""), 404, "malformed")
	}
	// What an account may have is looked at again at the end.
	s.ca.other = false
	order := r.ready("a.example.org")
	for _, b := range s.bindings.list {
		b.Names = nil
		s.bindings.put(b)
	}
	expect(t, r.post(order+"/finalize", csrPayload(csrFor(t, newKey(t), "a.example.org"))), 403, "rejectedIdentifier")
}

// TestRevocation revokes for those who may (RFC 8555 section 7.6) and nobody else.
func TestRevocation(t *testing.T) {
	s := newSite(t, nil)
	mine, other, third := s.rawClient(".example.org"), s.rawClient(".example.org"), s.rawClient(".example.org")
	at := s.base + "/acme/revoke-cert"
	leaf, _ := mine.issued("a.example.org", "b.example.org")
	ask := func(c *x509.Certificate, more string) string {
		return `{"certificate":"` + b64(c.Raw) + `"` + more + `}`
	}
	for _, reason := range []string{"2", "6", "7", "8", "10", "-1", "99"} {
		expect(t, mine.post(at, ask(leaf, `,"reason":`+reason)), 400, "badRevocationReason")
	}
	expect(t, mine.post(at, `{"certificate":"AA"}`), 400, "malformed")
	expect(t, mine.post(at, `{}`), 400, "malformed")
	expect(t, mine.post(at, ask(s.ca.cert, "")), 404, "malformed")
	other.ready("a.example.org")
	expect(t, other.post(at, ask(leaf, "")), 403, "unauthorized") // it may have one of the two names
	stranger := &raw{s: s, key: newKey(t)}
	expect(t, stranger.post(at, ask(leaf, "")), 403, "unauthorized")
	// The same serial number in another certificate is another certificate.
	forged, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: leaf.SerialNumber, NotAfter: time.Now().Add(time.Hour)}, s.ca.cert, stranger.key.Public(), s.ca.key)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, stranger.post(at, `{"certificate":"`+b64(forged)+`"}`), 404, "malformed")
	if len(s.ca.revoked) != 0 {
		t.Fatal("something was revoked")
	}

	third.ready("a.example.org")
	third.ready("b.example.org")
	if a := third.post(at, ask(leaf, `,"reason":4`)); a.status != http.StatusOK || s.ca.revoked[leaf.SerialNumber.String()] != 4 {
		t.Errorf("by who may have all names: %d %s", a.status, a.body)
	}
	expect(t, mine.post(at, ask(leaf, "")), 400, "alreadyRevoked")
	leaf, key := mine.issued("a.example.org")
	if a := (&raw{s: s, key: key}).post(at, ask(leaf, `,"reason":1`)); a.status != http.StatusOK || s.ca.revoked[leaf.SerialNumber.String()] != 1 {
		t.Errorf("by its own key: %d %s", a.status, a.body)
	}
	leaf, _ = mine.issued("a.example.org")
	if a := mine.post(at, ask(leaf, "")); a.status != http.StatusOK || len(s.ca.revoked) != 3 {
		t.Errorf("by its account: %d %s", a.status, a.body)
	}
}

// TestRenewalInformation asks when to renew (RFC 9773), and renews.
func TestRenewalInformation(t *testing.T) {
	s := newSite(t, nil)
	r, other := s.rawClient(".example.org"), s.rawClient(".example.org")
	leaf, _ := r.issued("a.example.org")
	// By hand: the key id of the issuer is 01020304, the serial number as in DER.
	serial := leaf.SerialNumber.Bytes()
	if serial[0] >= 0x80 {
		serial = append([]byte{0}, serial...)
	}
	id := "AQIDBA." + b64(serial)
	window := func() (start, end time.Time) {
		t.Helper()
		resp, err := s.client.Get(s.base + "/acme/renewal-info/" + id)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out struct {
			SuggestedWindow struct{ Start, End time.Time } `json:"suggestedWindow"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != 200 || resp.Header.Get("Retry-After") != "21600" {
			t.Fatalf("%d %v %v", resp.StatusCode, resp.Header, err)
		}
		return out.SuggestedWindow.Start, out.SuggestedWindow.End
	}
	start, end := window()
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if start.Before(leaf.NotBefore.Add(life*66/100)) || end.After(leaf.NotBefore.Add(life*3/4)) || !end.After(start) {
		t.Errorf("%v to %v of %v to %v", start, end, leaf.NotBefore, leaf.NotAfter)
	}
	if err := s.ca.Revoke(t.Context(), leaf, 4); err != nil {
		t.Fatal(err)
	}
	if _, end := window(); !end.Before(time.Now()) {
		t.Errorf("a revoked certificate can wait until %v", end)
	}
	ask := `{"identifiers":[{"type":"dns","value":"a.example.org"}],"replaces":"` + id + `"}`
	expect(t, other.post(s.base+"/acme/new-order", ask), 403, "unauthorized")
	expect(t, r.post(s.base+"/acme/new-order", strings.Replace(ask, "a.example", "b.example", 1)), 400, "malformed")
	a := r.post(s.base+"/acme/new-order", ask)
	if a.status != http.StatusCreated || a.member(t, "replaces") != id {
		t.Fatalf("%d %s", a.status, a.body)
	}
	expect(t, r.post(s.base+"/acme/new-order", ask), 409, "alreadyReplaced")
	// The order that failed stands in nobody's way.
	s.clock.forward(25 * time.Hour)
	if got := r.post(a.header.Get("Location"), "").member(t, "status"); got != "invalid" {
		t.Fatalf("the order is %s after a day", got)
	}
	if a := r.post(s.base+"/acme/new-order", ask); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestListOfOrders reads orders page by page.
func TestListOfOrders(t *testing.T) {
	s := newSite(t, func(c *acme.Config) { c.OrdersPerHour = 1000 })
	r := s.rawClient(".example.org")
	want := map[string]bool{}
	for range 205 {
		a := r.post(s.base+"/acme/new-order", `{"identifiers":[{"type":"dns","value":"a.example.org"}]}`)
		want[a.header.Get("Location")] = true
	}
	url, pages := r.kid+"/orders", 0
	for ; url != "" && pages < 10; pages++ {
		a := r.post(url, "")
		var out struct{ Orders []string }
		if err := json.Unmarshal(a.body, &out); err != nil {
			t.Fatal(err)
		}
		for _, o := range out.Orders {
			if !want[o] {
				t.Fatalf("%s is listed twice, or is not ours", o)
			}
			delete(want, o)
		}
		url = ""
		for _, l := range a.header.Values("Link") {
			if rest, ok := strings.CutSuffix(l, `>;rel="next"`); ok {
				url = strings.TrimPrefix(rest, "<")
			}
		}
	}
	if len(want) != 0 || pages != 3 {
		t.Errorf("%d orders are missing in %d pages", len(want), pages)
	}
	expect(t, r.post(r.kid+"/orders?after=x", ""), 400, "malformed")
}

// TestKeyChange changes keys in wrong ways (RFC 8555 section 7.3.5).
func TestKeyChange(t *testing.T) {
	s := newSite(t, nil)
	r, other := s.rawClient("a.example.org"), s.rawClient("a.example.org")
	url, fresh := s.base+"/acme/key-change", newKey(t)
	inner := func(key crypto.Signer, change func(h, p map[string]any)) string {
		h := map[string]any{"alg": "ES256", "url": url, "jwk": jwk(t, key)}
		p := map[string]any{"account": r.kid, "oldKey": jwk(t, r.key)}
		if change != nil {
			change(h, p)
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return string(jws(t, key, h, b))
	}
	for name, payload := range map[string]string{
		"signed by another": func() string {
			return inner(fresh, func(h, _ map[string]any) { h["jwk"] = jwk(t, newKey(t)) })
		}(),
		"another url":     inner(fresh, func(h, _ map[string]any) { h["url"] = s.base + "/acme/new-order" }),
		"a nonce":         inner(fresh, func(h, _ map[string]any) { h["nonce"] = s.nonce() }),
		"kid":             inner(fresh, func(h, _ map[string]any) { delete(h, "jwk"); h["kid"] = r.kid }),
		"another account": inner(fresh, func(_, p map[string]any) { p["account"] = other.kid }),
		"another old key": inner(fresh, func(_, p map[string]any) { p["oldKey"] = jwk(t, newKey(t)) }),
		"not signed":      `{"account":"x"}`,
	} {
		t.Run(name, func(t *testing.T) { expect(t, r.post(url, payload), 400, "malformed") })
	}
	expect(t, r.post(url, inner(fresh, func(_, p map[string]any) { delete(p, "oldKey") })), 400, "badPublicKey")
	a := r.post(url, inner(other.key, nil))
	expect(t, a, 409, "malformed")
	if a.header.Get("Location") != other.kid {
		t.Errorf("the account in the way is not told: %v", a.header)
	}
	if a := r.post(url, inner(fresh, nil)); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	expect(t, r.post(r.kid, ""), 400, "malformed") // the old key is nobody's
	r.key = fresh
	if a := r.post(r.kid, ""); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestMemoryForgets removes what is over and keeps what a certificate needs.
func TestMemoryForgets(t *testing.T) {
	s := newSite(t, nil)
	r := s.rawClient(".example.org")
	over := r.post(s.base+"/acme/new-order", `{"identifiers":[{"type":"dns","value":"a.example.org"}]}`).header.Get("Location")
	r.issued("b.example.org")
	list := func() []string {
		ids, err := s.state.Orders(t.Context(), r.kid[strings.LastIndexByte(r.kid, '/')+1:], "", 10)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	s.clock.forward(7 * 24 * time.Hour)
	if err := s.server.Sweep(t.Context()); err != nil || len(list()) != 2 {
		t.Fatalf("too early: %v %v", list(), err)
	}
	s.clock.forward(23 * time.Hour) // the certificate lives for 12 hours, the order for 24
	if err := s.server.Sweep(t.Context()); err != nil || len(list()) != 2 {
		t.Fatalf("too early: %v %v", list(), err)
	}
	s.clock.forward(2 * time.Hour)
	if err := s.server.Sweep(t.Context()); err != nil || len(list()) != 0 {
		t.Fatalf("too late: %v %v", list(), err)
	}
	if slices.Contains(list(), over) {
		t.Error("the order is still there")
	}
}
