package tlspolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func sip() Listener {
	return Listen("sip", netip.MustParseAddrPort("192.0.2.7:5061"))
}

func value(e Effective, setting string) (value, place string, over int) {
	for _, d := range e.Decisions {
		if d.Setting == setting {
			return d.Value, d.Place, len(d.Over)
		}
	}
	return "", "", 0
}

func TestMostSpecificWins(t *testing.T) {
	tree := Tree{
		"/system":                       {Min: "1.3", Groups: []string{"secp256r1"}},
		"/system/transport/sip":         {ClientAuth: "none"},
		"/interface/sip":                {Min: "1.2", ClientAuth: "require"},
		"/interface/sip/192.0.2.7:5061": {Groups: []string{"x25519"}},
		"/interface/sip/192.0.2.8:5061": {Groups: []string{"secp521r1"}},
		"/interface/https":              {Suites: "ECDHE-ECDSA-AES128-GCM-SHA256"},
	}
	if wrong := tree.Check(); len(wrong) != 0 {
		t.Fatal(wrong)
	}
	e := tree.For(sip())
	for setting, want := range map[string][2]string{"min": {"1.2", "/interface/sip"}, "groups": {"x25519", "/interface/sip/192.0.2.7:5061"}, "client-auth": {"require", "/interface/sip"}, "suites": {"ECDHE+AESGCM:ECDHE+CHACHA20:!PSK", "built in"}} {
		if v, place, _ := value(e, setting); v != want[0] || place != want[1] {
			t.Errorf("%s: %s from %s", setting, v, place)
		}
	}
	if _, _, over := value(e, "min"); over != 2 {
		t.Errorf("%+v", e.Decisions)
	}
	if v, place, _ := value(tree.For(Listen("https", netip.MustParseAddrPort("[::]:8443"))), "min"); v != "1.3" || place != "/system" {
		t.Error(v, place)
	}
	if v, _, _ := value(Tree(nil).For(Listen("sip-oauth", netip.AddrPort{})), "client-auth"); v != "none" {
		t.Error(v)
	}
}

func TestFloor(t *testing.T) {
	for want, tree := range map[string]Tree{
		"TLS 1.2 is the floor":      {"/system": {Min: "1.1"}},
		"nothing of the list":       {"/system": {Suites: "RSA:!aNULL"}},
		"no command":                {"/system": {Suites: "HIGH:@NONSENSE"}},
		"is not known":              {"/system": {Groups: []string{"X25519MLKEM768", "ffdhe2048"}}},
		"is none of":                {"/interface/sip": {ClientAuth: "maybe"}},
		"stays request":             {"/interface/https": {ClientAuth: "require"}},
		"there is no such place":    {"/interface/telnet": {}},
		"is no address with a port": {"/interface/sip/everywhere": {}},
	} {
		wrong := tree.Check()
		if len(wrong) != 1 || !strings.Contains(wrong[0].Text, want) {
			t.Errorf("%v: want %q", wrong, want)
		}
	}
}

