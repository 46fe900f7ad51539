package node_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/enroll"
)

// signedIn is a program in which somebody signed in, with a connection to the SIP port for such.
type signedIn struct {
	*rawPeer
	access, refresh string
}

// https asks an endpoint of the authorization server.
func (s *site) https(path string, form url.Values, out any) int {
	s.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain}}}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.Ctx, http.MethodPost, "https://"+s.HTTPS.String()+path, strings.NewReader(form.Encode()))
	s.OK(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.Do(r)
	s.OK(err)
	defer res.Body.Close()
	if out != nil {
		s.OK(json.NewDecoder(res.Body).Decode(out))
	}
	return res.StatusCode
}

// signIn signs a program in for a device by the device code, and connects it.
func (s *site) signIn(device ringfence.DeviceID) *signedIn {
	s.Helper()
	s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: device, User: "alice", Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthToken}}}))
	s.OK(s.Node.Roster.Reload(s.Ctx))
	code, _, err := s.Node.Enroll.NewCode(s.Ctx, device)
	s.OK(err)
	var begun struct {
		Device string `json:"device_code"`
		User   string `json:"user_code"`
	}
	if got := s.https("/oauth/device_authorization", url.Values{"client_id": {"ringfence"}}, &begun); got != 200 {
		s.Fatal(got)
	}
	if got := s.https("/oauth/device", url.Values{"user_code": {begun.User}, "activation": {code}}, nil); got != 200 {
		s.Fatal(got)
	}
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if got := s.https("/oauth/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"ringfence"}, "device_code": {begun.Device}}, &tokens); got != 200 {
		s.Fatal(got)
	}
	return &signedIn{s.connect(s.Node.Bound("sip-oauth"), "alice", string(device)), tokens.Access, tokens.Refresh}
}

// connect opens a connection without a certificate.
func (s *site) connect(at netip.AddrPort, user, id string) *rawPeer {
	s.Helper()
	d := tls.Dialer{Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain}}
	c, err := d.DialContext(s.Ctx, "tcp", at.String())
	s.OK(err)
	s.Cleanup(func() { _ = c.Close() })
	if end, ok := s.Ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	return &rawPeer{site: s, conn: c, r: bufio.NewReader(c), user: user, id: id}
}

func (p *signedIn) register(fields ...string) *sip.Message {
	p.Helper()
	p.send("REGISTER", "sip:"+p.Domain, "<sip:alice@"+p.Domain+">", nil, append(fields, "Expires: 3600")...)
	return p.final()
}

func oauthSite(t *testing.T) *site {
	s := newSite(t, func(c *config.Config) { c.SIP.OAuth = netip.MustParseAddrPort("127.0.0.1:0") })
	s.User("alice", "101")
	s.User("bob", "102")
	return s
}

func TestSIPWithTokens(t *testing.T) {
	s := oauthSite(t)
	bob := s.Phone("bob")
	p := s.signIn("alice-app")
	asked := p.register()
	challenge := string(asked.Get(sip.HeaderWWWAuthenticate))
	if asked.Status() != 401 || !strings.HasPrefix(challenge, "Bearer realm=") || !strings.Contains(challenge, fmt.Sprintf(`authz_server="https://%s:%d"`, s.Domain, s.HTTPS.Port())) || strings.Contains(challenge, "error=") {
		t.Fatalf("%d %s", asked.Status(), challenge)
	}
	// A client of the older form is asked as by a proxy.
	p.params = `;+u.sip!devicename.ccm.example="CSFALICE"`
	if old := p.register(); old.Status() != 407 || !strings.HasPrefix(string(old.Get(sip.HeaderProxyAuthenticate)), "Bearer ") {
		t.Fatalf("%d", old.Status())
	}
	for _, wrong := range []string{"Bearer x.y.z", `Bearer token="x"`, "Bearer " + p.access + "x", "Bearer " + p.refresh, `Digest username="alice-app"`} {
		p.params = ""
		m := p.register("Authorization: " + wrong)
		if got := string(m.Get(sip.HeaderWWWAuthenticate)); m.Status() != 401 || strings.HasPrefix(wrong, "Bearer") && !strings.Contains(got, `error="invalid_token"`) {
			t.Fatalf("%.20s: %d %s", wrong, m.Status(), got)
		}
	}
	ok := p.register(`Proxy-Authorization: Bearer token="` + p.access + `"`)
	if ok.Status() != 200 {
		t.Fatalf("%d %s", ok.Status(), ok.Reason())
	}
	contact := string(ok.Get(sip.HeaderContact))
	if !strings.Contains(contact, "expires=35") && !strings.Contains(contact, "expires=3600") { // not longer than the token
		t.Errorf("%s", contact)
	}
	bindings := s.Node.Registrar.All()
	if len(bindings) == 0 || bindings[0].Proof.Auth != ringfence.AuthToken && bindings[len(bindings)-1].Proof.Auth != ringfence.AuthToken {
		t.Errorf("%+v", bindings)
	}
	// From now on the connection speaks for the device: a call needs no token.
	uri := "sip:102@" + s.Domain
	p.send("INVITE", uri, "<"+uri+">", nil)
	in := s.Incoming(bob)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
	if m := p.final(); m.Status() != 200 {
		t.Fatalf("%d %s", m.Status(), m.Reason())
	}
	// Revoking the sign-in ends all of it, fast.
	grants, err := s.Node.Store.Grants(s.Ctx, "alice-app")
	s.OK(err)
	began := time.Now()
	s.OK(s.Node.Tokens.Revoke(s.Ctx, grants[0].ID, "test"))
	for {
		if _, err := p.r.ReadByte(); err != nil { // a goodbye, and then the end
			break
		}
	}
	s.Until("the call ended and the registration is gone", func() bool { return s.Node.Calls.Count() == 0 && len(s.Node.Registrar.All()) == 1 })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	again := s.connect(s.Node.Bound("sip-oauth"), "alice", "again")
	if m := (&signedIn{again, "", ""}).register("Authorization: Bearer " + p.access); m.Status() != 401 {
		t.Errorf("a revoked token registers: %d", m.Status())
	}
}

