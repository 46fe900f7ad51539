package node

import (
	"context"
	"crypto/tls"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/sip"
	"ringfence/internal/sip/locate"
	"ringfence/internal/sip/peer"
	"ringfence/internal/sip/transport"
	"ringfence/internal/trust/ca"
)

// proxies are the edge proxies of this node: those through which phones come, and the ways back to them.
type proxies struct {
	names     *locate.Resolver
	ways      *peer.Table
	registrar *registrar.Registrar
	allowed   []string

	mu      sync.Mutex
	resting map[netip.AddrPort]time.Time // servers that said 503, until when nothing is sent to them
}

// hopPatience is how long a call waits for another server of a proxy.
const hopPatience = 5 * time.Second

// rest leaves a server alone for a while.
func (p *proxies) rest(at netip.AddrPort, wait time.Duration) {
	p.names.Avoid(at, wait)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(p.resting, func(_ netip.AddrPort, until time.Time) bool { return !now.Before(until) })
	p.resting[at] = now.Add(wait)
}

func (p *proxies) rests(at netip.AddrPort) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.resting[at])
}

// openNames makes ready to ask where other SIP servers are, if there are any.
func (n *Node) openNames(context.Context) error {
	if !n.Config.AsksDNS() {
		return nil
	}
	servers := n.Config.SIP.DNS
	cfg := locate.Config{Servers: servers}
	if len(servers) == 0 {
		if text, err := os.ReadFile("/etc/resolv.conf"); err == nil {
			cfg.Servers, cfg.Search = locate.ParseResolvConf(text)
		}
	}
	if text, err := os.ReadFile("/etc/hosts"); err == nil {
		cfg.Hosts = locate.ParseHosts(text)
	}
	o, ok := n.opener.(locate.Opener)
	if !ok {
		return &ringfence.Fault{Op: "node.names", Kind: ringfence.KindUnsupported, Text: "this network has no datagrams for DNS"}
	}
	cfg.Opener = o
	n.names = locate.New(cfg)
	return nil
}

// openProxies makes ready for the edge proxies that the configuration names. Without one nothing here ever opens a connection.
func (n *Node) openProxies(ctx context.Context) error {
	if len(n.Config.SIP.Proxies) == 0 {
		return nil
	}
	p := &proxies{names: n.names, registrar: n.Registrar, allowed: n.Config.SIP.Proxies, resting: map[netip.AddrPort]time.Time{}}
	p.ways = peer.New(peer.Config{Log: n.log,
		Dial: func(name, uri string, opened func(*transport.Conn)) *transport.Conn {
			return n.Transport.DialFirst(context.WithoutCancel(ctx), "sip-peer", func(ctx context.Context) ([]transport.Candidate, error) {
				return n.placesOf(ctx, p, name, uri)
			}, opened)
		},
		Wanted: func(name string) (string, bool) {
			uri, ok := n.Registrar.Stranded()[name]
			return uri, ok && slices.Contains(p.allowed, name)
		},
		Up: func(name string, c *transport.Conn) {
			if devices := n.Registrar.Rejoin(c); devices > 0 {
				n.log.Info("phones behind a proxy can be reached again", "proxy", name, "bindings", devices, "remote", c.Remote, "dialled", c.Dialled)
			}
		}})
	n.chain.proxies = p
	n.closers = append(n.closers, p.ways.Close)
	return nil
}

