package dialog

import (
	"testing"
	"testing/synctest"
	"time"

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
