package node_test

import (
	"crypto/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/sip/sdp"
	"ringfence/internal/state/store"
)

// A call to a GRUU (RFC 5627) rings that phone and no other one of its user, wherever the user forwards calls to.
func TestCallByGRUU(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", func(u *store.User) { u.Forward.Always = "102" })
	s.user("bob", "102", nil)
	domain := s.node.Config.Domain
	register := func(device ringfence.DeviceID, instance string) (*rawPeer, string) {
		t.Helper()
		p := s.raw(s.identity("alice", device))
		p.params = `;+sip.instance="<` + instance + `>"`
		p.send("REGISTER", "sip:"+domain, "<sip:alice@"+domain+">", nil, "Supported: gruu")
		for v := range p.final().All(sip.HeaderContact) {
			a, err := sip.ParseNameAddr(v)
			s.ok(err)
			if gruu, ok := a.Params.Get("pub-gruu"); ok && strings.HasSuffix(string(gruu), instance) {
				return p, string(gruu)
			}
		}
		t.Fatal("no GRUU was given")
		return nil, ""
	}
	_, first := register("alice-desk", "urn:uuid:00000000-0000-1000-8000-000000000001")
	soft, second := register("alice-soft", "urn:uuid:00000000-0000-1000-8000-000000000002")
	crypto, err := sdp.NewCryptos(rand.Reader)
	s.ok(err)
	offer, err := sdp.BuildOffer(sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU())
	s.ok(err)
	bob := s.raw(s.identity("bob", "bob-desk"))
	bob.send("INVITE", second, "<"+second+">", offer.Bytes())
	soft.reply(soft.recv(), 486, nil)
	if m := bob.final(); m.Status() != 486 {
		t.Errorf("the phone that was asked for is busy, the caller heard %d", m.Status())
	}
	bob.send("ACK", second, "<"+second+">", nil)
	s.until("the record is kept", func() bool {
		cdrs, err := s.node.Store.CDRs(s.ctx, time.Time{}, time.Time{}, 10)
		if err == nil && len(cdrs) == 1 && (len(cdrs[0].Legs) != 2 || cdrs[0].Legs[1].Peer != "device alice-soft") {
			t.Fatalf("legs: %+v", cdrs[0].Legs)
		}
		return err == nil && len(cdrs) == 1
	})
	bob.id += "x"
	gone := strings.Replace(first, "0001", "0009", 1)
	bob.send("INVITE", gone, "<"+gone+">", offer.Bytes())
	if m := bob.final(); m.Status() != 480 {
		t.Errorf("a phone that is not there: %d", m.Status())
	}
}

// A transfer to a GRUU (RFC 5627 section 5.1, RFC 3515) connects the party that is left with that phone and no other.
func TestTransferToGRUU(t *testing.T) {
	s := newSite(t, nil)
	s.user("alice", "101", nil)
	s.user("bob", "102", nil)
	s.user("carol", "103", func(u *store.User) { u.Forward.Always = "102" })
	alice, bob := s.phone("alice", nil), s.phone("bob", nil)
	const first, second = "urn:uuid:00000000-0000-1000-8000-000000000011", "urn:uuid:00000000-0000-1000-8000-000000000012"
	open := func(device ringfence.DeviceID, instance string) *phone.Phone {
		return s.open(s.identity("carol", device), func(c *phone.Config) { c.Instance = instance })
	}
	soft := open("carol-soft", second)
	desk := open("carol-desk", first) // registered last, so that it would ring first
	out, in := s.talk(alice, bob, "102")
	gruu := "sip:carol@" + s.node.Config.Domain + ";gr="
	at, done := s.transfer(in, gruu+second, soft)
	s.ok(at.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(1209)}))
	s.ok(<-done)
	s.hears(out, 1209)
	s.hears(at, 440)
	select {
	case c := <-desk.Incoming():
		t.Errorf("the other phone rang too: %+v", c)
	default:
	}
	// A phone that is not there: the call goes on as it was.
	if err := at.BlindTransfer(s.ctx, gruu+strings.Replace(first, "11", "99", 1)); err == nil {
		t.Error("a transfer to a phone that is not there succeeded")
	}
	s.hears(out, 1209)
	out.Hangup()
	s.ok(at.WaitEnded(s.ctx))

	// Attended: the Refer-To holds the GRUU that was called, and Replaces.
	out, in = s.talk(alice, bob, "102")
	consult, err := bob.Call(s.ctx, gruu+second, phone.CallOptions{Audio: phone.Tone(500)})
	s.ok(err)
	third := s.incoming(soft)
	s.ok(third.Answer(s.ctx, phone.CallOptions{Audio: phone.Tone(1209)}))
	s.ok(consult.WaitAnswered(s.ctx))
	if a := consult.Peer().Address; a != gruu+second {
		t.Errorf("the transfer names %s", a)
	}
	s.ok(in.AttendedTransfer(s.ctx, consult))
	s.hears(out, 1209)
	s.hears(third, 440)
	select {
	case c := <-desk.Incoming():
		t.Errorf("the other phone rang too: %+v", c)
	default:
	}
}
