package publicname

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
)

const host = "pbx.example.org"

// vault is a Vault in memory.
type vault struct {
	mu   sync.Mutex
	held map[string]string
}

func (v *vault) Secret(_ context.Context, name string) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok := v.held[name]; ok {
		return []byte(s), nil
	}
	return nil, fault(ringfence.KindNotFound, "there is no "+name, "", nil)
}

func (v *vault) CreateSecret(_ context.Context, name string, secret []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.held[name]; ok {
		return fault(ringfence.KindConflict, name+" is there", "", nil)
	}
	if v.held == nil {
		v.held = map[string]string{}
	}
	v.held[name] = string(secret)
	return nil
}

func (v *vault) ReplaceSecret(_ context.Context, name string, old, secret []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.held[name] != string(old) {
		return fault(ringfence.KindConflict, name+" has changed", "", nil)
	}
	v.held[name] = string(secret)
	return nil
}

// ring is a Ring in memory.
type ring struct {
	mu   sync.Mutex
	held map[string]*tls.Certificate
}

func (r *ring) Certificate(alias string) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.held[alias]; c != nil {
		return c, nil
	}
	return nil, fault(ringfence.KindNotFound, "there is no "+alias, "", nil)
}

func (r *ring) Put(_ context.Context, alias string, chain, key []byte) error {
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[string]*tls.Certificate{}
	}
	r.held[alias] = &c
	return nil
}

// door is the port of challenges, in memory.
type door struct {
	mu     sync.Mutex
	open   *Responder
	opened int
	fail   error
}

func (d *door) Open(_ context.Context, r *Responder) (func(), error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return nil, d.fail
	}
	d.open, d.opened = r, d.opened+1
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open = nil
	}, nil
}

// ask looks at the port as an authority does.
func (d *door) ask(name, path string) (int, string) {
	d.mu.Lock()
	r := d.open
	d.mu.Unlock()
	if r == nil {
		return 0, ""
	}
	w := httptest.NewRecorder()
	q := httptest.NewRequest(http.MethodGet, "http://"+name+path, nil)
	r.ServeHTTP(w, q)
	return w.Code, w.Body.String()
}

// authority is an ACME server that believes every signature, and lies as it is told. It is reached without a network.
type authority struct {
	t    *testing.T
	door *door
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	life time.Duration

	mu       sync.Mutex
	names    []string // of the order
	shown    map[string]bool
	csr      []byte
	chain    []byte
	requests []string
	orders   int
	serial   int64

	// Lies. before may answer a request in the place of the authority.
	before func(w http.ResponseWriter, path string) bool
	dir    func(map[string]any)
	authz  func(map[string]any)
	order  func(map[string]any)
	leaf   func(t *x509.Certificate, pub *any)
	bundle func([]*x509.Certificate) []*x509.Certificate
}

const base = "https://acme.example.net"

func newAuthority(t *testing.T, d *door) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Public CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, door: d, key: key, cert: cert, life: 90 * 24 * time.Hour, serial: 100}
}

// RoundTrip implements http.RoundTripper.
func (a *authority) RoundTrip(q *http.Request) (*http.Response, error) {
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, q)
	res := w.Result()
	res.Request = q
	return res, nil
}

