package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// office is a whole enrolment service over in-memory connections: a real store, authority, TLS and HTTP server.
type office struct {
	t     testing.TB
	store *store.Store
	ca    *ca.Authority
	svc   *Service
	clock atomic.Int64 // nanoseconds added to the real time
	lis   *memListener
}

func (o *office) now() time.Time { return time.Now().Add(time.Duration(o.clock.Load())) }

func newOffice(t testing.TB, change func(*Config)) *office {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	st, err := store.Open(ctx, store.Config{DSN: "sqlite:" + filepath.Join(dir, "a.db"), KeyFile: filepath.Join(dir, "k")})
	must(t, err)
	t.Cleanup(func() { st.Close() })
	o := &office{t: t, store: st}
	o.ca, err = ca.Open(ctx, ca.Config{Name: "Example", Vault: st, Ledger: st, Now: o.now})
	must(t, err)
	must(t, st.CreateUser(ctx, store.User{ID: "alice", Name: "Alice"}))
	must(t, st.CreateDevice(ctx, store.Device{ID: "alice-desk", User: "alice", Kind: "softphone"}))
	c := Config{Issuer: o.ca, Codes: st, Now: o.now, Cost: Cost{Passes: 1, KiB: 16 << 10, Lanes: 1}, PerMinute: 1000, AnswerAfter: time.Millisecond,
		Bootstrap: func(_ context.Context, id ringfence.DeviceID) (Bootstrap, error) {
			return Bootstrap{User: "alice", Domain: "example.com", SIP: Endpoint{"sip.example.com", 5061}, Extra: json.RawMessage(`{"theme":"dark"}`)}, nil
		}}
	if change != nil {
		change(&c)
	}
	o.svc, err = New(ctx, c)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	cert, err := o.ca.Issue(ctx, ca.Request{Role: ca.RoleNode, Name: "node-1", DNSNames: []string{"node.example.com"}, PublicKey: key.Public()})
	must(t, err)
	o.lis = serve(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: cert.Chain, PrivateKey: key}}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, Time: o.now}, o.svc.Handler())
	return o
}

func (o *office) client() *Client { return &Client{Dial: o.lis.dial, Now: o.now} }

func (o *office) code() string {
	o.t.Helper()
	code, _, err := o.svc.NewCode(context.Background(), "alice-desk")
	must(o.t, err)
	return code
}

func (o *office) certificates() []store.Certificate {
	o.t.Helper()
	list, err := o.store.CertificatesOf(context.Background(), "alice-desk")
	must(o.t, err)
	return list
}

// memListener hands in-memory connections to a server.
type memListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	count atomic.Int64
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *memListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *memListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }
func (l *memListener) dial(ctx context.Context) (net.Conn, error) {
	a, b, err := pair()
	if err != nil {
		return nil, err
	}
	select {
	case l.conns <- b:
		l.count.Add(1)
		return a, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pair returns the two ends of a connection within this process. Unlike net.Pipe it holds some bytes, as a network does: TLS may
// have both ends write at once.
func pair() (a, b net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	conn := func(fd int) (net.Conn, error) {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		return net.FileConn(f)
	}
	a, err1 := conn(fds[0])
	b, err2 := conn(fds[1])
	return a, b, errors.Join(err1, err2)
}

func serve(t testing.TB, conf *tls.Config, h http.Handler) *memListener {
	l := &memListener{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h, ErrorLog: nil}
	conf = conf.Clone()
	conf.NextProtos = []string{"http/1.1"}
	ended := make(chan struct{})
	go func() { defer close(ended); srv.Serve(tls.NewListener(l, conf)) }()
	t.Cleanup(func() { srv.Close(); <-ended })
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, ringfence.HintOf(err))
	}
}

func wantFault(t *testing.T, err error, k ringfence.Kind, words string) {
	t.Helper()
	f, ok := errors.AsType[*ringfence.Fault](err)
	if !ok || f.Kind != k || !strings.Contains(f.Text, words) {
		t.Fatalf("got %v (%v), want %v with %q", err, ringfence.KindOf(err), k, words)
	}
	if f.Hint == "" {
		t.Fatalf("%v has no hint", err)
	}
}

