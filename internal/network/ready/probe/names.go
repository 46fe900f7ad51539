package probe

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/dns"
	"ringfence/internal/network/ready/verdict"
)

// Names is what is asked of the site's name servers.
type Names struct {
	Servers  []netip.AddrPort
	Services []Service
	Customer string // the label in the zones of forwarders; "" leaves forwarders out
	Region   string // of the forwarders; "": all
}

// Service is a name with SRV records, and the hosts that they are meant to lead to, the one that is tried first at the front; none: any.
type Service struct {
	Name  string
	Hosts []string
}

const (
	dnsPort  = 53
	maxNames = 24
)

// clientDNS asks from an address of this host.
func (p *Prober) clientDNS() *dns.Client {
	patience := max(2*p.patience, 500*time.Millisecond)
	return &dns.Client{Patience: patience, Random: func() uint16 {
		var b [2]byte
		_, _ = rand.Read(b[:]) // never fails
		return binary.BigEndian.Uint16(b[:])
	}, UDP: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		from, err := p.Opener.SourceFor(to)
		if err != nil {
			return nil, err
		}
		pc, err := p.Opener.ListenUDP(ctx, FlowUDP, netip.AddrPortFrom(from, 0))
		if err != nil {
			return nil, err
		}
		return &fromOne{pc, to}, nil
	}, TCP: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		from, err := p.Opener.SourceFor(to)
		if err != nil {
			return nil, err
		}
		return p.Opener.DialFrom(ctx, FlowDNS, netip.AddrPortFrom(from, 0), to)
	}}
}

// fromOne reads and writes datagrams of one peer.
type fromOne struct {
	net.PacketConn
	peer netip.AddrPort
}

func (c *fromOne) Read(b []byte) (int, error) {
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil || addrPort(from) == c.peer {
			return n, err
		}
	}
}

func (c *fromOne) Write(b []byte) (int, error) {
	return c.WriteTo(b, net.UDPAddrFromAddrPort(c.peer))
}
func (c *fromOne) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.peer) }

// names asks the site's name servers.
func (p *Prober) names(ctx context.Context) ([]verdict.Check, error) {
	var out []verdict.Check
	c := p.clientDNS()
	for _, s := range p.Config.Names.Servers {
		out = append(out, p.nameServer(ctx, c, s))
	}
	for _, s := range p.Config.Names.Services {
		out = append(out, p.service(ctx, c, s))
	}
	return append(out, p.forwarders(ctx, c)...), nil
}

func (p *Prober) dnsRows() (rows []string) {
	for _, i := range plan(p.Set, p.Direction, p.Roles, p.Rows) {
		if slices.Contains(i.to, need.Ports{First: dnsPort, Last: dnsPort}) && !slices.Contains(rows, i.row.ID) {
			rows = append(rows, i.row.ID)
		}
	}
	return rows
}

// nameServer finds out whether a name server answers over UDP and TCP, knows the names of the set, and says so when there is no such name.
func (p *Prober) nameServer(ctx context.Context, c *dns.Client, server netip.AddrPort) verdict.Check {
	k := verdict.Check{ID: "dns/" + server.String(), Kind: "dns", Rows: p.dnsRows(), Title: "Name server " + server.String(), Required: true, Status: verdict.Pass, Values: map[string]string{}}
	nowhere := strings.ToLower(rand.Text()[:16]) + ".invalid" // RFC 6761 section 6.4: there never is such a name
	k.Sent = "questions over UDP and TCP, for " + nowhere
	a, err := c.AskUDP(ctx, server, nowhere, dns.A)
	if err != nil {
		k.Status, k.Cause, k.Seen = verdict.Fail, verdict.Dropped, plainFault(err)
		k.Change = fmt.Sprintf("let UDP pass to port %d of %s, or name another server", server.Port(), server.Addr())
		return k
	}
	var faults, changes []string
	if len(a.Of(dns.A)) > 0 {
		faults = append(faults, fmt.Sprintf("it lies: %s has the address %s, and there is no such name", nowhere, a.Of(dns.A)[0].Addr))
		changes = append(changes, "have the name server say that there is no such name (NXDOMAIN) instead of leading hosts elsewhere; a phone would try to register there")
		k.Cause = verdict.Lies
	}
	if _, err := c.AskTCP(ctx, server, nowhere, dns.A); err != nil {
		faults = append(faults, "over TCP: "+plainFault(err))
		changes = append(changes, fmt.Sprintf("let TCP pass to port %d of %s as well (RFC 7766): answers that do not fit into a datagram are lost", server.Port(), server.Addr()))
		k.Cause = verdict.Dropped
	}
	bad, inside := p.knows(ctx, c, server, &k)
	if len(bad) > 0 {
		faults = append(faults, "it does not know "+strings.Join(bad, ", "))
		changes = append(changes, "let the name server ask others about these names")
		k.Cause = verdict.Unknown
	}
	k.Seen = "it answers over UDP"
	if len(faults) == 0 {
		k.Seen += " and TCP, and tells names that there are from those that there are not"
	}
	if k.Seen = joined(append([]string{k.Seen}, faults...)); len(faults) > 0 {
		k.Status, k.Change = verdict.Fail, joined(changes)
	} else if len(inside) > 0 {
		k.Status, k.Cause = verdict.Warn, verdict.Lies
		k.Seen += "; addresses of the site itself for names of the service: " + strings.Join(inside, ", ")
		k.Change = "find out whether the site means to answer these names itself; a login page of a guest network does"
	}
	return k
}

