package acme_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	xacme "golang.org/x/crypto/acme"

	"ringfence"
	"ringfence/internal/trust/acme"
)

// authority is a certificate authority for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu      sync.Mutex
	signed  int
	revoked map[string]int // serial -> reason
	refuse  error
	other   bool // sign for a name that nobody asked for
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1, 2, 3, 4}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key: key, cert: cert, revoked: map[string]int{}}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) Sign(_ context.Context, w acme.Wanted) ([][]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse != nil {
		return nil, a.refuse
	}
	a.signed++
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial.Add(serial, big.NewInt(1)), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(12 * time.Hour), DNSNames: w.DNSNames,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	for _, ip := range w.IPs {
		t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
	}
	if a.other {
		t.DNSNames = append(t.DNSNames, "other.example.org")
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, w.PublicKey, a.key)
	return [][]byte{der, a.cert.Raw}, err
}

func (a *authority) Revoke(_ context.Context, leaf *x509.Certificate, reason int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, twice := a.revoked[leaf.SerialNumber.String()]; twice {
		return &ringfence.Fault{Kind: ringfence.KindConflict, Text: "revoked already"}
	}
	a.revoked[leaf.SerialNumber.String()] = reason
	return nil
}

func (a *authority) Revoked(_ context.Context, leaf *x509.Certificate) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, yes := a.revoked[leaf.SerialNumber.String()]
	return yes, nil
}

// bindings are external account bindings in memory.
type bindings struct {
	mu   sync.Mutex
	list map[string]acme.Binding
}

func (b *bindings) Binding(_ context.Context, id string) (acme.Binding, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, ok := b.list[id]
	if !ok {
		return x, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no such binding"}
	}
	return x, nil
}

func (b *bindings) put(x acme.Binding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list[x.ID] = x
}

// zone is a DNS for tests: every name of it is at one address.
type zone struct {
	mu   sync.Mutex
	addr map[string][]netip.Addr
	txt  map[string][]string
	// fromFile, if not empty, is a file with a name and the TXT record of its _acme-challenge.
	fromFile string
}

func (z *zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if a := z.addr[strings.TrimSuffix(host, ".")]; len(a) > 0 {
		return a, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true, Server: "192.0.2.53:53"}
}

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if b, err := os.ReadFile(z.fromFile); err == nil {
		if at, text, _ := strings.Cut(string(b), " "); "_acme-challenge."+at+"." == name {
			return []string{text}, nil
		}
	}
	if l := z.txt[strings.TrimSuffix(name, ".")]; len(l) > 0 {
		return l, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true, Server: "192.0.2.53:53"}
}

// here says that a name is at this host.
func (z *zone) here(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addr[name] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
}

func (z *zone) read(file string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fromFile = file
}

func (z *zone) setTXT(name string, list ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.txt[name] = list
}

// site is an ACME server on loopback with everything around it.
type site struct {
	t        *testing.T
	base     string
	server   *acme.Server
	state    acme.State
	ca       *authority
	bindings *bindings
	zone     *zone
	client   *http.Client
	log      *bytes.Buffer
	logMu    sync.Mutex
	audit    []string
	dialled  []netip.AddrPort
	clock    *clock
}

type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// Write takes the server's log.
func (s *site) Write(b []byte) (int, error) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return s.log.Write(b)
}

func (s *site) dials() []netip.AddrPort {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	return append([]netip.AddrPort(nil), s.dialled...)
}

func newSite(t *testing.T, change func(*acme.Config)) *site {
	t.Helper()
	s := &site{t: t, ca: newAuthority(t), bindings: &bindings{list: map[string]acme.Binding{}}, log: &bytes.Buffer{}, clock: &clock{}, state: acme.NewMemory(),
		zone: &zone{addr: map[string][]netip.Addr{}, txt: map[string][]string{}}}
	web := httptest.NewUnstartedServer(nil)
	s.base = "https://" + web.Listener.Addr().String()
	var d net.Dialer
	c := acme.Config{Base: s.base, State: s.state, Bindings: s.bindings, Issuer: s.ca, Resolver: s.zone, Log: slog.New(slog.NewTextHandler(s, nil)), Now: s.clock.now,
		Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			s.logMu.Lock()
			s.dialled = append(s.dialled, a)
			s.logMu.Unlock()
			return d.DialContext(ctx, "tcp", a.String())
		},
		Reach: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") },
		Audit: func(_ context.Context, what, target, outcome string) error {
			s.logMu.Lock()
			defer s.logMu.Unlock()
			s.audit = append(s.audit, what+" "+target+" "+outcome)
			return nil
		},
		Tries: 1, Pause: time.Millisecond, LookTime: 5 * time.Second, PerMinute: 1e6, HTTPPort: 1, TLSPort: 1}
	if change != nil {
		change(&c)
	}
	s.state = c.State
	server, err := acme.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		Subject: pkix.Name{CommonName: "node"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, s.ca.cert, key.Public(), s.ca.key)
	if err != nil {
		t.Fatal(err)
	}
	web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	web.Config.Handler = server.Handler()
	web.StartTLS()
	t.Cleanup(func() { web.Close(); server.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.cert)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 20 * time.Second}
	return s
}