func TestEnrolAndRenew(t *testing.T) {
	o := newOffice(t, nil)
	ctx := context.Background()
	id, err := o.client().Enrol(ctx, "node.example.com", FormatCode(o.code()))
	must(t, err)
	if id.Device != "alice-desk" || id.Bootstrap.SIP != (Endpoint{"sip.example.com", 5061}) || string(id.Bootstrap.Extra) != `{"theme":"dark"}` {
		t.Fatalf("identity: %+v", id)
	}
	v, err := o.ca.Verify([]*x509.Certificate{id.Leaf}, ca.RoleDevice, o.now())
	must(t, err)
	if v.Name != "alice-desk" {
		t.Fatalf("verified: %+v", v)
	}
	names := ""
	for _, u := range id.Leaf.URIs {
		names += u.String() + " "
	}
	if names != "urn:ringfence:role:device urn:ringfence:device:alice-desk sip:alice@example.com " {
		t.Fatalf("names: %s", names)
	}
	if n := o.lis.count.Load(); n != 1 {
		t.Fatalf("enrolment took %d connections", n)
	}
	next, err := o.client().Renew(ctx, "node.example.com", id)
	must(t, err)
	if next.Key.Equal(id.Key) || next.Leaf.SerialNumber.Cmp(id.Leaf.SerialNumber) == 0 || next.Device != id.Device {
		t.Fatal("the renewal is not new")
	}
	_, err = o.client().Renew(ctx, "other.example.com", id) // the node must prove its name now
	wantFault(t, err, ringfence.KindInsecure, "no TLS 1.3 connection")

	must(t, o.ca.Revoke(ctx, o.certificates()[0].Serial, "lost"))
	must(t, o.ca.Revoke(ctx, o.certificates()[1].Serial, "lost"))
	_, err = o.client().Renew(ctx, "node.example.com", next)
	wantFault(t, err, ringfence.KindDenied, "revoked")
}

func TestRenewRefusals(t *testing.T) {
	o := newOffice(t, nil)
	ctx := context.Background()
	id, err := o.client().Enrol(ctx, "node", o.code())
	must(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, id.Key)
	must(t, err)
	_, err = o.svc.renew(ctx, []*x509.Certificate{id.Leaf}, csr)
	wantFault(t, err, ringfence.KindInvalid, "same key")
	_, err = o.svc.renew(ctx, nil, csr)
	wantFault(t, err, ringfence.KindUnauthenticated, "no certificate")
	must(t, o.store.UpdateDevice(ctx, store.Device{ID: "alice-desk", User: "alice", State: store.DeviceRevoked}))
	_, err = o.client().Renew(ctx, "node.example.com", id)
	wantFault(t, err, ringfence.KindDenied, "is revoked")
	_, _, err = o.svc.NewCode(ctx, "alice-desk")
	wantFault(t, err, ringfence.KindDenied, "is revoked")
	o.clock.Add(int64(91 * 24 * time.Hour))
	_, err = o.svc.renew(ctx, []*x509.Certificate{id.Leaf}, csr)
	wantFault(t, err, ringfence.KindUnauthenticated, "expired on")
}

func TestWrongCode(t *testing.T) {
	o := newOffice(t, nil)
	code := o.code()
	wrong := code[:15] + string('0'+(code[15]-'0'+1)%10)
	unknown := string('0'+(code[0]-'0'+1)%10) + code[1:]
	for _, c := range []string{wrong, unknown} {
		_, err := o.client().Enrol(context.Background(), "node", c)
		wantFault(t, err, ringfence.KindUnauthenticated, "did not prove")
	}
	_, err := o.client().Enrol(context.Background(), "node", "123")
	wantFault(t, err, ringfence.KindInvalid, "16 digits")
	if len(o.certificates()) != 0 {
		t.Fatal("a certificate was issued")
	}
	_, err = o.client().Enrol(context.Background(), "node", code)
	must(t, err) // a wrong code typed into an honest device costs nothing
}

