package node_test

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/call/trunk"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/profile"
	"ringfence/internal/trust/tlspolicy"
)

// comesFrom is a trunk that only calls us and may ask for everything that a trunk may be allowed.
func comesFrom(c *config.Config, name string) {
	c.Security.Trunks = append(c.Security.Trunks, profile.Trunk{Name: name, Outgoing: profile.Off, Subjects: []string{name + ".example"}, Accept: []profile.Request{profile.Replaces, profile.Refer}})
	c.Trunks = append(c.Trunks, trunk.Trunk{Name: name, Host: name + ".example", Security: name})
}

// trunkPeer connects as a trunk that our own authority certified.
func (s *site) trunkPeer(name string) *rawPeer {
	s.Helper()
	c, err := tls.Dial("tcp", s.SIP.String(), &tls.Config{RootCAs: s.Roots, ServerName: s.Domain, Certificates: []tls.Certificate{*issue(s, ca.Request{Role: ca.RoleTrunk, Name: name, DNSNames: []string{name + ".example"}})}})
	s.OK(err)
	return s.over(c, name)
}

// talk has a peer call a phone, which answers.
func (p *rawPeer) talk(number string, to *phone.Phone) (ok *sip.Message, in *phone.Call) {
	p.Helper()
	uri := "sip:" + number + "@" + p.Domain
	p.send("INVITE", uri, "<"+uri+">", p.offer())
	in = p.Incoming(to)
	p.OK(in.Answer(p.Ctx, phone.CallOptions{}))
	if ok = p.final(); ok.Status() != 200 {
		p.Fatalf("%s calls %s: %d", p.user, number, ok.Status())
	}
	p.send("ACK", p.target(ok), string(ok.Get(sip.HeaderTo)), nil)
	return ok, in
}

func (p *rawPeer) target(ok *sip.Message) string {
	p.Helper()
	c, err := ok.Contact()
	p.OK(err)
	return c.URI.String()
}

// A trunk that may replace and transfer calls does so with its own, and not with those of another trunk, whatever it knows of them.
func TestTrunkTakesNoOtherTrunksCall(t *testing.T) {
	s := newSite(t, func(c *config.Config) { comesFrom(c, "one"); comesFrom(c, "two") })
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	one, two := s.trunkPeer("one"), s.trunkPeer("two")
	ok, _ := one.talk("101", alice)
	its := fmt.Sprintf("%s;to-tag=%s;from-tag=%s", ok.CallID(), ok.ToTag(), ok.FromTag())

	thief := s.trunkPeer("two")
	thief.send("INVITE", "sip:101@"+s.Domain, "<sip:101@"+s.Domain+">", s.offer(), "Replaces: "+its)
	if m := thief.final(); m.Status() != 403 {
		t.Errorf("Replaces of another trunk's call: %d", m.Status())
	}
	with, _ := two.talk("102", bob)
	two.send("REFER", two.target(with), string(with.Get(sip.HeaderTo)), nil, "Refer-To: <sip:101@"+s.Domain+"?Replaces="+strings.NewReplacer(";", "%3B", "=", "%3D").Replace(its)+">")
	if m := two.final(); m.Status() != 202 {
		t.Fatalf("REFER: %d", m.Status())
	}
	for {
		m := two.recv()
		if m.Method() != sip.NOTIFY {
			t.Fatalf("instead of NOTIFY there came %s", m.Bytes())
		}
		two.reply(m, 200, nil)
		if text := string(m.Body()); !strings.Contains(text, " 100 ") {
			if !strings.Contains(text, " 404 ") {
				t.Errorf("a transfer to another trunk's call: %s", text)
			}
			break
		}
	}
	// Its own call it may move.
	again := s.trunkPeer("one")
	again.send("INVITE", "sip:101@"+s.Domain, "<sip:101@"+s.Domain+">", s.offer(), "Replaces: "+its)
	if m := again.final(); m.Status() != 200 {
		t.Errorf("Replaces of its own call: %d", m.Status())
	}
}