// knows asks for the names of the set, and returns those that are not known and those with addresses of the site.
func (p *Prober) knows(ctx context.Context, c *dns.Client, server netip.AddrPort, k *verdict.Check) (bad, inside []string) {
	var all []string
	for _, d := range p.Set.Domains {
		if name := strings.TrimPrefix(d.Pattern, "*."); len(all) < maxNames && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	k.Sent += fmt.Sprintf(", and %d names of the set", len(all))
	said := make([]string, len(all))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	var mu sync.Mutex
	for i, name := range all {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			a, err := c.Ask(ctx, server, name, dns.A)
			switch {
			case err != nil:
				said[i] = "no answer"
			case a.Code != "NOERROR":
				said[i] = a.Code
			}
			for _, r := range a.Of(dns.A) {
				if r.Addr.IsPrivate() || r.Addr.IsLoopback() || r.Addr.IsLinkLocalUnicast() || r.Addr.IsUnspecified() {
					mu.Lock()
					inside = append(inside, fmt.Sprintf("%s (%s)", name, r.Addr))
					mu.Unlock()
					break
				}
			}
		})
	}
	wg.Wait()
	for i, s := range said {
		if s != "" {
			bad = append(bad, fmt.Sprintf("%s (%s)", all[i], s))
		}
	}
	slices.Sort(inside)
	return bad, inside
}

// service looks at what SRV records say (RFC 2782), at the first name server.
func (p *Prober) service(ctx context.Context, c *dns.Client, s Service) verdict.Check {
	k := verdict.Check{ID: "dns/" + s.Name, Kind: "dns", Rows: p.dnsRows(), Title: "Servers of " + s.Name, Required: true, Status: verdict.Pass, Values: map[string]string{}}
	if len(p.Config.Names.Servers) == 0 {
		return skipped(k.ID, k.Kind, k.Title, "no name server was named to ask")
	}
	server := p.Config.Names.Servers[0]
	k.Sent = "SRV " + s.Name + " to " + server.String() + ", and the addresses of what it names"
	a, err := c.Ask(ctx, server, s.Name, dns.SRV)
	fail := func(cause verdict.Cause, seen, change string) verdict.Check {
		k.Status, k.Cause, k.Seen, k.Change = verdict.Fail, cause, seen, change
		return k
	}
	if err != nil {
		return fail(verdict.Dropped, plainFault(err), "let UDP and TCP pass to the name server")
	}
	if a.Truncated {
		return fail(verdict.Dropped, "the answer does not fit into a datagram, and TCP does not come about", fmt.Sprintf("let TCP pass to port %d of %s (RFC 7766)", server.Port(), server.Addr()))
	}
	all := a.Service()
	if a.Code != "NOERROR" || len(all) == 0 {
		return fail(verdict.Unknown, fmt.Sprintf("there are no SRV records (%s)", a.Code), "have the domain's DNS say where its servers are, or correct the name; a conditional forwarder may be missing")
	}
	var faults, order, changes []string
	for _, r := range all {
		order = append(order, r.To)
		k.Values[r.To] = fmt.Sprintf("priority %d, weight %d, port %d", r.Priority, r.Weight, r.Port)
		t, err := c.Ask(ctx, server, r.To, dns.A)
		six, err6 := c.Ask(ctx, server, r.To, dns.AAAA)
		switch {
		case r.To == "":
			faults, changes = append(faults, `the target is ".": the service is not offered`), append(changes, "name a server")
		case err != nil || err6 != nil:
			faults, changes = append(faults, "there is no answer about "+r.To), append(changes, "let the name server ask others about it")
		case len(t.Of(dns.CNAME))+len(six.Of(dns.CNAME)) > 0:
			faults = append(faults, fmt.Sprintf("%s is an alias of %s, which a target may not be (RFC 2782)", r.To, append(t.Of(dns.CNAME), six.Of(dns.CNAME)...)[0].To))
			changes = append(changes, "name the host itself in the SRV record")
		case len(t.Of(dns.A))+len(six.Of(dns.AAAA)) == 0:
			faults, changes = append(faults, r.To+" has no address"), append(changes, "give it one, or take it out of the SRV records")
		case r.Port == 0:
			faults, changes = append(faults, r.To+" has port 0"), append(changes, "name its port")
		}
	}
	if len(s.Hosts) > 0 && !slices.Equal(order, s.Hosts) {
		faults = append(faults, fmt.Sprintf("hosts are tried in the order %s, not %s", strings.Join(order, ", "), strings.Join(s.Hosts, ", ")))
		changes = append(changes, "give the server that is to be tried first the lowest priority")
	}
	k.Seen = joined(append([]string{"in order: " + strings.Join(order, ", ")}, faults...))
	if len(faults) > 0 {
		k.Status, k.Cause, k.Change = verdict.Fail, verdict.Unknown, joined(slices.Compact(changes))
	}
	return k
}

