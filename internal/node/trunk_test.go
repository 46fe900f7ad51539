package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/trunk"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/profile"
	"ringfence/internal/trust/tlspolicy"
)

// trunked makes two sites that are each other's trunk: each believes the other's authority, and only for the other's name.
func trunked(t *testing.T) (a, b *site) {
	t.Helper()
	open := func(domain string) *site {
		return newSite(t, func(c *config.Config) { c.Domain = domain })
	}
	a, b = open("a.example"), open("b.example")
	join := func(s, other *site, prefix string) {
		t.Helper()
		s.OK(s.admin().Do(s.Ctx, http.MethodPost, "/anchors", nil, api.NewAnchor{Alias: "other", File: other.Node.Authority.RootPEM()}, nil))
		c := &s.Node.Config
		c.Security = profile.Security{Trunks: []profile.Trunk{{Name: "cube", Subjects: []string{other.Domain}, Anchors: []string{"other"}}}}
		c.Trunks = []trunk.Trunk{{Name: "vcube", Host: "127.0.0.1", Port: other.SIP.Port(), Security: "cube", Prefix: prefix}}
		c.TLS = tlspolicy.Tree{"/system/transport/sip": {Anchors: []string{"own", "other"}}}
		c.Plan.Trunk, c.Plan.Country, c.Plan.National = "vcube", "49", "0"
		s.OK(c.Validate())
	}
	join(a, b, "+4930123")
	join(b, a, "+4940456")
	a.Restart()
	b.Restart()
	for _, s := range []*site{a, b} {
		s.Until("the trunk is up", func() bool { return s.Node.TrunkStates()[0].Cause == "" })
	}
	return a, b
}

// issue has the authority of a site sign a certificate for a key made now.
func issue(s *site, r ca.Request) *tls.Certificate {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	r.PublicKey = key.Public()
	out, err := s.Node.Authority.Issue(s.Ctx, r)
	s.OK(err)
	return &tls.Certificate{Certificate: out.Chain, PrivateKey: key}
}

// fails has a phone call a number, to hear that nothing comes of it.
func (s *site) fails(p *phone.Phone, number, status string) {
	s.Helper()
	c, err := p.Call(s.Ctx, number, phone.CallOptions{})
	if err == nil {
		err = c.WaitAnswered(s.Ctx)
	}
	if err == nil || !strings.Contains(err.Error(), status) {
		s.Errorf("%s: %v, want %s", number, err, status)
	}
}

// TestTrunk has calls go over a trunk in both directions: sealed, with proofs, numbers as the other side knows them, and nothing that costs money for strangers.
func TestTrunk(t *testing.T) {
	a, b := trunked(t)
	a.User("alice", "101", func(u *store.User) { u.TollClass = string("national") })
	b.User("bob", "202", func(u *store.User) { u.TollClass = "national" })
	b.User("poor", "203")
	alice, bob := a.Phone("alice"), b.Phone("bob")

	out, in := a.Talk(alice, bob, "+4940456202")
	if from := fmt.Sprintf("%+v", in.Peer()); !strings.Contains(from, "+4930123101") || strings.Contains(from, "b.example") {
		t.Errorf("the caller is %s", from)
	}
	a.Hears(in, 440)
	b.Hears(out, 700)
	for _, s := range []*site{a, b} {
		call := s.Node.Calls.List()[0]
		trunks := 0
		for _, l := range call.Legs {
			if l.Peer == "trunk vcube" {
				trunks++
				if l.TLS == nil || l.TLS.Version != "TLS 1.3" || l.Media == nil || l.Media.Suite != "AEAD_AES_256_GCM" || l.Verdict != ringfence.Sealed || l.Auth != ringfence.AuthCertificate {
					t.Errorf("%+v %+v %+v", l, l.TLS, l.Media)
				}
			}
		}
		if call.Verdict != ringfence.Sealed || trunks != 1 {
			t.Errorf("%s: %+v", s.Domain, call)
		}
	}
	in.Hangup()
	a.OK(out.WaitEnded(a.Ctx))
	for s, want := range map[*site]string{a: "outbound", b: "inbound"} {
		s.Until("the record is kept", func() bool {
			all, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
			return err == nil && len(all) == 1 && all[0].Direction == want
		})
	}
	// Who comes from outside reaches neither the outside, nor emergency numbers, nor features.
	fails := func(number, status string) {
		t.Helper()
		a.fails(alice, number, status)
	}
	for _, strange := range []string{"+4940456*78", "+4940456112", "+494045601711234567"} { // the last is a mobile number behind their prefix
		fails(strings.Replace(strange, "*", "%2A", 1), "404")
	}
	fails("+4940456203", "480") // nobody is registered there
	// The other side itself dials out through us: not even by a number that is well formed.
	raw := a.over(must(tls.Dial("tcp", a.SIP.String(), &tls.Config{RootCAs: a.Roots, ServerName: a.Domain, Certificates: []tls.Certificate{*issue(b, ca.Request{Role: ca.RoleTrunk, Name: "cube", DNSNames: []string{"b.example"}})}})), "cube")
	raw.send("INVITE", "sip:+498912345678@a.example", "<sip:+498912345678@a.example>", a.offer())
	if m := raw.final(); m.Status() != 404 {
		t.Errorf("transit: %d", m.Status())
	}
	// Calls of whom may not call outside never leave.
	a.User("guest", "102")
	a.fails(a.Phone("guest"), "+4940456202", "403")
	// When the other side is gone the trunk is down, and comes back by itself.
	b.Node.Close()
	a.Until("the trunk is down", func() bool { return a.Node.TrunkStates()[0].Cause != "" })
	a.fails(alice, "+4940456202", "480")
	b.Restart()
	a.Until("the trunk is up again", func() bool { return a.Node.TrunkStates()[0].Cause == "" })
}