// bind makes a binding for names.
func (s *site) bind(names ...string) acme.Binding {
	b := acme.NewBinding(names, time.Time{})
	s.bindings.put(b)
	return b
}

// xclient is a client of x/crypto/acme with an account.
func (s *site) xclient(names ...string) *xacme.Client {
	s.t.Helper()
	b := s.bind(names...)
	c := &xacme.Client{Key: newKey(s.t), DirectoryURL: s.base + "/acme/directory", HTTPClient: s.client}
	if _, err := c.Register(s.t.Context(), &xacme.Account{Contact: []string{"mailto:admin@example.org"}, ExternalAccountBinding: &xacme.ExternalAccountBinding{KID: b.ID, Key: b.Key}}, xacme.AcceptTOS); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func csrFor(t testing.TB, key crypto.Signer, names ...string) []byte {
	t.Helper()
	r := &x509.CertificateRequest{}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			r.IPAddresses = append(r.IPAddresses, ip)
		} else {
			r.DNSNames = append(r.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// kind is the type of a problem document without its prefix.
func (a answer) kind() string {
	var p struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(a.body, &p)
	return strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
}

func (a answer) member(t testing.TB, name string) string {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	v, _ := m[name].(string)
	return v
}

// raw is a client that can do everything wrong.
type raw struct {
	s   *site
	key crypto.Signer
	kid string
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (s *site) nonce() string {
	s.t.Helper()
	resp, err := s.client.Head(s.base + "/acme/new-nonce")
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Header.Get("Replay-Nonce")
}

// jws signs a payload with a header of one's own choice.
func jws(t testing.TB, key crypto.Signer, header map[string]any, payload []byte) []byte {
	t.Helper()
	head, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	signed := b64(head) + "." + b64(payload)
	h := crypto.SHA256.New()
	h.Write([]byte(signed))
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("the raw client signs with ECDSA only")
	}
	r, v, err := ecdsa.Sign(rand.Reader, k, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	out, err := json.Marshal(map[string]string{"protected": b64(head), "payload": b64(payload), "signature": b64(sig)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func jwk(t testing.TB, key crypto.Signer) json.RawMessage {
	t.Helper()
	b, err := jose.JSONWebKey{Key: key.Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// header is a right one for a URL.
func (r *raw) header(url string) map[string]any {
	h := map[string]any{"alg": "ES256", "nonce": r.s.nonce(), "url": url}
	if r.kid != "" {
		h["kid"] = r.kid
	} else {
		h["jwk"] = jwk(r.s.t, r.key)
	}
	return h
}

// post sends a right request; payload is JSON, or empty to read.
func (r *raw) post(url, payload string) answer {
	r.s.t.Helper()
	return r.s.send(url, jws(r.s.t, r.key, r.header(url), []byte(payload)))
}

func (s *site) send(url string, body []byte) answer {
	s.t.Helper()
	resp, err := s.client.Post(url, "application/jose+json", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// eab makes an external account binding for a key.
func (s *site) eab(b acme.Binding, key crypto.Signer, url string) json.RawMessage {
	s.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: b.Key}, &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"kid": b.ID, "url": url}})
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := signer.Sign(jwk(s.t, key))
	if err != nil {
		s.t.Fatal(err)
	}
	return json.RawMessage(m.FullSerialize())
}

// rawClient makes an account with a binding for names.
func (s *site) rawClient(names ...string) *raw {
	s.t.Helper()
	r := &raw{s: s, key: newKey(s.t)}
	url := s.base + "/acme/new-account"
	a := r.post(url, `{"externalAccountBinding":`+string(s.eab(s.bind(names...), r.key, url))+`}`)
	if a.status != http.StatusCreated {
		s.t.Fatalf("no account: %d %s", a.status, a.body)
	}
	r.kid = a.header.Get("Location")
	return r
}
