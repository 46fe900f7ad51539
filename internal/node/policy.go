package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/node/config"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/keyring"
	"ringfence/internal/trust/publicname"
	"ringfence/internal/trust/tlspolicy"
	"ringfence/internal/trust/trustlist"
)

// named is whom and what TLS settings name: our own authority and certificate, this host's anchors, and what an administrator added.
type named struct{ n *Node }

var _ tlspolicy.Keyring = named{}

// Identity implements tlspolicy.Keyring.
func (k named) Identity(alias string) (*tls.Certificate, error) {
	switch alias {
	case tlspolicy.NodeIdentity:
		return k.n.identity.Certificate(), nil
	case tlspolicy.TVSIdentity:
		return k.n.service(trustlist.TVS)
	case tlspolicy.CAPFIdentity:
		return k.n.service(trustlist.CAPF)
	}
	return k.n.Keyring.Certificate(alias)
}

// Anchors implements tlspolicy.Keyring.
func (k named) Anchors(aliases []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, alias := range aliases {
		if alias == tlspolicy.HostAnchors { // first, since one pool cannot be added to another
			if system, err := x509.SystemCertPool(); err == nil { // there are hosts without a trust store
				pool = system
			}
		}
	}
	for _, alias := range aliases {
		switch alias {
		case tlspolicy.OwnAnchors:
			for _, c := range k.n.Authority.AnchorCerts() {
				pool.AddCert(c)
			}
		case tlspolicy.HostAnchors:
			if err := addAuthorities(pool, k.n.Config.Observe.Authorities); err != nil {
				return nil, err
			}
		default:
			a, err := k.n.Keyring.Anchor(alias)
			if err != nil {
				return nil, err
			}
			pool.AddCert(a.Cert)
		}
	}
	return pool, nil
}

// addAuthorities adds the certificates of a file, if there is one.
func addAuthorities(pool *x509.CertPool, file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return &ringfence.Fault{Op: "node.observe", Kind: ringfence.KindInvalid, Text: "observe.authorities cannot be read", Err: err}
	}
	if !pool.AppendCertsFromPEM(pem) {
		return &ringfence.Fault{Op: "node.observe", Kind: ringfence.KindInvalid, Text: "observe.authorities: " + file + " holds no certificate in PEM form"}
	}
	return nil
}

// serverTLS returns the configuration of a listener, which is by the tree of TLS settings at each handshake.
func (n *Node) serverTLS(class string, at netip.AddrPort, protos ...string) (*tls.Config, error) {
	return n.policy.Server(tlspolicy.At(class, at), tlspolicy.Options{NextProtos: protos, Check: n.checkPeer})
}

// clientTLS returns the configuration of a connection that is about to be opened, by the tree of TLS settings as it is now. If there are names instead of the
// host, the server must prove one of those.
func (n *Node) clientTLS(class string, to netip.AddrPort, host string, check func(tls.ConnectionState) error, instead ...string) (*tls.Config, error) {
	return n.policy.Client(tlspolicy.At(class, to), host, tlspolicy.Options{Check: check, Instead: instead})
}

// checkPeer is asked at each handshake about a certificate that a peer showed. None is fine, the peer may answer a challenge; and so must one whose
// certificate comes from an authority that settings name: it proves a name, but no role here.
func (n *Node) checkPeer(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 || !n.Authority.Anchors(cs.VerifiedChains) {
		return nil
	}
	_, err := n.Authority.Verify(cs.PeerCertificates, ca.RoleOf(cs.PeerCertificates[0]), time.Now())
	return err
}

// Endpoints implements admin.Host: what listens with TLS, and what the node connects to with it.
func (n *Node) Endpoints() (out []tlspolicy.Endpoint) {
	listens := map[string]netip.AddrPort{"sip": n.sipAddr, "https": n.webAddr}
	for _, class := range []string{"sip-wss", "sip-oauth", "tvs", "capf", "cti"} {
		if at, ok := n.bound[class]; ok {
			listens[class] = at
		}
	}
	if p := n.Config.Trust.Public; p.On() && p.Kind() == publicname.TLSALPN01 {
		listens["public-tls"] = p.At()
	}
	for _, class := range tlspolicy.Classes() {
		if at, ok := listens[class]; ok {
			out = append(out, tlspolicy.At(class, at))
		}
	}
	for _, f := range n.Config.Flows() {
		if e := tlspolicy.At(f.Name, netip.AddrPort{}); e.Dials {
			out = append(out, e)
		}
	}
	return out
}

// Policy implements admin.Host.
func (n *Node) Policy() tlspolicy.Tree { return n.policy.Tree() }

// Manufacturers implements admin.Host.
func (n *Node) Manufacturers() []string { return n.Current().Enterprise.Manufacturers }

// checkNamed says what is wrong with a configuration that only this node can know: names of anchors and identities that nobody added.
func (n *Node) checkNamed(c config.Config) error {
	identities, anchors := c.TLS.Named()
	for alias, place := range identities {
		if alias == tlspolicy.TVSIdentity || alias == tlspolicy.CAPFIdentity {
			if _, err := (named{n}).Identity(alias); err != nil {
				return &ringfence.Fault{Op: "config.check", Kind: ringfence.KindInvalid, Text: "tls." + place + ": there is no certificate of " + alias + ", since that service is not there", Hint: "set enterprise." + alias + " and start the node again first"}
			}
			continue
		}
		if _, err := n.Keyring.Certificate(alias); err != nil {
			return unknownAlias("identity", alias, "tls."+place)
		}
	}
	for alias, place := range anchors {
		if _, err := n.Keyring.Anchor(alias); err != nil {
			return unknownAlias("anchor", alias, "tls."+place)
		}
	}
	for alias, place := range c.Security.Named() {
		if _, err := n.Keyring.Anchor(alias); err != nil {
			return unknownAlias("anchor", alias, place)
		}
	}
	for _, alias := range c.Enterprise.Manufacturers {
		if _, err := n.Keyring.Anchor(alias); err != nil {
			return unknownAlias("anchor", alias, "enterprise.manufacturers")
		}
	}
	return nil
}

