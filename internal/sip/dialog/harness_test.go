package dialog

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/testkit"
)

var (
	aliceAddr = netip.MustParseAddr("192.0.2.1")
	bobAddr   = netip.MustParseAddr("192.0.2.2")
)

// node is one end: transport, transactions, dialogs and a user that records what it hears.
type node struct {
	t     *testing.T
	name  string
	addr  netip.AddrPort
	trans *transport.Layer
	txs   *transaction.Layer
	dl    *Layer
	shard *transaction.Shard

	mu      sync.Mutex
	events  []string
	wire    []string // start lines sent
	texts   []string // messages sent
	s       *Session
	offer   *Offer
	end     End
	drop    func(line string) bool // what the node does not want to receive
	invited func(s *Session)
	offered func(o *Offer)
	flow    func(s *Session) *transport.Conn
}

func (n *node) note(format string, args ...any) {
	n.mu.Lock()
	n.events = append(n.events, fmt.Sprintf(format, args...))
	n.mu.Unlock()
}

// heard returns what the user heard since the last call, e.g. "180 answered ended".
func (n *node) heard() string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	out := strings.Join(n.events, " ")
	n.events = nil
	return out
}

// sent returns the methods and status codes sent since the last call.
func (n *node) sent() string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	out := strings.Join(n.wire, " ")
	n.wire = nil
	return out
}

func (n *node) last() string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.texts[len(n.texts)-1]
}

// all returns every message sent so far.
func (n *node) all() []string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.texts...)
}

func startLine(b []byte) string {
	words := strings.Fields(string(b[:min(len(b), 60)]))
	if words[0] == "SIP/2.0" {
		return words[1]
	}
	return words[0]
}

// Receive stands before the transaction layer, so that a test can drop messages.
func (n *node) Receive(c *transport.Conn, m *sip.Message, err error) {
	n.mu.Lock()
	drop := n.drop
	n.mu.Unlock()
	if drop != nil && drop(startLine(m.Bytes())) {
		return
	}
	n.txs.Receive(c, m, err)
}

// Request implements transaction.User.
func (n *node) Request(tx *transaction.Server) {
	switch {
	case len(tx.Request.ToTag()) > 0:
		if !n.dl.Request(tx) && tx.Method != sip.ACK {
			tx.Reply(481, "", nil)
		}
	case tx.Method == sip.INVITE:
		n.s = n.dl.Accept(tx, "<sip:"+n.name+"@"+n.addr.String()+";transport=tcp>", n)
		n.note("invited")
		if n.invited != nil {
			n.invited(n.s)
		}
	}
}

// Cancelled implements transaction.User.
func (n *node) Cancelled(tx *transaction.Server, cancel *sip.Message) {
	if !n.dl.Cancelled(tx, cancel) {
		n.t.Error("a CANCEL for nothing")
	}
}

type upper struct{ *node }

// Closed implements transaction.User.
func (upper) Closed(*transport.Conn, error) {}

func (n *node) Progress(_ *Session, m *sip.Message)  { n.note("%d%s", m.Status(), m.Body()) }
func (n *node) Answered(_ *Session, m *sip.Message)  { n.note("answered%s", m.Body()) }
func (n *node) Confirmed(_ *Session, m *sip.Message) { n.note("confirmed%s", m.Body()) }
func (n *node) Offered(_ *Session, o *Offer) {
	n.note("offered%s", o.SDP)
	n.offer = o
	if n.offered != nil {
		n.offered(o)
	}
}

func (n *node) Requested(_ *Session, tx *transaction.Server) {
	n.note("%v", tx.Method)
	tx.Reply(200, "", nil)
}

func (n *node) Ended(_ *Session, e End) {
	n.end = e
	who := "ended"
	if e.Remote {
		who = "hung-up"
	}
	if e.Status > 0 {
		who += fmt.Sprint(e.Status)
	}
	n.note("%s", who)
}

// receiver joins the node's filter with the transaction layer's own end of connections.
type receiver struct{ n *node }

func (r receiver) Receive(c *transport.Conn, m *sip.Message, err error) { r.n.Receive(c, m, err) }
func (r receiver) Closed(c *transport.Conn, cause error)                { r.n.txs.Closed(c, cause) }