// TestTrunkLimits has a trunk take as many calls as it may and emergency calls beyond that, and be told who calls where it belongs to the trust domain, although whoever is called is not.
func TestTrunkLimits(t *testing.T) {
	a, b := trunked(t)
	a.Node.Config.Trunks[0].MaxCalls, a.Node.Config.Trunks[0].TrustDomain = 1, true
	a.Restart()
	a.Until("the trunk is up", func() bool { return a.Node.TrunkStates()[0].Cause == "" })
	b.Until("the trunk is up there", func() bool { return b.Node.TrunkStates()[0].Cause == "" })
	a.User("alice", "101", func(u *store.User) { u.TollClass = "national" })
	b.User("bob", "202", func(u *store.User) { u.TollClass = "national" })
	alice, bob := a.Phone("alice"), b.Phone("bob")
	private, err := alice.Call(a.Ctx, "+4940456202", phone.CallOptions{Private: true})
	a.OK(err)
	in := b.Incoming(bob)
	if in.Peer().Number != "anonymous" {
		t.Errorf("bob is told that %q calls", in.Peer().Number)
	}
	if from := b.Node.Calls.List()[0].From; from != "+4930123101" {
		t.Errorf("the other side is told that %q calls", from)
	}
	a.fails(alice, "+4940456202", "503") // out
	b.fails(bob, "+4930123101", "500")   // and in: a 503 of the other side is passed on as 500 (RFC 3261 section 16.7)
	private.Hangup()
	_ = in.WaitEnded(a.Ctx) // that the caller gave up
	a.Until("there is room again", func() bool { return len(a.Node.Calls.List()) == 0 })
	out, in := a.Talk(alice, bob, "+4940456202")
	out.Hangup()
	a.OK(in.WaitEnded(a.Ctx))
}

// TestProfileTakesEffect has a phone that is registered prove itself again when its security profile changes.
func TestProfileTakesEffect(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.Security = profile.Security{Phones: []profile.Phone{{Name: "strict", Mode: profile.Encrypted, Auth: []ringfence.Auth{ringfence.AuthCertificate}}}}
	})
	s.User("alice", "101")
	s.Phone("alice")
	first := s.Node.Registrar.All()[0]
	set := func(name string) {
		t.Helper()
		s.OK(s.admin().Do(s.Ctx, http.MethodPut, "/devices/"+string(first.Device)+"/profile", nil, api.DeviceProfile{Security: name}, nil))
	}
	set("strict")
	s.Until("the phone has come back", func() bool {
		all := s.Node.Registrar.All()
		return len(all) == 1 && all[0].Conn != nil && all[0].Conn.ID != first.Conn.ID
	})
	second := s.Node.Registrar.All()[0].Conn.ID
	set("strict") // which it has
	if now := s.Node.Registrar.All(); len(now) != 1 || now[0].Conn.ID != second {
		t.Errorf("%+v", now)
	}
}

