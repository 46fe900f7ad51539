package tlspolicy

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func sip() Endpoint { return At("sip", netip.MustParseAddrPort("192.0.2.7:5061")) }

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
	if wrong := tree.Check(nil); len(wrong) != 0 {
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
	if v, place, _ := value(tree.For(At("https", netip.MustParseAddrPort("[::]:8443"))), "min"); v != "1.3" || place != "/system" {
		t.Error(v, place)
	}
	if v, _, _ := value(Tree(nil).For(At("sip-oauth", netip.AddrPort{})), "client-auth"); v != "none" {
		t.Error(v)
	}
}

func TestFloor(t *testing.T) {
	for want, tree := range map[string]Tree{
		"TLS 1.2 is the floor":         {"/system": {Min: "1.1"}},
		"nothing of the list":          {"/system": {Suites: "RSA:!aNULL"}},
		"no command":                   {"/system": {Suites: "HIGH:@NONSENSE"}},
		"is not known":                 {"/system": {Groups: []string{"X25519MLKEM768", "ffdhe2048"}}},
		"is none of":                   {"/interface/sip": {ClientAuth: "maybe"}},
		"/interface/https to request":  {"/interface/https": {ClientAuth: "require"}},
		"require would hold for https": {"/system/transport/https": {ClientAuth: "require"}},
		"none would hold for https":    {"/system": {ClientAuth: "none"}},
		"for https too":                {"/system": {ClientAuth: "request"}, "/interface/https/192.0.2.7:8443": {ClientAuth: "require"}},
		"is below min 1.3":             {"/system": {Min: "1.3"}, "/interface/sip": {Max: "1.2"}},
		"none are set":                 {"/interface/sip-peer": {NameCheck: "subjects"}},
		"which listens":                {"/interface/sip": {NameCheck: "subjects"}},
		"which connects":               {"/interface/syslog": {ClientAuth: "none"}},
		"every public authority":       {"/interface/sip": {Anchors: []string{"own", "host"}}},
		"host would hold for":          {"/system": {Anchors: []string{"own", "host"}}},
		"host would hold for sip":      {"/system/transport/sip": {Anchors: []string{"host"}}},
		"none of them is for TLS 1.2":  {"/system": {Groups: []string{"X25519MLKEM768"}}, "/interface/sip": {Max: "1.2"}},
		"comes twice":                  {"/interface/sip": {Subjects: []string{"a", "a"}}},
		"cannot be switched off":       {"/interface/sip-peer": {NameCheck: "off"}},
		"another spelling of":          {"/interface/sip/[2001:DB8:0::7]:5061": {Min: "1.3"}},
		"there is no place":            {"/interface/telnet": {}},
		"is no address with a port":    {"/interface/sip/everywhere": {}},
	} {
		wrong := tree.Check(nil)
		if len(wrong) == 0 || !strings.Contains(wrong[0].Text, want) {
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
	if o := try(Tree{"/interface/sip": {Subjects: []string{"a.example.com"}}}, Peer{Certificate: true, Names: []string{"b.example.com"}}); o.OK || !strings.Contains(o.Error, "carries none of the names") {
		t.Errorf("%+v", o)
	}
	if o := try(Tree{"/interface/sip": {Subjects: []string{"a.example.com"}}}, Peer{Certificate: true, Names: []string{"sip:a.example.com"}}); !o.OK {
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
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(60 * 24 * time.Hour), DNSNames: []string{"x"}}
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

// ring is a keyring of one identity and one anchor.
type ring struct {
	id   tls.Certificate
	pool []*x509.Certificate
}

func (r ring) Identity(string) (*tls.Certificate, error) { return &r.id, nil }
func (r ring) Anchors(aliases []string) (*x509.CertPool, error) {
	if aliases[0] == "none" {
		return nil, invalid("no such anchor", "")
	}
	p := x509.NewCertPool()
	for _, c := range r.pool {
		p.AddCert(c)
	}
	return p, nil
}

func server(t testing.TB, p *Policy, e Endpoint) *tls.Config {
	t.Helper()
	c, err := p.Server(e, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLive replaces the tree of a listener: the next handshake goes by it, and sessions are resumed as long as nothing changes.
func TestLive(t *testing.T) {
	p := New(nil, ring{id: identity(t)})
	conf := server(t, p, sip())
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

// TestNoWayAround shows that a session of before a change does not get around it: a resumed session of TLS 1.2 has no key exchange of its own.
func TestNoWayAround(t *testing.T) {
	p := New(nil, ring{id: identity(t)})
	conf := server(t, p, sip())
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "x", MaxVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4), CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}
	for range 2 {
		if _, err := shake(t, conf, client); err != nil {
			t.Fatal(err)
		}
	}
	p.Replace(Tree{"/system": {Groups: []string{"secp384r1"}}})
	cs, err := shake(t, conf, client)
	if err != nil || cs.DidResume || cs.CurveID != tls.CurveP384 {
		t.Errorf("%v, resumed %v, %v", err, cs.DidResume, cs.CurveID)
	}
}

// TestTicketKeysTurn has a client come back after hours, and after days.
func TestTicketKeysTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := server(t, New(nil, ring{id: identity(t)}), sip())
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for i, x := range []struct {
			after  time.Duration
			resume bool
		}{{0, false}, {ticketLife - time.Minute, true}, {2 * time.Minute, true}, {ticketLife + time.Minute, true}, {2*ticketLife - time.Minute, true}, {ticketLife + time.Second, true}, {7 * 24 * time.Hour, false}} {
			time.Sleep(x.after)
			cs, err := shake(t, conf, client)
			if err != nil || cs.DidResume != x.resume {
				t.Errorf("%d: %v, resumed %v", i, err, cs.DidResume)
			}
		}
	})
}

// arrived is a connection that says where it arrived.
type arrived struct {
	net.Conn
	at string
}

func (a arrived) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.at)) }

