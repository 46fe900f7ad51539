package node_test

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/enroll"
)

// flows registers a phone over several connections (RFC 5626), the latest last.
func (s *site) flows(id enroll.Identity, n int) (out []*rawPeer) {
	s.Helper()
	domain := s.Node.Config.Domain
	for i := range n {
		p := s.raw(id)
		p.params = `;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000000000001>";reg-id=` + string(rune('1'+i))
		p.send("REGISTER", "sip:"+domain, "<sip:"+p.user+"@"+domain+">", nil, "Supported: outbound, path")
		if m := p.final(); m.Status() != 200 {
			s.Fatalf("flow %d: %d", i+1, m.Status())
		}
		out = append(out, p)
	}
	return out
}

func (s *site) offer() []byte {
	s.Helper()
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.OK(err)
	offer, err := sdp.BuildOffer(sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU())
	s.OK(err)
	return offer.Bytes()
}

// A phone's newest flow takes the INVITE and says nothing, as one does whose other end vanished. The call goes on over the flow before.
func TestSilentFlow(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	flows := s.flows(s.Identity("alice", "alice-desk"), 2)
	bob := s.raw(s.Identity("bob", "bob-desk"))
	uri := "sip:101@" + s.Node.Config.Domain
	began := time.Now()
	bob.send("INVITE", uri, "<"+uri+">", s.offer())
	if m := flows[1].recv(); m.Method() != sip.INVITE {
		t.Fatalf("the newest flow got %s", m.Bytes())
	}
	invite := flows[0].recv()
	if took := time.Since(began); invite.Method() != sip.INVITE || took > 10*time.Second {
		t.Fatalf("after %s the older flow got %s", took, invite.Bytes())
	}
	flows[0].reply(invite, 486, nil)
	if m := bob.final(); m.Status() != 486 {
		t.Errorf("the phone is busy, the caller heard %d", m.Status())
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the caller heard of it after %s", took)
	}
	s.Until("the record names both flows", func() bool {
		cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(cdrs) == 1 && len(cdrs[0].Legs) == 3
	})
}

// A flow that ends while it rings is no answer either.
func TestBrokenFlow(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101", func(u *store.User) { u.Forward.Unreachable = "102" })
	s.User("bob", "102")
	flows := s.flows(s.Identity("alice", "alice-desk"), 2)
	bob := s.raw(s.Identity("bob", "bob-desk"))
	uri := "sip:101@" + s.Node.Config.Domain
	bob.send("INVITE", uri, "<"+uri+">", s.offer())
	flows[1].recv()
	s.OK(flows[1].conn.Close())
	invite := flows[0].recv()
	if invite.Method() != sip.INVITE {
		t.Fatalf("the older flow got %s", invite.Bytes())
	}
	if v := s.Node.Calls.List(); len(v) != 1 || !slices.ContainsFunc(v[0].Reasons, func(r string) bool { return strings.Contains(r, "flow") }) {
		t.Errorf("calls: %+v", v)
	}
	flows[0].reply(invite, 486, nil)
	bob.final()
}

// A proxy between node and phone says that the flow behind it failed, or that nobody answered there (RFC 5626 section 5.3). Any other
// answer is the phone's own, and holds for all its flows.
func TestFlowFailedAtAProxy(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	flows := s.flows(s.Identity("alice", "alice-desk"), 3)
	bob := s.raw(s.Identity("bob", "bob-desk"))
	uri := "sip:101@" + s.Node.Config.Domain
	bob.send("INVITE", uri, "<"+uri+">", s.offer())
	for i, status := range []int{430, 408, 600} {
		invite := flows[2-i].recv()
		if invite.Method() != sip.INVITE {
			t.Fatalf("flow %d got %s", 3-i, invite.Bytes())
		}
		flows[2-i].reply(invite, status, nil)
	}
	if m := bob.final(); m.Status() != 600 {
		t.Errorf("the phone refused with 600, the caller heard %d", m.Status())
	}
	again := func(heard int, answers ...int) {
		t.Helper()
		bob.id += "x"
		bob.send("INVITE", uri, "<"+uri+">", s.offer())
		for i, status := range answers {
			invite := flows[2-i].recv()
			for invite.Method() == sip.ACK { // of the call before
				invite = flows[2-i].recv()
			}
			flows[2-i].reply(invite, status, nil)
		}
		if m := bob.final(); m.Status() != heard {
			t.Errorf("the phone's flows said %d, the caller heard %d", answers, m.Status())
		}
	}
	again(486, 486)
	again(480, 430, 430, 430)
}

// What is told to the caller of a phone that gives no answer of its own, and of one that says 503, which from us would mean the whole node.
func TestWhatTheCallerIsTold(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("carol", "103", func(u *store.User) { u.Forward.Unreachable, u.Forward.NoAnswer = "101", "102" })
	bob := s.raw(s.Identity("bob", "bob-desk"))
	call := func(number string) {
		bob.id += "x"
		uri := "sip:" + number + "@" + s.Node.Config.Domain
		bob.send("INVITE", uri, "<"+uri+">", s.offer())
	}
	alice := s.flows(s.Identity("alice", "alice-desk"), 1)[0]
	call("101")
	alice.reply(alice.recv(), 503, nil)
	if m := bob.final(); m.Status() != 500 {
		t.Errorf("the phone said 503, the caller heard %d", m.Status())
	}
	carol := s.flows(s.Identity("carol", "carol-desk"), 1)[0]
	call("103")
	carol.recv()
	s.OK(carol.conn.Close())
	invite := alice.recv()
	for invite.Method() == sip.ACK {
		invite = alice.recv()
	}
	if invite.Method() != sip.INVITE {
		t.Fatalf("whom calls go to that do not reach carol got %s", invite.Bytes())
	}
	s.OK(alice.conn.Close())
	m := bob.final()
	if m.Status() != 480 || !strings.Contains(string(m.Get(sip.HeaderReason)), "cause=20") {
		t.Errorf("no phone is left, the caller heard %d, Reason %q", m.Status(), m.Get(sip.HeaderReason))
	}
}