func TestTokenIsRenewedOnTheConnection(t *testing.T) {
	s := oauthSite(t)
	p := s.signIn("alice-app")
	if m := p.register("Authorization: Bearer " + p.access); m.Status() != 200 {
		t.Fatal(m.Status())
	}
	var fresh struct {
		Access string `json:"access_token"`
	}
	if got := s.https("/oauth/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"ringfence"}, "refresh_token": {p.refresh}}, &fresh); got != 200 {
		t.Fatal(got)
	}
	if m := p.register("Authorization: Bearer " + fresh.Access); m.Status() != 200 {
		t.Fatal(m.Status())
	}
	if m := p.register(); m.Status() != 200 { // a refresh without one
		t.Fatal(m.Status())
	}
	if m := p.register("Authorization: Bearer " + fresh.Access[:20]); m.Status() != 401 {
		t.Fatal(m.Status())
	}
	// The other sealed port takes tokens as well; what is no token is challenged there as ever.
	q := &signedIn{s.connect(s.SIP, "alice", "other"), "", ""}
	if m := q.register(); !strings.HasPrefix(string(m.Get(sip.HeaderWWWAuthenticate)), "Digest ") {
		t.Errorf("%s", m.Get(sip.HeaderWWWAuthenticate))
	}
	if m := q.register("Authorization: Bearer " + fresh.Access); m.Status() != 200 {
		t.Errorf("%d", m.Status())
	}
}

func TestTokenDeviceGetsNoCertificate(t *testing.T) {
	s := oauthSite(t)
	s.OK(s.Node.Store.CreateDevice(s.Ctx, store.Device{ID: "alice-app", User: "alice", Profile: store.DeviceProfile{Auth: []ringfence.Auth{ringfence.AuthToken}}}))
	code, _, err := s.Node.Enroll.NewCode(s.Ctx, "alice-app")
	s.OK(err)
	c := enroll.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.HTTPS.String())
	}}
	if _, err := c.Enrol(s.Ctx, "localhost", code); ringfence.KindOf(err) != ringfence.KindDenied {
		t.Errorf("%v", err)
	}
}

// TestIntrospection has an edge proxy and a service with an API token ask whether a token is good, and others be refused.
func TestIntrospection(t *testing.T) {
	s := oauthSite(t)
	p := s.signIn("alice-app")
	certified := func(role ca.Role, name string) tls.Certificate {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		s.OK(err)
		r := ca.Request{Role: role, Name: name, PublicKey: key.Public()}
		if role == ca.RoleProxy {
			r.DNSNames = []string{name}
		}
		out, err := s.Node.Authority.Issue(s.Ctx, r)
		s.OK(err)
		return tls.Certificate{Certificate: out.Chain, PrivateKey: key}
	}
	for name, left := range map[string]time.Duration{"reader": time.Hour, "stale": -time.Hour} {
		s.OK(s.Node.Store.CreateToken(s.Ctx, store.Token{ID: name, Name: name, Hash: store.HashToken(name), Scopes: []string{"read"}, Expires: time.Now().Add(left)}))
	}
	ask := func(c *http.Client, secret, token string) (int, map[string]any) {
		t.Helper()
		defer c.CloseIdleConnections()
		r, err := http.NewRequestWithContext(s.Ctx, http.MethodPost, "https://"+s.Domain+"/oauth/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
		s.OK(err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		res, err := c.Do(r)
		s.OK(err)
		defer res.Body.Close()
		var out map[string]any
		s.OK(json.NewDecoder(res.Body).Decode(&out))
		return res.StatusCode, out
	}
	proxy := s.client(certified(ca.RoleProxy, "edge-1.example.org"))
	for _, tc := range []struct {
		what   string
		client *http.Client
		secret string
		status int
	}{
		{"an edge proxy", proxy, "", 200},
		{"a service", s.client(), "reader", 200},
		{"a device with an API token", s.client(s.Identity("bob", "bob-desk").Certificate()), "reader", 200},
		{"a stranger", s.client(), "", 401},
		{"a program with its own access token", s.client(), p.access, 401},
		{"an API token that has expired", s.client(), "stale", 401},
		{"a device", s.client(s.Identity("bob", "bob-two").Certificate()), "", 401},
		{"a CTI client", s.client(certified(ca.RoleCTI, "cti-1")), "", 401},
	} {
		status, got := ask(tc.client, tc.secret, p.access)
		if status != tc.status || (got["active"] == true) != (status == 200) || status == 200 && (got["sub"] != "alice" || got["device"] != "alice-app") {
			t.Errorf("%s: %d %v", tc.what, status, got)
		}
	}
	grants, err := s.Node.Store.Grants(s.Ctx, "alice-app")
	s.OK(err)
	s.OK(s.Node.Tokens.Revoke(s.Ctx, grants[0].ID, "test"))
	if status, got := ask(proxy, "", p.access); status != 200 || len(got) != 1 || got["active"] != false {
		t.Errorf("%d %v", status, got)
	}
	s.OK(s.Node.Store.Close())
	if status, got := ask(proxy, "", p.access); status != 503 || got["active"] != nil {
		t.Errorf("a store that is gone: %d %v", status, got)
	}
}