// TestTrunkProfile is who may not be a trunk, and what a trunk may not ask for.
func TestTrunkProfile(t *testing.T) {
	a, b := trunked(t)
	dial := func(cert *tls.Certificate) *rawPeer {
		t.Helper()
		conf := &tls.Config{RootCAs: a.Roots, ServerName: a.Domain}
		if cert != nil {
			conf.Certificates = []tls.Certificate{*cert}
		}
		c, err := tls.Dial("tcp", a.SIP.String(), conf)
		a.OK(err)
		t.Cleanup(func() { _ = c.Close() })
		return a.over(c, "cube")
	}
	a.User("alice", "101")
	status := func(cert *tls.Certificate, method string, fields ...string) int {
		t.Helper()
		p := dial(cert)
		var body []byte
		if method == "INVITE" {
			body = a.offer()
		}
		p.send(method, "sip:101@"+a.Domain, "<sip:101@"+a.Domain+">", body, fields...)
		return p.final().Status()
	}
	right := issue(b, ca.Request{Role: ca.RoleTrunk, Name: "cube", DNSNames: []string{"b.example"}})
	if got := status(right, "INVITE"); got != 480 { // nobody is registered: it got as far as that
		t.Errorf("the trunk itself: %d", got)
	}
	if got := status(right, "OPTIONS"); got != 200 {
		t.Errorf("OPTIONS: %d", got)
	}
	for name, x := range map[string]struct {
		cert   *tls.Certificate
		method string
		fields []string
		want   int
	}{
		"another name of the same authority":    {issue(b, ca.Request{Role: ca.RoleTrunk, Name: "other", DNSNames: []string{"c.example"}}), "INVITE", nil, 401},
		"the name, from our own authority":      {issue(a, ca.Request{Role: ca.RoleTrunk, Name: "cube", DNSNames: []string{"b.example"}}), "INVITE", nil, 403},
		"the trunk's own name in a certificate": {issue(a, ca.Request{Role: ca.RoleTrunk, Name: "vcube", DNSNames: []string{"d.example"}}), "INVITE", nil, 403},
		"a machine that is called so":           {issue(a, ca.Request{Role: ca.RoleMachine, Name: "b.example", DNSNames: []string{"b.example"}}), "INVITE", nil, 403},
		"Replaces":                              {right, "INVITE", []string{"Replaces: x;to-tag=1;from-tag=2"}, 403},
		"a subscription":                        {right, "SUBSCRIBE", []string{"Event: dialog"}, 403},
		"a notification":                        {right, "NOTIFY", []string{"Event: message-summary", "Subscription-State: active"}, 403},
		"a transfer of nothing":                 {right, "REFER", []string{"Refer-To: <sip:102@a.example>"}, 403},
		"a registration":                        {right, "REGISTER", nil, 403},
		"nobody":                                {nil, "INVITE", nil, 401},
	} {
		if got := status(x.cert, x.method, x.fields...); got != x.want {
			t.Errorf("%s: %d, want %d", name, got, x.want)
		}
	}
	// A trunk whose incoming is off calls nobody.
	a.Node.Config.Security.Trunks[0].Incoming = profile.Off
	a.Restart()
	if got := status(right, "INVITE"); got != 403 {
		t.Errorf("incoming is off: %d", got)
	}
}

// TestNotTheTrunk has somebody else answer where a trunk should be: no call is entrusted to it.
func TestNotTheTrunk(t *testing.T) {
	a, _ := trunked(t)
	a.Node.Config.Security.Trunks[0].Subjects = []string{"c.example"}
	a.Restart()
	a.Until("it is refused", func() bool {
		return strings.Contains(a.Node.TrunkStates()[0].Cause, "c.example") || strings.Contains(a.Node.TrunkStates()[0].Cause, "names that may")
	})
	a.User("alice", "101", func(u *store.User) { u.TollClass = "national" })
	a.fails(a.Phone("alice"), "+4940456202", "480")
}