// presents returns the certificate that peers see of an identity, or nil.
func (n *Node) presents(alias string) *x509.Certificate {
	c, err := named{n}.Identity(alias)
	if err != nil {
		return nil
	}
	return c.Leaf
}

func unknownAlias(kind, alias, place string) error {
	return &ringfence.Fault{Op: "config.check", Kind: ringfence.KindInvalid, Text: place + ": there is no " + kind + " " + alias, Hint: "add it first: ringfence trust " + kind + " add " + alias + " …"}
}

// keys is the keyring of the administration API: each change is put into force here and told to other nodes, and what settings name stays.
type keys struct {
	*keyring.Ring
	n *Node
}

// AddAnchors implements admin.Keyring.
func (k keys) AddAnchors(ctx context.Context, alias string, file []byte) ([]keyring.Anchor, error) {
	out, err := k.Ring.AddAnchors(ctx, alias, file)
	return out, k.changed(err)
}

// RemoveAnchor implements admin.Keyring.
func (k keys) RemoveAnchor(ctx context.Context, alias string) error {
	_, anchors := k.n.Policy().Named()
	if place, ok := anchors[alias]; ok {
		return stillNamed("anchors", alias, place)
	}
	if slices.Contains(k.n.Current().Enterprise.Manufacturers, alias) {
		return &ringfence.Fault{Op: "node.keyring", Kind: ringfence.KindConflict, Text: "enterprise.manufacturers still names " + alias, Hint: "take it out of the configuration first"}
	}
	if place := k.n.Config.Security.Named()[alias]; place != "" {
		return &ringfence.Fault{Op: "node.keyring", Kind: ringfence.KindConflict, Text: place + " still names " + alias, Hint: "take it out of the configuration and start the node again first"}
	}
	if err := k.namedElsewhere(ctx, alias, func(c config.Config) bool {
		_, anchors := c.TLS.Named()
		return anchors[alias] != "" || c.Security.Named()[alias] != "" || slices.Contains(c.Enterprise.Manufacturers, alias)
	}); err != nil {
		return err
	}
	return k.changed(k.Ring.RemoveAnchor(ctx, alias))
}

// AddIdentity implements admin.Keyring.
func (k keys) AddIdentity(ctx context.Context, alias string, chain, key []byte, replace bool) (keyring.Identity, []string, error) {
	out, notes, err := k.Ring.AddIdentity(ctx, alias, chain, key, replace)
	return out, notes, k.changed(err)
}

// RemoveIdentity implements admin.Keyring.
func (k keys) RemoveIdentity(ctx context.Context, alias string) error {
	identities, _ := k.n.Policy().Named()
	if place, ok := identities[alias]; ok {
		return stillNamed("identity", alias, place)
	}
	if err := k.namedElsewhere(ctx, alias, func(c config.Config) bool {
		identities, _ := c.TLS.Named()
		return identities[alias] != ""
	}); err != nil {
		return err
	}
	return k.changed(k.Ring.RemoveIdentity(ctx, alias))
}

// namedElsewhere says which other node names an alias: the keyring is everybody's and the settings are not, and a listener that names what is gone lets nobody in.
// A node without a good certificate is gone itself.
func (k keys) namedElsewhere(ctx context.Context, alias string, names func(config.Config) bool) error {
	all, err := k.n.Store.LatestConfigVersions(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.Node == k.n.Config.Node {
			continue
		}
		c, err := config.Read([]byte(v.YAML), v.Node)
		if err == nil && !names(c) || err != nil && !strings.Contains(v.YAML, alias) { // one of another release may not be readable here
			continue
		}
		live, err := k.n.Store.FindCertificates(ctx, store.CertificateFilter{Role: string(ca.RoleNode), Name: v.Node, State: "live", Now: time.Now(), Limit: 1})
		if err != nil {
			return err
		}
		if len(live) > 0 {
			return &ringfence.Fault{Op: "node.keyring", Kind: ringfence.KindConflict, Text: "the configuration of the node " + v.Node + " still names " + alias, Hint: "take it out there first: `ringfence tls get` at " + v.Node + " shows where"}
		}
	}
	return nil
}

func stillNamed(setting, alias, place string) error {
	return &ringfence.Fault{Op: "node.keyring", Kind: ringfence.KindConflict, Text: "the setting " + setting + " at " + place + " still names " + alias, Hint: "ringfence tls remove " + place + " " + setting}
}

func (k keys) changed(err error) error {
	if err == nil {
		k.n.policy.Refresh()
		k.n.publish(bus.Event{Kind: bus.KeyringChanged})
	}
	return err
}

// reloadKeyring reads what other nodes may have added.
func (n *Node) reloadKeyring(ctx context.Context) error {
	err := n.Keyring.Reload(ctx)
	n.policy.Refresh()
	return err
}
