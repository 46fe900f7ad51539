package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/network/need"
	"ringfence/internal/network/proxy"
	"ringfence/internal/network/ready/probe"
)

// readyNames is the flags about name servers.
type readyNames struct {
	resolvers, services []string
	customer, region    string
}

func (n *readyNames) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&n.resolvers, "resolver", nil, "also ask this name server of the site, as HOST or HOST:PORT; may be repeated")
	f.StringArrayVar(&n.services, "srv", nil, "a name whose servers DNS names, such as _sips._tcp.example.com, or _sips._tcp.example.com=FIRST,SECOND with the order that is meant; may be repeated")
	f.StringVar(&n.customer, "customer", "", "the customer's label in the zones that are forwarded to the service (dedicated-instance)")
	f.StringVar(&n.region, "region", "", "only the zones of this region")
}

// again is the flags once more.
func (n *readyNames) again() (out string) {
	for _, r := range n.resolvers {
		out += " --resolver " + r
	}
	for _, s := range n.services {
		out += " --srv " + s
	}
	if n.customer != "" {
		out += " --customer " + n.customer
	}
	if n.region != "" {
		out += " --region " + n.region
	}
	return out
}

// open makes of the flags what the prober needs; nil without any.
func (n *readyNames) open(ctx context.Context, s *need.Set) (*probe.Names, error) {
	if len(n.resolvers)+len(n.services) == 0 && n.customer == "" {
		if n.region != "" {
			return nil, invalid("--region needs --customer", "")
		}
		return nil, nil
	}
	out := &probe.Names{Customer: strings.ToLower(n.customer), Region: n.region}
	name := func(s string) bool { return proxy.Target(s+":1") == nil && !strings.Contains(s, ":") }
	var regions []string
	for _, f := range s.Forwarders {
		if !slices.Contains(regions, f.Region) {
			regions = append(regions, f.Region)
		}
	}
	switch {
	case len(n.services) > 0 && len(n.resolvers) == 0:
		return nil, invalid("whom to ask for --srv?", "name the site's name server with --resolver")
	case len(n.resolvers) > 8 || len(n.services) > 16:
		return nil, invalid("at most 8 name servers and 16 services are asked at a time", "")
	case n.customer != "" && len(regions) == 0:
		return nil, invalid(s.ID+" has no zones that are forwarded", "--customer is for dedicated-instance")
	case n.customer != "" && (!name(n.customer) || strings.Contains(n.customer, ".")):
		return nil, invalid(fmt.Sprintf("%.80q is no label of a domain", n.customer), "write the first label of the names that the service gave you")
	case n.region != "" && !slices.ContainsFunc(regions, func(r string) bool { return strings.EqualFold(r, n.region) }):
		return nil, invalid(fmt.Sprintf("there is no region %.40q in %s", n.region, s.ID), "there are "+strings.Join(regions, ", "))
	}
	for _, h := range n.resolvers {
		at, err := hostAddr(ctx, h, "53", invalid(fmt.Sprintf("%.60q is no name server", h), "give HOST or HOST:PORT with --resolver"))
		if err != nil {
			return nil, err
		}
		out.Servers = append(out.Servers, at)
	}
	for _, v := range n.services {
		service, hosts, _ := strings.Cut(strings.ToLower(v), "=")
		all := strings.FieldsFunc(hosts, func(r rune) bool { return r == ',' })
		if !name(service) || !strings.HasPrefix(service, "_") || slices.ContainsFunc(all, func(h string) bool { return !name(h) }) {
			return nil, invalid(fmt.Sprintf("%.80q is no name with servers", v), "write --srv _sips._tcp.example.com=first.example.com,second.example.com")
		}
		out.Services = append(out.Services, probe.Service{Name: service, Hosts: all})
	}
	return out, nil
}
