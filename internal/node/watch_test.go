package node_test

import (
	"strings"
	"testing"

	"ringfence/internal/service/phone"
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
