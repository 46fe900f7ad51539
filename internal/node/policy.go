package node

import (
	"crypto/tls"
	"net/netip"

	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/tlspolicy"
)

// serverTLS returns the configuration of a listener. Every listener has its own from here: the node's certificate, the anchors and the check of
// peers, and the rest as the policy says at each handshake.
func (n *Node) serverTLS(class string, at netip.AddrPort, protos ...string) (*tls.Config, error) {
	base, err := ca.ServerConfig(ca.TLSOptions{Identity: n.identity, Roots: n.Authority.Roots(), ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: protos, Check: n.checkPeer})
	if err != nil {
		return nil, err
	}
	return n.policy.Server(tlspolicy.Listen(class, at), base), nil
}

// Listeners implements admin.Host: the listeners that speak TLS, as the configuration has them.
func (n *Node) Listeners() []tlspolicy.Listener {
	out := []tlspolicy.Listener{tlspolicy.Listen("sip", n.Config.SIP.TLS), tlspolicy.Listen("https", n.Config.API.HTTPS)}
	for class, at := range map[string]netip.AddrPort{"sip-wss": n.Config.SIP.WSS, "sip-oauth": n.Config.SIP.OAuth} {
		if at.IsValid() {
			out = append(out, tlspolicy.Listen(class, at))
		}
	}
	return out
}

// Policy implements admin.Host.
func (n *Node) Policy() tlspolicy.Tree { return n.policy.Tree() }