func TestReplay(t *testing.T) {
	o := newOffice(t, nil)
	code := o.code()
	_, err := o.client().Enrol(context.Background(), "node", code)
	must(t, err)
	_, err = o.client().Enrol(context.Background(), "node", code)
	wantFault(t, err, ringfence.KindConflict, "was used at")
	if len(o.certificates()) != 1 {
		t.Fatal("one code gave two certificates")
	}
}

func TestExpired(t *testing.T) {
	o := newOffice(t, nil)
	code := o.code()
	o.clock.Add(int64(25 * time.Hour))
	_, err := o.client().Enrol(context.Background(), "node", code)
	wantFault(t, err, ringfence.KindDenied, "expired at")
	// Setting the clock back brings no code back to life, and a new code lives as long as ever.
	o.clock.Add(int64(-2 * time.Hour))
	_, err = o.client().Enrol(context.Background(), "node", code)
	wantFault(t, err, ringfence.KindDenied, "expired at")
	if _, err = o.client().Enrol(context.Background(), "node", o.code()); err != nil {
		t.Errorf("a new code after the clock was set back: %v", err)
	}
}

// A clock that is set back runs on from where it was; one that is set forward is followed.
func TestRatchet(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	r := ratchet{now: func() time.Time { return at }}
	start := r.read()
	for i, step := range []struct{ by, want time.Duration }{{time.Minute, time.Minute}, {-time.Hour, time.Minute}, {time.Second, time.Minute}, {2 * time.Hour, time.Hour + time.Minute + time.Second}} {
		at = at.Add(step.by)
		if got := r.read().Sub(start); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// rawDevice speaks the protocol without the caution of Client.
type rawDevice struct {
	t     *testing.T
	l     *line
	s     session
	hello helloReply
}

func (o *office) raw(t *testing.T, lookup string) *rawDevice {
	t.Helper()
	c := o.client()
	l, err := c.connect(context.Background(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	must(t, err)
	t.Cleanup(l.close)
	cs := l.conn.ConnectionState()
	exported, err := exporter(&cs)
	must(t, err)
	d := &rawDevice{t: t, l: l, s: session{exporter: exported, deviceNonce: bytes.Repeat([]byte{7}, nonceLen)}}
	must(t, l.post(context.Background(), "test", pathHello, helloMsg{lookup, d.s.deviceNonce}, &d.hello))
	d.s.serverNonce = d.hello.Nonce
	return d
}

func (d *rawDevice) request(lookup string, v []byte) error {
	_, csr, err := newRequest()
	must(d.t, err)
	var reply certReply
	return d.l.post(context.Background(), "test", pathRequest, requestMsg{lookup, d.s.deviceNonce, csr, d.s.deviceProof(v, csr)}, &reply)
}

func TestAttempts(t *testing.T) {
	o := newOffice(t, nil)
	code := o.code()
	lookup := code[:4]
	d := o.raw(t, lookup)
	for range 5 {
		wantFault(t, d.request(lookup, make([]byte, 32)), ringfence.KindUnauthenticated, "wrong")
	}
	_, err := o.client().Enrol(context.Background(), "node", code)
	wantFault(t, err, ringfence.KindDenied, "too often")
	log, err := o.store.Audit(context.Background(), 0, 50)
	must(t, err)
	wrong := 0
	for _, a := range log {
		if a.Outcome == "wrong code" {
			wrong++
		}
	}
	if wrong != 5 {
		t.Fatalf("%d wrong tries in the audit", wrong)
	}
}

// TestLastAttempt: the right code works on the last try.
func TestLastAttempt(t *testing.T) {
	o := newOffice(t, func(c *Config) { c.Attempts = 2 })
	code := o.code()
	wantFault(t, o.raw(t, code[:4]).request(code[:4], nil), ringfence.KindUnauthenticated, "wrong")
	_, err := o.client().Enrol(context.Background(), "node", code)
	must(t, err)
}

// TestUnknownLookup compares all that can be seen of a known and an unknown lookup.
func TestUnknownLookup(t *testing.T) {
	o := newOffice(t, nil)
	code := o.code()
	unknown := string('0'+(code[0]-'0'+1)%10) + code[1:4]
	a, b, again := o.raw(t, code[:4]), o.raw(t, unknown), o.raw(t, unknown)
	for _, d := range []*rawDevice{a, b} {
		if len(d.hello.Salt) != 16 || len(d.hello.MAC) != 32 || len(d.hello.Nonce) != 32 || d.hello.Params != a.hello.Params || len(d.hello.Anchors) != 1 {
			t.Fatalf("an answer stands out: %+v", d.hello)
		}
	}
	if !bytes.Equal(b.hello.Salt, again.hello.Salt) || bytes.Equal(b.hello.Salt, a.hello.Salt) || bytes.Equal(b.hello.MAC, again.hello.MAC) {
		t.Fatal("the made-up answer does not behave like a real one")
	}
	o2, err := New(context.Background(), o.svc.c) // after a restart
	must(t, err)
	if !bytes.Equal(o2.decoySalt(unknown), b.hello.Salt) {
		t.Fatal("a restart changes the made-up salt")
	}
	e1, e2 := a.request(code[:4], nil), b.request(unknown, nil)
	if e1.Error() != e2.Error() || ringfence.HintOf(e1) != ringfence.HintOf(e2) || ringfence.KindOf(e1) != ringfence.KindOf(e2) {
		t.Fatalf("the refusals differ: %v, %v", e1, e2)
	}
}

// TestManInTheMiddle ends TLS in the middle and passes every message on.
func TestManInTheMiddle(t *testing.T) {
	o := newOffice(t, nil)
	code := o.code()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	anchors, err := o.svc.anchors()
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: anchors[0].SerialNumber, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	var paths []string
	up := &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := o.lis.dial(ctx)
		if err != nil {
			return nil, err
		}
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true}), nil
	}}
	t.Cleanup(up.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Transport: up, Rewrite: func(r *httputil.ProxyRequest) {
		paths = append(paths, r.In.URL.Path)
		r.SetURL(&url.URL{Scheme: "https", Host: "node"})
	}}
	mitm := serve(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, proxy)
	_, err = (&Client{Dial: mitm.dial}).Enrol(context.Background(), "node.example.com", code)
	wantFault(t, err, ringfence.KindUnauthenticated, "did not prove")
	if !strings.Contains(ringfence.HintOf(err), "intercepts") {
		t.Fatalf("hint: %s", ringfence.HintOf(err))
	}
	if len(paths) != 1 || paths[0] != pathHello {
		t.Fatalf("the device sent more than hello: %v", paths)
	}
	if len(o.certificates()) != 0 {
		t.Fatal("a certificate was issued")
	}
	_, err = o.client().Enrol(context.Background(), "node.example.com", code) // and the code is as good as before
	must(t, err)
}

