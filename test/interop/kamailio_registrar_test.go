package interop_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/onehost"
)

// registrarConfig makes a registrar and proxy of Kamailio: digest with SHA-256 at REGISTER and INVITE, Record-Route, and calls only to
// who is registered.
const registrarConfig = `#!KAMAILIO
debug=2
log_stderror=yes
children=1
tcp_children=2
enable_tls=yes
listen=tls:ADDR
alias="calls.example"
loadmodule "tls.so"
loadmodule "pv.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
modparam("tls", "config", "HOME/tls.cfg")
modparam("auth", "algorithm", "SHA-256")
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("usrloc", "db_mode", 0)
request_route {
	if (is_method("CANCEL")) {
		if (t_check_trans()) t_relay();
		exit;
	}
	if (has_totag()) {
		if (loose_route()) t_relay();
		else if (is_method("ACK") && t_check_trans()) t_relay();
		else if (!is_method("ACK")) sl_send_reply("404", "Not Here");
		exit;
	}
	t_check_trans();
	if (is_method("REGISTER")) {
		if (!pv_www_authenticate("calls.example", "secret of $au", "0")) {
			www_challenge("calls.example", "1");
			exit;
		}
		save("location");
		exit;
	}
	if (!pv_proxy_authenticate("calls.example", "secret of $au", "0")) {
		proxy_challenge("calls.example", "1");
		exit;
	}
	consume_credentials();
	record_route();
	if (!lookup("location")) {
		sl_send_reply("404", "Nobody There");
		exit;
	}
	t_relay();
}
`

// trace keeps what a phone sent and heard, method or status and fields, without bodies.
type trace struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *trace) hear(_ *transport.Conn, msg []byte, sent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	head, _, _ := strings.Cut(string(msg), "\r\n\r\n")
	if sent {
		r.text.WriteString("> ")
	}
	r.text.WriteString(head + "\n\n")
}

// said reports whether a sent message begins with start and has this text in its head.
func (r *trace) said(start, text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m := range strings.SplitSeq(r.text.String(), "\n\n") {
		if strings.HasPrefix(m, "> "+start) && strings.Contains(m, text) {
			return true
		}
	}
	return false
}

// Another vendor's registrar and proxy accepts our phone's digest, finds it by its contact, and routes what belongs to the call.
func TestKamailioAsRegistrar(t *testing.T) {
	t.Parallel()
	s := &site{Site: onehost.New(t, time.Minute), home: t.TempDir()}
	ctx := s.Ctx
	at, trust := freePort(t), testkit.NewAuthority("Another Vendor")
	pair := trust.Issue("calls.example")
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	s.OK(err)
	s.file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	s.file("chain.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	s.file("tls.cfg", []byte("[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\nprivate_key = "+s.path("key.pem")+"\ncertificate = "+s.path("chain.pem")+"\n"))
	s.file("kamailio.cfg", []byte(strings.NewReplacer("ADDR", at.String(), "HOME", s.home).Replace(registrarConfig)))
	s.kamailio(s.home, at.String())

	open := func(user string, change func(*phone.Config)) (*phone.Phone, *trace, error) {
		t.Helper()
		opener, err := sockets.New(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}))
		s.OK(err)
		seen := &trace{}
		cfg := phone.Config{Opener: opener, Server: at, ServerName: "calls.example", TLS: &tls.Config{RootCAs: trust.Pool}, User: user, Domain: "calls.example",
			Password: "secret of " + user, MediaAddr: netip.MustParseAddr("127.0.0.1"), Log: node.Discard(), Trace: seen.hear}
		if change != nil {
			change(&cfg)
		}
		p, err := phone.Open(ctx, cfg)
		if err == nil {
			t.Cleanup(func() { _ = p.Close() })
		}
		return p, seen, err
	}
	if _, _, err := open("alice", func(c *phone.Config) { c.Password = "guess" }); ringfence.KindOf(err) != ringfence.KindUnauthenticated {
		t.Errorf("a wrong password: %v", err)
	}
	if _, _, err := open("alice", func(c *phone.Config) { c.ServerName = "other.example" }); ringfence.KindOf(err) != ringfence.KindInsecure {
		t.Errorf("a wrong name: %v", err)
	}
	alice, out, err := open("alice", nil)
	s.OK(err)
	bob, in, err := open("bob", nil)
	s.OK(err)
	if auth := alice.Registration().Auth; auth != ringfence.AuthDigestSHA256 {
		t.Errorf("registered by %s", auth)
	}
	// Twice, so that each hangs up once; with a hold, which is a request inside the dialog, each time.
	for _, calleeHangsUp := range [...]bool{false, true} {
		a, err := alice.Call(ctx, "bob", phone.CallOptions{Audio: phone.Tone(600)})
		s.OK(err)
		b := s.Incoming(bob)
		s.OK(b.Answer(ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
		s.OK(a.WaitAnswered(ctx))
		s.Hears(b, 600)
		s.Hears(a, 1000)
		if p := a.Proof(); p.Verdict != ringfence.Sealed || p.Media.Suite != "AEAD_AES_256_GCM" {
			t.Errorf("proof %+v", p)
		}
		s.OK(a.Hold(ctx))
		s.OK(a.Resume(ctx))
		s.OK(b.Hold(ctx))
		s.OK(b.Resume(ctx))
		s.Hears(b, 600)
		if calleeHangsUp {
			b.Hangup()
			s.OK(a.WaitEnded(ctx))
		} else {
			a.Hangup()
			s.OK(b.WaitEnded(ctx))
		}
	}
	route := "Route: <sip:" + at.String()
	for who, seen := range map[string]*trace{"alice": out, "bob": in} {
		if !seen.said("BYE sip:", route) || !seen.said("INVITE sip:", route) {
			t.Errorf("%s left the route set out:\n%s", who, seen.text.String())
		}
	}
	if !out.said("ACK sip:bob@127.0.0.1", route) {
		t.Error("the ACK to a 2xx did not take the route set")
	}
	// Nobody, and a call that is given up.
	c, err := alice.Call(ctx, "carol", phone.CallOptions{})
	s.OK(err)
	if err := c.WaitAnswered(ctx); ringfence.KindOf(err) != ringfence.KindNotFound {
		t.Errorf("nobody: %v", err)
	}
	c, err = alice.Call(ctx, "bob", phone.CallOptions{})
	s.OK(err)
	b := s.Incoming(bob)
	s.OK(c.WaitRinging(ctx))
	c.Hangup()
	if err := b.WaitEnded(ctx); ringfence.KindOf(err) != ringfence.KindCancelled {
		t.Errorf("given up: %v", err)
	}
}
