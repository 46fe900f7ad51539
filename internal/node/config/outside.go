package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/sip/locate"
	"ringfence/internal/state/store"
)

// Bus says which NATS server carries events between nodes.
type Bus struct {
	URL         string `yaml:"url"`         // "tls://host:4222"; empty: a server inside this process
	Credentials string `yaml:"credentials"` // NATS credentials file; empty: the node's certificate is enough
}

// Observe says who may watch. Everything is off by default but the ladder, which stays in this node's memory.
type Observe struct {
	HEP         string `yaml:"hep"`         // capture server: "tls://host:9061", or "udp://host:9060", which is not sealed
	HEPID       uint32 `yaml:"hep-id"`      // capture id of this node
	Traces      string `yaml:"traces"`      // OTLP/HTTP collector, e.g. "https://host:4318"
	Authorities string `yaml:"authorities"` // PEM file: who else may have signed the collectors' and the bus's certificates
	Ladder      int    `yaml:"ladder"`      // calls whose messages are remembered; 0: none
}

// Endpoint is where something outside the node is.
type Endpoint struct {
	Scheme string
	Host   string // name or address; for unix the path
	Port   uint16
}

// ParseEndpoint reads "scheme://host:port", or "unix:///path". Only the schemes named are taken.
func ParseEndpoint(text string, schemes ...string) (Endpoint, error) {
	bad := func(why string) (Endpoint, error) {
		return Endpoint{}, &ringfence.Fault{Op: "config.endpoint", Kind: ringfence.KindInvalid,
			Text: fmt.Sprintf("%.80q %s; an address has the form %s://host:port", text, why, strings.Join(schemes, ":// or "))}
	}
	u, err := url.Parse(text)
	if err != nil {
		return bad("cannot be read")
	}
	known := false
	for _, s := range schemes {
		known = known || u.Scheme == s
	}
	switch {
	case !known:
		return bad("has another scheme")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return bad("says more than an address")
	case u.Scheme == "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return bad("names no file")
		}
		return Endpoint{Scheme: "unix", Host: u.Path}, nil
	case u.Path != "" && u.Path != "/" && u.Scheme != "https":
		return bad("says more than an address")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 || u.Hostname() == "" {
		return bad("lacks a host or a port")
	}
	return Endpoint{Scheme: u.Scheme, Host: u.Hostname(), Port: uint16(port)}, nil
}

