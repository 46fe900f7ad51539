package registrar

import (
	"strings"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

// proxyRole is the role of an edge proxy: it carries requests of devices, and proves nothing about them.
const proxyRole = "proxy"

// ownPath checks what an edge proxy wrote about the way back (RFC 3327): there must be one, and it must lead to the proxy itself by
// a name that its certificate proves, since we may open a connection there.
func ownPath(c *transport.Conn, path []string) error {
	if len(path) == 0 {
		return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "The Proxy Added No Path"}
	}
	top, err := sip.ParseNameAddr([]byte(path[0]))
	if err != nil || !top.URI.IsSIP() || !top.URI.Params.Has("lr") {
		return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: "Bad Path"}
	}
	if !Proves(c, string(top.URI.Host)) {
		return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "The Path Is Not That Of The Proxy"}
	}
	return nil
}

// Proves reports whether the peer's certificate has a host name or an address as one of its names, or the SIP URI of that domain
// (RFC 5922 section 7.2). There are no wildcards.
func Proves(c *transport.Conn, host string) bool {
	if c.TLS == nil || host == "" {
		return false
	}
	for _, n := range c.TLS.PeerNames {
		if strings.EqualFold(n, host) || strings.EqualFold(n, "sip:"+host) {
			return true
		}
	}
	return false
}

// hopsKnowOutbound reports whether the first hop of a REGISTER keeps the flow to the phone (RFC 5626 section 6): we are that hop, or the
// URI that it put into Path says so.
func hopsKnowOutbound(m *sip.Message) bool {
	vias := 0
	for line := range m.All(sip.HeaderVia) {
		for range sip.Values(line) {
			vias++
		}
	}
	if vias < 2 {
		return true
	}
	var last []byte
	for line := range m.All(sip.HeaderPath) {
		for v := range sip.Values(line) {
			last = v
		}
	}
	a, err := sip.ParseNameAddr(last)
	return err == nil && a.URI.Params.Has("ob")
}

// Stranded returns where the proxies are, by name, through which devices are reached that have no flow now: the Path URI of one of
// their bindings.
func (r *Registrar) Stranded() map[string]string {
	out := map[string]string{}
	for _, c := range r.All() {
		if c.Proof.Via == "" || c.Live() || len(c.Path) == 0 {
			continue
		}
		if top, err := sip.ParseNameAddr([]byte(c.Path[0])); err == nil {
			out[c.Proof.Via] = top.URI.String()
		}
	}
	return out
}

// PathTo returns where a proxy is, as the Path of one of the bindings behind it says.
func (r *Registrar) PathTo(proxy string) (uri string, ok bool) {
	for _, c := range r.All() {
		if c.Proof.Via != proxy || len(c.Path) == 0 {
			continue
		}
		if top, err := sip.ParseNameAddr([]byte(c.Path[0])); err == nil {
			return top.URI.String(), true
		}
	}
	return "", false
}

// Move makes another connection to the same proxy the flow of every device behind one.
func (r *Registrar) Move(from, to *transport.Conn) {
	if to.Peer.Role != proxyRole || to.Peer.Name != from.Peer.Name || to.State() != "Established" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byConn[from.ID] {
		if c.Conn == from {
			c.Conn = to
			r.byConn[to.ID] = append(r.byConn[to.ID], c)
		}
	}
	delete(r.byConn, from.ID)
}

// Rejoin makes a connection to a proxy the flow of every device behind it that has none, and returns how many there were.
func (r *Registrar) Rejoin(conn *transport.Conn) (n int) {
	if conn.Peer.Role != proxyRole {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if conn.State() != "Established" {
		return 0
	}
	for _, list := range r.byUser {
		for _, c := range list {
			if c.Proof.Via == conn.Peer.Name && !c.Live() {
				c.Conn = conn
				r.byConn[conn.ID] = append(r.byConn[conn.ID], c)
				n++
			}
		}
	}
	return n
}
