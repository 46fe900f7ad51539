package peer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/peer"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
)

var (
	ours   = netip.MustParseAddrPort("192.0.2.1:5061")
	theirs = netip.MustParseAddrPort("192.0.2.9:5061")
)

// end is one side: a node with a table, or the proxy without.
type end struct {
	*transport.Layer
	table *peer.Table

	mu     sync.Mutex
	up     []*transport.Conn
	dialed atomic.Int32
	wanted atomic.Bool
	proven atomic.Bool
}

func (e *end) Receive(c *transport.Conn, m *sip.Message, err error) {
	if err == nil && e.table != nil {
		e.table.Heard(c, m, func(_ *transport.Conn, host string) bool { return e.proven.Load() && host == "edge-1" })
	}
}

func (e *end) Closed(c *transport.Conn, cause error) {
	if e.table != nil {
		e.table.Closed(c, cause)
	}
}

func (e *end) Verify(cs tls.ConnectionState) (transport.Peer, *ringfence.TLSProof, error) {
	p := transport.Peer{}
	if len(cs.PeerCertificates) > 0 {
		p = transport.Peer{Name: cs.PeerCertificates[0].Subject.CommonName, Role: "proxy"}
	}
	return p, &ringfence.TLSProof{Version: "TLS 1.3"}, nil
}

func (e *end) ways() []*transport.Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.up)
}

func inBubble(t *testing.T, f func(t *testing.T, n *testkit.Net, trust *testkit.Authority, node, proxy *end)) {
	synctest.Test(t, func(t *testing.T) {
		n, trust := testkit.New(1), testkit.NewAuthority("test")
		open := func(at netip.AddrPort) *end {
			e := &end{}
			e.wanted.Store(true)
			e.proven.Store(true)
			e.Layer = transport.New(transport.Config{Opener: n.Host(at.Addr()), Receiver: e, Verifier: e, Log: slog.New(slog.DiscardHandler)})
			return e
		}
		node, proxy := open(ours), open(theirs)
		node.table = peer.New(peer.Config{Log: slog.New(slog.DiscardHandler),
			Dial: func(name, uri string, opened func(*transport.Conn)) *transport.Conn {
				node.dialed.Add(1)
				if uri != "sip:edge-1" {
					t.Errorf("dialled %s", uri)
				}
				return node.DialFirst(context.Background(), "out", func(context.Context) ([]transport.Candidate, error) {
					return []transport.Candidate{{Addr: theirs, TLS: trust.Client("node-1", name)}}, nil
				}, opened)
			},
			Wanted: func(string) (string, bool) { return "sip:edge-1", node.wanted.Load() },
			Up: func(name string, c *transport.Conn) {
				node.mu.Lock()
				node.up = append(node.up, c)
				node.mu.Unlock()
				if name != "edge-1" || c.Peer.Name != name {
					t.Errorf("a way to %s is %s", name, c.Peer.Name)
				}
			}})
		if _, err := node.Listen(t.Context(), "in", ours, trust.Server("node-1")); err != nil {
			t.Fatal(err)
		}
		defer func() {
			node.table.Close()
			node.Close()
			proxy.Close()
		}()
		f(t, n, trust, node, proxy)
	})
}

func (e *end) say(c *transport.Conn, via string) {
	_, _ = c.Queue(fmt.Appendf(nil, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bK1\r\nMax-Forwards: 9\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", via))
	c.Flush()
	<-time.After(time.Second)
	synctest.Wait()
}

// A way that nobody offers is opened, again and again while it is wanted, and then used for everybody.
func TestOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testkit.Net, trust *testkit.Authority, node, proxy *end) {
		node.table.Want("edge-1", "sip:edge-1")
		node.table.Want("edge-1", "sip:edge-1") // one attempt serves both
		<-time.After(10 * time.Second)
		synctest.Wait()
		if node.dialed.Load() < 4 || node.dialed.Load() > 8 || len(node.ways()) != 0 {
			t.Errorf("%d attempts in 10 s, %d ways", node.dialed.Load(), len(node.ways()))
		}
		if _, err := proxy.Listen(t.Context(), "in", theirs, trust.Server("edge-1")); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		if len(node.ways()) != 1 || !node.ways()[0].Dialled {
			t.Fatalf("ways: %v", node.ways())
		}
		before := node.dialed.Load()
		node.table.Want("edge-1", "sip:edge-1")
		if w := node.ways(); len(w) != 2 || w[0] != w[1] || node.dialed.Load() != before {
			t.Errorf("the second time: %v, %d attempts", w, node.dialed.Load())
		}
		// It ends and is wanted no more: nothing is opened.
		node.ways()[0].Close(errors.New("cut"))
		<-time.After(time.Minute)
		synctest.Wait()
		if node.dialed.Load() != before {
			t.Error("it was opened again without need")
		}
		n.Cut(ours.Addr(), theirs.Addr())
	})
}

func TestNoLongerWanted(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testkit.Net, _ *testkit.Authority, node, _ *end) {
		node.table.Want("edge-1", "sip:edge-1")
		<-time.After(5 * time.Second)
		synctest.Wait()
		node.wanted.Store(false)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		before := node.dialed.Load()
		<-time.After(time.Hour)
		synctest.Wait()
		if node.dialed.Load() != before || before == 0 {
			t.Errorf("%d attempts, then %d", before, node.dialed.Load())
		}
	})
}

// A connection is used the other way if the peer says so and proves the name it says it under (RFC 5923), and not otherwise.
func TestAlias(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *testkit.Net, trust *testkit.Authority, node, proxy *end) {
		proxy.proven.Store(false)
		for _, c := range []struct {
			as, via string
			proven  bool
			want    int
		}{
			{"edge-1", "edge-1", true, 0},
			{"edge-1", "elsewhere;alias", true, 0},
			{"edge-1", "edge-1;alias", false, 0},
			{"", "edge-1;alias", true, 0},
			{"edge-1", "edge-1;alias", true, 1},
		} {
			node.proven.Store(c.proven)
			conn := proxy.Dial(t.Context(), "out", ours, trust.Client(c.as, "node-1"))
			proxy.say(conn, c.via)
			proxy.say(conn, c.via)
			if got := len(node.ways()); got != c.want {
				t.Errorf("%q as %q, proven %v: %d ways, want %d", c.via, c.as, c.proven, got, c.want)
			}
		}
		node.table.Want("edge-1", "sip:edge-1")
		if node.dialed.Load() != 0 || len(node.ways()) != 2 {
			t.Errorf("%d attempts, %d ways", node.dialed.Load(), len(node.ways()))
		}
	})
}
