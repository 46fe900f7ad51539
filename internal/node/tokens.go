package node

import (
	"context"
	"net/http"
	"time"

	"ringfence"
	"ringfence/internal/call/registrar"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/sip/transport"
	"ringfence/internal/state/bus"
	"ringfence/internal/state/store"
	"ringfence/internal/trust/ca"
	"ringfence/internal/trust/token"
)

// openTokens makes the authorization server ready. Its endpoints are on the https port; SIP takes its tokens on any sealed connection.
func (n *Node) openTokens(ctx context.Context) error {
	outside, err := n.openOpenID()
	if err != nil {
		return err
	}
	n.Tokens, err = token.New(ctx, token.Config{Issuer: n.issuer, Outside: outside, Registrar: n.takesTokens,
		Audience: n.Config.Domain, Clients: n.programs, Grants: n.Store, Secrets: n.Store, Redeem: n.Enroll.UseCode, Log: n.log, Inspector: n.inspector,
		Ended: func(g store.Grant) {
			n.endGrant(context.Background(), g.ID, g.Device)
			n.publish(bus.Event{Kind: bus.GrantRevoked, Device: g.Device})
		}})
	return err
}

// inspector says who may ask whether an access token is good: an edge proxy by its certificate, or whoever has an API token that may read.
func (n *Node) inspector(r *http.Request) (string, error) {
	if t := r.TLS; t != nil && len(t.PeerCertificates) > 0 && n.Authority.Anchors(t.VerifiedChains) && ca.RoleOf(t.PeerCertificates[0]) == ca.RoleProxy {
		v, err := n.Authority.Verify(t.PeerCertificates, ca.RoleProxy, time.Now())
		return "proxy " + v.Name, err
	}
	return n.Admin.Allow(r, api.ScopeRead)
}

// takesTokens returns where a signed-in program registers.
func (n *Node) takesTokens() (host string, port uint16) {
	if at, ok := n.bound["sip-oauth"]; ok {
		return n.Config.Domain, at.Port()
	}
	return n.Config.Domain, n.sipAddr.Port()
}

// programs are those that may be signed in: our own phone, and what the configuration lists.
func (n *Node) programs() []token.Client {
	out := []token.Client{{ID: "ringfence", Redirects: []string{"http://127.0.0.1/callback", "http://[::1]/callback"}}}
	for _, c := range n.Current().OAuth.Clients {
		out = append(out, token.Client{ID: c.ID, Redirects: c.Redirects})
	}
	return out
}

// access is the authorization server as the registrar asks it.
type access struct{ s *token.Server }

// Access implements registrar.Tokens.
func (a access) Access(ctx context.Context, text string) (registrar.Access, error) {
	t, err := a.s.Verify(ctx, text)
	return registrar.Access{Device: t.Device, User: t.User, Grant: t.Grant, Until: t.Expires}, err
}

// Server implements registrar.Tokens.
func (a access) Server() string { return a.s.Issuer() }

// endGrant ends what was registered by the tokens of a grant, the calls of its device and its connections.
func (n *Node) endGrant(ctx context.Context, grant string, device ringfence.DeviceID) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	const why = "its sign-in was revoked"
	cause := &ringfence.Fault{Op: "node.token", Kind: ringfence.KindDenied, Text: "the sign-in of device " + string(device) + " was revoked"}
	var conns []*transport.Conn
	for _, c := range n.Transport.Conns() {
		ended, err := n.Registrar.EndGrant(ctx, c, grant)
		if err != nil {
			n.log.Error("a registration by a revoked token could not be taken back on disk", "device", device, "err", err, "hint", ringfence.HintOf(err))
		}
		if ended {
			conns = append(conns, c)
		}
	}
	if len(conns) == 0 {
		return
	}
	n.Calls.EndDevice(device, why) // first, so that the goodbye still finds its way
	for _, c := range conns {
		c.Close(cause)
	}
	n.log.Info("a sign-in ended", "device", device, "connections", len(conns))
}

// checkGrant ends a connection whose sign-in was revoked on another node.
func (n *Node) checkGrant(ctx context.Context, c *transport.Conn, who registrar.Identity) {
	if who.Grant == "" {
		return
	}
	g, err := n.Store.Grant(ctx, who.Grant)
	if err == nil && g.Holds(time.Now()) || err != nil && ringfence.KindOf(err) != ringfence.KindNotFound {
		return
	}
	n.endGrant(ctx, who.Grant, who.Device)
}