// TestByTheAddressOfArrival has one listener for all addresses of a host, with settings for one of them.
func TestByTheAddressOfArrival(t *testing.T) {
	tree := Tree{"/interface/sip/192.0.2.7:5061": {Min: "1.3"}, "/interface/sip/[2001:db8::7]:5061": {Groups: []string{"secp384r1"}}}
	conf := server(t, New(tree, ring{id: identity(t)}), At("sip", netip.MustParseAddrPort("[::]:5061")))
	for at, want := range map[string][2]any{"192.0.2.7:5061": {uint16(tls.VersionTLS13), tls.X25519MLKEM768}, "[::ffff:192.0.2.7]:5061": {uint16(tls.VersionTLS13), tls.X25519MLKEM768},
		"192.0.2.8:5061": {uint16(tls.VersionTLS12), tls.X25519MLKEM768}, "[2001:db8::7]:5061": {uint16(tls.VersionTLS12), tls.CurveP384}} {
		got, err := conf.GetConfigForClient(&tls.ClientHelloInfo{Conn: arrived{at: at}})
		if err != nil || got.MinVersion != want[0] || got.CurvePreferences[0] != want[1] {
			t.Errorf("%s: %v %v %v", at, err, got.MinVersion, got.CurvePreferences)
		}
	}
}

// TestEveryAddress: no connection arrives at the address that means all of them, so that nothing can be set for it, and what listens there is its class.
func TestEveryAddress(t *testing.T) {
	for _, all := range []string{"0.0.0.0:5061", "[::]:5061"} {
		place := "/interface/sip/" + all
		if wrong := (Tree{place: {Min: "1.3"}}).Check(nil); len(wrong) != 1 || !strings.Contains(wrong[0].Text, "write /interface/sip") {
			t.Errorf("%s: %v", place, wrong)
		}
		if got := At("sip", netip.MustParseAddrPort(all)).Place(); got != "/interface/sip" {
			t.Errorf("%s is %s", all, got)
		}
	}
}

// TestNobodyListensThere refuses settings that would never hold.
func TestNobodyListensThere(t *testing.T) {
	listens := map[string]netip.AddrPort{"sip": netip.MustParseAddrPort("[::]:5061"), "https": netip.MustParseAddrPort("192.0.2.7:8443"), "sip-oauth": netip.MustParseAddrPort("0.0.0.0:0")}
	for place, want := range map[string]string{
		"/interface/sip/192.0.2.7:5061":        "",
		"/interface/sip/[2001:db8::7]:5061":    "",
		"/interface/sip/192.0.2.7:5062":        "would never hold",
		"/interface/https/192.0.2.7:8443":      "",
		"/interface/https/192.0.2.8:8443":      "would never hold",
		"/interface/sip-oauth/192.0.2.7:5090":  "",
		"/interface/sip-oauth/[2001:db8::7]:1": "would never hold",
		"/interface/sip-wss/192.0.2.7:7443":    "nothing listens as sip-wss",
		"/interface/syslog/192.0.2.7:6514":     "", // whom it will connect to is not known
	} {
		wrong := Tree{place: {Min: "1.3"}}.Check(listens)
		if len(wrong) > 1 || (len(wrong) == 1) != (want != "") || want != "" && !strings.Contains(wrong[0].Text, want) {
			t.Errorf("%s: %v, want %q", place, wrong, want)
		}
	}
}

