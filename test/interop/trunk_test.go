package interop_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"ringfence/internal/call/trunk"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/state/store"
	"ringfence/internal/testkit"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/profile"
)

// twoPorts finds a port of loopback that is free together with the next one.
func twoPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = a.Close()
		if err == nil {
			_ = b.Close()
			return port
		}
	}
	t.Fatal("no two ports are free")
	return 0
}

// TestBaresipAsTrunk has a program that no one here wrote stand where a session border controller would: it proves itself by the certificate of a trunk, takes calls to
// numbers outside, and brings calls in. What it asks for beyond its profile is refused.
func TestBaresipAsTrunk(t *testing.T) {
	t.Parallel()
	port := twoPorts(t) // baresip speaks TLS on the one after that which it is told
	s := newSite(t, func(c *config.Config) {
		c.Security = profile.Security{Trunks: []profile.Trunk{{Name: "carrier", Subjects: []string{"sbc.carrier.example"}}}}
		c.Trunks = []trunk.Trunk{{Name: "carrier", Host: "127.0.0.1", Port: uint16(port + 1), Security: "carrier", Prefix: "+4930123"}}
		c.Plan.Trunk, c.Plan.Country, c.Plan.National = "carrier", "49", "0"
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.OK(err)
	issued, err := s.Node.Authority.Issue(s.Ctx, ca.Request{Role: ca.RoleTrunk, Name: "carrier-sbc", DNSNames: []string{"sbc.carrier.example"}, PublicKey: key.Public()})
	s.OK(err)
	s.keyPair("carrier", issued.Chain, key)

	dir := s.path("baresip-carrier")
	s.OK(os.MkdirAll(dir, 0o700))
	lines := []string{"poll_method epoll", "module_path /usr/lib/baresip/modules", fmt.Sprintf("sip_listen 127.0.0.1:%d", port), "sip_certificate " + s.path("carrier/carrier.pem"), "sip_cafile " + s.path("ca.pem"),
		"ausrc_srate 48000", "ausrc_channels 2", "auplay_srate 8000", "auplay_channels 1", "audio_source ausine,600", "audio_player aubridge,ear", "snd_path " + dir, "rtp_ports 40000-49999"}
	for _, m := range []string{"stdio.so", "g711.so", "srtp.so", "ausine.so", "aubridge.so", "sndfile.so"} {
		lines = append(lines, "module "+m)
	}
	lines = append(lines, "module_tmp account.so", "module_app menu.so")
	s.file("baresip-carrier/config", []byte(strings.Join(lines, "\n")+"\n"))
	s.file("baresip-carrier/accounts", []byte(fmt.Sprintf("<sip:+4940456202@127.0.0.1:%d;transport=tls>;mediaenc=srtp-mand;regint=0\n", port+1)))
	s.file("baresip-carrier/contacts", nil)
	b := &baresip{program: start(s.T, dir, testkit.Need(s.T, "baresip", "baresip-core"), "-f", dir, "-s"), s: s, dir: dir}
	s.Until("the trunk is up", func() bool { return s.Node.TrunkStates()[0].Cause == "" })

	s.User("alice", "101", func(u *store.User) { u.TollClass = "national" })
	alice := s.Phone("alice")
	out, err := alice.Call(s.Ctx, "040456202", phone.CallOptions{Audio: phone.Tone(800)})
	s.OK(err)
	b.wait(s.Ctx, `Incoming call from: .*\+4930123101`)
	b.say("a")
	s.OK(out.WaitAnswered(s.Ctx))
	s.Hears(out, 600)
	b.hears(800)
	if view := s.sealed("AEAD_AES_256_GCM", "AEAD_AES_256_GCM"); view.Legs[1].Peer != "trunk carrier" || view.Legs[1].TLS.PeerSubject == "" {
		t.Errorf("%+v", view.Legs[1])
	}
	out.Hangup()
	b.wait(s.Ctx, `session closed`)
	s.over()

	// It brings a call in, to the number as the world knows it.
	b.say("/dial sip:+4930123101@127.0.0.1:" + s.port() + ";transport=tls\n")
	in := s.Incoming(alice)
	if from := in.Peer(); from.Number != "+4940456202" {
		t.Errorf("the caller is %+v", from)
	}
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1000)}))
	s.Hears(in, 600)
	b.hears(1000)
	s.sealed("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM")
	in.Hangup()
	b.wait(s.Ctx, `session closed`)
	s.over()
	// No way out again for who comes from outside.
	b.say("/dial sip:+494012345678@127.0.0.1:" + s.port() + ";transport=tls\n")
	b.wait(s.Ctx, `session closed: 404 Not Found`)
}