func TestTry(t *testing.T) {
	try := func(tree Tree, p Peer) Outcome {
		t.Helper()
		o, err := tree.For(sip()).Try(p)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if o := try(nil, Peer{}); !o.OK || o.Version != "TLS 1.3" || o.Group != "X25519MLKEM768" || !o.Asked {
		t.Errorf("%+v", o)
	}
	if o := try(nil, Peer{Max: "1.2", Suites: "ECDHE-ECDSA-AES128-GCM-SHA256", Groups: []string{"secp256r1"}}); !o.OK || o.Version != "TLS 1.2" || o.Suite != "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" || o.Group != "secp256r1" {
		t.Errorf("%+v", o)
	}
	if o := try(nil, Peer{Max: "1.2", Suites: "RSA:!aNULL:!eNULL"}); o.OK || !strings.Contains(o.Error, "no cipher suite") {
		t.Errorf("%+v", o)
	}
	if o := try(Tree{"/system": {Min: "1.3"}}, Peer{Max: "1.2"}); o.OK || !strings.Contains(o.Error, "unsupported versions") {
		t.Errorf("%+v", o)
	}
	if o := try(Tree{"/system": {Groups: []string{"secp521r1"}}}, Peer{Groups: []string{"x25519"}}); o.OK {
		t.Errorf("%+v", o)
	}
	require := Tree{"/interface/sip": {ClientAuth: "require"}}
	if o := try(require, Peer{}); o.OK || !strings.Contains(o.Error, "certificate") {
		t.Errorf("%+v", o)
	}
	if o := try(require, Peer{Certificate: true}); !o.OK {
		t.Errorf("%+v", o)
	}
	if o := try(Tree{"/system": {ClientAuth: "none"}}, Peer{}); !o.OK || o.Asked {
		t.Errorf("%+v", o)
	}
	for _, p := range []Peer{{Max: "1.1"}, {Suites: "AES128-CCM8"}, {Suites: "@X"}, {Groups: []string{"none"}}} {
		if _, err := Tree(nil).For(sip()).Try(p); err == nil {
			t.Errorf("%+v was tried", p)
		}
	}
}

// identity is a certificate for tests.
func identity(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x"}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// shake has a client and a server configuration meet, and returns what the client sees.
func shake(t testing.TB, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := pair()
	defer a.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := tls.Server(b, server)
		if s.Handshake() == nil {
			_, _ = s.Write([]byte("x"))
		}
		b.(*end).out.close()
	}()
	c := tls.Client(a, client)
	err := c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	cs := c.ConnectionState()
	a.Close()
	<-done
	return cs, err
}

// TestLive replaces the tree of a listener: the next handshake goes by it, and sessions are resumed as long as nothing changes.
func TestLive(t *testing.T) {
	p := New(nil)
	conf := p.Server(sip(), &tls.Config{Certificates: []tls.Certificate{identity(t)}, ClientCAs: x509.NewCertPool()})
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if _, err := shake(t, conf, old); err != nil {
		t.Fatal(err)
	}
	p.Replace(Tree{"/interface/sip": {Min: "1.3"}})
	if _, err := shake(t, conf, old); err == nil {
		t.Error("TLS 1.2 is still spoken")
	}
	p.Replace(Tree{"/interface/https": {Min: "1.3"}})
	if _, err := shake(t, conf, old); err != nil {
		t.Error(err)
	}
	cached := &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for i := range 3 {
		cs, err := shake(t, conf, cached)
		if err != nil || cs.DidResume != (i > 0) {
			t.Errorf("%d: %v, resumed %v", i, err, cs.DidResume)
		}
		p.Replace(Tree{"/interface/https": {Min: "1.2"}}) // says nothing about SIP
	}
	p.Replace(Tree{"/system": {Groups: []string{"secp384r1"}}})
	if cs, err := shake(t, conf, &tls.Config{InsecureSkipVerify: true}); err != nil || cs.CurveID != tls.CurveP384 {
		t.Error(err, cs.CurveID)
	}
}

// BenchmarkHandshake compares a full TLS 1.3 handshake by a policy with one of bare crypto/tls.
func BenchmarkHandshake(b *testing.B) {
	id := identity(b)
	bare := &tls.Config{Certificates: []tls.Certificate{id}, CurvePreferences: []tls.CurveID{tls.X25519}, ClientCAs: x509.NewCertPool(), ClientAuth: tls.VerifyClientCertIfGiven}
	policy := New(Tree{"/system": {Min: "1.2"}, "/system/transport/sip": {ClientAuth: "request"}, "/interface/sip": {Groups: []string{"x25519"}}}).Server(sip(), bare)
	client := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	for _, x := range []struct {
		name string
		conf *tls.Config
	}{{"bare", bare}, {"policy", policy}} {
		b.Run(x.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := shake(b, x.conf, client); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
