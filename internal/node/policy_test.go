package node_test

import (
	"crypto/tls"
	"testing"
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
