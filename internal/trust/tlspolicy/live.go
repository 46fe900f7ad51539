package tlspolicy

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/trust/subject"
)

// Keyring knows what settings name by an alias. Its methods may be called from any goroutine.
type Keyring interface {
	// Identity returns a certificate with its key, as it is now; NodeIdentity is one.
	Identity(alias string) (*tls.Certificate, error)
	// Anchors returns the certificates of some aliases; OwnAnchors and HostAnchors are some.
	Anchors(aliases []string) (*x509.CertPool, error)
}

// Options are the parts of a configuration that settings do not decide.
type Options struct {
	NextProtos []string // ALPN, most wanted first
	// Check, if not nil, is asked about the peer's chain at each handshake, resumed or not, after everything else was checked. On a listener whose
	// clients may stay anonymous the chain can be empty.
	Check func(cs tls.ConnectionState) error
	// Instead are names of which the server must prove one instead of the host that is dialled; empty: that host, unless settings say otherwise.
	Instead []string
	// Present, if not nil, chooses what a listener presents, whatever identity is set: the challenges of an authority.
	Present func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Now     func() time.Time // nil: time.Now
}

// Policy is a tree that can be replaced while it is used.
type Policy struct {
	ring Keyring
	tree atomic.Pointer[Tree]
}

// New returns a policy.
func New(t Tree, ring Keyring) *Policy {
	p := &Policy{ring: ring}
	p.Replace(t)
	return p
}

// Replace puts another tree into force. Connections that are up keep what they have; each new handshake goes by the new tree.
func (p *Policy) Replace(t Tree) { p.tree.Store(&t) }

// Refresh has each new handshake ask the keyring again whom an alias means.
func (p *Policy) Refresh() { p.Replace(p.Tree()) }

// Tree returns the tree in force.
func (p *Policy) Tree() Tree { return *p.tree.Load() }

// build makes the configuration of an endpoint; host is the server that is dialled, if it dials.
func (p *Policy) build(f Effective, host string, o Options) (*tls.Config, error) {
	c := &tls.Config{NextProtos: o.NextProtos, Time: o.Now}
	f.apply(c)
	pool, err := p.ring.Anchors(f.anchors)
	if err != nil {
		return nil, err
	}
	identity := func() (*tls.Certificate, error) { return p.ring.Identity(f.identity) }
	if nameless(f.Endpoint) {
		identity = func() (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	}
	if _, err := identity(); err != nil {
		return nil, err
	}
	if f.Endpoint.Dials {
		c.RootCAs = pool
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return identity() }
	} else {
		c.ClientCAs = pool
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return identity() }
		if o.Present != nil {
			c.GetCertificate = o.Present
		}
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := f.verify(&cs, host, pool, o.Now); err != nil {
			return err
		}
		if o.Check != nil {
			return o.Check(cs)
		}
		return nil
	}
	return c, nil
}

// nameless reports whether an endpoint presents nothing of ours.
func nameless(e Endpoint) bool {
	c, _ := classOf(e.Class)
	return c.nameless
}

// verify checks the names of a peer, and where they replace the host that was dialled also what crypto/tls then leaves out. The host comes beside the
// state of the connection, which knows no addresses.
func (f Effective) verify(cs *tls.ConnectionState, host string, pool *x509.CertPool, now func() time.Time) error {
	if len(cs.PeerCertificates) == 0 {
		return nil // crypto/tls lets only clients come without, and only where they may
	}
	leaf, sip := cs.PeerCertificates[0], f.Endpoint.Transport == "sip"
	if f.Endpoint.Dials && f.bySubject {
		mids := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			mids.AddCert(c)
		}
		v := x509.VerifyOptions{Roots: pool, Intermediates: mids, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if now != nil {
			v.CurrentTime = now()
		}
		var err error
		if cs.VerifiedChains, err = leaf.Verify(v); err != nil {
			return err
		}
	}
	if f.Endpoint.Dials && sip && !f.bySubject && !subject.ProvesDomain(leaf, host) {
		return denied("the certificate of "+leaf.Subject.CommonName+" proves no SIP domain "+host, "in SIP a certificate proves the hosts of its SIP URIs, else its DNS names, and never by a wildcard (RFC 5922)")
	}
	if len(f.subjects) > 0 && !slices.ContainsFunc(f.subjects, func(name string) bool { return subject.Matches(leaf, name, sip) }) {
		return denied("the certificate of "+leaf.Subject.CommonName+" carries none of the names that may come to "+f.Endpoint.Class, "`ringfence tls explain "+f.Endpoint.Place()+"` shows which may: "+strings.Join(f.subjects, ", "))
	}
	return nil
}

