package node

import (
	"crypto/tls"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/call/registrar"
	"ringfence/internal/call/trunk"
	"ringfence/internal/call/watch"
	"ringfence/internal/sip"
	"ringfence/internal/sip/dialog"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
	"ringfence/internal/trust/ca"
)

// chain is the transaction user: the order in which a SIP request is handled, on one page.
type chain struct {
	domain    string
	registrar *registrar.Registrar
	dialogs   *dialog.Layer
	calls     *control.Control
	watch     *watch.Watch
	proxies   *proxies     // nil: there are none
	trunks    *trunk.Table // nil: there are none
	links     *links       // nil: other nodes neither reach this one nor are reached
}

// Request implements transaction.User.
func (c *chain) Request(tx *transaction.Server) {
	proxy := tx.Conn.Peer.Role == string(ca.RoleProxy)
	if proxy {
		c.proxies.heard(tx.Conn, tx.Request)
	}
	// 1. Requests inside a dialog go to the dialog, if it was made with this peer.
	if len(tx.Request.ToTag()) > 0 || tx.Method == sip.ACK {
		if !c.dialogs.Request(tx) && !(tx.Method == sip.SUBSCRIBE && c.watch.Refresh(tx)) && tx.Method != sip.ACK {
			tx.Reply(481, "", nil)
		}
		return
	}
	// 2. A trunk is no device: it brings calls, if its profile lets it.
	if tx.Conn.Peer.Role == trunk.Role {
		c.trunk(tx)
		return
	}
	// 3. A keep-alive question needs no identity and tells nothing.
	if tx.Method == sip.OPTIONS {
		if _, known := c.registrar.Known(tx.Conn); known || proxy {
			tx.Reply(200, "", c.abilities)
			return
		}
	}
	// 4. Another node asks for a phone that is here; it speaks for whoever calls.
	if tx.Conn.Peer.Role == string(ca.RoleNode) && tx.Method == sip.INVITE && c.links != nil {
		c.calls.FromNode(tx)
		return
	}
	// 5. Everything else needs one; Identify has answered if there is none.
	id, ok := c.registrar.Identify(tx)
	if !ok {
		return
	}
	// 6. By method.
	switch tx.Method {
	case sip.REGISTER:
		c.registrar.Register(tx, id)
	case sip.INVITE:
		c.calls.Invite(tx, id)
	case sip.SUBSCRIBE:
		c.watch.Subscribe(tx, id)
	case sip.OPTIONS:
		tx.Reply(200, "", c.abilities)
	default:
		tx.Reply(405, "", c.abilities)
	}
}

// trunk handles a request outside a dialog whose sender proved to be a trunk.
func (c *chain) trunk(tx *transaction.Server) {
	t, ok := c.trunks.Calls(tx.Conn)
	switch {
	case !ok:
		tx.Reply(403, "No Calls Come In By This Trunk", nil)
	case tx.Method == sip.INVITE:
		c.calls.InviteTrunk(tx, t)
	case tx.Method == sip.OPTIONS:
		tx.Reply(200, "", c.abilities)
	default: // presence, notifications and the like
		tx.Reply(403, "Not Accepted On This Trunk", nil)
	}
}

func (c *chain) abilities(w *sip.Writer) {
	w.Header(sip.HeaderAllow, "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, INFO, REGISTER, REFER, SUBSCRIBE, NOTIFY")
	w.Header(sip.HeaderAllowEvents, "dialog, message-summary, refer")
	w.Header(sip.HeaderSupported, "100rel, eventlist, gruu, outbound, path, replaces, timer")
}

// Cancelled implements transaction.User.
func (c *chain) Cancelled(tx *transaction.Server, cancel *sip.Message) {
	if !c.dialogs.Cancelled(tx, cancel) {
		tx.Reply(487, "", nil)
	}
}

// Closed implements transaction.User.
func (c *chain) Closed(conn *transport.Conn, cause error) {
	c.registrar.Closed(conn)
	c.watch.Closed(conn)
	c.proxies.closed(conn, cause)
	c.trunks.Closed(conn, cause)
	c.links.closed(conn)
}

// verifier decides about the peer of a connection: by our own authority, and by the subjects and anchors of trunks.
type verifier struct{ n *Node }

// Verify implements transport.Verifier. A peer without a certificate of ours is let in and must answer a challenge.
func (v verifier) Verify(cs tls.ConnectionState) (transport.Peer, *ringfence.TLSProof, error) {
	authority := v.n.Authority
	cs.VerifiedChains = v.n.chains(cs)
	proof := ca.ProofOf(cs, authority.Roots())
	if len(cs.PeerCertificates) == 0 {
		return transport.Peer{}, proof, nil
	}
	name, isTrunk := v.n.Trunks.Match(cs)
	if !authority.Anchors(cs.VerifiedChains) { // somebody else's, whom settings name: it proves a name, and no role here but that of a trunk
		if isTrunk {
			return transport.Peer{Name: name, Role: trunk.Role}, proof, nil
		}
		return transport.Peer{}, proof, nil
	}
	role := ca.RoleOf(cs.PeerCertificates[0])
	who, err := authority.Verify(cs.PeerCertificates, role, time.Now())
	if err != nil {
		return transport.Peer{}, proof, err
	}
	proof.Anchor = who.AnchorSubject // and not an authority on the way there
	peer := transport.Peer{Name: who.Name, Role: string(who.Role), Serial: who.Serial}
	switch {
	case who.Role == ca.RoleTrunk && isTrunk:
		peer.Name, peer.Role = name, trunk.Role
	case who.Role == ca.RoleTrunk: // its own name may be that of another trunk, whose subjects it does not carry
		peer.Role = "unknown trunk"
	}
	return peer, proof, nil
}
