package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"

	"ringfence"
	"ringfence/internal/node/follow"
	"ringfence/internal/service/cti"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/subject"
)

// openCTI prepares the interface by which other systems follow calls.
func (n *Node) openCTI() {
	if !n.Config.CTI.Listen.IsValid() {
		return
	}
	view := follow.View{Domain: n.Config.Domain, Calls: n.Calls, Roster: n.Roster, Shard: n.txs.Shards()[0]}
	n.CTI = cti.New(cti.Config{Domain: n.Config.Domain, Clients: func() []cti.Client { return n.Current().CTI.Clients }, Matches: mayFollow,
		Proof: func(cs tls.ConnectionState) *ringfence.TLSProof { return ca.ProofOf(cs, nil) }, Calls: view, Users: view, Log: n.log})
	n.closers = append(n.closers, n.CTI.Close)
}

// mayFollow reports whether a certificate carries an identity. One of ours says what it is for: a phone's is no client's.
func mayFollow(leaf *x509.Certificate, identity string) bool {
	role := ca.RoleOf(leaf)
	return (role == "" || role == ca.RoleCTI) && subject.Matches(leaf, identity, false)
}

func (n *Node) listenCTI(ctx context.Context) error {
	if n.CTI == nil {
		return nil
	}
	return n.serve(ctx, "cti", n.Config.CTI.Listen, func(ctx context.Context, c *tls.Conn) {
		if err := n.CTI.Serve(ctx, c); err != nil && ctx.Err() == nil {
			n.log.Info("a CTI connection ended", "remote", c.RemoteAddr(), "err", err, "hint", ringfence.HintOf(err))
		}
	})
}

// linesChanged passes on that a user's calls changed, on the shard.
func (n *Node) linesChanged(u ringfence.UserID) {
	n.chain.watch.Changed(u)
	if n.CTI != nil {
		n.CTI.Changed(u)
	}
}

// usersChanged passes on that something about users, or about who may follow them, changed.
func (n *Node) usersChanged() {
	if n.CTI != nil {
		n.CTI.UsersChanged()
	}
}

// CTIState implements admin.Host.
func (n *Node) CTIState() ([]cti.Session, uint64) {
	if n.CTI == nil {
		return nil, 0
	}
	return n.CTI.Sessions(), n.CTI.Refused()
}