// What a trunk transfers reaches users, who are told by whom, and no features.
func TestTrunkTransfers(t *testing.T) {
	s := newSite(t, func(c *config.Config) { comesFrom(c, "one") })
	s.User("alice", "101")
	s.User("bob", "102")
	bob := s.raw(s.Identity("bob", "bob-raw"))
	bob.send("REGISTER", "sip:"+s.Domain, "<sip:bob@"+s.Domain+">", nil)
	if m := bob.final(); m.Status() != 200 {
		t.Fatalf("REGISTER: %d", m.Status())
	}
	alice := s.Phone("alice")
	one := s.trunkPeer("one")
	ok, in := one.talk("101", alice)
	refer := func(to string) (outcome string) {
		t.Helper()
		one.send("REFER", one.target(ok), string(ok.Get(sip.HeaderTo)), nil, "Refer-To: <sip:"+to+"@"+s.Domain+">")
		if m := one.final(); m.Status() != 202 {
			t.Fatalf("REFER to %s: %d", to, m.Status())
		}
		for {
			m := one.recv()
			one.reply(m, 200, nil)
			if text := string(m.Body()); m.Method() == sip.NOTIFY && !strings.Contains(text, " 100 ") || to == "102" {
				return text
			}
		}
	}
	for _, feature := range []string{"*70", "*43", "112"} {
		if text := refer(feature); !strings.Contains(text, " 404 ") {
			t.Errorf("a transfer to %s: %s", feature, text)
		}
	}
	refer("102")
	m := bob.recv()
	if by, err := sip.ParseNameAddr(m.Get(sip.HeaderReferredBy)); m.Method() != sip.INVITE || err != nil || string(by.URI.User) != "one" || string(by.URI.Host) != "one.example" {
		t.Errorf("%s", m.Bytes())
	}
	in.Hangup()
}

// Who comes by a trunk under a number of ours is not shown at a trunk as ours, when somebody here forwards the call there.
func TestTrunkCallerIsNotOurs(t *testing.T) {
	a, b := trunked(t)
	a.User("alice", "101", func(u *store.User) { u.TollClass = "national" })
	a.User("boss", "100", func(u *store.User) { u.TollClass, u.Forward.Always = "national", "+4940456202" })
	b.User("bob", "202")
	bob := b.Phone("bob")
	raw := a.over(must(tls.Dial("tcp", a.SIP.String(), &tls.Config{RootCAs: a.Roots, ServerName: a.Domain, Certificates: []tls.Certificate{*issue(b, ca.Request{Role: ca.RoleTrunk, Name: "cube", DNSNames: []string{"b.example"}})}})), "101")
	raw.send("INVITE", "sip:100@a.example", "<sip:100@a.example>", a.offer())
	in := b.Incoming(bob)
	if from := fmt.Sprintf("%+v", in.Peer()); strings.Contains(from, "+4930123") {
		t.Errorf("a stranger who says that it is 101 is shown as %s", from)
	}
	b.OK(in.Reject(603))
	if m := raw.final(); m.Status() != 603 {
		t.Errorf("%d", m.Status())
	}
}

// A trunk whose host is our own domain would make strangers ours.
func TestTrunkIsElsewhere(t *testing.T) {
	c := config.Default()
	comesFrom(&c, "one")
	c.Trunks[0].Host = c.Domain
	if err := c.Validate(); ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.Error(), "trunks[0]") {
		t.Errorf("%v", err)
	}
}

// A carrier is believed by public authorities. The authority of another trunk is none, although connections to trunks believe it too.
func TestPublicAuthoritiesOnly(t *testing.T) {
	a, b := trunked(t)
	c := &a.Node.Config
	c.Security.Trunks[0].Anchors, c.Security.Trunks[0].Incoming = []string{"host"}, profile.Off
	c.TLS = tlspolicy.Tree{"/system/transport/sip": {Anchors: []string{"own", "other"}}, "/interface/sip-trunk": {Anchors: []string{"own", "host", "other"}}}
	a.OK(c.Validate())
	a.Restart()
	a.Until("it is refused", func() bool { return strings.Contains(a.Node.TrunkStates()[0].Cause, "is not that of the trunk") })
	// Once this host trusts that authority it is good.
	trusted := filepath.Join(t.TempDir(), "host.pem")
	a.OK(os.WriteFile(trusted, []byte(b.Node.Authority.RootPEM()), 0o600))
	a.Node.Config.Observe.Authorities = trusted
	a.Restart()
	a.Until("it is believed", func() bool { return a.Node.TrunkStates()[0].Way != nil })
}

