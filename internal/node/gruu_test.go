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
	s.User("alice", "101", func(u *store.User) { u.Forward.Always = "102" })
	s.User("bob", "102")
	domain := s.Node.Config.Domain
	register := func(device ringfence.DeviceID, instance string) (*rawPeer, string) {
		t.Helper()
		p := s.raw(s.Identity("alice", device))
		p.params = `;+sip.instance="<` + instance + `>"`
		p.send("REGISTER", "sip:"+domain, "<sip:alice@"+domain+">", nil, "Supported: gruu")
		for v := range p.final().All(sip.HeaderContact) {
			a, err := sip.ParseNameAddr(v)
			s.OK(err)
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
	s.OK(err)
	offer, err := sdp.BuildOffer(sdp.RewriteOptions{Addr: netip.MustParseAddrPort("127.0.0.1:40000"), Crypto: crypto, Origin: sdp.Origin{ID: 1, Version: 1}}, sdp.PCMU())
	s.OK(err)
	bob := s.raw(s.Identity("bob", "bob-desk"))
	bob.send("INVITE", second, "<"+second+">", offer.Bytes())
	soft.reply(soft.recv(), 486, nil)
	if m := bob.final(); m.Status() != 486 {
		t.Errorf("the phone that was asked for is busy, the caller heard %d", m.Status())
	}
	bob.send("ACK", second, "<"+second+">", nil)
	s.Until("the record is kept", func() bool {
		cdrs, err := s.Node.Store.CDRs(s.Ctx, time.Time{}, time.Time{}, 10)
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
	s.User("alice", "101")
	s.User("bob", "102")
	s.User("carol", "103", func(u *store.User) { u.Forward.Always = "102" })
	alice, bob := s.Phone("alice"), s.Phone("bob")
	const first, second = "urn:uuid:00000000-0000-1000-8000-000000000011", "urn:uuid:00000000-0000-1000-8000-000000000012"
	open := func(device ringfence.DeviceID, instance string) *phone.Phone {
		c := s.Known(s.Identity("carol", device))
		c.Instance = instance
		return s.Start(c)
	}
	soft := open("carol-soft", second)
	desk := open("carol-desk", first) // registered last, so that it would ring first
	out, in := s.Talk(alice, bob, "102")
	gruu := "sip:carol@" + s.Node.Config.Domain + ";gr="
	at, done := s.transfer(in, gruu+second, soft)
	s.OK(at.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1209)}))
	s.OK(<-done)
	s.Hears(out, 1209)
	s.Hears(at, 440)
	select {
	case c := <-desk.Incoming():
		t.Errorf("the other phone rang too: %+v", c)
	default:
	}
	// A phone that is not there: the call goes on as it was.
	if err := at.BlindTransfer(s.Ctx, gruu+strings.Replace(first, "11", "99", 1)); err == nil {
		t.Error("a transfer to a phone that is not there succeeded")
	}
	s.Hears(out, 1209)
	out.Hangup()
	s.OK(at.WaitEnded(s.Ctx))

	// Attended: the Refer-To holds the GRUU that was called, and Replaces.
	out, in = s.Talk(alice, bob, "102")
	consult, err := bob.Call(s.Ctx, gruu+second, phone.CallOptions{Audio: phone.Tone(500)})
	s.OK(err)
	third := s.Incoming(soft)
	s.OK(third.Answer(s.Ctx, phone.CallOptions{Audio: phone.Tone(1209)}))
	s.OK(consult.WaitAnswered(s.Ctx))
	if a := consult.Peer().Address; a != gruu+second {
		t.Errorf("the transfer names %s", a)
	}
	s.OK(in.AttendedTransfer(s.Ctx, consult))
	s.Hears(out, 1209)
	s.Hears(third, 440)
	select {
	case c := <-desk.Incoming():
		t.Errorf("the other phone rang too: %+v", c)
	default:
	}
}