func (a *authority) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, q.Method+" "+q.URL.Path)
	if q.URL.Path != "/dir" {
		w.Header().Set("Replay-Nonce", fmt.Sprintf("nonce-%d", len(a.requests)))
	}
	if a.before != nil && a.before(w, q.URL.Path) {
		return
	}
	var payload []byte
	if q.Method == http.MethodPost {
		var jws struct{ Payload string }
		if err := json.NewDecoder(q.Body).Decode(&jws); err != nil {
			a.t.Error(err)
		}
		payload, _ = base64.RawURLEncoding.DecodeString(jws.Payload)
	}
	say := func(status int, v map[string]any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	order := func() map[string]any {
		var at []string
		for _, n := range a.names {
			at = append(at, base+"/authz/"+n)
		}
		v := map[string]any{"status": "pending", "authorizations": at, "finalize": base + "/finalize"}
		if len(a.shown) >= len(a.names) {
			v["status"] = "ready"
		}
		if a.chain != nil {
			v["status"], v["certificate"] = "valid", base+"/cert"
		}
		if a.order != nil {
			a.order(v)
		}
		return v
	}
	switch path := q.URL.Path; {
	case path == "/dir":
		v := map[string]any{"newNonce": base + "/nonce", "newAccount": base + "/account", "newOrder": base + "/order"}
		if a.dir != nil {
			a.dir(v)
		}
		say(200, v)
	case path == "/nonce":
	case path == "/account":
		w.Header().Set("Location", base+"/account/1")
		say(201, map[string]any{"status": "valid"})
	case path == "/order":
		var in struct {
			Identifiers []struct{ Type, Value string }
		}
		_ = json.Unmarshal(payload, &in)
		a.names, a.shown, a.chain = nil, map[string]bool{}, nil
		for _, id := range in.Identifiers {
			a.names = append(a.names, id.Value)
		}
		a.orders++
		w.Header().Set("Location", base+"/order/1")
		say(201, order())
	case path == "/order/1":
		w.Header().Set("Location", base+"/order/1")
		say(200, order())
	case strings.HasPrefix(path, "/authz/"):
		name := strings.TrimPrefix(path, "/authz/")
		v := map[string]any{"status": "pending", "identifier": map[string]any{"type": "dns", "value": name},
			"challenges": []map[string]any{{"type": HTTP01, "url": base + "/chall/" + name, "token": "token-of-" + strings.ReplaceAll(name, ".", "-"), "status": "pending"}}}
		if a.shown[name] {
			v["status"] = "valid"
		}
		if a.authz != nil {
			a.authz(v)
		}
		say(200, v)
	case strings.HasPrefix(path, "/chall/"):
		name := strings.TrimPrefix(path, "/chall/")
		token := "token-of-" + strings.ReplaceAll(name, ".", "-")
		if code, text := a.door.ask(name, wellKnown+token); code == 200 && strings.HasPrefix(text, token+".") {
			a.shown[name] = true
		}
		say(200, map[string]any{"type": HTTP01, "url": base + path, "token": token, "status": "processing"})
	case path == "/finalize":
		var in struct{ CSR string }
		_ = json.Unmarshal(payload, &in)
		a.csr, _ = base64.RawURLEncoding.DecodeString(in.CSR)
		a.sign()
		w.Header().Set("Location", base+"/order/1")
		say(200, order())
	case path == "/cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(a.chain)
	default:
		say(404, map[string]any{"type": "urn:ietf:params:acme:error:malformed", "detail": "no such thing"})
	}
}

func (a *authority) sign() {
	csr, err := x509.ParseCertificateRequest(a.csr)
	if err != nil {
		a.t.Error(err)
		return
	}
	a.serial++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(a.serial), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(a.life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	pub := csr.PublicKey
	if a.leaf != nil {
		a.leaf(tmpl, &pub)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		a.t.Error(err)
		return
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Error(err)
		return
	}
	chain := []*x509.Certificate{leaf, a.cert}
	if a.bundle != nil {
		chain = a.bundle(chain)
	}
	a.chain = []byte{}
	for _, c := range chain {
		a.chain = append(a.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
}

func (a *authority) placed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.orders
}

// problem answers a path with a problem, as often as it is asked.
func problem(at string, status int, kind, detail string, headers ...string) func(http.ResponseWriter, string) bool {
	return func(w http.ResponseWriter, path string) bool {
		if path != at {
			return false
		}
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail, "status": status})
		return true
	}
}

// site is a keeper with everything around it.
type site struct {
	*testing.T
	vault *vault
	ring  *ring
	door  *door
	ca    *authority
	c     Config
	audit []string
}

func newSite(t *testing.T, changes ...func(*Config)) *site {
	t.Helper()
	s := &site{T: t, vault: &vault{}, ring: &ring{}, door: &door{}}
	s.ca = newAuthority(t, s.door)
	s.c = Config{Names: []string{host}, Directory: base + "/dir", Contact: []string{"mailto:admin@example.org"}, Challenge: HTTP01, Alias: "public", Node: "node-1", Vault: s.vault, Ring: s.ring, Answers: s.door, Transport: s.ca,
		Audit: func(_ context.Context, what, target, outcome string) error {
			s.audit = append(s.audit, what+" "+target+" "+outcome)
			return nil
		}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, change := range changes {
		change(&s.c)
	}
	return s
}

// open opens a keeper as after a start.
func (s *site) open(changes ...func(*Config)) *Keeper {
	s.Helper()
	c := s.c
	for _, change := range changes {
		change(&c)
	}
	k, err := Open(s.Context(), c)
	if err != nil {
		s.Fatal(err)
	}
	return k
}

func (s *site) leaf() *x509.Certificate {
	c, err := s.ring.Certificate("public")
	if err != nil {
		return nil
	}
	return c.Leaf
}

func (s *site) record() record {
	s.Helper()
	var r record
	if err := json.Unmarshal([]byte(s.vault.held["publicname/v1/public"]), &r); err != nil {
		s.Fatal(err)
	}
	return r
}

func (s *site) requested(what string) bool {
	s.ca.mu.Lock()
	defer s.ca.mu.Unlock()
	return slices.Contains(s.ca.requests, what)
}
