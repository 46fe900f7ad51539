package phone

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/sip"
)

// clear makes the switch listen in the clear as well.
func (w *world) clear(t *testing.T) (tcp, udp netip.AddrPort) {
	t.Helper()
	var err error
	if tcp, err = w.conns.Listen(t.Context(), "tcp", netip.MustParseAddrPort(switchAddr+":5060"), nil); err != nil {
		t.Fatal(err)
	}
	if udp, err = w.conns.ListenUDP(t.Context(), "udp", netip.MustParseAddrPort(switchAddr+":5060")); err != nil {
		t.Fatal(err)
	}
	return tcp, udp
}

// TestPlain registers and calls in the clear where that was said by name. Nothing of it is called sealed, and media is SRTP all the same.
func TestPlain(t *testing.T) {
	for _, network := range []string{"TCP", "UDP"} {
		t.Run(network, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.clear(t)
				w.password, w.alg = "secret", sip.DigestMD5
				plain := func(c *Config) {
					c.Plain, c.TLS, c.Server = network, nil, netip.MustParseAddrPort(switchAddr+":5060")
					c.Flow, c.SIPPort, c.Password, c.AllowMD5 = "line-1", 5080, "secret", true
				}
				a := w.phone(t, "alice", 10, plain)
				b := w.phone(t, "bob", 11, func(c *Config) { c.Password, c.AllowMD5 = "secret", true })
				if r, p := a.Registration(), a.Proof(); r.Auth != ringfence.AuthDigestMD5 || p.Verdict != ringfence.Exception || p.TLS != nil || !strings.Contains(p.Reason, "in the clear over "+network) {
					t.Errorf("%+v %+v", r, p)
				}
				out, in := join(t, a, b, CallOptions{Audio: Tone(440)}, CallOptions{Audio: Tone(880)})
				pass(2 * time.Second)
				if p := out.Proof(); p.Verdict != ringfence.Exception || p.Media == nil || p.Media.PacketsIn == 0 || p.Media.Suite == "" {
					t.Errorf("%+v %+v", p, p.Media)
				}
				if p := in.Proof(); p.Verdict != ringfence.Sealed {
					t.Errorf("%+v", p)
				}
				out.Hangup()
				if err := in.WaitEnded(ctxFor(t)); err != nil {
					t.Error(err)
				}
				in2, out2 := join(t, b, a, CallOptions{}, CallOptions{}) // and towards it
				in2.Hangup()
				if err := out2.WaitEnded(ctxFor(t)); err != nil {
					t.Error(err)
				}
				pass(3 * time.Minute) // keep-alives, which over UDP nobody answers
				if !a.Registered() {
					t.Errorf("%+v", a.Registration())
				}
				if network == "UDP" {
					w.mu.Lock()
					contact, remote := w.bindings["alice"].contact, w.bindings["alice"].conn.Remote
					w.mu.Unlock()
					if want := "192.0.2.10:5080"; remote.String() != want || !strings.Contains(contact, want+";transport=udp") {
						t.Errorf("it is heard at %s, and says %s", remote, contact)
					}
				}
			})
		})
	}
}

// TestPlainServerIsGone goes back when the server is there again.
func TestPlainServerIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.clear(t)
		at := netip.MustParseAddr(switchAddr)
		w.net.Blackhole(netip.MustParseAddr("192.0.2.10"), at)
		_, err := Open(ctxFor(t), w.cfg("alice", 10, func(c *Config) { c.Plain, c.Server, c.TLS = "UDP", netip.MustParseAddrPort(switchAddr+":5060"), nil }))
		if ringfence.KindOf(err) != ringfence.KindTimeout { // 32 s of RFC 3261 are more than the test waits
			t.Errorf("%v", err)
		}
		w.net.Heal(netip.MustParseAddr("192.0.2.10"), at)
		p := w.phone(t, "bob", 12, func(c *Config) {
			c.Plain, c.Server, c.TLS, c.Expires = "UDP", netip.MustParseAddrPort(switchAddr+":5060"), nil, time.Minute
		})
		w.net.Blackhole(netip.MustParseAddr("192.0.2.12"), at)
		pass(5 * time.Minute)
		if r := p.Registration(); r.State == Registered || r.Err == nil && r.State == Offline {
			t.Errorf("%+v", r)
		}
		w.net.Heal(netip.MustParseAddr("192.0.2.12"), at)
		pass(6 * time.Minute)
		if !p.Registered() {
			t.Errorf("%+v", p.Registration())
		}
	})
}