// String returns "host:port" or the path.
func (e Endpoint) String() string {
	if e.Scheme == "unix" {
		return e.Host
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// outside lists what the configuration names outside the node: the key, the flow it needs, and its address.
func (c Config) outside() []struct {
	key, flow, text string
	schemes         []string
} {
	return []struct {
		key, flow, text string
		schemes         []string
	}{
		{"log.syslog", "syslog", c.Log.Syslog, []string{"tls", "unix"}},
		{"observe.hep", "hep", c.Observe.HEP, []string{"tls", "udp"}},
		{"observe.traces", "traces", c.Observe.Traces, []string{"https"}},
		{"bus.url", "bus", c.Bus.URL, []string{"tls"}},
		{"trust.public.directory", "public-acme", c.Trust.Public.endpoint(), []string{"https"}},
	}
}

// checkOutside says what is wrong with the addresses outside the node.
func (c Config) checkOutside() (wrong []Wrong) {
	for _, o := range c.outside() {
		if o.text == "" {
			continue
		}
		if _, err := ParseEndpoint(o.text, o.schemes...); err != nil {
			wrong = append(wrong, Wrong{o.key, textOf(err)})
		}
	}
	if c.Store.DSN != "" {
		if err := c.database().Validate(); err != nil {
			text := textOf(err)
			if hint := ringfence.HintOf(err); hint != "" {
				text += "; " + hint
			}
			wrong = append(wrong, Wrong{"store.dsn", text})
		}
	}
	if c.Observe.Ladder < 0 || c.Observe.Ladder > 100_000 {
		wrong = append(wrong, Wrong{"observe.ladder", fmt.Sprintf("%d is not between 0 and 100000", c.Observe.Ladder)})
	}
	if c.Bus.Credentials != "" && c.Bus.URL == "" {
		wrong = append(wrong, Wrong{"bus.credentials", "credentials are for a bus with a url"})
	}
	return wrong
}

// database is what the store is told of the database; the key of what is sealed there is the data directory's.
func (c Config) database() store.Config { return store.Config{DSN: c.Store.DSN, KeyFile: "seal.key"} }

// withNames adds the way to the name servers of this host to a flow table, which may have it for other names already.
func withNames(flows []ringfence.Flow) []ringfence.Flow {
	const purpose = "names of the collectors, the bus, the database, the ACME directory and the OpenID provider to addresses"
	host := ringfence.PortRange{First: 53, Last: 53}
	if i := slices.IndexFunc(flows, func(f ringfence.Flow) bool { return f.Name == locate.FlowUDP }); i >= 0 {
		f := &flows[i]
		f.Purpose += "; " + purpose
		if f.Ports != host {
			f.Ports = ringfence.PortRange{}
		}
		return flows
	}
	return append(flows, ringfence.Flow{Name: locate.FlowUDP, Purpose: purpose, Room: "node", Direction: ringfence.Dials, Transport: "udp",
		Ports: host, Peers: "this host's name servers", TLS: ringfence.TLSNone})
}

// outsideFlows adds the way to each address outside the node to a flow table, and to the name servers if one of them is a name.
func (c Config) outsideFlows(flows []ringfence.Flow) []ringfence.Flow {
	db := c.database()
	named := len(db.Named()) > 0
	if e, err := c.OAuth.Provider.Endpoint(); err == nil && e.Host != "" {
		_, err := netip.ParseAddr(e.Host)
		named = named || err != nil
		flows = append(flows, ringfence.Flow{Name: "oidc", Purpose: "who somebody is, asked of the OpenID provider outside", Room: "trust/oidc", Direction: ringfence.Dials, Transport: "tcp",
			Ports: ringfence.PortRange{First: e.Port, Last: e.Port}, Peers: e.String(), TLS: ringfence.TLSServer})
	}
	for _, o := range c.outside() {
		e, err := ParseEndpoint(o.text, o.schemes...)
		if o.text == "" || err != nil {
			continue
		}
		f := ringfence.Flow{Name: o.flow, Room: "node/observe/" + o.flow, Direction: ringfence.Dials, Transport: "tcp",
			Ports: ringfence.PortRange{First: e.Port, Last: e.Port}, Peers: e.String(), TLS: ringfence.TLSServer}
		if _, err := netip.ParseAddr(e.Host); err != nil && e.Scheme != "unix" {
			named = true
		}
		switch {
		case o.flow == "syslog" && e.Scheme == "unix":
			f.Purpose, f.Transport, f.Path, f.Ports, f.TLS, f.Peers = "log records to this host's own syslog", "unix", e.Host, ringfence.PortRange{}, ringfence.HostSocket, "this host"
		case o.flow == "syslog":
			f.Purpose = "log records to a syslog collector (RFC 5425)"
		case o.flow == "hep" && e.Scheme == "udp":
			f.Purpose, f.Transport, f.TLS = "copies of signalling, without keys and credentials, to a capture server on a network that is trusted for it", "udp", ringfence.TLSNone
		case o.flow == "hep":
			f.Purpose = "copies of signalling, without keys and credentials, to a capture server"
		case o.flow == "traces":
			f.Room, f.Purpose = "node/observe/trace", "finished calls to a collector of traces"
		case o.flow == "public-acme":
			f.Room, f.Purpose = "trust/publicname", "orders certificates for public names by ACME (RFC 8555)"
		case o.flow == "bus":
			f.Room, f.Purpose, f.TLS = "state/bus", "events between nodes, over NATS", ringfence.TLSMutual
		}
		flows = append(flows, f)
	}
	flows = append(flows, db.Flows()...)
	if named {
		flows = withNames(flows)
	}
	return flows
}