func denied(text, hint string) error {
	return &ringfence.Fault{Op: "tlspolicy.verify", Kind: ringfence.KindDenied, Text: text, Hint: hint}
}

// ticketLife is how long the keys that seal session tickets are used for new ones. They are good for as long again, so that a client can come back.
const ticketLife = 12 * time.Hour

// served is the configuration of a listener for one address, as the settings are now.
type served struct {
	of      *Tree // what conf was made of
	by      Effective
	conf    *tls.Config
	err     error
	tickets [][32]byte // the newest first
	turn    time.Time  // when the newest was made
}

// Server returns the configuration of a listener: what it speaks is as the tree says at each handshake.
func (p *Policy) Server(e Endpoint, o Options) (*tls.Config, error) {
	if _, err := p.build(p.Tree().For(e), "", o); err != nil {
		return nil, err
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	l := &listener{policy: p, endpoint: e, options: o, now: now, served: map[string]*served{}}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: o.NextProtos, Time: o.Now, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		var at netip.AddrPort
		if hello.Conn != nil {
			if a, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
				at = a.AddrPort()
			}
		}
		return l.at(at)
	}}, nil
}

type listener struct {
	policy   *Policy
	endpoint Endpoint
	options  Options
	now      func() time.Time

	mu     sync.Mutex
	served map[string]*served // by the most specific place that is set for the address, "" where none is
}

// at returns the configuration for a connection that arrived at an address.
func (l *listener) at(addr netip.AddrPort) (*tls.Config, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tree := l.policy.tree.Load()
	e, key := l.endpoint, ""
	if addr.IsValid() {
		e = At(e.Class, addr)
		if _, ok := (*tree)[e.Place()]; ok {
			key = e.Place()
		}
	}
	s := l.served[key]
	if s == nil {
		s = &served{}
		l.served[key] = s
	}
	if s.of != tree {
		s.renew(l, *tree, e)
		s.of = tree
		for k := range l.served {
			if _, ok := (*tree)[k]; !ok && k != "" {
				delete(l.served, k)
			}
		}
	}
	if s.err == nil && l.now().Sub(s.turn) >= ticketLife {
		s.turnTickets(l.now())
	}
	return s.conf, s.err
}

// renew makes the configuration anew if anything changed. Sessions that were agreed upon under other settings then cannot be resumed: a resumed
// one keeps its key exchange and is not asked again who the peer is.
func (s *served) renew(l *listener, t Tree, e Endpoint) {
	by := t.For(e)
	conf, err := l.policy.build(by, "", l.options)
	if s.conf != nil && err == nil && s.by.same(by) && s.conf.ClientCAs.Equal(conf.ClientCAs) {
		return
	}
	s.by, s.conf, s.err = by, conf, err
	if err == nil {
		s.tickets = nil
		s.turnTickets(l.now())
	}
}

func (s *served) turnTickets(now time.Time) {
	var key [32]byte
	rand.Read(key[:])
	keep := s.tickets[:min(len(s.tickets), 1)]
	if now.Sub(s.turn) >= 2*ticketLife { // nobody came for so long
		keep = nil
	}
	s.tickets = append([][32]byte{key}, keep...)
	s.turn = now
	s.conf.SetSessionTicketKeys(s.tickets)
}

// same reports whether two endpoints speak the same.
func (f Effective) same(g Effective) bool {
	return slices.EqualFunc(f.Decisions, g.Decisions, func(a, b Decision) bool { return a.Setting == b.Setting && a.Value == b.Value })
}

// Harden returns a configuration that somebody else made, with what the tree says of versions, suites and groups. It is for an endpoint in whose trust the tree
// has no say; whom to believe stays as it was.
func (p *Policy) Harden(e Endpoint, base *tls.Config) *tls.Config {
	c := base.Clone()
	p.Tree().For(e).apply(c)
	return c
}

// Client returns the configuration of a connection that is about to be opened to a server which must prove a name. It is for that connection alone.
func (p *Policy) Client(e Endpoint, serverName string, o Options) (*tls.Config, error) {
	if serverName == "" {
		return nil, invalid("a server that proves no name is anybody", "name it")
	}
	f := p.Tree().For(e)
	if len(o.Instead) > 0 {
		f.bySubject = true
		if len(f.subjects) == 0 {
			f.subjects = o.Instead
		}
	}
	c, err := p.build(f, serverName, o)
	if err != nil {
		return nil, err
	}
	c.ServerName = serverName
	c.InsecureSkipVerify = f.bySubject // verify does it, with other names
	return c, nil
}
