package trunk

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
)

var (
	ours   = netip.MustParseAddrPort("192.0.2.1:5061")
	theirs = netip.MustParseAddrPort("192.0.2.9:5061")
)

// side is one end: the node with its table, or the trunk without.
type side struct {
	table *Table
	txs   *transaction.Layer
	*transport.Layer
	quiet atomic.Bool // it does not answer
}

func (s *side) Request(tx *transaction.Server) {
	if !s.quiet.Load() {
		tx.Reply(200, "", nil)
	}
}
func (s *side) Cancelled(*transaction.Server, *sip.Message) {}
func (s *side) Closed(c *transport.Conn, cause error)       { s.table.Closed(c, cause) }
func (s *side) Verify(tls.ConnectionState) (transport.Peer, *ringfence.TLSProof, error) {
	return transport.Peer{Name: "one", Role: Role}, &ringfence.TLSProof{}, nil
}

func inBubble(t *testing.T, f func(t *testing.T, node, far *side, dial func(func(*transport.Conn)) *transport.Conn, dials *atomic.Int32)) {
	synctest.Test(t, func(t *testing.T) {
		n, trust, log := testkit.New(1), testkit.NewAuthority("test"), slog.New(slog.DiscardHandler)
		open := func(at netip.AddrPort) *side {
			s := &side{}
			s.txs = transaction.New(transaction.Config{User: s, Log: log})
			s.Layer = transport.New(transport.Config{Opener: n.Host(at.Addr()), Receiver: s.txs, Verifier: s, Log: log})
			return s
		}
		node, far := open(ours), open(theirs)
		if _, err := far.Listen(t.Context(), "in", theirs, trust.Server("one.example")); err != nil {
			t.Fatal(err)
		}
		var dials atomic.Int32
		dial := func(opened func(*transport.Conn)) *transport.Conn {
			dials.Add(1)
			return node.DialFirst(context.Background(), "out", func(context.Context) ([]transport.Candidate, error) {
				return []transport.Candidate{{Addr: theirs, TLS: trust.Client("node", "one.example")}}, nil
			}, opened)
		}
		node.table = New(Config{Trunks: []Trunk{{Name: "one", Host: "one.example"}}, Shard: node.txs.Shards()[0], Domain: "ringfence.internal", Log: log,
			Dial: func(_ Trunk, opened func(*transport.Conn)) *transport.Conn { return dial(opened) }})
		defer func() {
			node.table.Close()
			for _, s := range []*side{node, far} {
				s.Layer.Close()
				s.txs.Close()
			}
		}()
		f(t, node, far, dial, &dials)
	})
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A trunk that does not want our certificate takes a connection and ends it at once, since a client of TLS 1.3 is done before the server has looked. The table may hear that it is
// over before it hears that it is up. The trunk is called again.
func TestEndedBeforeItWasUp(t *testing.T) {
	inBubble(t, func(t *testing.T, node, _ *side, dial func(func(*transport.Conn)) *transport.Conn, dials *atomic.Int32) {
		c := dial(nil)
		after(time.Second)
		c.Close(errors.New("certificate required"))
		synctest.Wait()
		before := dials.Load()
		node.table.up("one", c)
		if s := node.table.States()[0]; s.Way != nil || s.Cause != "certificate required" {
			t.Errorf("right after: %+v", s)
		}
		after(time.Minute)
		if way, _ := node.table.Way("one"); way == nil || dials.Load() == before {
			t.Errorf("after a minute: %v, %d attempts", way, dials.Load()-before)
		}
	})
}

// The way to a trunk is kept up: it is opened again when it ends, and ended when nobody answers there.
func TestKeptUp(t *testing.T) {
	inBubble(t, func(t *testing.T, node, far *side, _ func(func(*transport.Conn)) *transport.Conn, dials *atomic.Int32) {
		node.table.Start()
		after(time.Second)
		first, _ := node.table.Way("one")
		if first == nil {
			t.Fatalf("%+v", node.table.States()[0])
		}
		after(2 * time.Minute) // asked and answered
		if way, _ := node.table.Way("one"); way != first {
			t.Fatalf("a connection that answers was given up: %+v", node.table.States()[0])
		}
		far.quiet.Store(true)
		after(90 * time.Second)
		far.quiet.Store(false)
		after(time.Minute)
		way, _ := node.table.Way("one")
		if way == nil || way == first || dials.Load() < 2 {
			t.Errorf("a connection over which nobody answers: %v, %d attempts", way, dials.Load())
		}
	})
}
