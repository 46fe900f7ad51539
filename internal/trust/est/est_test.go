package est_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/est"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// office is an authority and a list of one-time codes.
type office struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu     sync.Mutex
	codes  map[string]string // user -> code; taken ones are "-" + code
	signed int
	fail   error
	wait   time.Duration
	other  bool
	audit  []string
}

func newOffice(t testing.TB) *office {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &office{key: key, cert: c, codes: map[string]string{"phone1": "1234-5678", "phone2": "2345"}}
}

func (o *office) Anchors(context.Context) ([][]byte, error) { return [][]byte{o.cert.Raw}, nil }

func (o *office) sign(name string, csr *x509.CertificateRequest) ([]byte, time.Duration, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil || o.wait > 0 {
		return nil, o.wait, o.fail
	}
	o.signed++
	var pub crypto.PublicKey = csr.PublicKey
	if o.other {
		pub = o.key.Public()
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(int64(o.signed + 10)), Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{{Scheme: "urn", Opaque: "device:" + name}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, c, o.cert, pub, o.key)
	return der, 0, err
}

func (o *office) Enrol(_ context.Context, c est.Client, csr *x509.CertificateRequest) ([]byte, time.Duration, error) {
	return o.sign(c.Name, csr)
}

func (o *office) Renew(_ context.Context, c est.Client, csr *x509.CertificateRequest) ([]byte, time.Duration, error) {
	return o.sign(c.Certificate.Subject.CommonName, csr)
}

func (o *office) Certificate(_ context.Context, chain []*x509.Certificate) (est.Client, error) {
	roots := x509.NewCertPool()
	roots.AddCert(o.cert)
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return est.Client{}, &ringfence.Fault{Kind: ringfence.KindDenied, Text: "it is from an authority that nobody trusts"}
	}
	return est.Client{Name: chain[0].Subject.CommonName}, nil
}

func (o *office) Code(_ context.Context, _, user, code string) (est.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.codes[user] != code {
		return est.Client{}, &ringfence.Fault{Kind: ringfence.KindUnauthenticated, Text: "the code is wrong"}
	}
	o.codes[user] = "-" + code
	return est.Client{Name: user, Settle: func(_ context.Context, issued bool) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !issued {
			o.codes[user] = code
		}
		return nil
	}}, nil
}

func (o *office) note(_ context.Context, what, target, outcome string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.audit = append(o.audit, what+" "+target+" "+outcome)
	return nil
}

// clinic is a server on loopback.
type clinic struct {
	*office
	t    testing.TB
	addr string
	base string
}

func newClinic(t testing.TB, change func(*est.Config)) *clinic {
	t.Helper()
	o := newOffice(t)
	c := &clinic{office: o, t: t}
	cfg := est.Config{Authenticator: o, Issuer: o, Audit: o.note, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), PerMinute: 10000}
	if change != nil {
		change(&cfg)
	}
	s, err := est.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s.Handler())
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, o.cert, key.Public(), o.key)
	if err != nil {
		t.Fatal(err)
	}
	web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequestClientCert}
	web.StartTLS()
	t.Cleanup(web.Close)
	c.addr = web.Listener.Addr().String()
	c.base = "https://" + c.addr + "/.well-known/est/"
	return c
}

// request is one to make and the value of the connection, which may go into the certificate request.
type request struct {
	method, path, kind string
	user, code         string
	cert               *tls.Certificate
	version            uint16
	body               func(link string) []byte
}

type answer struct {
	*http.Response
	body []byte
}

// der is what base64 there is in the body.
func (a answer) der(t testing.TB) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(a.body), "\n", ""))
	if err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", a.StatusCode, a.body, err)
	}
	return b
}

// do opens a connection, so that the certificate request can be made for it.
func (c *clinic) do(q request) answer {
	t := c.t
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(c.cert)
	cfg := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12, MaxVersion: q.version}
	if q.cert != nil {
		cfg.Certificates = []tls.Certificate{*q.cert}
	}
	conn, err := tls.Dial("tcp", c.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	st := conn.ConnectionState()
	link := st.TLSUnique
	if st.Version == tls.VersionTLS13 {
		if link, err = st.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err != nil {
			t.Fatal(err)
		}
	}
	var body []byte
	if q.body != nil {
		body = q.body(base64.StdEncoding.EncodeToString(link))
	}
	if q.kind == "" {
		q.kind = "application/pkcs10"
	}
	r, err := http.NewRequestWithContext(t.Context(), q.method, c.base+q.path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", q.kind)
	if q.user != "" {
		r.SetBasicAuth(q.user, q.code)
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, text}
}

// csr makes a certificate request in base64, by hand where x509 has no way: the password is an attribute.
func csr(t testing.TB, key crypto.Signer, tmpl x509.CertificateRequest, password string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		der = withAttribute(t, der, key, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(password)})
	}
	return []byte(base64.StdEncoding.EncodeToString(der))
}

