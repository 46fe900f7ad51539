package tlspolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Endpoint is what TLS is asked for: one kind of listener or of connections that we open, and its address.
type Endpoint struct {
	Class     string         // the name of its flow, such as sip
	Transport string         // what it carries: sip, https, phones, cti, observe, bus, store, public or oidc
	Dials     bool           // we open the connections
	Addr      netip.AddrPort // where it listens, or whom it connects to; invalid: not known yet, or every address of the host
}

// class is one kind of endpoint.
type class struct {
	name, transport string
	dials           bool
	auth            string // what a listener asks of its clients where the tree says nothing
	anchors         string // whom it believes where the tree says nothing
	identity        string // what it presents where the tree says nothing; empty: NodeIdentity
	alone           bool   // whom it believes and what it presents is not from the tree, whose words for that are kept behind this very connection
	nameless        bool   // it presents nothing of ours: strangers shall not learn who we are, or it is for challenges alone
}

// Words that stand for anchors and identities which are there without anybody's adding them.
const (
	OwnAnchors   = "own"  // this organisation's authority
	HostAnchors  = "host" // whom this host trusts, and what observe.authorities names
	NodeIdentity = "node" // the certificate that the node issues to itself
	TVSIdentity  = "tvs"  // the one that trust lists name as TVS
	CAPFIdentity = "capf" // the one that trust lists name as CAPF
)

func classes() []class {
	return []class{
		{name: "sip", transport: "sip", auth: "request", anchors: OwnAnchors},
		{name: "sip-wss", transport: "sip", auth: "request", anchors: OwnAnchors},
		{name: "sip-oauth", transport: "sip", auth: "none", anchors: OwnAnchors},
		{name: "https", transport: "https", auth: "request", anchors: OwnAnchors},
		{name: "tvs", transport: "phones", auth: "none", anchors: OwnAnchors, identity: TVSIdentity},
		{name: "capf", transport: "phones", auth: "none", anchors: OwnAnchors, identity: CAPFIdentity},
		{name: "cti", transport: "cti", auth: "require", anchors: OwnAnchors},
		{name: "sip-peer", transport: "sip", dials: true, anchors: OwnAnchors},
		{name: "sip-trunk", transport: "sip", dials: true, anchors: OwnAnchors},
		{name: "sip-node", transport: "sip", dials: true, anchors: OwnAnchors},
		{name: "syslog", transport: "observe", dials: true, anchors: OwnAnchors + " " + HostAnchors},
		{name: "hep", transport: "observe", dials: true, anchors: OwnAnchors + " " + HostAnchors},
		{name: "bus", transport: "bus", dials: true, anchors: OwnAnchors + " " + HostAnchors},
		{name: "traces", transport: "observe", dials: true, anchors: OwnAnchors + " " + HostAnchors},
		{name: "postgres", transport: "store", dials: true, alone: true},
		{name: "public-acme", transport: "public", dials: true, anchors: HostAnchors, nameless: true},
		{name: "public-tls", transport: "public", auth: "none", anchors: OwnAnchors, nameless: true},
		{name: "oidc", transport: "oidc", dials: true, anchors: OwnAnchors + " " + HostAnchors},
	}
}

func classOf(name string) (class, bool) {
	all := classes()
	i := slices.IndexFunc(all, func(c class) bool { return c.name == name })
	if i < 0 {
		return class{}, false
	}
	return all[i], true
}

// Classes returns the classes of endpoints, by the names of their flows.
func Classes() (out []string) {
	for _, c := range classes() {
		out = append(out, c.name)
	}
	return out
}

// At returns the endpoint of a class at an address. The class must be one of [Classes].
func At(name string, addr netip.AddrPort) Endpoint {
	c, _ := classOf(name)
	e := Endpoint{Class: c.name, Transport: c.transport, Dials: c.dials}
	if !addr.Addr().IsUnspecified() {
		e.Addr = unmapped(addr)
	}
	return e
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// alone reports whether the tree has no say in whom the endpoint believes and what it presents.
func (e Endpoint) alone() bool {
	c, _ := classOf(e.Class)
	return c.alone
}

// Place returns the most specific place of an endpoint.
func (e Endpoint) Place() string {
	if !e.Addr.IsValid() {
		return "/interface/" + e.Class
	}
	return "/interface/" + e.Class + "/" + e.Addr.String()
}

// places returns where settings for an endpoint can be, the least specific first.
func (e Endpoint) places() []string {
	out := []string{"/system", "/system/transport/" + e.Transport, "/interface/" + e.Class}
	if e.Addr.IsValid() {
		out = append(out, e.Place())
	}
	return out
}

// ParsePlace reads a place, and returns the endpoint that it is about, if it is about one; its address is invalid where the place has none.
func ParsePlace(path string) (Endpoint, error) {
	if slices.Contains(general(), path) {
		return Endpoint{}, nil
	}
	rest, ok := strings.CutPrefix(path, "/interface/")
	name, addr, deep := strings.Cut(rest, "/")
	c, known := classOf(name)
	if !ok || !known {
		return Endpoint{}, invalid(fmt.Sprintf("there is no place %.80q", path), "places are "+strings.Join(general(), ", ")+", and /interface/CLASS or /interface/CLASS/ADDRESS:PORT, where CLASS is one of "+strings.Join(Classes(), ", "))
	}
	e := At(c.name, netip.AddrPort{})
	if deep {
		a, err := netip.ParseAddrPort(addr)
		if err != nil {
			return Endpoint{}, invalid(fmt.Sprintf("%.60q is no address with a port", addr), "write 192.0.2.7:5061 or [2001:db8::7]:5061")
		}
		if a.Addr().IsUnspecified() {
			return Endpoint{}, invalid(fmt.Sprintf("%.80q is every address of the host, and a connection arrives at one", path), "write "+e.Place()+" for all of them")
		}
		e = At(c.name, a)
		if e.Place() != path {
			return Endpoint{}, invalid(fmt.Sprintf("%.80q is another spelling of %s", path, e.Place()), "write the latter")
		}
	}
	return e, nil
}

// general returns the places that are about more than one class.
func general() []string {
	return []string{"/system", "/system/transport/sip", "/system/transport/https", "/system/transport/phones", "/system/transport/observe", "/system/transport/bus", "/system/transport/store", "/system/transport/public", "/system/transport/oidc"}
}
