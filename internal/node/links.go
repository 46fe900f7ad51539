package node

import (
	"context"
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
)

// How long a call waits for the database and for other nodes before it goes on with the phones that are here.
const lookPatience = 3 * time.Second

// links are the connections to the other nodes of a shared database, over which calls go to phones that are connected there.
type links struct {
	n *Node

	mu   sync.Mutex
	ways map[string]*link
}

// link is a connection to a node that is being opened or was.
type link struct {
	conn *transport.Conn
	from time.Time     // when it was begun
	done chan struct{} // closed when it is up or has failed
	up   bool
}

// openLinks makes ready for calls to phones at other nodes, if this node may be reached by them.
func (n *Node) openLinks(context.Context) error {
	if n.Config.SIP.ReachedAt.IsValid() {
		n.chain.links = &links{n: n, ways: map[string]*link{}}
	}
	return nil
}

// elsewhere implements control.Config.Elsewhere: to the contacts of a user here it adds those at other nodes.
func (n *Node) elsewhere() func(ringfence.UserID, []registrar.Contact) []registrar.Contact {
	if !n.Config.SIP.ReachedAt.IsValid() {
		return nil
	}
	return func(user ringfence.UserID, here []registrar.Contact) []registrar.Contact {
		return n.chain.links.add(user, here)
	}
}

// add asks the database which phones of a user are connected at which other nodes.
func (l *links) add(user ringfence.UserID, here []registrar.Contact) []registrar.Contact {
	ctx, cancel := context.WithTimeout(context.Background(), lookPatience)
	defer cancel()
	bindings, err := l.n.Store.Bindings(ctx, l.n.Registrar.AOR(user), time.Now())
	if err != nil {
		l.n.log.Warn("the database does not say whether a phone is connected at another node", "user", user, "err", err, "hint", ringfence.HintOf(err))
		return here
	}
	out := slices.Clone(here)
	for _, b := range bindings {
		node, _, ok := strings.Cut(b.FlowToken, "/")
		if !ok || node == l.n.Config.Node {
			continue
		}
		conn, err := l.to(ctx, node)
		if err != nil {
			l.n.log.Warn("a phone is connected at another node, which cannot be reached", "user", user, "device", b.Device, "node", node, "err", err, "hint", ringfence.HintOf(err))
			continue
		}
		out = registrar.Group(out, away(b, conn))
	}
	return out
}

// away is a contact at another node, which knows the rest of the way itself.
func away(b store.Binding, conn *transport.Conn) registrar.Contact {
	b.Path = nil
	return registrar.Contact{Binding: b, Conn: conn}
}

// to returns a connection to a node, and opens one if there is none.
func (l *links) to(ctx context.Context, node string) (*transport.Conn, error) {
	l.mu.Lock()
	w := l.ways[node]
	if w != nil && w.up && w.conn.State() != "Established" {
		w = nil
	}
	if w == nil {
		w = &link{from: time.Now(), done: make(chan struct{})}
		l.ways[node] = w
		w.conn = l.n.Transport.DialFirst(context.WithoutCancel(ctx), "sip-node", func(ctx context.Context) ([]transport.Candidate, error) { return l.places(ctx, node) },
			func(*transport.Conn) { l.settled(w, true) })
	}
	l.mu.Unlock()
	if w.conn.State() == "Closed" { // it failed before we could hear of it
		l.closed(w.conn)
	}
	ctx, cancel := context.WithDeadline(ctx, w.from.Add(lookPatience)) // who came first has waited for the others
	defer cancel()
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	if w.conn.State() == "Established" {
		return w.conn, nil
	}
	return nil, &ringfence.Fault{Op: "node.links", Kind: ringfence.KindUnavailable, Text: "there is no connection to the node " + node,
		Hint: "see whether it runs, and whether sip.reached-at there is an address that this host reaches", Err: w.conn.Cause()}
}

// settled notes that a connection is up, or has failed.
func (l *links) settled(w *link, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-w.done:
	default:
		w.up = up
		close(w.done)
	}
}

// closed hears that a connection ended.
func (l *links) closed(c *transport.Conn) {
	if l == nil {
		return
	}
	l.mu.Lock()
	var over *link
	for node, w := range l.ways {
		if w.conn == c {
			over = w
			delete(l.ways, node)
		}
	}
	l.mu.Unlock()
	if over == nil {
		return
	}
	l.settled(over, false)
	if !over.up {
		return
	}
	// Calls that are up need it again; who is away for longer is dialled when somebody is called there.
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), lookPatience)
		defer cancel()
		_, _ = l.to(ctx, c.Peer.Name)
	}()
}

// ping keeps the connections from being taken for idle ones: a call may be long and quiet.
func (l *links) ping() {
	if l == nil {
		return
	}
	l.mu.Lock()
	var conns []*transport.Conn
	for _, w := range l.ways {
		if w.conn.State() == "Established" {
			conns = append(conns, w.conn)
		}
	}
	l.mu.Unlock()
	for _, c := range conns {
		if _, err := c.Queue([]byte("\r\n\r\n")); err == nil {
			c.Flush()
		}
	}
}

// places returns where a node is, as the database says. Whoever answers there must prove our domain, and to be that very node.
func (l *links) places(ctx context.Context, node string) ([]transport.Candidate, error) {
	text, err := l.n.Store.Reach(ctx, node, leaseStale)
	if err != nil {
		return nil, err
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, &ringfence.Fault{Op: "node.links", Kind: ringfence.KindInvalid, Text: "the database has no address for the node " + node, Err: err}
	}
	conf, err := l.n.clientTLS("sip-node", at, l.n.Config.Domain, func(cs tls.ConnectionState) error {
		who, err := l.n.Authority.Verify(cs.PeerCertificates, ca.RoleNode, time.Now())
		if err == nil && who.Name != node {
			err = &ringfence.Fault{Op: "node.links", Kind: ringfence.KindDenied, Text: "there is " + who.Name + " where the node " + node + " should be"}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return []transport.Candidate{{Addr: at, TLS: conf}}, nil
}