// forwarders asks each name server of the site about the zones of the service that only its own servers know, and those servers themselves.
func (p *Prober) forwarders(ctx context.Context, c *dns.Client) (out []verdict.Check) {
	if p.Config.Names.Customer == "" {
		return nil
	}
	servers := map[string][]need.Forwarder{}
	var zones []string
	for _, f := range p.Set.Forwarders {
		if p.Config.Names.Region != "" && !strings.EqualFold(f.Region, p.Config.Names.Region) {
			continue
		}
		zone := strings.ReplaceAll(f.Zone, "<customer>", p.Config.Names.Customer)
		if servers[zone] == nil {
			zones = append(zones, zone)
		}
		servers[zone] = append(servers[zone], f)
	}
	for _, zone := range zones {
		k := verdict.Check{ID: "dns/" + zone, Kind: "dns", Title: "Forwarding of " + zone, Required: true, Status: verdict.Pass, Values: map[string]string{}, Sent: "SOA " + zone + " to its own servers and to those of the site"}
		var known, silent, missing []string
		for _, f := range servers[zone] {
			k.Rows = append(k.Rows, f.ID)
			a, err := c.Ask(ctx, netip.AddrPortFrom(f.Address, dnsPort), zone, dns.SOA)
			switch {
			case err != nil:
				silent = append(silent, f.Address.String())
				k.Values[f.Address.String()] = plainFault(err)
			default:
				known = append(known, f.Address.String())
				k.Values[f.Address.String()] = a.Code
			}
		}
		for _, s := range p.Config.Names.Servers {
			a, err := c.Ask(ctx, s, zone, dns.SOA)
			said := a.Code
			if err != nil {
				said = plainFault(err)
			} else if said == "NOERROR" && len(a.Of(dns.SOA)) == 0 {
				said = "an answer without the zone"
			}
			if k.Values[s.String()] = said; said != "NOERROR" {
				missing = append(missing, s.String()+" ("+said+")")
			}
		}
		switch {
		case len(missing) > 0 && len(known) > 0:
			k.Status, k.Cause = verdict.Fail, verdict.Unknown
			k.Seen = fmt.Sprintf("the zone's own servers %s answer, and the site's do not know it: %s", strings.Join(known, ", "), strings.Join(missing, ", "))
			k.Change = "forward the zone at these name servers: `ringfence network render unbound --set " + p.Set.ID + " --customer " + p.Config.Names.Customer + "` writes it, and for dnsmasq"
		case len(missing) > 0:
			k.Status, k.Cause = verdict.Fail, verdict.Dropped
			k.Seen = "neither the zone's own servers nor the site's answer: " + joined(append(missing, silent...))
			k.Change = "let UDP and TCP pass to port 53 of " + strings.Join(silent, ", ") + " from the site's name servers; ping is not answered there"
		case len(p.Config.Names.Servers) == 0 && len(silent) > 0:
			k.Status, k.Cause, k.Seen = verdict.Fail, verdict.Dropped, "silent: "+strings.Join(silent, ", ")
			k.Change = "let UDP and TCP pass to port 53 there; ping is not answered there"
		default:
			k.Seen = "the site's name servers know the zone"
			if len(silent) > 0 {
				k.Seen += "; hosts here cannot ask its own servers " + strings.Join(silent, ", ") + ", and need not"
			}
		}
		out = append(out, k)
	}
	return out
}
