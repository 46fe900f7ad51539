package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip/locate"
)

// nameServers returns the DNS servers and search domains to use: those of --dns, else those of this host.
func nameServers(flag string) (servers []netip.AddrPort, search []string, err error) {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err == nil {
		servers, search = locate.ParseResolvConf(text)
	}
	if flag == "" {
		return servers, search, nil // a host without DNS still knows addresses and the names in its hosts file
	}
	if at, err := netip.ParseAddrPort(flag); err == nil && at.Port() != 0 {
		return []netip.AddrPort{at}, search, nil
	}
	if at, err := netip.ParseAddr(flag); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(at, 53)}, search, nil
	}
	return nil, nil, invalid("--dns "+flag+" is no address", "write ADDR or ADDR:PORT, e.g. 192.0.2.53 or [2001:db8::53]:53")
}

// reachable is the phone's sockets with what it needs to find its node.
type reachable struct {
	*sockets.Opener
	names *locate.Resolver
	asked []netip.AddrPort // whom it asks for names
}

func newReachable(dns string) (*reachable, error) {
	servers, search, err := nameServers(dns)
	if err != nil {
		return nil, err
	}
	flows := append(phone.Flows(ringfence.PortRange{}, ringfence.PortRange{}), enrolFlow(), signInFlow())
	opener, err := sockets.New(append(flows, locate.Flows(servers)...))
	if err != nil {
		return nil, err
	}
	var hosts map[string][]netip.Addr
	if text, err := os.ReadFile("/etc/hosts"); err == nil {
		hosts = locate.ParseHosts(text)
	}
	return &reachable{Opener: opener, asked: servers, names: locate.New(locate.Config{Opener: opener, Servers: servers, Search: search, Hosts: hosts})}, nil
}

// dial opens a stream to the given port of the first server of a domain that answers.
func (r *reachable) dial(ctx context.Context, flow, domain string, port uint16, byName bool) (net.Conn, error) {
	s, err := r.servers(domain, port, byName)
	if err != nil {
		return nil, err
	}
	found, err := s.Find(ctx)
	if err != nil {
		return nil, err
	}
	var tried []netip.Addr
	for _, at := range found {
		if slices.Contains(tried, at.Addr()) { // one host, several ports for SIP
			continue
		}
		tried = append(tried, at.Addr())
		patience, cancel := context.WithTimeout(ctx, 5*time.Second)
		var c net.Conn
		c, err = r.Dial(patience, flow, netip.AddrPortFrom(at.Addr(), port))
		cancel()
		if err == nil {
			return c, nil
		}
	}
	return nil, &ringfence.Fault{Op: "phone", Kind: ringfence.KindUnavailable, Text: "no node of " + domain + " can be reached", Err: err, Hint: "is it running, and is the port allowed?"}
}

// servers finds the nodes behind a name: by the NAPTR and SRV records of a domain if it was given alone, else by its address records.
func (r *reachable) servers(name string, port uint16, byName bool) (phone.Servers, error) {
	if byName {
		return r.names.Domain(name, port)
	}
	return r.names.Host(name, port)
}

// oneFamily keeps to the addresses of the kind that the media socket has.
type oneFamily struct {
	phone.Servers
	media netip.Addr
}

// Find implements phone.Servers.
func (o oneFamily) Find(ctx context.Context) ([]netip.AddrPort, error) {
	found, err := o.Servers.Find(ctx)
	return slices.DeleteFunc(found, func(a netip.AddrPort) bool { return a.Addr().Is4() != o.media.Is4() }), err
}

// media returns the address of this host that packets to the first server leave from which can be reached at all.
func (r *reachable) media(ctx context.Context, s phone.Servers) (netip.Addr, error) {
	found, err := s.Find(ctx)
	for _, at := range found {
		var source netip.Addr
		if source, err = r.SourceFor(at); err == nil {
			return source, nil
		}
	}
	return netip.Addr{}, err
}

// isDomain reports whether what was given as a node is a name alone, which DNS may lead anywhere.
func isDomain(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err != nil && !strings.Contains(host, ":")
}
