package node_test

import (
	"net/netip"
	"strings"
	"testing"

	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
)

// notice waits for a NOTIFY whose body has every one of these texts.
func (s *site) notice(sub *phone.Subscription, texts ...string) phone.Notice {
	s.Helper()
	for {
		select {
		case n := <-sub.Notices():
			all := true
			for _, want := range texts {
				all = all && strings.Contains(string(n.Body), want)
			}
			if all {
				return n
			}
		case <-s.Ctx.Done():
			s.Fatalf("no notice with %q", texts)
		}
	}
}

func TestBusyLampAndMessages(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("carol", "103")
	alice, bob, carol := s.Phone("alice"), s.Phone("bob"), s.Phone("carol")
	lamp, err := carol.Subscribe(s.Ctx, "dialog", "102", "application/dialog-info+xml")
	s.OK(err)
	if n := s.notice(lamp, "dialog-info", `state="full"`); strings.Contains(string(n.Body), "<dialog ") {
		t.Errorf("bob is busy before any call: %s", n.Body)
	}
	out, err := alice.Call(s.Ctx, "102", phone.CallOptions{})
	s.OK(err)
	s.notice(lamp, "<state>early</state>", `direction="recipient"`)
	in := s.Incoming(bob)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
	if n := s.notice(lamp, "<state>confirmed</state>"); strings.Contains(string(n.Body), "101") {
		t.Errorf("carol is told whom bob talks to: %s", n.Body)
	}
	own, err := bob.Subscribe(s.Ctx, "dialog", "", "")
	s.OK(err)
	s.notice(own, "<state>confirmed</state>", "sip:101@")
	out.Hangup()
	s.OK(in.WaitEnded(s.Ctx))
	for {
		if n := s.notice(lamp); !strings.Contains(string(n.Body), "<dialog ") {
			break
		}
	}
	hidden, err := alice.Call(s.Ctx, "102", phone.CallOptions{Private: true})
	s.OK(err)
	if n := s.notice(own, "<state>early</state>"); strings.Contains(string(n.Body), "101") {
		t.Errorf("bob is told who withholds his number: %s", n.Body)
	}
	hidden.Hangup()

	mail, err := alice.Subscribe(s.Ctx, "message-summary", "", "")
	s.OK(err)
	s.notice(mail, "Messages-Waiting: no", "Voice-Message: 0/0")
	if _, err := alice.Subscribe(s.Ctx, "message-summary", "102", ""); err == nil {
		t.Error("alice may watch bob's mailbox")
	}
	if _, err := alice.Subscribe(s.Ctx, "presence", "102", ""); err == nil {
		t.Error("an unknown event package was accepted")
	}
	if _, err := alice.Subscribe(s.Ctx, "dialog", "999", ""); err == nil {
		t.Error("a subscription to nobody was accepted")
	}
}

// A subscription is continued by whoever made it. Somebody who has proved nothing does not get it, even with its identifiers, although the one who made it has no certificate either.
func TestSubscriptionOfSomebodyElse(t *testing.T) {
	s := oauthSite(t)
	p := s.signIn("alice-app")
	if m := p.register("Authorization: Bearer " + p.access); m.Status() != 200 {
		t.Fatalf("%d", m.Status())
	}
	fields := []string{"Event: dialog", "Expires: 600"}
	p.send("SUBSCRIBE", "sip:102@"+s.Domain, "<sip:102@"+s.Domain+">", nil, fields...)
	ok := p.final()
	if ok.Status() != 200 {
		t.Fatalf("%d", ok.Status())
	}
	again := func(at netip.AddrPort, proves bool) int {
		t.Helper()
		other := s.connect(at, "alice", p.id)
		other.seq = p.seq + 10
		if proves {
			other.send("REGISTER", "sip:"+s.Domain, "<sip:alice@"+s.Domain+">", nil, "Authorization: Bearer "+p.access)
			if m := other.final(); m.Status() != 200 {
				t.Fatalf("REGISTER: %d", m.Status())
			}
		}
		other.send("SUBSCRIBE", "sip:102@"+s.Domain, string(ok.Get(sip.HeaderTo)), nil, fields...)
		return other.final().Status()
	}
	for name, at := range map[string]netip.AddrPort{"the port of tokens": s.Node.Bound("sip-oauth"), "the port of certificates": s.SIP} {
		if got := again(at, false); got != 481 {
			t.Errorf("a stranger at %s: %d", name, got)
		}
	}
	if got := again(s.Node.Bound("sip-oauth"), true); got != 200 {
		t.Errorf("itself, on another connection: %d", got)
	}
}