// placesOf returns where a proxy may be, as the URI in its Path says. Whoever answers there must prove the host of that URI, and to be
// that very proxy.
func (n *Node) placesOf(ctx context.Context, p *proxies, name, uri string) ([]transport.Candidate, error) {
	u, err := sip.ParseURI([]byte(uri))
	if err != nil {
		return nil, &ringfence.Fault{Op: "node.proxies", Kind: ringfence.KindInvalid, Text: "the Path of " + name + " cannot be read", Err: err}
	}
	targets, err := p.names.Locate(ctx, &u)
	if err != nil {
		return nil, err
	}
	var out []transport.Candidate
	for _, t := range targets {
		conf, err := n.clientTLS("sip-peer", t.Addr, t.Name, func(cs tls.ConnectionState) error {
			who, err := n.Authority.Verify(cs.PeerCertificates, ca.RoleProxy, time.Now())
			if err == nil && who.Name != name {
				err = &ringfence.Fault{Op: "node.proxies", Kind: ringfence.KindDenied, Text: "there is " + who.Name + " where " + name + " should be"}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		at := t.Addr
		out = append(out, transport.Candidate{Addr: at, TLS: conf, Failed: func(error) { p.names.Avoid(at, time.Minute) }})
	}
	return out, nil
}

// nextHop implements control.Config.NextHop: it returns a connection to another server of the proxy at the other end of c, which is left alone for a while, and makes it the way to every phone behind that proxy; or nil.
func (n *Node) nextHop(c *transport.Conn, wait time.Duration) *transport.Conn {
	p := n.chain.proxies
	if p == nil || !slices.Contains(p.allowed, c.Peer.Name) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), hopPatience)
	defer cancel()
	uri, ok := p.registrar.PathTo(c.Peer.Name)
	if !ok {
		return nil
	}
	places, err := n.placesOf(ctx, p, c.Peer.Name, uri)
	if err != nil {
		return nil
	}
	for _, at := range places {
		// A connection that the proxy opened comes from any port of its host.
		if at.Addr == c.Remote || !c.Dialled && at.Addr.Addr() == c.Remote.Addr() {
			p.rest(at.Addr, wait)
		}
	}
	if places = slices.DeleteFunc(places, func(at transport.Candidate) bool { return p.rests(at.Addr) }); len(places) == 0 {
		return nil
	}
	for _, o := range n.Transport.Conns() { // one that is up already
		if o.Dialled && o.Peer.Name == c.Peer.Name && o.State() == "Established" && slices.ContainsFunc(places, func(at transport.Candidate) bool { return at.Addr == o.Remote }) {
			p.registrar.Move(c, o)
			return o
		}
	}
	settled := make(chan *transport.Conn, 1)
	failed := 0
	for i := range places {
		also := places[i].Failed
		places[i].Failed = func(err error) { // one after the other
			also(err)
			if failed++; failed == len(places) {
				settled <- nil
			}
		}
	}
	n.Transport.DialFirst(context.WithoutCancel(ctx), "sip-peer", func(context.Context) ([]transport.Candidate, error) { return places, nil }, func(up *transport.Conn) { settled <- up })
	select {
	case up := <-settled:
		if up == nil {
			return nil
		}
		n.log.Info("a proxy has no time for us; its next server is used", "proxy", c.Peer.Name, "remote", up.Remote, "for", wait)
		p.registrar.Move(c, up)
		return up
	case <-ctx.Done():
		return nil
	}
}

// heard hears each request of a proxy.
func (p *proxies) heard(c *transport.Conn, m *sip.Message) {
	if p != nil && slices.Contains(p.allowed, c.Peer.Name) {
		p.ways.Heard(c, m, registrar.Proves)
	}
}

// closed looks for another way to the phones behind a connection that ended.
func (p *proxies) closed(c *transport.Conn, cause error) {
	if p == nil {
		return
	}
	p.ways.Closed(c, cause)
	if c.State() == "Connecting" || c.Peer.Role != string(ca.RoleProxy) || !slices.Contains(p.allowed, c.Peer.Name) {
		return
	}
	if uri, ok := p.registrar.Stranded()[c.Peer.Name]; ok {
		p.ways.Want(c.Peer.Name, uri)
	}
}

// reach looks for the ways to phones that were bound before the node began.
func (p *proxies) reach() {
	if p == nil {
		return
	}
	for name, uri := range p.registrar.Stranded() {
		if slices.Contains(p.allowed, name) {
			p.ways.Want(name, uri)
		}
	}
}
