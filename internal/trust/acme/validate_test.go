package acme_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	xacme "golang.org/x/crypto/acme"

	"ringfence/internal/trust/acme"
)

// tried is what became of a challenge: "valid", or the type and text of the problem.
func (r *raw) tried(t *testing.T, name, kind string, prepare func(token, keyAuth string)) string {
	t.Helper()
	idType := "dns"
	if _, err := netip.ParseAddr(name); err == nil {
		idType = "ip"
	}
	a := r.post(r.s.base+"/acme/new-order", `{"identifiers":[{"type":"`+idType+`","value":"`+name+`"}]}`)
	var o struct{ Authorizations []string }
	if err := json.Unmarshal(a.body, &o); err != nil || a.status != http.StatusCreated {
		t.Fatalf("%s %v", a.body, err)
	}
	at := strings.Replace(o.Authorizations[0], "/authz/", "/challenge/", 1) + "/" + kind
	token := r.post(at, "").member(t, "token")
	prepare(token, token+"."+thumb(t, r.key))
	if a := r.post(at, `{}`); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return r.outcome(t, at)
}

func thumb(t *testing.T, key crypto.Signer) string {
	t.Helper()
	text, err := xacme.JWKThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// outcome waits until a challenge is decided.
func (r *raw) outcome(t *testing.T, at string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		var c struct {
			Status acme.Status
			Error  struct{ Type, Detail string }
		}
		a := r.post(at, "")
		if err := json.Unmarshal(a.body, &c); err != nil {
			t.Fatalf("%s %v", a.body, err)
		}
		switch c.Status {
		case acme.StatusValid:
			return "valid"
		case acme.StatusInvalid:
			return strings.TrimPrefix(c.Error.Type, "urn:ietf:params:acme:error:") + ": " + c.Error.Detail
		}
		if a.header.Get("Retry-After") == "" {
			t.Errorf("when to ask again is not told: %v", a.header)
		}
		<-tick.C
	}
	t.Fatal("the challenge is never decided")
	return ""
}

// TestChallengesByHTTP has hosts answer in every way that is wrong, and leads the server astray.
func TestChallengesByHTTP(t *testing.T) {
	var mu sync.Mutex
	var answer http.HandlerFunc
	var elsewhere bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Host != "pbx.example.org" && r.Host != "127.0.0.1" {
			elsewhere = true
		}
		answer(w, r)
	}))
	t.Cleanup(web.Close)
	sealed := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(sealed.Close)
	port := netip.MustParseAddrPort(web.Listener.Addr().String()).Port()
	s := newSite(t, func(c *acme.Config) {
		c.HTTPPort, c.TLSPort, c.TriesPerHour = port, netip.MustParseAddrPort(sealed.Listener.Addr().String()).Port(), 100
		c.LookTime = time.Second
	})
	s.zone.here("pbx.example.org")
	s.zone.addr["v6.example.org"] = []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("169.254.169.254")}
	r := s.rawClient(".example.org", "127.0.0.0/8")
	redirect := func(to func(r *http.Request) string) func(string) http.HandlerFunc {
		return func(auth string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/moved") || r.TLS != nil {
					_, _ = w.Write([]byte(auth))
					return
				}
				w.Header().Set("Location", to(r))
				w.WriteHeader(http.StatusFound)
			}
		}
	}
	to := func(s string) func(*http.Request) string { return func(*http.Request) string { return s } }
	write := func(change func(auth string) string) func(string) http.HandlerFunc {
		return func(auth string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(change(auth))) }
		}
	}
	stop := make(chan struct{})
	for _, tc := range []struct {
		name, host string
		answer     func(auth string) http.HandlerFunc
		want       string
	}{
		{"right", "pbx.example.org", write(func(a string) string { return a }), "valid"},
		{"right, with an end of line", "pbx.example.org", write(func(a string) string { return a + "\r\n" }), "valid"},
		{"right, of an address", "127.0.0.1", write(func(a string) string { return a }), "valid"},
		{"something in front", "pbx.example.org", write(func(a string) string { return " " + a }), "incorrectResponse"},
		{"only the token", "pbx.example.org", write(func(a string) string { return a[:22] }), "incorrectResponse"},
		{"nothing", "pbx.example.org", write(func(string) string { return "" }), "incorrectResponse"},
		{"too much", "pbx.example.org", write(func(a string) string { return a + strings.Repeat(" ", 2048) }), "incorrectResponse"},
		{"not found", "pbx.example.org", func(string) http.HandlerFunc { return http.NotFound }, "unauthorized"},
		{"moved on the host", "pbx.example.org", redirect(to("/moved")), "valid"},
		{"moved to TLS", "pbx.example.org", redirect(to("https://PBX.example.org/x")), "valid"},
		{"moved to another host", "pbx.example.org", redirect(to("http://169.254.169.254/latest/meta-data")), "connection: a redirect leads to another host"},
		{"moved to this host", "pbx.example.org", redirect(to("http://localhost/")), "connection: a redirect leads to another host"},
		{"moved to another port", "pbx.example.org", redirect(to("http://pbx.example.org:22/")), "connection: a redirect leads to another port"},
		{"moved with a user", "pbx.example.org", redirect(to("http://a:b@pbx.example.org/")), "connection: a redirect leads nowhere"},
		{"moved to a file", "pbx.example.org", redirect(to("file:///etc/passwd")), "connection: a redirect leads to something else"},
		{"moved for ever", "pbx.example.org", redirect(to("/again")), "connection: more than 3 redirects"},
		{"moved nowhere", "pbx.example.org", redirect(to("")), "connection: a redirect leads nowhere"},
		{"a header without end", "pbx.example.org", func(string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) }
		}, "connection"},
		{"silence", "pbx.example.org", func(string) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
				case <-stop:
				}
			}
		}, "connection: fetching"},
		{"no such name", "none.example.org", nil, "dns"},
		{"only where the server does not go", "v6.example.org", nil, "connection: the name has no address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := r.tried(t, tc.host, "http-01", func(_, auth string) {
				mu.Lock()
				defer mu.Unlock()
				if tc.answer != nil {
					answer = tc.answer(auth)
				}
			})
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if strings.Contains(got, "127.0.0.1:") || strings.Contains(got, "192.0.2.53") || strings.Contains(got, "passwd") {
				t.Errorf("the problem tells of our network, or repeats what was read: %s", got)
			}
		})
	}
	close(stop)
	if elsewhere {
		t.Error("the server asked for another host")
	}
	for _, a := range s.dials() {
		if a.Addr() != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("the server went to %s", a)
		}
	}
}

