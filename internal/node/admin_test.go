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
		return d.DialContext(ctx, "unix", s.node.SocketPath())
	}})
	s.Cleanup(c.Close)
	return c
}

func TestRevocationEndsEverything(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	id := s.identity("alice", "alice-desk")
	alice, bob := s.open(id, nil), s.phone("bob", nil)
	out, in := s.talk(alice, bob, "102")
	s.hears(in, 440)
	_ = out

	began := time.Now()
	var e api.Ended
	s.ok(s.admin().Do(s.ctx, http.MethodPost, "/devices/alice-desk/revoke", nil, api.Why{Reason: "phone was lost"}, &e))
	if e.Certificates != 1 || e.Connections != 1 || e.Calls != 1 {
		t.Errorf("ended: %+v", e)
	}
	s.ok(in.WaitEnded(s.ctx))
	s.until("no call is left", func() bool { return s.node.Calls.Count() == 0 })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := s.node.Registrar.Locate("alice"); len(got) != 0 {
		t.Errorf("alice can still be reached: %+v", got)
	}
	if !s.node.Authority.IsRevoked(id.Leaf.SerialNumber.Text(16)) {
		t.Error("the certificate is not revoked")
	}
	// The certificate opens no connection any more.
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	conf := &tls.Config{RootCAs: id.Pool(), Certificates: []tls.Certificate{id.Certificate()}, MinVersion: tls.VersionTLS13, ServerName: "localhost"}
	d := tls.Dialer{Config: conf}
	c, err := d.DialContext(ctx, "tcp", s.node.SIPAddr().String())
	if err == nil { // in TLS 1.3 the refusal comes after the client's part
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if err == nil || ctx.Err() != nil {
		t.Errorf("a revoked device was let in: %v", err)
	}
	if s.admin().Do(s.ctx, http.MethodPost, "/devices/alice-desk/revoke", nil, api.Why{}, nil) == nil {
		t.Error("revoked twice")
	}
}

func TestOriginatedCall(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	alice, bob := s.phone("alice", nil), s.phone("bob", nil)
	var c api.CallStarted
	s.ok(s.admin().Do(s.ctx, http.MethodPost, "/calls", nil, api.NewCall{From: "alice", To: "102"}, &c))
	first := s.incoming(alice)
	s.ok(first.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(440)}))
	second := s.incoming(bob)
	s.ok(second.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(700)}))
	s.hears(first, 700)
	s.hears(second, 440)
	var v api.Call
	s.ok(s.admin().Do(s.ctx, http.MethodGet, "/calls/"+string(c.ID), nil, nil, &v))
	if v.State != "up" || v.Verdict != ringfence.Sealed || len(v.Legs) != 2 || v.From != "101" || v.To != "102" {
		t.Errorf("%+v", v)
	}
	s.ok(s.admin().Do(s.ctx, http.MethodDelete, "/calls/"+string(c.ID), nil, nil, nil))
	s.ok(first.WaitEnded(s.ctx))
	s.ok(second.WaitEnded(s.ctx))
	s.until("no call is left", func() bool { return s.node.Calls.Count() == 0 })
}

func TestOriginatedCallThatFails(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	alice := s.phone("alice", nil)
	// The caller's phone declines.
	id, err := s.node.Calls.Originate("alice", "999")
	s.ok(err)
	s.incoming(alice).Hangup()
	s.until("the call is over", func() bool { return s.node.Calls.Count() == 0 })
	// It answers, and what it dials is nobody's number.
	second, err := s.node.Calls.Originate("alice", "999")
	s.ok(err)
	in := s.incoming(alice)
	s.ok(in.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(440)}))
	s.ok(in.WaitEnded(s.ctx))
	s.until("both have a record", func() bool {
		a, errA := s.node.Store.CDR(s.ctx, id)
		b, errB := s.node.Store.CDR(s.ctx, second)
		return errA == nil && errB == nil && strings.Contains(a.Cause, "did not answer") && strings.Contains(b.Cause, "nobody's number")
	})
}

func TestConfigurationIsLive(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	_, err := s.node.Settings.Apply(s.ctx, "dialplan:\n  groups:\n    - {number: \"500\", name: all, strategy: all, members: [alice]}\ncalls: {max: 7}\n", "f.yaml", "test", "")
	s.ok(err)
	if d := s.node.Calls.Explain("alice", "500"); d.Group == nil || d.Group.Name != "all" {
		t.Errorf("the dial plan did not change: %+v", d)
	}
	if s.node.Current().Calls.Max != 7 {
		t.Error("the limit did not change")
	}
	_, err = s.node.Settings.Undo(s.ctx, 0, "test")
	s.ok(err)
	if d := s.node.Calls.Explain("alice", "500"); d.Group != nil {
		t.Errorf("the dial plan did not go back: %+v", d)
	}
	b, err := json.Marshal(s.node.Flows())
	if err != nil || !strings.Contains(string(b), "admin.sock") {
		t.Errorf("flows: %s %v", b, err)
	}
}

// TestEveryFlowListens checks that what listens is what the flow table says.
func TestEveryFlowListens(t *testing.T) {
	s := newSite(t, nil)
	for _, f := range s.node.Flows() {
		switch {
		case f.Direction != ringfence.Listens:
		case f.Transport == "unix":
			if !filepath.IsAbs(f.Path) {
				t.Errorf("%s: %s", f.Name, f.Path)
			}
			s.ok(s.admin().Do(s.ctx, http.MethodGet, "/version", nil, nil, nil))
		case f.Transport == "tcp":
			var d net.Dialer
			c, err := d.DialContext(s.ctx, "tcp", netip.AddrPortFrom(f.Addr, f.Ports.First).String())
			s.ok(err)
			_ = c.Close()
		}
	}
}
