package node_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/admin/client"
	"ringfence/internal/service/phone"
)

// admin returns a client of the site's API over its socket.
func (s *site) admin() *client.Client {
	c := client.New(client.Config{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.Node.SocketPath())
	}})
	s.Cleanup(c.Close)
	return c
}

func TestRevocationEndsEverything(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	id := s.Identity("alice", "alice-desk")
	alice, bob := s.Start(s.Known(id)), s.Phone("bob")
	out, in := s.Talk(alice, bob, "102")
	s.Hears(in, 440)
	_ = out

	began := time.Now()
	var e api.Ended
	s.OK(s.admin().Do(s.Ctx, http.MethodPost, "/devices/alice-desk/revoke", nil, api.Why{Reason: "phone was lost"}, &e))
	if e.Certificates != 1 || e.Connections != 1 || e.Calls != 1 {
		t.Errorf("ended: %+v", e)
	}
	s.OK(in.WaitEnded(s.Ctx))
	s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := s.Node.Registrar.Locate("alice"); len(got) != 0 {
		t.Errorf("alice can still be reached: %+v", got)
	}
	if !s.Node.Authority.IsRevoked(id.Leaf.SerialNumber.Text(16)) {
		t.Error("the certificate is not revoked")
	}
	// The certificate opens no connection any more.
	ctx, cancel := context.WithTimeout(s.Ctx, 5*time.Second)
	defer cancel()
	conf := &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS13, ServerName: "localhost"}
	d := tls.Dialer{Config: conf}
	c, err := d.DialContext(ctx, "tcp", s.Node.SIPAddr().String())
	if err == nil { // in TLS 1.3 the refusal comes after the client's part
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if err == nil || ctx.Err() != nil {
		t.Errorf("a revoked device was let in: %v", err)
	}
	if s.admin().Do(s.Ctx, http.MethodPost, "/devices/alice-desk/revoke", nil, api.Why{}, nil) == nil {
		t.Error("revoked twice")
	}
}

func TestOriginatedCall(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	var c api.CallStarted
	s.OK(s.admin().Do(s.Ctx, http.MethodPost, "/calls", nil, api.NewCall{From: "alice", To: "102"}, &c))
	first := s.Incoming(alice)
	s.OK(first.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(440)}))
	second := s.Incoming(bob)
	s.OK(second.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.Hears(first, 700)
	s.Hears(second, 440)
	var v api.Call
	s.OK(s.admin().Do(s.Ctx, http.MethodGet, "/calls/"+string(c.ID), nil, nil, &v))
	if v.State != "up" || v.Verdict != ringfence.Sealed || len(v.Legs) != 2 || v.From != "101" || v.To != "102" {
		t.Errorf("%+v", v)
	}
	s.OK(s.admin().Do(s.Ctx, http.MethodDelete, "/calls/"+string(c.ID), nil, nil, nil))
	s.OK(first.WaitEnded(s.Ctx))
	s.OK(second.WaitEnded(s.Ctx))
	s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })
}

func TestOriginatedCallThatFails(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	alice := s.Phone("alice")
	// The caller's phone declines.
	id, err := s.Node.Calls.Originate("alice", "999")
	s.OK(err)
	s.Incoming(alice).Hangup()
	s.Until("the call is over", func() bool { return s.Node.Calls.Count() == 0 })
	// It answers, and what it dials is nobody's number.
	second, err := s.Node.Calls.Originate("alice", "999")
	s.OK(err)
	in := s.Incoming(alice)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(440)}))
	s.OK(in.WaitEnded(s.Ctx))
	s.Until("both have a record", func() bool {
		a, errA := s.Node.Store.CDR(s.Ctx, id)
		b, errB := s.Node.Store.CDR(s.Ctx, second)
		return errA == nil && errB == nil && strings.Contains(a.Cause, "did not answer") && strings.Contains(b.Cause, "nobody's number")
	})
}

func TestConfigurationIsLive(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	_, err := s.Node.Settings.Apply(s.Ctx, "dialplan:\n  groups:\n    - {number: \"500\", name: all, strategy: all, members: [alice]}\ncalls: {max: 7}\n", "f.yaml", "test", "")
	s.OK(err)
	if d := s.Node.Calls.Explain("alice", "500"); d.Group == nil || d.Group.Name != "all" {
		t.Errorf("the dial plan did not change: %+v", d)
	}
	if s.Node.Current().Calls.Max != 7 {
		t.Error("the limit did not change")
	}
	_, err = s.Node.Settings.Undo(s.Ctx, 0, "test")
	s.OK(err)
	if d := s.Node.Calls.Explain("alice", "500"); d.Group != nil {
		t.Errorf("the dial plan did not go back: %+v", d)
	}
	b, err := json.Marshal(s.Node.Flows())
	if err != nil || !strings.Contains(string(b), "admin.sock") {
		t.Errorf("flows: %s %v", b, err)
	}
}

// TestEveryFlowListens checks that what listens is what the flow table says.
func TestEveryFlowListens(t *testing.T) {
	s := newSite(t, nil)
	for _, f := range s.Node.Flows() {
		switch {
		case f.Direction != ringfence.Listens:
		case f.Transport == "unix":
			if !filepath.IsAbs(f.Path) {
				t.Errorf("%s: %s", f.Name, f.Path)
			}
			s.OK(s.admin().Do(s.Ctx, http.MethodGet, "/version", nil, nil, nil))
		case f.Transport == "tcp":
			var d net.Dialer
			c, err := d.DialContext(s.Ctx, "tcp", netip.AddrPortFrom(f.Addr, f.Ports.First).String())
			s.OK(err)
			_ = c.Close()
		}
	}
}