// TestChallengesByTLS has a host show certificates of every wrong kind (RFC 8737).
func TestChallengesByTLS(t *testing.T) {
	var mu sync.Mutex
	var cert *tls.Certificate
	var protos []string
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			cfg := &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: protos}
			mu.Unlock()
			wait.Go(func() { _ = tls.Server(c, cfg).HandshakeContext(context.Background()); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wait.Wait() })
	s := newSite(t, func(c *acme.Config) {
		c.TLSPort, c.TriesPerHour = netip.MustParseAddrPort(l.Addr().String()).Port(), 100
	})
	s.zone.here("pbx.example.org")
	r := s.rawClient(".example.org")
	key := newKey(t)
	digest := func(auth string, critical bool) pkix.Extension {
		sum := sha256.Sum256([]byte(auth))
		v, err := asn1.Marshal(sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: critical, Value: v}
	}
	for _, tc := range []struct {
		name   string
		change func(c *x509.Certificate, auth string)
		alpn   string
		want   string
	}{
		{"right", nil, "acme-tls/1", "valid"},
		{"not critical", func(c *x509.Certificate, auth string) {
			c.ExtraExtensions = []pkix.Extension{digest(auth, false)}
		}, "acme-tls/1", "incorrectResponse"},
		{"no digest", func(c *x509.Certificate, _ string) { c.ExtraExtensions = nil }, "acme-tls/1", "incorrectResponse"},
		{"another digest", func(c *x509.Certificate, auth string) {
			c.ExtraExtensions = []pkix.Extension{digest(auth+"x", true)}
		}, "acme-tls/1", "incorrectResponse"},
		{"another name", func(c *x509.Certificate, _ string) { c.DNSNames = []string{"gw.example.org"} }, "acme-tls/1", "incorrectResponse"},
		{"one name more", func(c *x509.Certificate, _ string) { c.DNSNames = append(c.DNSNames, "gw.example.org") }, "acme-tls/1", "incorrectResponse"},
		{"the name twice", func(c *x509.Certificate, _ string) { c.DNSNames = append(c.DNSNames, c.DNSNames[0]) }, "acme-tls/1", "incorrectResponse"},
		{"an address more", func(c *x509.Certificate, _ string) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }, "acme-tls/1", "incorrectResponse"},
		{"no name", func(c *x509.Certificate, _ string) { c.DNSNames = nil }, "acme-tls/1", "incorrectResponse"},
		{"another protocol", nil, "http/1.1", "tls"},
		{"no protocol", nil, "", "unauthorized"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := r.tried(t, "pbx.example.org", "tls-alpn-01", func(_, auth string) {
				c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"pbx.example.org"}, ExtraExtensions: []pkix.Extension{digest(auth, true)}}
				if tc.change != nil {
					tc.change(c, auth)
				}
				der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
				if err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				cert, protos = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
				if tc.alpn != "" {
					protos = []string{tc.alpn}
				}
			})
			if !strings.HasPrefix(got, tc.want) {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// TestChallengesByDNS has records that are missing or wrong.
func TestChallengesByDNS(t *testing.T) {
	s := newSite(t, func(c *acme.Config) { c.TriesPerHour = 100 })
	r := s.rawClient(".example.org")
	record := func(auth string) string {
		sum := sha256.Sum256([]byte(auth))
		return b64(sum[:])
	}
	for name, tc := range map[string]struct {
		set  func(auth string)
		want string
	}{
		"right":              {func(a string) { s.zone.setTXT("_acme-challenge.a.example.org", "v=spf1 -all", record(a)) }, "valid"},
		"without the digest": {func(a string) { s.zone.setTXT("_acme-challenge.a.example.org", a) }, "incorrectResponse"},
		"at the name itself": {func(a string) {
			s.zone.setTXT("_acme-challenge.a.example.org")
			s.zone.setTXT("a.example.org", record(a))
		}, "dns: the TXT records of _acme-challenge.a.example.org could not be looked up: it does not exist"},
		"of an earlier attempt": {func(string) { s.zone.setTXT("_acme-challenge.a.example.org", record("old")) }, "incorrectResponse"},
	} {
		if got := r.tried(t, "a.example.org", "dns-01", func(_, auth string) { tc.set(auth) }); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// TestChallengeOfAStoppedServer begins to look at a challenge with one server and ends with another one on the same state.
func TestChallengeOfAStoppedServer(t *testing.T) {
	m := newMachine(t)
	started, hang := make(chan struct{}), true
	var mu sync.Mutex
	var dialed sync.Once
	s := newSite(t, func(c *acme.Config) {
		c.HTTPPort = m.http
		dial := c.Dial
		c.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			mu.Lock()
			wait := hang
			mu.Unlock()
			if wait {
				dialed.Do(func() { close(started) })
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, a)
		}
	})
	s.zone.here("pbx.example.org")
	r := s.rawClient("pbx.example.org")
	a := r.post(s.base+"/acme/new-order", `{"identifiers":[{"type":"dns","value":"pbx.example.org"}]}`)
	var o struct{ Authorizations []string }
	if err := json.Unmarshal(a.body, &o); err != nil {
		t.Fatal(err)
	}
	id := o.Authorizations[0][strings.LastIndexByte(o.Authorizations[0], '/')+1:]
	at := s.base + "/acme/challenge/" + id + "/http-01"
	if a := r.post(at, `{}`); a.member(t, "status") != "processing" {
		t.Fatalf("%s", a.body)
	}
	<-started
	s.server.Close() // the handler goes on: what it begins now ends at once, as if another node had stopped
	if a := r.post(at, ""); a.member(t, "status") != "processing" {
		t.Fatalf("what was cut off is decided: %s", a.body)
	}
	z, err := s.state.Authorization(t.Context(), id)
	if err != nil || z.Challenges[0].Status != acme.StatusProcessing {
		t.Fatalf("%+v %v", z, err)
	}
	// Another node on the same records.
	mu.Lock()
	hang = false
	mu.Unlock()
	m.mu.Lock()
	m.files["pbx.example.org/.well-known/acme-challenge/"+z.Challenges[0].Token] = z.Challenges[0].Token + "." + thumb(t, r.key)
	m.mu.Unlock()
	state, key, kid := s.state, r.key, r.kid
	next := newSite(t, func(c *acme.Config) { c.HTTPPort, c.State, c.Bindings = m.http, state, s.bindings })
	next.zone.here("pbx.example.org")
	again := &raw{s: next, key: key, kid: next.base + strings.TrimPrefix(kid, s.base)}
	at = next.base + "/acme/challenge/" + id + "/http-01"
	if a := again.post(at, ""); a.member(t, "status") != "processing" {
		t.Fatalf("too early: %s", a.body)
	}
	next.clock.forward(2 * time.Minute)
	if got := again.outcome(t, at); got != "valid" {
		t.Errorf("%s", got)
	}
}
