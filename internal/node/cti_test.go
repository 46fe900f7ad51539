package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
	"ringfence/internal/service/cti"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// ctiConn is a CTI client.
type ctiConn struct {
	*site
	*tls.Conn
}

func (s *site) ctiDial(cert *tls.Certificate) (*tls.Conn, error) {
	conf := &tls.Config{RootCAs: s.Roots, ServerName: s.Domain}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return tls.Dial("tcp", s.Node.Bound("cti").String(), conf)
}

func (s *site) cti(cert *tls.Certificate) *ctiConn {
	s.Helper()
	c, err := s.ctiDial(cert)
	s.OK(err)
	s.Cleanup(func() { _ = c.Close() })
	s.OK(c.SetReadDeadline(time.Now().Add(30 * time.Second)))
	out := &ctiConn{s, c}
	out.say(`<Channel xmlns="http://schema.broadsoft.com/xsi"><channelSetId>x</channelSetId></Channel>`)
	out.hear("<Channel ")
	return out
}

func (c *ctiConn) say(text string) {
	c.site.Helper()
	c.OK(cti.WriteMessage(c.Conn, []byte(text)))
}

// hear reads messages until one has all of these in it.
func (c *ctiConn) hear(parts ...string) string {
	c.site.Helper()
	b, err := cti.ReadMessage(c.Conn)
	if err != nil {
		c.Fatalf("waiting for %q: %v", parts, err)
	}
	for _, p := range parts {
		if !strings.Contains(string(b), p) {
			c.Fatalf("heard %s, which lacks %q", b, p)
		}
	}
	return string(b)
}

func (c *ctiConn) follow(user, pack string) string {
	c.site.Helper()
	c.say(`<Subscription xmlns="http://schema.broadsoft.com/xsi"><targetIdType>User</targetIdType><targetId>` + user + `</targetId><event>` + pack + `</event></Subscription>`)
	return c.hear("<Subscription ", "<targetId>"+user+"<")
}

// foreign makes an authority outside, and a certificate of it.
func foreign(s *site, name string) (root []byte, cert *tls.Certificate) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	ends := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	}
	top := ends(1, "Internal Private Root")
	top.IsCA, top.BasicConstraintsValid, top.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, top, top, key.Public(), key)
	s.OK(err)
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	made, err := x509.CreateCertificate(rand.Reader, ends(2, name), top, leaf.Public(), key)
	s.OK(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), &tls.Certificate{Certificate: [][]byte{made}, PrivateKey: leaf}
}

