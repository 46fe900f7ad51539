package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"ringfence"
	"ringfence/internal/call/trunk"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
	"ringfence/internal/trust/profile"
	"ringfence/internal/trust/tlspolicy"
)

// openTrunks makes ready for the other telephone systems that the configuration names. Nothing is opened before they are started.
func (n *Node) openTrunks() {
	if len(n.Config.Trunks) == 0 {
		return
	}
	n.Trunks = trunk.New(trunk.Config{Trunks: n.Config.Trunks, Security: n.Config.Security, Anchored: n.anchored, Shard: n.txs.Shards()[0], Domain: n.Config.Domain, Log: n.log,
		Dial: func(t trunk.Trunk, opened func(*transport.Conn)) *transport.Conn {
			return n.Transport.DialFirst(context.Background(), "sip-trunk", func(ctx context.Context) ([]transport.Candidate, error) { return n.placesOfTrunk(ctx, t) }, opened)
		}})
	n.closers = append(n.closers, n.Trunks.Close)
}

// chains returns the verified chains of a peer. Where names were checked instead of the host that was dialled crypto/tls does not keep them, so that they are made again.
func (n *Node) chains(cs tls.ConnectionState) [][]*x509.Certificate {
	if len(cs.VerifiedChains) > 0 || len(cs.PeerCertificates) == 0 {
		return cs.VerifiedChains
	}
	aliases := []string{tlspolicy.OwnAnchors, tlspolicy.HostAnchors}
	for _, a := range n.Keyring.Anchors() {
		aliases = append(aliases, a.Alias)
	}
	pool, err := named{n}.Anchors(aliases)
	if err != nil {
		return nil
	}
	mids := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		mids.AddCert(c)
	}
	out, _ := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: mids, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return out
}

// anchored reports whether one of some verified chains comes from whom an alias stands for.
func (n *Node) anchored(chains [][]*x509.Certificate, alias string) bool {
	switch alias {
	case tlspolicy.OwnAnchors:
		return n.Authority.Anchors(chains)
	case tlspolicy.HostAnchors: // and not whoever else connections to trunks believe
		pool, err := named{n}.Anchors([]string{tlspolicy.HostAnchors})
		return err == nil && !n.Authority.Anchors(chains) && slices.ContainsFunc(chains, func(c []*x509.Certificate) bool { return leads(c, pool) })
	}
	a, err := n.Keyring.Anchor(alias)
	return err == nil && slices.ContainsFunc(chains, func(c []*x509.Certificate) bool { return len(c) > 0 && c[len(c)-1].Equal(a.Cert) })
}

// leads reports whether a verified chain leads to one of some authorities.
func leads(chain []*x509.Certificate, to *x509.CertPool) bool {
	if len(chain) == 0 {
		return false
	}
	mids := x509.NewCertPool()
	for _, c := range chain[1:] {
		mids.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: to, Intermediates: mids, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err == nil
}

// placesOfTrunk returns where the servers of a trunk are. Whoever answers there must prove the host that the configuration names, and to be that very trunk.
func (n *Node) placesOfTrunk(ctx context.Context, t trunk.Trunk) ([]transport.Candidate, error) {
	u, err := sip.ParseURI([]byte(t.URI()))
	if err != nil {
		return nil, &ringfence.Fault{Op: "node.trunks", Kind: ringfence.KindInvalid, Text: "the host of the trunk " + t.Name + " cannot be read", Err: err}
	}
	targets, err := n.names.Locate(ctx, &u)
	if err != nil {
		return nil, err
	}
	profile, _ := n.Config.Security.Trunk(t.Security)
	var out []transport.Candidate
	for _, at := range targets {
		conf, err := n.clientTLS("sip-trunk", at.Addr, at.Name, func(cs tls.ConnectionState) error {
			if name, ok := n.Trunks.Match(cs); !ok || name != t.Name {
				return &ringfence.Fault{Op: "node.trunks", Kind: ringfence.KindDenied, Text: "the certificate of " + cs.PeerCertificates[0].Subject.String() + " is not that of the trunk " + t.Name,
					Hint: "it must carry a subject of the trunk's security profile and come from one of its anchors; see `ringfence trunk show " + t.Name + "`"}
			}
			return n.checkPeer(cs)
		}, profile.Subjects...)
		if err != nil {
			return nil, err
		}
		where := at.Addr
		out = append(out, transport.Candidate{Addr: where, TLS: conf, Failed: func(error) { n.names.Avoid(where, time.Minute) }})
	}
	return out, nil
}

// TrunkStates implements admin.Host.
func (n *Node) TrunkStates() []trunk.State { return n.Trunks.States() }

// Security implements admin.Host.
func (n *Node) Security() profile.Security { return n.Config.Security.All() }