// Two systems that forward to each other by trunks: the call comes to an end (RFC 7332), and takes no more calls with it than a request may have hops.
func TestTrunksInCircles(t *testing.T) {
	a, b := trunked(t)
	for _, s := range []*site{a, b} {
		s.Node.Config.Calls.Max = 400
		s.Restart()
	}
	for _, s := range []*site{a, b} {
		s.Until("the trunk is up", func() bool { return s.Node.TrunkStates()[0].Way != nil })
	}
	a.User("alice", "101", func(u *store.User) { u.TollClass, u.Forward.Always = "national", "+4940456202" })
	b.User("bob", "202", func(u *store.User) { u.TollClass, u.Forward.Always = "national", "+4930123101" })
	a.User("carol", "103")
	carol := a.Phone("carol")
	a.fails(carol, "101", "483")
	for _, s := range []*site{a, b} {
		s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })
	}
	all, err := a.Node.Store.CDRs(a.Ctx, time.Time{}, time.Time{}, 1000)
	if a.OK(err); len(all) > 36 {
		t.Errorf("%d calls came of one", len(all))
	}
}

// What may go no further goes nowhere: RFC 3261 section 16.3 item 3, which RFC 7332 section 4 asks of whoever is in the place of a proxy.
func TestTooManyHops(t *testing.T) {
	s := newSite(t, func(c *config.Config) { comesFrom(c, "one") })
	s.User("alice", "101")
	bob := s.flows(s.Identity("alice", "alice-desk"), 1)[0]
	one := s.trunkPeer("one")
	uri := "sip:101@" + s.Domain
	one.forwards = "0"
	one.send("INVITE", uri, "<"+uri+">", s.offer())
	if m := one.final(); m.Status() != 483 {
		t.Errorf("no hop is left: %d", m.Status())
	}
	one.send("OPTIONS", uri, "<"+uri+">", nil) // which is for us (RFC 3261 section 11.2)
	if m := one.final(); m.Status() != 200 {
		t.Errorf("a question to us: %d", m.Status())
	}
	for in, want := range map[string]string{"12": "11", "255": "69"} {
		peer := s.trunkPeer("one")
		peer.forwards = in
		peer.send("INVITE", uri, "<"+uri+">", s.offer())
		m := bob.recv()
		if got := string(m.Get(sip.HeaderMaxForwards)); got != want {
			t.Errorf("%s hops became %s, want %s", in, got, want)
		}
		bob.reply(m, 486, nil)
		if m := peer.final(); m.Status() != 486 {
			t.Errorf("%d", m.Status())
		}
		if m := bob.recv(); m.Method() != sip.ACK {
			t.Errorf("%s", m.Bytes())
		}
	}
}

// Who calls for help is shown to whoever helps, also one who is shown to nobody else: they may have to call back.
func TestEmergencyShowsTheCaller(t *testing.T) {
	a, b := trunked(t)
	b.Node.Config.Plan.Emergency = []string{"911"} // so that 112 is somebody there
	b.Restart()
	a.Until("the trunk is up", func() bool { return a.Node.TrunkStates()[0].Way != nil })
	a.User("alice", "101", func(u *store.User) { u.TollClass = "national" })
	b.User("guard", "112")
	b.User("bob", "202")
	alice, guard, bob := a.Phone("alice"), b.Phone("guard"), b.Phone("bob")
	for number, c := range map[string]struct {
		at   *phone.Phone
		want string
	}{"112": {guard, "+4930123101"}, "+4940456202": {bob, "anonymous"}} {
		out, err := alice.Call(a.Ctx, number, phone.CallOptions{Private: true})
		a.OK(err)
		in := b.Incoming(c.at)
		if from := fmt.Sprintf("%+v", in.Peer()); !strings.Contains(from, c.want) {
			t.Errorf("%s is called by %s, want %s", number, from, c.want)
		}
		b.OK(in.Reject(486))
		if err := out.WaitAnswered(a.Ctx); err == nil {
			t.Errorf("%s is answered", number)
		}
	}
}