// TestCTI has systems with client certificates follow calls: by our authority or one that is believed there, by the identities that may connect, and nobody else; and lose what is revoked within five seconds.
func TestCTI(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		c.CTI = config.CTI{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Clients: []cti.Client{{Identity: "bwcticlient.webex.com", Users: []ringfence.UserID{"alice"}}, {Identity: "recorder", Users: []ringfence.UserID{cti.Everybody}}}}
	})
	s.User("alice", "101", func(u *store.User) { u.Name = "Alice" })
	s.User("bob", "102")
	root, outside := foreign(s, "bwcticlient.webex.com")
	for what, cert := range map[string]*tls.Certificate{"no certificate": nil, "an authority that is not believed": outside} {
		c, err := s.ctiDial(cert)
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), "tls:") {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.OK(s.admin().Do(s.Ctx, http.MethodPost, "/anchors", nil, api.NewAnchor{Alias: "webexclientroot2023", File: root}, nil))
	s.OK(s.admin().Do(s.Ctx, http.MethodPost, "/tls", nil, api.TLSEdit{Do: "set", Place: "/interface/cti", Setting: "anchors", Values: []string{"own", "webexclientroot2023"}}, nil))
	recorder := issue(s, ca.Request{Role: ca.RoleCTI, Name: "recorder"})
	_, stranger := foreign(s, "bwcticlient.webex.com")
	phoneCert := certificate(s.Identity("bob", "recorder"))
	for what, cert := range map[string]*tls.Certificate{"nobody who may": issue(s, ca.Request{Role: ca.RoleCTI, Name: "somebody"}), "a phone of that name": &phoneCert, "the right name by another authority": stranger} {
		before := s.Node.CTI.Refused()
		c, err := s.ctiDial(cert)
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || s.Node.CTI.Refused() == before {
			s.Until("it is refused", func() bool { return err != nil && s.Node.CTI.Refused() > before })
		}
		if len(s.Node.CTI.Sessions()) > 0 {
			t.Errorf("%s is in", what)
		}
	}

	webex, all := s.cti(outside), s.cti(recorder)
	webex.follow("alice@"+s.Domain, "Standard Call")
	webex.hear("CallSubscriptionEvent")
	webex.say(`<Subscription xmlns="http://schema.broadsoft.com/xsi"><targetIdType>User</targetIdType><targetId>bob</targetId><event>Standard Call</event></Subscription>`)
	webex.hear("<ErrorInfo ", "<errorCode>403<", "may not follow")
	all.follow("102", "Basic Call")
	all.hear("CallSubscriptionEvent")
	all.follow("alice", "Do Not Disturb")
	all.hear("<active>false<")

	alice, bob := s.Phone("alice"), s.Phone("bob")
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{})
	s.OK(err)
	in := s.Incoming(bob)
	id := s.Node.Calls.List()[0].ID
	webex.hear("CallOriginatedEvent", "<callId>"+string(id)+":o<", "<personality>Originator<", "<state>Alerting<", "<address>tel:102<")
	all.hear("CallReceivedEvent", "<extTrackingId>"+string(id)+"<", "<personality>Terminator<", "<address>tel:101<", "<userId>alice@"+s.Domain+"<", "<name>Alice<", "<callType>Group<")
	s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
	s.OK(out.WaitAnswered(s.Ctx))
	webex.hear("CallAnsweredEvent", "<state>Active<", "<answerTime>")
	all.hear("CallAnsweredEvent", "<state>Active<")
	late := s.cti(recorder)
	late.follow("alice", "Advanced Call")
	late.hear("CallSubscriptionEvent", "<calls><call><callId>"+string(id)+":o<", "<state>Active<")
	s.OK(out.Hold(s.Ctx))
	webex.hear("CallHeldEvent", "<state>Held<")
	all.hear("CallUpdatedEvent", "<state>Remote Held<")
	s.OK(out.Resume(s.Ctx))
	webex.hear("CallRetrievedEvent", "<state>Active<")
	all.hear("CallUpdatedEvent", "<state>Active<")
	in.Hangup()
	webex.hear("CallReleasedEvent", "<state>Released<", "<releaseTime>")
	all.hear("CallReleasedEvent")

	private, err := alice.Call(s.Ctx, "102", phone.CallOptions{Private: true})
	s.OK(err)
	webex.hear("CallOriginatedEvent", "<address>tel:102<")
	if told := all.hear("CallReceivedEvent"); strings.Contains(told, "101") || strings.Contains(strings.ToLower(told), "alice") {
		t.Errorf("who withholds his number is shown: %s", told)
	}
	private.Hangup()
	webex.hear("CallReleasedEvent")
	all.hear("CallReleasedEvent")

	yes := true
	s.OK(s.admin().Do(s.Ctx, http.MethodPatch, "/users/alice", nil, api.UserChange{DND: &yes}, nil))
	all.hear("DoNotDisturbEvent", "<active>true<")

	var list []api.CTISession
	s.OK(s.admin().Do(s.Ctx, http.MethodGet, "/cti/sessions", nil, nil, &list))
	if len(list) != 3 || list[0].TLS.Version != "TLS 1.3" || list[0].Subscriptions == 0 {
		t.Errorf("%+v", list)
	}
	var e api.TLSExplanation
	s.OK(s.admin().Do(s.Ctx, http.MethodGet, "/tls/explanation", map[string][]string{"place": {"/interface/cti/" + s.Node.Bound("cti").String()}}, nil, &e))
	if e.Outcome.OK || !strings.Contains(fmt.Sprint(e.Decisions), "require") {
		t.Errorf("%+v", e)
	}

	began := time.Now()
	leaf, err := x509.ParseCertificate(recorder.Certificate[0])
	s.OK(err)
	s.OK(s.admin().Do(s.Ctx, http.MethodPost, "/trust/revoke", nil, api.RevokeSerial{Serial: leaf.SerialNumber.Text(16), Reason: "key compromise"}, nil))
	all.hear("ChannelTerminatedEvent", "was revoked")
	s.ended(all.Conn)
	s.ended(late.Conn)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the connections ended after %s", took)
	}
	s.Until("the other alone is connected", func() bool { // the client knows of the end before the server is done with it
		left := s.Node.CTI.Sessions()
		return len(left) == 1 && left[0].Identity == "bwcticlient.webex.com"
	})
}
