package node

import (
	"crypto/tls"
	"time"

	"ringfence"
	"ringfence/internal/call/control"
	"ringfence/internal/call/registrar"
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
	proxies   *proxies // nil: there are none
	links     *links   // nil: other nodes neither reach this one nor are reached
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
	// 2. A keep-alive question needs no identity and tells nothing.
	if tx.Method == sip.OPTIONS {
		if _, known := c.registrar.Known(tx.Conn); known || proxy {
			tx.Reply(200, "", c.abilities)
			return
		}
	}
	// 3. Another node asks for a phone that is here; it speaks for whoever calls.
	if tx.Conn.Peer.Role == string(ca.RoleNode) && tx.Method == sip.INVITE && c.links != nil {
		c.calls.FromNode(tx)
		return
	}
	// 4. Everything else needs one; Identify has answered if there is none.
	id, ok := c.registrar.Identify(tx)
	if !ok {
		return
	}
	// 5. By method.
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

func (c *chain) abilities(w *sip.Writer) {
	w.Header(sip.HeaderAllow, "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, INFO, REGISTER, REFER, SUBSCRIBE, NOTIFY")
	w.Header(sip.HeaderAllowEvents, "dialog, message-summary, refer")
	w.Header(sip.HeaderSupported, "100rel, gruu, outbound, path, replaces, timer")
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
	c.links.closed(conn)
}

// verifier decides about the peer of a connection by our own authority.
type verifier struct{ authority *ca.Authority }

// Verify implements transport.Verifier. A peer without a certificate of ours is let in and must answer a challenge.
func (v verifier) Verify(cs tls.ConnectionState) (transport.Peer, *ringfence.TLSProof, error) {
	proof := ca.ProofOf(cs, v.authority.Roots())
	if len(cs.PeerCertificates) == 0 {
		return transport.Peer{}, proof, nil
	}
	if !v.authority.Anchors(cs.VerifiedChains) { // somebody else's, whom settings name: it proves a name, and no role here
		return transport.Peer{}, proof, nil
	}
	role := ca.RoleOf(cs.PeerCertificates[0])
	who, err := v.authority.Verify(cs.PeerCertificates, role, time.Now())
	if err != nil {
		return transport.Peer{}, proof, err
	}
	proof.Anchor = who.AnchorSubject // and not an authority on the way there
	return transport.Peer{Name: who.Name, Role: string(who.Role), Serial: who.Serial}, proof, nil
}