// Who is transferred is shown as who they are, and not as who transferred them: what we assert of a caller (RFC 3325) has to be so.
func TestTransferredStranger(t *testing.T) {
	a, b := trunked(t)
	a.User("alice", "101", func(u *store.User) { u.Name, u.TollClass = "Alice", "national" })
	a.User("carol", "103")
	b.User("bob", "202", func(u *store.User) { u.TollClass = "national" })
	alice, carol, bob := a.Phone("alice"), a.Phone("carol"), b.Phone("bob")
	out, in := a.Talk(alice, bob, "+4940456202")
	third, done := a.transfer(out, "103", carol)
	if from := third.Peer(); from.Number != "+4940456202" || from.Display != "" || !strings.Contains(from.Address, "@127.0.0.1") {
		t.Errorf("a stranger whom alice transfers is shown as %+v", from)
	}
	a.OK(third.Answer(a.Ctx, phone.CallOptions{Audio: phone.Tone(500)}))
	a.OK(<-done)
	a.Hears(in, 500)
	third.Hangup()
	// One of ours is shown as such, on the other side of a trunk too.
	back, at := b.Talk(bob, alice, "+4930123101")
	defer back.Hangup()
	third, done = a.transfer(at, "103", carol)
	if from := third.Peer(); from.Number != "+4940456202" {
		t.Errorf("bob, who called, is shown as %+v", from)
	}
	a.OK(third.Reject(486))
	<-done
}

// Who withholds its identity does so after a transfer that failed, too.
func TestTransferredInPrivate(t *testing.T) {
	s := newSite(t, nil)
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("carol", "103")
	alice, bob, carol := s.Phone("alice"), s.Phone("bob"), s.Phone("carol")
	_, err := alice.Call(s.Ctx, "102", phone.CallOptions{Private: true})
	s.OK(err)
	in := s.Incoming(bob)
	s.OK(in.Answer(s.Ctx, phone.CallOptions{}))
	for range 2 {
		third, done := s.transfer(in, "103", carol)
		if from := third.Peer(); from.Number != "anonymous" {
			t.Errorf("%+v", from)
		}
		s.OK(third.Reject(486))
		if err := <-done; err == nil {
			t.Error("the transfer succeeded")
		}
	}
}

// acks answers the offer of a 200 in the ACK.
func (p *rawPeer) acks(ok *sip.Message) {
	p.Helper()
	if ok.Status() != 200 {
		p.Fatalf("%d", ok.Status())
	}
	offer, err := sdp.Parse(ok.Body())
	p.OK(err)
	p.OK(offer.Sealed())
	crypto, err := sdp.NewCryptos(rand.Reader)
	p.OK(err)
	answer, _, err := sdp.Answer(offer, sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU(), sdp.PCMA(), sdp.G722())
	p.OK(err)
	p.send("ACK", p.target(ok), string(ok.Get(sip.HeaderTo)), answer.Bytes())
}