// TestInviteChallenge lets only those call who know the password of the line.
func TestInviteChallenge(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.phone(t, "alice", 10, func(c *Config) { c.InviteRealm, c.AuthUser, c.Password = "desk", "alice-id", "secret" })
		offer := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n"
		m := w.ask(t, "alice", sip.INVITE, nil, "application/sdp", offer)
		c, ok := m.StrongestChallenge(sip.HeaderWWWAuthenticate, sip.DigestSHA256)
		if m.Status() != 401 || !ok || c.Realm != "desk" || c.Stale {
			t.Fatalf("%s", m.Bytes())
		}
		if strings.Contains(string(m.Bytes()), "MD5") {
			t.Errorf("MD5 is offered though nobody allowed it: %s", m.Bytes())
		}
		for _, md5 := range []bool{false, true} {
			w.phone(t, "bob", 11, func(c *Config) { c.InviteRealm, c.Password, c.AllowMD5, c.InviteMD5 = "desk", "secret", true, md5 })
			m := w.ask(t, "bob", sip.INVITE, nil, "application/sdp", offer)
			if n := strings.Count(string(m.Bytes()), "WWW-Authenticate:"); m.Status() != 401 || strings.Contains(string(m.Bytes()), "SHA-256") == md5 || (n == 1) != md5 {
				t.Errorf("MD5 alone %v: %s", md5, m.Bytes())
			}
		}
		answer := func(c sip.Challenge, user, password, uri string, nc uint32) int {
			m := w.ask(t, "alice", sip.INVITE, func(w *sip.Writer) {
				other := sip.Challenge{Realm: "desk", Nonce: "of another", Algorithm: sip.DigestSHA256, QOP: true} // the caller's own, for its server
				w.Header(sip.HeaderAuthorization, other.Authorize(sip.Answer{Username: "bob", Password: "x", Method: "INVITE", URI: uri, CNonce: "0", NC: 1}))
				w.Header(sip.HeaderAuthorization, c.Authorize(sip.Answer{Username: user, Password: password, Method: "INVITE", URI: uri, CNonce: "0123456789abcdef", NC: nc}))
			}, "application/sdp", "v=0\r\nm=audio x\r\n") // what is let in is refused for its description, at once
			return m.Status()
		}
		w.mu.Lock()
		uri := w.bindings["alice"].contact
		w.mu.Unlock()
		for _, x := range []struct {
			name, user, password, uri string
			nc                        uint32
			want                      int
		}{
			{"a wrong password", "alice-id", "guess", uri, 1, 401}, {"another user", "alice", "secret", uri, 1, 401}, {"another address", "alice-id", "secret", "sip:bob@example.test", 1, 401},
			{"right", "alice-id", "secret", uri, 1, 400}, {"the same again", "alice-id", "secret", uri, 1, 401}, {"the next count", "alice-id", "secret", uri, 2, 400},
		} {
			if got := answer(c, x.user, x.password, x.uri, x.nc); got != x.want {
				t.Errorf("%s: %d, want %d", x.name, got, x.want)
			}
		}
		pass(2 * nonceLife)
		if got := answer(c, "alice-id", "secret", uri, 3); got != 401 {
			t.Errorf("an old challenge: %d", got)
		}
		c.Nonce = "AAAA"
		if got := answer(c, "alice-id", "secret", uri, 1); got != 401 {
			t.Errorf("a forged challenge: %d", got)
		}
		if n := len(a.Calls()); n != 0 {
			t.Errorf("%d calls", n)
		}
		if m := w.ask(t, "alice", sip.OPTIONS, nil, "", ""); m.Status() != 200 {
			t.Errorf("OPTIONS: %s", m.Bytes())
		}
	})
}

// TestAnyName takes a server by its authority alone, where that was said.
func TestAnyName(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		other := func(c *Config) { c.ServerName = "another.example.test" }
		if _, err := Open(ctxFor(t), w.cfg("alice", 10, other)); ringfence.KindOf(err) != ringfence.KindInsecure {
			t.Errorf("%v", err)
		}
		p := w.phone(t, "alice", 10, other, func(c *Config) {
			c.AnyName = true
			c.TLS = anyName(c.TLS)
		})
		if proof := p.Proof(); proof.Verdict != ringfence.Exception || proof.TLS == nil {
			t.Errorf("%+v", p.Proof())
		}
	})
}

// anyName checks the chain of a server and not its name.
func anyName(conf *tls.Config) *tls.Config {
	conf = conf.Clone()
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: conf.RootCAs})
		return err
	}
	return conf
}

func TestPlainConfig(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for name, change := range map[string]func(*Config){
			"another transport": func(c *Config) { c.Plain = "SCTP" },
			"a realm alone":     func(c *Config) { c.InviteRealm = "x" },
			"tokens":            func(c *Config) { c.Plain, c.Tokens = "TCP", &purse{} },
		} {
			cfg := w.cfg("alice", 10, change)
			if err := cfg.Validate(); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
	})
}
