package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/tlspolicy"
)

// TestPolicyIsLive changes what a listener speaks while a phone is connected: the phone goes on, and the next handshake goes by the change, as
// does the one after it was undone.
func TestPolicyIsLive(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	p := s.raw(s.Identity("alice", "alice-raw"))
	uri := "sip:" + s.Domain
	register := func() {
		t.Helper()
		if p.send("REGISTER", uri, "<sip:alice@"+s.Domain+">", nil, "Expires: 600"); p.final().Status() != 200 {
			t.Fatal("the phone was lost")
		}
	}
	old := func(at string) error {
		d := tls.Dialer{Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, MaxVersion: tls.VersionTLS12}}
		c, err := d.DialContext(s.Ctx, "tcp", at)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	register()
	s.OK(old(s.SIP.String()))
	whole, err := s.Node.Settings.Whole()
	s.OK(err)
	_, err = s.Node.Settings.Apply(s.Ctx, string(whole)+"\ntls:\n  /interface/sip: {min: \"1.3\"}\n", "test.yaml", "test", "no more 1.2")
	s.OK(err)
	register()
	if old(s.SIP.String()) == nil {
		t.Error("TLS 1.2 is still spoken")
	}
	s.OK(old(s.HTTPS.String()))
	_, err = s.Node.Settings.Undo(s.Ctx, 0, "test")
	s.OK(err)
	register()
	s.OK(old(s.SIP.String()))
}

// TestPolicyShutsNobodyOutUnasked tries changes that would shut out whom a listener is there for: they are not made, unless that is meant.
func TestPolicyShutsNobodyOutUnasked(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	p := s.raw(s.Identity("alice", "alice-raw"))
	uri := "sip:" + s.Domain
	set := func(force bool, setting string, values ...string) error {
		_, err := s.Node.Settings.EditTLS(s.Ctx, "test", "", force, func(now tlspolicy.Tree) (tlspolicy.Tree, error) {
			return now.Set(tlspolicy.Edit{Place: "/interface/sip", Setting: setting, Values: values})
		})
		return err
	}
	for _, c := range [][]string{{"subjects", "carrier.example"}, {"client-auth", "require"}, {"suites", "ECDHE+aRSA+AESGCM"}, {"groups", "X25519MLKEM768"}} {
		if err := set(false, c[0], c[1:]...); ringfence.KindOf(err) != ringfence.KindConflict || !strings.Contains(err.Error(), c[0]+": ") || ringfence.HintOf(err) == "" {
			t.Errorf("%s: %v", c[0], err)
		}
	}
	for _, id := range []string{tlspolicy.TVSIdentity, tlspolicy.CAPFIdentity} { // neither is there: no handshake would succeed
		if err := set(true, "identity", id); ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.Error(), "that service is not there") {
			t.Errorf("%s: %v", id, err)
		}
	}
	if tree := s.Node.Policy(); len(tree) > 0 {
		t.Errorf("something was set: %v", tree)
	}
	if p.send("REGISTER", uri, "<sip:alice@"+s.Domain+">", nil, "Expires: 600"); p.final().Status() != 200 {
		t.Error("the phone was lost")
	}
	s.OK(set(true, "client-auth", "require"))
	plan, err := s.Node.Settings.Plan("domain: "+s.Domain+"\ntls:\n  /interface/sip: {client-auth: require, subjects: [carrier.example]}\n", "test.yaml")
	s.OK(err)
	if len(plan.Risks) != 1 || !strings.Contains(plan.Risks[0], "/interface/sip: subjects: ") {
		t.Errorf("%q", plan.Risks)
	}
}

// TestAnchorThatAnotherNodeNames has another node of the database name an anchor in its settings: it cannot be removed here, as long as that node is there.
func TestAnchorThatAnotherNodeNames(t *testing.T) {
	s := newSite(t, nil)
	api1 := s.admin()
	add := func() {
		t.Helper()
		s.OK(api1.Do(s.Ctx, http.MethodPost, "/anchors", nil, api.NewAnchor{Alias: "carrier", File: s.Node.Authority.RootPEM()}, nil))
	}
	remove := func() error { return api1.Do(s.Ctx, http.MethodDelete, "/anchors/carrier", nil, nil, nil) }
	add()
	last, err := s.Node.Store.ConfigVersion(s.Ctx, 0)
	s.OK(err)
	yaml := "domain: " + s.Domain + "\nnode: other\ntls:\n  /interface/sip: {anchors: [own, carrier]}\n"
	s.OK(s.Node.Store.AddConfigVersion(s.Ctx, store.ConfigVersion{N: last.N + 1, Node: "other", YAML: yaml, At: time.Now()}))
	s.OK(remove()) // that node is gone
	add()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	_, err = s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleNode, Name: "other", DNSNames: []string{s.Domain}, PublicKey: key.Public()})
	s.OK(err)
	if err := remove(); ringfence.KindOf(err) != ringfence.KindConflict || !strings.Contains(err.Error(), "the node other still names carrier") {
		t.Errorf("%v", err)
	}
	s.OK(s.Node.Store.AddConfigVersion(s.Ctx, store.ConfigVersion{N: last.N + 2, Node: "other", YAML: "domain: " + s.Domain + "\nnode: other\n", At: time.Now()}))
	s.OK(remove())
	add()
	yaml = "domain: " + s.Domain + "\nnode: other\nsecurity: {trunks: [{name: cube, anchors: [carrier]}]}\n"
	s.OK(s.Node.Store.AddConfigVersion(s.Ctx, store.ConfigVersion{N: last.N + 3, Node: "other", YAML: yaml, At: time.Now()}))
	if err := remove(); ringfence.KindOf(err) != ringfence.KindConflict {
		t.Errorf("a trunk profile of another node names it: %v", err)
	}
}

// TestAnchorOfATrunk has the security profile of a trunk name an anchor: one that is not there is refused, and one that is there stays as long as it is named.
func TestAnchorOfATrunk(t *testing.T) {
	a, _ := trunked(t)
	yaml := "domain: " + a.Domain + "\nsecurity: {trunks: [{name: cube, anchors: [nobody]}]}\n"
	if _, err := a.Node.Settings.Plan(yaml, "test.yaml"); ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.Error(), "security.trunks[0]") || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("%v", err)
	}
	a.OK(a.admin().Do(a.Ctx, http.MethodPost, "/tls", nil, api.TLSEdit{Do: "remove", Place: "/system/transport/sip", Setting: "anchors", Force: true}, nil))
	if err := a.admin().Do(a.Ctx, http.MethodDelete, "/anchors/other", nil, nil, nil); ringfence.KindOf(err) != ringfence.KindConflict || !strings.Contains(err.Error(), "security.trunks[0]") {
		t.Errorf("%v", err)
	}
}

// TestRevokedNode revokes the certificate that the node itself presents: the next handshake sees another one.
func TestRevokedNode(t *testing.T) {
	s := newSite(t, nil)
	presented := func() string {
		t.Helper()
		c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: s.Roots, ServerName: s.Domain}}).DialContext(s.Ctx, "tcp", s.SIP.String())
		s.OK(err)
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
	}
	was := presented()
	s.OK(s.admin().Do(s.Ctx, http.MethodPost, "/trust/revoke", nil, api.RevokeSerial{Serial: was, Reason: "key compromise"}, nil))
	if now := presented(); now == was || s.Node.Authority.IsRevoked(now) {
		t.Error("the node goes on with a certificate that was revoked")
	}
}