// Calls whose INVITE has no offer, as some systems make all of theirs: they are picked up and moved like others.
func TestWithoutOffer(t *testing.T) {
	s := newSite(t, func(c *config.Config) { comesFrom(c, "one") })
	s.User("alice", "101")
	s.User("bob", "102")
	alice, bob := s.Phone("alice"), s.Phone("bob")
	up := func(what string) {
		t.Helper()
		s.Until(what, func() bool {
			v := s.Node.Calls.List()
			return len(v) == 1 && v[0].State == "up" && v[0].Verdict == ringfence.Sealed
		})
	}
	one := s.trunkPeer("one")
	uri := "sip:101@" + s.Domain
	one.send("INVITE", uri, "<"+uri+">", nil)
	s.Incoming(alice)
	out, err := bob.Call(s.Ctx, "*8101", phone.CallOptions{Audio: phone.Tone(440)})
	s.OK(err)
	ok := one.final()
	one.acks(ok)
	s.OK(out.WaitAnswered(s.Ctx))
	up("it is picked up")
	// The trunk moves its call to another connection, again without an offer.
	again := s.trunkPeer("one")
	again.send("INVITE", uri, "<"+uri+">", nil, fmt.Sprintf("Replaces: %s;to-tag=%s;from-tag=%s", ok.CallID(), ok.ToTag(), ok.FromTag()))
	moved := again.final()
	again.acks(moved)
	up("it is moved")
	again.send("BYE", again.target(moved), string(moved.Get(sip.HeaderTo)), nil)
	if m := again.final(); m.Status() != 200 {
		t.Errorf("BYE: %d", m.Status())
	}
	s.OK(out.WaitEnded(s.Ctx))
	// Two that both wait for an offer cannot be joined; the one that rings goes on ringing.
	first, second := s.trunkPeer("one"), s.raw(s.Identity("bob", "bob-raw"))
	first.send("INVITE", uri, "<"+uri+">", nil)
	in := s.Incoming(alice)
	second.send("INVITE", "sip:*8101@"+s.Domain, "<sip:*8101@"+s.Domain+">", nil)
	if m := second.final(); m.Status() < 400 {
		t.Errorf("two without an offer: %d", m.Status())
	}
	s.OK(in.Reject(486))
	if m := first.final(); m.Status() != 486 {
		t.Errorf("%d", m.Status())
	}
}

// A trunk that only calls us and lost its connection during a call hears over its next one that the call is over: nobody dials it.
func TestTrunkComesBack(t *testing.T) {
	s := newSite(t, func(c *config.Config) { comesFrom(c, "one"); comesFrom(c, "two") })
	s.User("alice", "101")
	alice := s.Phone("alice")
	one := s.trunkPeer("one")
	ok, in := one.talk("101", alice)
	s.OK(one.conn.Close())
	s.Until("the connection is gone", func() bool {
		return !slices.ContainsFunc(s.Node.Transport.Conns(), func(c *transport.Conn) bool { return c.Peer.Name == "one" })
	})
	s.trunkPeer("two")
	again := s.trunkPeer("one")
	again.send("OPTIONS", "sip:"+s.Domain, "<sip:"+s.Domain+">", nil)
	again.final()
	in.Hangup()
	if m := again.recv(); m.Method() != sip.BYE || string(m.CallID()) != string(ok.CallID()) {
		t.Errorf("%s", m.Bytes())
	}
}

// A transfer to a feature that takes the call over tells the transferor how it went.
func TestTransferToPickUp(t *testing.T) {
	s := newSite(t, nil)
	for user, number := range map[ringfence.UserID]ringfence.Number{"alice": "101", "bob": "102", "carol": "103", "dave": "104"} {
		s.User(user, number)
	}
	alice, bob, carol, dave := s.Phone("alice"), s.Phone("bob"), s.Phone("carol"), s.Phone("dave")
	out, in := s.Talk(alice, bob, "102")
	_, err := carol.Call(s.Ctx, "104", phone.CallOptions{Audio: phone.Tone(600)})
	s.OK(err)
	s.Incoming(dave)
	s.OK(in.BlindTransfer(s.Ctx, "*8104"))
	s.OK(in.WaitEnded(s.Ctx))
	s.Hears(out, 600)
	if n := s.Node.Calls.Count(); n != 1 {
		t.Errorf("%d calls", n)
	}
	out.Hangup()
	s.Until("both calls are on record", func() bool {
		all, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
		return err == nil && len(all) == 2 && s.Node.Calls.Count() == 0
	})
}