// TestSwappedAnchors has the middle replace the trust anchors.
func TestSwappedAnchors(t *testing.T) {
	o := newOffice(t, nil)
	d := o.raw(t, o.code()[:4])
	anchors, err := readCerts(d.hello.Anchors)
	must(t, err)
	v := make([]byte, 32)
	if bytes.Equal(d.s.serverProof(v, anchors), d.s.serverProof(v, append(anchors, anchors[0]))) {
		t.Fatal("the proof does not cover the anchors")
	}
}

func TestParallelUse(t *testing.T) {
	o := newOffice(t, func(c *Config) { c.Attempts = 20 })
	code := o.code()
	var wg sync.WaitGroup
	results := make(chan error, 6)
	for range cap(results) {
		wg.Go(func() {
			_, err := o.client().Enrol(context.Background(), "node", code)
			results <- err
		})
	}
	wg.Wait()
	close(results)
	good := 0
	for err := range results {
		if err == nil {
			good++
		} else if ringfence.KindOf(err) != ringfence.KindConflict {
			t.Errorf("got %v", err)
		}
	}
	if good != 1 || len(o.certificates()) != 1 {
		t.Fatalf("%d devices and %d certificates from one code", good, len(o.certificates()))
	}
}

// brokenIssuer fails once.
type brokenIssuer struct {
	Issuer
	failed atomic.Bool
}