// withAttribute adds an attribute to a certificate request and signs it again.
func withAttribute(t testing.TB, der []byte, key crypto.Signer, id asn1.ObjectIdentifier, values ...asn1.RawValue) []byte {
	t.Helper()
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	var whole struct {
		Info struct {
			Version    int
			Subject    asn1.RawValue
			PublicKey  asn1.RawValue
			Attributes []asn1.RawValue `asn1:"tag:0,set"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &whole); err != nil {
		t.Fatal(err)
	}
	a, err := asn1.Marshal(attribute{id, values})
	if err != nil {
		t.Fatal(err)
	}
	whole.Info.Attributes = append(whole.Info.Attributes, asn1.RawValue{FullBytes: a})
	info, err := asn1.Marshal(whole.Info)
	if err != nil {
		t.Fatal(err)
	}
	h := crypto.SHA256.New()
	h.Write(info)
	sig, err := key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	whole.Signature = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	if der, err = asn1.Marshal(whole); err != nil {
		t.Fatal(err)
	}
	return der
}

func named(name string) x509.CertificateRequest {
	return x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
}

// only returns the one certificate of an answer, as OpenSSL reads it.
func only(t *testing.T, a answer) *x509.Certificate {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/openssl", "openssl"), "pkcs7", "-inform", "DER", "-print_certs")
	cmd.Stdin = bytes.NewReader(a.der(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(out)
	if block == nil || bytes.Contains(rest, []byte("BEGIN")) {
		t.Fatalf("not one certificate: %s", out)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEnrolment goes the whole way: anchors, a code, a certificate, its renewal.
func TestEnrolment(t *testing.T) {
	c := newClinic(t, nil)
	if got := only(t, c.do(request{method: "GET", path: "cacerts"})); !got.Equal(c.cert) {
		t.Error("the anchor is another certificate")
	}
	key := newKey(t)
	a := c.do(request{method: "POST", path: "simpleenroll", user: "phone1", code: "1234-5678", body: func(string) []byte { return csr(t, key, named("whatever"), "") }})
	cert := only(t, a)
	if kind := a.Header.Get("Content-Type"); kind != "application/pkcs7-mime; smime-type=certs-only" {
		t.Errorf("content type %s", kind)
	}
	if cert.Subject.CommonName != "phone1" || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("%s", cert.Subject)
	}
	again := c.do(request{method: "POST", path: "simpleenroll", user: "phone1", code: "1234-5678", body: func(string) []byte { return csr(t, newKey(t), named("x"), "") }})
	if again.StatusCode != http.StatusUnauthorized || c.signed != 1 {
		t.Errorf("a code was good twice: %d", again.StatusCode)
	}
	mine := &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	same := x509.CertificateRequest{Subject: pkix.Name{CommonName: "phone1"}, URIs: cert.URIs}
	next := newKey(t)
	renewed := only(t, c.do(request{method: "POST", path: "simplereenroll", cert: mine, body: func(string) []byte { return csr(t, next, same, "") }}))
	if renewed.Subject.CommonName != "phone1" || !next.PublicKey.Equal(renewed.PublicKey) {
		t.Errorf("%s", renewed.Subject)
	}
	// A certificate of ours enrols as well, and needs no code.
	if a := c.do(request{method: "POST", path: "simpleenroll", cert: mine, body: func(string) []byte { return csr(t, newKey(t), same, "") }}); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if got := strings.Join(c.audit, "\n"); got != "est.enrol phone1 done\nest.renew phone1 done\nest.enrol phone1 done" {
		t.Errorf("audit:\n%s", got)
	}
}

// TestRefusals sends what is wrong in one way each.
func TestRefusals(t *testing.T) {
	c := newClinic(t, nil)
	key := newKey(t)
	good := csr(t, key, named("phone1"), "")
	raw, err := base64.StdEncoding.DecodeString(string(good))
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(raw)
	forged[len(forged)-1] ^= 1
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	b64 := func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }
	password := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	text := asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("x")}
	stranger := newOffice(t)
	mic, _, err := stranger.sign("mic", &x509.CertificateRequest{PublicKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	unknown := &tls.Certificate{Certificate: [][]byte{mic}, PrivateKey: key}
	own, _, err := c.sign("phone1", &x509.CertificateRequest{PublicKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	mine := &tls.Certificate{Certificate: [][]byte{own}, PrivateKey: key}
	uri := []*url.URL{{Scheme: "urn", Opaque: "device:phone1"}}
	post := func(path string, body []byte) request {
		return request{method: "POST", path: path, user: "phone1", code: "1234-5678", body: func(string) []byte { return body }}
	}
	with := func(q request, change func(*request)) request { change(&q); return q }
	enrol := post("simpleenroll", good)
	renew := func(tmpl x509.CertificateRequest, by crypto.Signer) request {
		return with(post("simplereenroll", csr(t, by, tmpl, "")), func(q *request) { q.cert = mine })
	}
	before := c.signed
	for _, tc := range []struct {
		name   string
		q      request
		status int
		text   string
	}{
		{"wrong code", with(enrol, func(q *request) { q.code = "0" }), 401, "wrong"},
		{"no code", with(enrol, func(q *request) { q.code = "" }), 401, "empty"},
		{"long code", with(enrol, func(q *request) { q.code = strings.Repeat("x", 200) }), 401, "too long"},
		{"nobody", with(enrol, func(q *request) { q.user = "" }), 401, "one-time code"},
		{"a stranger's certificate", with(enrol, func(q *request) { q.user, q.cert = "", unknown }), 401, "nobody trusts"},
		{"another content type", with(enrol, func(q *request) { q.kind = "application/x-pem-file" }), 400, "pkcs10"},
		{"PEM", post("simpleenroll", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw})), 400, "-----"},
		{"DER", post("simpleenroll", raw), 400, "base64"},
		{"nothing", post("simpleenroll", nil), 400, "base64"},
		{"garbage", post("simpleenroll", b64([]byte("garbage"))), 400, "PKCS #10"},
		{"something behind", post("simpleenroll", b64(append(bytes.Clone(raw), 0))), 400, "PKCS #10"},
		{"too long", post("simpleenroll", bytes.Repeat([]byte("A"), 33<<10)), 400, "too long"},
		{"not signed by its key", post("simpleenroll", b64(forged)), 403, "own key"},
		{"a weak key", post("simpleenroll", csr(t, weak, named("phone1"), "")), 400, "not certified"},
		{"a password", post("simpleenroll", csr(t, key, named("phone1"), "secret")), 403, "another connection"},
		{"two passwords", post("simpleenroll", b64(withAttribute(t, raw, key, password, text, text))), 400, "attributes"},
		{"a password that is a number", post("simpleenroll", b64(withAttribute(t, raw, key, password, asn1.RawValue{Tag: asn1.TagInteger, Bytes: []byte{1}}))), 400, "attributes"},
		{"a change of subject", post("simpleenroll", b64(withAttribute(t, raw, key, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, 36}, text))), 501, "subject"},
		{"renewal without a certificate", post("simplereenroll", good), 403, "present certificate"},
		{"renewal by a stranger", with(post("simplereenroll", good), func(q *request) { q.cert = unknown }), 403, "nobody trusts"},
		{"renewal for another", renew(x509.CertificateRequest{Subject: pkix.Name{CommonName: "phone2"}, URIs: uri}, newKey(t)), 403, "another subject"},
		{"renewal without the names", renew(named("phone1"), newKey(t)), 403, "other names"},
		{"renewal with one name more", renew(x509.CertificateRequest{Subject: pkix.Name{CommonName: "phone1"}, URIs: uri, DNSNames: []string{"node"}}, newKey(t)), 403, "other names"},
		{"renewal of the same key", renew(x509.CertificateRequest{Subject: pkix.Name{CommonName: "phone1"}, URIs: uri}, key), 400, "same key"},
		{"a key made here", post("serverkeygen", good), 501, "never leave"},
		{"full CMC", post("fullcmc", good), 501, "not offered"},
		{"a label", post("phones/simpleenroll", good), 404, "label"},
		{"reading what is to be posted", with(enrol, func(q *request) { q.method = "GET" }), 405, "POST"},
		{"posting what is to be read", post("cacerts", good), 405, "GET"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := c.do(tc.q)
			if a.StatusCode != tc.status || !strings.Contains(string(a.body), tc.text) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("%d %s, want %d with %q", a.StatusCode, a.body, tc.status, tc.text)
			}
			if (a.Header.Get("WWW-Authenticate") != "") != (tc.status == 401) {
				t.Errorf("%v", a.Header)
			}
		})
	}
	if c.signed != before {
		t.Error("something was signed")
	}
	// None of it used the code up; a stranger's certificate beside it does no harm, nor does white space.
	var spaced bytes.Buffer
	for i, x := range good {
		spaced.WriteByte(x)
		if i%10 == 0 {
			spaced.WriteString("\r\n \t")
		}
	}
	if a := c.do(with(post("simpleenroll", spaced.Bytes()), func(q *request) { q.cert = unknown })); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestLinking ties requests to their connection (RFC 7030 section 3.5, RFC 9266).
func TestLinking(t *testing.T) {
	c := newClinic(t, func(c *est.Config) { c.Linked = true })
	key := newKey(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		name := tls.VersionName(version)
		q := request{method: "POST", path: "simpleenroll", user: "phone1", code: "1234-5678", version: version}
		q.body = func(string) []byte { return csr(t, key, named("x"), "") }
		if a := c.do(q); a.StatusCode != http.StatusForbidden || !strings.Contains(string(a.body), "not tied") {
			t.Errorf("%s, without: %d %s", name, a.StatusCode, a.body)
		}
		var other string
		q.body = func(link string) []byte { other = link; return csr(t, key, named("x"), link) }
		if a := c.do(q); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
		c.codes["phone1"] = "1234-5678"
		q.body = func(string) []byte { return csr(t, key, named("x"), other) }
		if a := c.do(q); a.StatusCode != http.StatusForbidden || !strings.Contains(string(a.body), "another connection") {
			t.Errorf("%s, of another connection: %d %s", name, a.StatusCode, a.body)
		}
	}
}

// TestApproval has somebody agree only later, and the authority fail.
func TestApproval(t *testing.T) {
	c := newClinic(t, nil)
	key := newKey(t)
	q := request{method: "POST", path: "simpleenroll", user: "phone1", code: "1234-5678", body: func(string) []byte { return csr(t, key, named("x"), "") }}
	c.wait = 90500 * time.Millisecond
	if a := c.do(q); a.StatusCode != http.StatusAccepted || a.Header.Get("Retry-After") != "91" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	c.wait, c.fail = 0, &ringfence.Fault{Kind: ringfence.KindInternal, Text: "secret place"}
	if a := c.do(q); a.StatusCode != http.StatusInternalServerError || strings.Contains(string(a.body), "secret") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	c.fail = &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the authority expired"}
	if a := c.do(q); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	c.fail, c.other = nil, true
	if a := c.do(q); a.StatusCode != http.StatusInternalServerError {
		t.Errorf("a certificate for another key was handed out: %d", a.StatusCode)
	}
	c.other = false
	// The code was good all the while.
	if a := c.do(q); a.StatusCode != http.StatusOK {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if got := strings.Join(c.audit, "\n"); !strings.Contains(got, "waits for approval") || !strings.Contains(got, "secret place") || len(c.audit) != 5 {
		t.Errorf("audit:\n%s", got)
	}
}

// TestOneCodeOneCertificate uses one code many times at once.
func TestOneCodeOneCertificate(t *testing.T) {
	c := newClinic(t, nil)
	var wait sync.WaitGroup
	for range 8 {
		key := newKey(t)
		body := csr(t, key, named("x"), "")
		wait.Go(func() {
			c.do(request{method: "POST", path: "simpleenroll", user: "phone1", code: "1234-5678", body: func(string) []byte { return body }})
		})
	}
	wait.Wait()
	if c.signed != 1 {
		t.Errorf("%d certificates for one code", c.signed)
	}
}

// TestLimitsAndTLS refuses too many requests, and any without TLS.
func TestLimitsAndTLS(t *testing.T) {
	c := newClinic(t, func(c *est.Config) { c.PerMinute = 1 })
	c.do(request{method: "GET", path: "cacerts"})
	if a := c.do(request{method: "GET", path: "cacerts"}); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	o := newOffice(t)
	cfg := est.Config{Authenticator: o, Issuer: o, Audit: o.note, Log: slog.New(slog.DiscardHandler)}
	s, err := est.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/est/cacerts", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("without TLS: %d", w.Code)
	}
	for _, change := range []func(*est.Config){func(c *est.Config) { c.Issuer = nil }, func(c *est.Config) { c.Audit = nil }, func(c *est.Config) { c.PerMinute = -1 }} {
		bad := cfg
		change(&bad)
		if _, err := est.New(bad); err == nil || ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%v", err)
		}
	}
}

// TestCurlAndOpenSSL enrols and renews with nothing but the two programs.
func TestCurlAndOpenSSL(t *testing.T) {
	curl, openssl := testkit.Need(t, "/usr/bin/curl", "curl"), testkit.Need(t, "/usr/bin/openssl", "openssl")
	c := newClinic(t, nil)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	get := func(to string, args ...string) {
		t.Helper()
		run(curl, append([]string{"--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--cacert", "root.pem", "-o", to + ".b64"}, args...)...)
		run(openssl, "base64", "-d", "-in", to+".b64", "-out", to+".p7")
		run(openssl, "pkcs7", "-inform", "DER", "-in", to+".p7", "-print_certs", "-out", to+".pem")
	}
	get("anchors", c.base+"cacerts")
	run(openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-subj", "/CN=phone1", "-outform", "DER", "-out", "req.der")
	run(openssl, "base64", "-e", "-in", "req.der", "-out", "req.b64")
	get("cert", "--user", "phone1:1234-5678", "-H", "Content-Type: application/pkcs10", "--data-binary", "@req.b64", c.base+"simpleenroll")
	run(openssl, "verify", "-CAfile", "anchors.pem", "-purpose", "sslclient", "cert.pem")
	run(openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key2.pem", "-subj", "/CN=phone1", "-addext", "subjectAltName=URI:urn:device:phone1",
		"-outform", "DER", "-out", "req2.der")
	run(openssl, "base64", "-e", "-in", "req2.der", "-out", "req2.b64")
	get("cert2", "--cert", "cert.pem", "--key", "key.pem", "-H", "Content-Type: application/pkcs10", "--data-binary", "@req2.b64", c.base+"simplereenroll")
	run(openssl, "verify", "-CAfile", "anchors.pem", "-purpose", "sslclient", "cert2.pem")
	a, b := run(openssl, "x509", "-in", "cert2.pem", "-noout", "-pubkey"), run(openssl, "pkey", "-in", "key2.pem", "-pubout")
	if a != b {
		t.Error("the renewed certificate is for another key")
	}
	run(curl, "--silent", "--show-error", "--fail-with-body", "--cacert", "root.pem", "-o", "attrs.b64", c.base+"csrattrs")
	run(openssl, "base64", "-d", "-in", "attrs.b64", "-out", "attrs.der")
	if out := run(openssl, "asn1parse", "-inform", "DER", "-in", "attrs.der"); !strings.Contains(out, "challengePassword") || !strings.Contains(out, "prime256v1") || !strings.Contains(out, "ecdsa-with-SHA256") {
		t.Errorf("%s", out)
	}
	// What OpenSSL writes as a challenge password is read as one, in whatever string type.
	conf := "[req]\ndistinguished_name=dn\nattributes=at\nprompt=no\n[dn]\nCN=phone2\n[at]\nchallengePassword=something\n"
	if err := os.WriteFile(filepath.Join(dir, "req.cnf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	run(openssl, "req", "-new", "-config", "req.cnf", "-key", "key.pem", "-outform", "DER", "-out", "req3.der")
	run(openssl, "base64", "-e", "-in", "req3.der", "-out", "req3.b64")
	out := run(curl, "--silent", "--cacert", "root.pem", "--user", "phone2:2345", "-w", "%{http_code}", "-H", "Content-Type: application/pkcs10", "--data-binary", "@req3.b64", c.base+"simpleenroll")
	if !strings.Contains(out, "another connection") || !strings.HasSuffix(out, "403") {
		t.Errorf("%s", out)
	}
}
