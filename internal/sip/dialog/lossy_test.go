package dialog

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/testkit"
)

// Calls over datagrams, a fifth of which is lost and some of which overtake others: every call comes up and ends at both ends.
func TestCallsOverALossyNetwork(t *testing.T) {
	var repeated uint64
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			net := testkit.New(seed)
			c := &call{net: net, alice: newNode(t, net, "alice", aliceAddr, nil), bob: newNode(t, net, "bob", bobAddr, nil)}
			for _, n := range []*node{c.alice, c.bob} {
				if _, err := n.trans.ListenUDP(t.Context(), "udp", n.addr); err != nil {
					t.Fatal(err)
				}
			}
			net.SetShape(testkit.Shape{Latency: 20 * time.Millisecond, Loss: 0.2, Reorder: 0.1, ReorderBy: 70 * time.Millisecond})
			c.bob.invited = func(s *Session) {
				s.Progress(183, []byte("-B"))
				s.Answer(nil, nil)
			}
			c.bob.offered = func(o *Offer) { o.Answer([]byte("-b")) }
			a := c.alice
			a.do(func() {
				a.s = a.dl.Invite(a.shard, Invitation{Conn: a.trans.PeerUDP("udp", c.bob.addr), URI: "sip:bob@" + c.bob.addr.String(),
					From: "<sip:alice@example.com>", To: "<sip:bob@example.com>", Contact: "<sip:alice@" + a.addr.String() + ">", SDP: []byte("-A")}, a)
			})
			time.Sleep(40 * time.Second)
			c.expect("answered", "183-B answered", "invited confirmed")
			a.do(func() {
				a.s.Modify([]byte("-x"), func(answer []byte, err error) { a.note("changed%s %v", answer, err) })
			})
			time.Sleep(40 * time.Second)
			c.expect("changed", "changed-b <nil>", "offered-x")
			a.do(func() { a.s.Bye("") })
			time.Sleep(40 * time.Second)
			c.expect("ended", "ended", "hung-up")
			repeated += a.txs.Counters()["retransmissions"] + c.bob.txs.Counters()["retransmissions"]
			a.close()
			c.bob.close()
		})
	}
	if repeated < 20 {
		t.Errorf("only %d messages were repeated: was anything lost?", repeated)
	}
}

// A call over datagrams is over before its 2xx comes again: the answer is acknowledged and hung up on, whoever it is from.
func TestAnswerAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := testkit.New(1)
		c := &call{net: net, alice: newNode(t, net, "alice", aliceAddr, nil), bob: newNode(t, net, "bob", bobAddr, nil)}
		for _, n := range []*node{c.alice, c.bob} {
			if _, err := n.trans.ListenUDP(t.Context(), "udp", n.addr); err != nil {
				t.Fatal(err)
			}
		}
		c.bob.invited = func(s *Session) { s.Answer([]byte("-B"), nil) }
		a := c.alice
		a.do(func() {
			a.s = a.dl.Invite(a.shard, Invitation{Conn: a.trans.PeerUDP("udp", c.bob.addr), URI: "sip:bob@" + c.bob.addr.String(),
				From: "<sip:alice@example.com>", To: "<sip:bob@example.com>", Contact: "<sip:alice@" + a.addr.String() + ">", SDP: []byte("-A")}, a)
		})
		c.expect("up", "answered-B", "invited confirmed")
		c.hangUp()
		a.sent()
		var invite sip.Message
		for _, m := range a.all() {
			if strings.HasPrefix(m, "INVITE") {
				if err := invite.Parse([]byte(m), sip.Limits{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, tag := range []string{a.s.RemoteTag, "other"} {
			var w sip.Writer
			w.Response(&invite, 200, "", tag)
			w.Header(sip.HeaderRecordRoute, "<sip:proxy.example.com;lr>")
			w.Header(sip.HeaderContact, "<sip:desk@198.51.100.7>")
			w.Body("", nil)
			conn := c.bob.trans.PeerUDP("udp", a.addr)
			_, _ = conn.Queue(w.Bytes())
			conn.Flush()
			synctest.Wait()
			if got := a.sent(); got != "ACK BYE" {
				t.Errorf("%s: alice sent %q", tag, got)
			}
			bye := a.last()
			for _, want := range []string{"BYE sip:desk@198.51.100.7 SIP/2.0\r\n", "\r\nRoute: <sip:proxy.example.com;lr>\r\n", "\r\nFrom: <sip:alice@example.com>;tag=" + a.s.LocalTag + "\r\n",
				"\r\nTo: <sip:bob@example.com>;tag=" + tag + "\r\n", "\r\nCall-ID: " + a.s.CallID + "\r\n", "\r\nCSeq: 2 BYE\r\n"} {
				if !strings.Contains(bye, want) {
					t.Errorf("%s: there is no %q in %s", tag, want, bye)
				}
			}
			time.Sleep(4 * time.Second)
		}
		time.Sleep(40 * time.Second)
		synctest.Wait()
		c.alice.close()
		c.bob.close()
	})
}