func (b *brokenIssuer) IssueDevice(ctx context.Context, csr []byte, id ringfence.DeviceID, uri string) ([][]byte, error) {
	if b.failed.CompareAndSwap(false, true) {
		return nil, fault("ca.issue", ringfence.KindUnavailable, "the issuing authority expired", "wait", nil)
	}
	return b.Issuer.IssueDevice(ctx, csr, id, uri)
}

func TestIssuerFails(t *testing.T) {
	o := newOffice(t, func(c *Config) { c.Issuer = &brokenIssuer{Issuer: c.Issuer} })
	code := o.code()
	_, err := o.client().Enrol(context.Background(), "node", code)
	wantFault(t, err, ringfence.KindUnavailable, "authority expired")
	_, err = o.client().Enrol(context.Background(), "node", code)
	must(t, err) // the code was not lost
}

func TestOldTLS(t *testing.T) {
	o := newOffice(t, nil)
	l, err := o.client().connect(context.Background(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	must(t, err)
	defer l.close()
	err = l.post(context.Background(), "test", pathHello, helloMsg{"1234", make([]byte, 32)}, &helloReply{})
	wantFault(t, err, ringfence.KindInsecure, "TLS 1.3")
}

func TestRateLimit(t *testing.T) {
	var now atomic.Int64
	clock := func() time.Time { return time.Unix(1000+now.Load(), 0) }
	l := newLimiter(3, clock)
	count := func(addr string) (n int) {
		for range 10 {
			if l.allow(addr) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		addr string
		want int
	}{{"192.0.2.1:1", 3}, {"192.0.2.1:2", 0}, {"[::ffff:192.0.2.1]:3", 0}, {"192.0.2.2:1", 3}, {"[2001:db8::1]:1", 3}, {"[2001:db8::2]:1", 0}, {"[2001:db8:0:1::1]:1", 3}, {"pipe", 3}} {
		if got := count(c.addr); got != c.want {
			t.Errorf("%s: %d allowed, want %d", c.addr, got, c.want)
		}
	}
	now.Store(20)
	if got := count("192.0.2.1:1"); got != 1 {
		t.Errorf("after a third of a minute: %d", got)
	}
	for i := range maxSources {
		l.allow(net.JoinHostPort(net.IPv4(10, 0, byte(i>>8), byte(i)).String(), "1"))
	}
	if len(l.sources) > maxSources+1 {
		t.Errorf("%d sources are remembered", len(l.sources))
	}
	now.Store(200)
	l.allow("198.51.100.1:1")
	if len(l.sources) != 1 {
		t.Errorf("%d sources are remembered after a quiet time", len(l.sources))
	}

	o := newOffice(t, func(c *Config) { c.PerMinute = 1 })
	_, err := o.client().Enrol(context.Background(), "node", o.code())
	wantFault(t, err, ringfence.KindOverload, "too many tries")
}

// TestBusy fills all lookups but leaves NewCode to say so clearly.
func TestBusy(t *testing.T) {
	o := newOffice(t, func(c *Config) { c.Codes = fullCodes{c.Codes} })
	_, _, err := o.svc.NewCode(context.Background(), "alice-desk")
	wantFault(t, err, ringfence.KindOverload, "too many activation codes")
}

type fullCodes struct{ Codes }

func (f fullCodes) Activation(_ context.Context, lookup string) (store.Activation, error) {
	return store.Activation{Lookup: lookup, Device: "other", AttemptsLeft: 1, Expires: time.Now().Add(time.Hour)}, nil
}

func TestConfigRefused(t *testing.T) {
	o := newOffice(t, nil)
	for _, change := range []func(*Config){
		func(c *Config) { c.Issuer = nil }, func(c *Config) { c.Lifetime = 25 * time.Hour }, func(c *Config) { c.Attempts = -1 }, func(c *Config) { c.Cost.KiB = 1 },
	} {
		c := o.svc.c
		change(&c)
		if _, err := New(context.Background(), c); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("got %v", err)
		}
	}
}

func TestCode(t *testing.T) {
	for _, s := range []string{"1234 5678 9012 3456", "1234-5678-9012-3456", "1234567890123456", " 1234\u00a05678–9012 3456\n"} {
		if got, err := ParseCode(s); err != nil || got != "1234567890123456" {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "1234", "12345678901234567", "123456789012345x", "١٢٣٤567890123456", strings.Repeat(" ", 200) + "1234567890123456"} {
		if _, err := ParseCode(s); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%q: %v", s, err)
		}
	}
	seen := map[string]bool{}
	for range 100 {
		c, err := newCode()
		must(t, err)
		if back, err := ParseCode(FormatCode(c)); err != nil || back != c || seen[c] {
			t.Fatalf("code %q: %q, %v", c, back, err)
		}
		seen[c] = true
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add("1234 5678 9012 3456")
	f.Add("--1\u2013")
	f.Fuzz(func(t *testing.T, s string) {
		code, err := ParseCode(s)
		if err != nil {
			return
		}
		if back, err := ParseCode(FormatCode(code)); err != nil || back != code || len(code) != codeDigits {
			t.Fatalf("%q: %q, %q, %v", s, code, back, err)
		}
	})
}

// FuzzMessages feeds the service and the client's readers what a stranger may send.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"lookup":"1234","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`{"lookup":"1234","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","csr":"AAAA","mac":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Add([]byte(`{"chain":["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],"device":"d","sip":{"host":"h","port":1}}`))
	f.Add([]byte(`{"error":{"kind":"denied","text":"no\u001b[31m"}}`))
	f.Add([]byte(`{} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h helloMsg
		if readJSON(bytes.NewReader(b), maxBody, true, &h) == nil && h.check() == nil && (len(h.Nonce) != nonceLen || len(h.Lookup) != lookupDigits) {
			t.Fatalf("accepted %+v", h)
		}
		var r requestMsg
		if readJSON(bytes.NewReader(b), maxBody, true, &r) == nil && r.check() == nil {
			if _, err := ca.CSRKey(r.CSR); err == nil && len(r.MAC) != 32 {
				t.Fatalf("accepted %+v", r)
			}
		}
		var e errorReply
		if readJSON(bytes.NewReader(b), maxAnswer, false, &e) == nil {
			if err := told("op", e); strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 2000 {
				t.Fatalf("unsafe words: %q", err)
			}
		}
		var c certReply
		if readJSON(bytes.NewReader(b), maxAnswer, false, &c) == nil {
			if list, err := readCerts(c.Chain); err == nil && (len(list) == 0 || len(list) > maxCerts) {
				t.Fatal("accepted a list of the wrong length")
			}
		}
		var hr helloReply
		if readJSON(bytes.NewReader(b), maxAnswer, false, &hr) == nil && hr.Params.check() == nil && hr.Params.KiB > 256<<10 {
			t.Fatal("accepted a ruinous cost")
		}
	})
}

func TestBodies(t *testing.T) {
	o := newOffice(t, nil)
	l, err := o.client().connect(context.Background(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	must(t, err)
	defer l.close()
	post := func(path, body string) int {
		t.Helper()
		req, err := http.NewRequest("POST", "https://node"+path, strings.NewReader(body))
		must(t, err)
		resp, err := l.http.RoundTrip(req)
		must(t, err)
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode
	}
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{pathHello, ``, 400}, {pathHello, `{}`, 400}, {pathHello, `{"lookup":"12a4","nonce":"AAAA"}`, 400}, {pathHello, `{"lookup":"1234","extra":1}`, 400},
		{pathHello, `[` + strings.Repeat(`[`, 20000), 400}, {pathRequest, `{"lookup":"1234"}`, 400}, {pathRenew, `{}`, 401}, {"/enrol/v2/hello", `{}`, 404},
		{pathHello, `"` + strings.Repeat("x", maxBody-1) + `"`, 400},
	} {
		if got := post(c.path, c.body); got != c.want {
			t.Errorf("%s %.40s: status %d, want %d", c.path, c.body, got, c.want)
		}
	}
}