func newNode(t *testing.T, net *testkit.Net, name string, addr netip.Addr, change func(*Config)) *node {
	t.Helper()
	n := &node{t: t, name: name, addr: netip.AddrPortFrom(addr, 5060)}
	log := slog.New(slog.DiscardHandler)
	n.txs = transaction.New(transaction.Config{User: upper{n}, Log: log, Trace: func(_ *transport.Conn, _, msg []byte, sent bool) {
		if sent {
			n.mu.Lock()
			n.wire = append(n.wire, startLine(msg))
			n.texts = append(n.texts, string(msg))
			n.mu.Unlock()
		}
	}})
	n.shard = n.txs.Shards()[0]
	cfg := Config{Log: log, UserAgent: "test/1", Flow: func(s *Session) *transport.Conn {
		if n.flow == nil {
			return nil
		}
		return n.flow(s)
	}}
	if change != nil {
		change(&cfg)
	}
	n.dl = New(cfg, n.txs)
	n.trans = transport.New(transport.Config{Opener: net.Host(addr), Receiver: receiver{n}, Log: log, IdleTimeout: 24 * time.Hour})
	if _, err := n.trans.Listen(t.Context(), "tcp", n.addr, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) do(fn func()) {
	n.shard.Do(fn)
	synctest.Wait()
}

func (n *node) close() {
	n.t.Helper()
	n.trans.Close()
	n.do(func() {
		if k := n.dl.Count(n.shard); k != 0 {
			n.t.Errorf("%s has %d sessions left", n.name, k)
		}
	})
	n.txs.Close()
}

// call is a pair of nodes with a connection between them.
type call struct {
	net        *testkit.Net
	alice, bob *node
}

// inBubble runs a test with two nodes. setup changes both configurations and may be nil.
func inBubble(t *testing.T, setup func(*Config), test func(t *testing.T, c *call)) {
	synctest.Test(t, func(t *testing.T) {
		net := testkit.New(1)
		c := &call{net: net, alice: newNode(t, net, "alice", aliceAddr, setup), bob: newNode(t, net, "bob", bobAddr, setup)}
		test(t, c)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		c.alice.close()
		c.bob.close()
	})
}

// invite makes alice call bob.
func (c *call) invite(sdp string, extra func(*sip.Writer)) *Session {
	a := c.alice
	conn := a.trans.Dial(a.t.Context(), "out", c.bob.addr, nil)
	synctest.Wait()
	a.do(func() {
		a.s = a.dl.Invite(a.shard, Invitation{Conn: conn, URI: "sip:bob@" + c.bob.addr.String(), From: "<sip:alice@example.com>", To: "<sip:bob@example.com>",
			Contact: "<sip:alice@" + a.addr.String() + ";transport=tcp>", SDP: []byte(sdp), Extra: extra}, a)
	})
	return a.s
}

// up makes a call that is answered and forgets what happened on the way.
func (c *call) up() {
	c.alice.t.Helper()
	c.bob.invited = func(s *Session) { s.Answer([]byte("-B"), nil) }
	c.invite("-A", nil)
	if a, b := c.alice.heard(), c.bob.heard(); a != "answered-B" || b != "invited confirmed" {
		c.alice.t.Fatalf("alice heard %q, bob %q", a, b)
	}
	c.alice.sent()
	c.bob.sent()
	c.bob.invited = nil
}

// expect compares what both users heard.
func (c *call) expect(what, alice, bob string) {
	c.alice.t.Helper()
	if a, b := c.alice.heard(), c.bob.heard(); a != alice || b != bob {
		c.alice.t.Errorf("%s: alice heard %q, want %q; bob heard %q, want %q", what, a, alice, b, bob)
	}
}

// hangUp ends a call that is up.
func (c *call) hangUp() {
	c.alice.t.Helper()
	c.alice.do(func() { c.alice.s.Bye("") })
	c.expect("BYE", "ended", "hung-up")
}

func testkitShape(d time.Duration) testkit.Shape { return testkit.Shape{Latency: d} }