// TestDialled has connections that we open go by the tree: versions, names by RFC 5922 for SIP, and subjects instead of the name.
func TestDialled(t *testing.T) {
	far := func(names ...string) (tls.Certificate, *x509.Certificate) {
		c, _, err := occasion(names)
		if err != nil {
			t.Fatal(err)
		}
		return c, c.Leaf
	}
	for name, x := range map[string]struct {
		class string
		host  string // what is dialled; empty: a.example.com
		tree  Tree
		far   []string
		max   uint16
		want  string
	}{
		"host":                      {class: "syslog", far: []string{"a.example.com"}},
		"another host":              {class: "syslog", far: []string{"b.example.com"}, want: "not a.example.com"},
		"wildcard":                  {class: "syslog", far: []string{"*.example.com"}},
		"no wildcard in SIP":        {class: "sip-peer", far: []string{"*.example.com"}, want: "proves no SIP domain"},
		"host in SIP":               {class: "sip-peer", far: []string{"a.example.com"}},
		"address in SIP":            {class: "sip-peer", host: "192.0.2.9", far: []string{"192.0.2.9"}},
		"IPv6 address in SIP":       {class: "sip-peer", host: "2001:db8::9", far: []string{"2001:db8::9"}},
		"another address in SIP":    {class: "sip-peer", host: "192.0.2.9", far: []string{"192.0.2.8"}, want: "192.0.2.9"},
		"the URI counts in SIP":     {class: "sip-peer", far: []string{"a.example.com", "sip:other.example.com"}, want: "proves no SIP domain"},
		"version":                   {class: "syslog", tree: Tree{"/system/transport/observe": {Min: "1.3"}}, far: []string{"a.example.com"}, max: tls.VersionTLS12, want: "protocol version"},
		"subject":                   {class: "syslog", tree: Tree{"/interface/syslog": {Subjects: []string{"b.example.com"}}}, far: []string{"a.example.com", "b.example.com"}},
		"no subject":                {class: "syslog", tree: Tree{"/interface/syslog": {Subjects: []string{"b.example.com"}}}, far: []string{"a.example.com"}, want: "carries none of the names"},
		"subject instead of a host": {class: "syslog", tree: Tree{"/interface/syslog": {Subjects: []string{"b.example.com"}, NameCheck: "subjects"}}, far: []string{"b.example.com"}},
		"stranger with the subject": {class: "syslog", tree: Tree{"/interface/syslog": {Subjects: []string{"b.example.com"}, NameCheck: "subjects", Anchors: []string{"others"}}}, far: []string{"b.example.com"}, want: "unknown authority"},
	} {
		cert, leaf := far(x.far...)
		r := ring{id: identity(t), pool: []*x509.Certificate{leaf}}
		if strings.HasPrefix(name, "stranger") {
			r.pool = nil
		}
		if wrong := x.tree.Check(nil); len(wrong) > 0 {
			t.Fatal(wrong)
		}
		conf, err := New(x.tree, r).Client(At(x.class, netip.MustParseAddrPort("192.0.2.9:6514")), cmp.Or(x.host, "a.example.com"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = shake(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: x.max}, conf)
		if (err != nil) != (x.want != "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
	if _, err := New(nil, ring{id: identity(t)}).Client(At("syslog", netip.AddrPort{}), "", Options{}); err == nil {
		t.Error("a server without a name")
	}
	if _, err := New(Tree{"/interface/sip": {Anchors: []string{"none"}}}, ring{id: identity(t)}).Server(sip(), Options{}); err == nil {
		t.Error("an anchor that is not there")
	}
	for max, want := range map[string]bool{"": true, "1.2": false} {
		if o, err := (Tree{"/system": {Min: "1.3"}}).For(At("syslog", netip.AddrPort{})).Try(Peer{Max: max}); err != nil || o.OK != want || want && o.Version != "TLS 1.3" {
			t.Errorf("%q: %+v %v", max, o, err)
		}
	}
}

func TestEdit(t *testing.T) {
	tree := Tree{"/system": {Min: "1.3"}, "/system/transport/sip": {Groups: []string{"secp384r1", "secp521r1"}}}
	type edit func(Tree, Edit) (Tree, error)
	for _, x := range []struct {
		do          edit
		place, what string
		values      []string
		want        string
	}{
		{Tree.Set, "/interface/sip", "min", []string{"1.2"}, "1.2"},
		{Tree.Set, "/interface/sip", "groups", []string{"x25519", "secp256r1"}, "x25519 secp256r1"},
		{Tree.Set, "/interface/sip", "min", []string{"1.2", "1.3"}, "!takes one value"},
		{Tree.Set, "/interface/sip", "colour", []string{"red"}, "!no setting"},
		{Tree.Set, "/interface/ssh", "min", []string{"1.3"}, "!no place"},
		{Tree.Add, "/interface/sip", "groups", []string{"x25519"}, "secp384r1 secp521r1 x25519"},
		{Tree.Add, "/interface/https", "groups", []string{"secp384r1"}, "X25519MLKEM768 x25519 secp256r1 secp384r1"},
		{Tree.Add, "/system", "groups", []string{"secp384r1"}, "X25519MLKEM768 x25519 secp256r1 secp384r1"},
		{Tree.Add, "/system/transport/sip", "groups", []string{"secp384r1"}, "!in the list already"},
		{Tree.Add, "/system", "suites", []string{"!CHACHA20"}, "ECDHE+AESGCM:ECDHE+CHACHA20:!PSK:!CHACHA20"},
		{Tree.Add, "/system", "min", []string{"1.2"}, "!no list"},
		{Tree.Add, "/interface/syslog", "anchors", []string{"customer"}, "own host customer"},
		{Tree.Remove, "/system/transport/sip", "groups", []string{"secp521r1"}, "secp384r1"},
		{Tree.Remove, "/interface/sip", "groups", []string{"secp521r1"}, "secp384r1"},
		{Tree.Remove, "/interface/sip", "groups", nil, "!not set at"},
		{Tree.Remove, "/system/transport/sip", "groups", []string{"x25519"}, "!is not in the list"},
		{Tree.Remove, "/system/transport/sip", "groups", []string{"secp384r1", "secp521r1"}, "!nothing of the list"},
		{Tree.Remove, "/interface/sip", "", nil, "!nothing is set"},
	} {
		got, err := x.do(tree, Edit{x.place, x.what, x.values})
		want, fails := strings.CutPrefix(x.want, "!")
		if fails {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v", x, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", x, err)
			continue
		}
		for _, f := range fields() {
			if f.name == x.what && f.value(got[x.place]) != x.want {
				t.Errorf("%+v: %q", x, f.value(got[x.place]))
			}
		}
		if wrong := got.Check(nil); len(wrong) > 0 {
			t.Error(wrong)
		}
	}
	for _, e := range []Edit{{Place: "/system"}, {Place: "/system", Setting: "min"}} {
		if got, err := tree.Remove(e); err != nil || len(got) != 1 || len(tree) != 2 {
			t.Error(got, err)
		}
	}
}

// BenchmarkHandshake compares a full TLS 1.3 handshake by a policy with one of bare crypto/tls.
func BenchmarkHandshake(b *testing.B) {
	id := identity(b)
	bare := &tls.Config{Certificates: []tls.Certificate{id}, CurvePreferences: []tls.CurveID{tls.X25519}, ClientCAs: x509.NewCertPool(), ClientAuth: tls.VerifyClientCertIfGiven}
	policy := server(b, New(Tree{"/system": {Min: "1.2"}, "/system/transport/sip": {ClientAuth: "request"}, "/interface/sip": {Groups: []string{"x25519"}}}, ring{id: id}), sip())
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

// Whom the database's connection believes stands in the database's address, since what the tree could name is behind that connection; the rest is from the tree.
func TestAlone(t *testing.T) {
	for _, c := range []struct {
		path string
		s    Settings
		bad  string
	}{
		{"/interface/postgres", Settings{Min: "1.3", Groups: []string{"x25519"}}, ""},
		{"/system/transport/store", Settings{Suites: "ECDHE+AESGCM"}, ""},
		{"/interface/postgres/192.0.2.1:5432", Settings{Anchors: []string{"own"}}, "sslrootcert"},
		{"/interface/postgres", Settings{Identity: "x"}, "sslcert"},
		{"/interface/postgres", Settings{Subjects: []string{"x"}}, "the database's address says"},
		{"/interface/postgres", Settings{NameCheck: "subjects"}, "the database's address says"},
		{"/interface/postgres", Settings{ClientAuth: "none"}, "which connects"},
	} {
		wrong := Tree{c.path: c.s}.Check(nil)
		if c.bad == "" && len(wrong) > 0 || c.bad != "" && (len(wrong) != 1 || !strings.Contains(wrong[0].Text, c.bad)) {
			t.Errorf("%s %+v: %v, want %q", c.path, c.s, wrong, c.bad)
		}
	}
	// What is set for everything does not reach whom it believes.
	all := Tree{"/system": {Min: "1.3", NameCheck: "subjects", Subjects: []string{"anybody"}, Anchors: []string{"own"}}}
	base := &tls.Config{ServerName: "db.example", RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS10}
	got := New(all, nil).Harden(At("postgres", netip.MustParseAddrPort("192.0.2.1:5432")), base)
	if got.MinVersion != tls.VersionTLS13 || got.ServerName != "db.example" || got.RootCAs != base.RootCAs || got.InsecureSkipVerify || base.MinVersion != tls.VersionTLS10 {
		t.Errorf("hardened: %+v", got)
	}
	for _, d := range all.For(At("postgres", netip.AddrPort{})).Decisions {
		if d.Setting == "anchors" || d.Setting == "subjects" || d.Setting == "identity" || d.Setting == "name-check" {
			t.Errorf("%s is shown as if it held", d.Setting)
		}
	}
}
