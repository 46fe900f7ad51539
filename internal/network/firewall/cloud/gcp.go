package cloud

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/site"
)

// gcpRule is a rule as the API of Compute Engine has it.
type gcpRule struct {
	Name              string       `json:"name"`
	Description       string       `json:"description,omitempty"`
	Direction         string       `json:"direction"`
	Priority          *int         `json:"priority"`
	Allowed           []gcpAllowed `json:"allowed,omitempty"`
	Denied            []gcpAllowed `json:"denied,omitempty"`
	SourceRanges      []string     `json:"sourceRanges,omitempty"`
	DestinationRanges []string     `json:"destinationRanges,omitempty"`
	Disabled          bool         `json:"disabled,omitempty"`
	SourceTags        []string     `json:"sourceTags,omitempty"`
	TargetTags        []string     `json:"targetTags,omitempty"`
	SourceAccounts    []string     `json:"sourceServiceAccounts,omitempty"`
	TargetAccounts    []string     `json:"targetServiceAccounts,omitempty"`
}

type gcpAllowed struct {
	Protocol string   `json:"IPProtocol"`
	Ports    []string `json:"ports,omitempty"`
}

// What a firewall rule of Google's takes.
const (
	gcpRanges = 5000 // of the addresses at one end
	gcpLast   = 65534
)

// GCP writes a policy as firewall rules of a virtual private cloud, in a configuration of Terraform. A rule knows neither source ports nor types of ICMP.
func GCP(p *site.Policy) (string, *firewall.Certificate, error) {
	f, err := newFilter(p)
	if err != nil {
		return "", nil, err
	}
	var list []gcpRule
	rows := map[string][]int{}
	var exceeded []firewall.Limit
	for _, r := range p.Rows {
		if !judged(r) {
			continue
		}
		out, in := f.ways(p, r)
		for _, family := range []uint8{box.IPv4, box.IPv6} {
			from, to := r.Pairs(family)
			if len(from) == 0 || len(to) == 0 {
				continue
			}
			var allowed []gcpAllowed
			for _, number := range r.Protocols {
				e, ok := exact(r, number, family)
				if !ok {
					continue
				}
				a := gcpAllowed{Protocol: box.ProtocolName(number)}
				if number == box.ICMPv6 {
					a.Protocol = "58"
				}
				if box.HasPorts(number) && !slices.Equal(e.to, anything()) {
					for _, s := range e.to {
						a.Ports = append(a.Ports, word(s))
					}
				}
				allowed = append(allowed, a)
			}
			if len(allowed) == 0 {
				continue
			}
			for _, way := range []struct {
				is   bool
				word string
			}{{out, "EGRESS"}, {in, "INGRESS"}} {
				if !way.is {
					continue
				}
				priority := 1000
				g := gcpRule{Name: gcpName("ringfence-" + r.ID + "-" + strings.ToLower(way.word) + fmt.Sprintf("-v%d", family)), Description: clip(r.ID+": "+r.Purpose, 200), Direction: way.word, Priority: &priority, Allowed: allowed, SourceRanges: texts(compact(from)), DestinationRanges: texts(compact(to))}
				for _, n := range []int{len(g.SourceRanges), len(g.DestinationRanges)} {
					if n > gcpRanges {
						exceeded = append(exceeded, firewall.Limit{Where: g.Name, What: "networks at one end of a rule", Has: n, Allowed: gcpRanges})
					}
				}
				rows[r.ID] = append(rows[r.ID], len(list))
				list = append(list, g)
			}
		}
	}
	for _, family := range everywhere() {
		v := 4
		if family.Addr().Is6() {
			v = 6
		}
		priority := gcpLast
		deny := gcpRule{Name: fmt.Sprintf("ringfence-nothing-else-egress-v%d", v), Description: "everything else; what is sent to hosts is denied anyway", Direction: "EGRESS", Priority: &priority, Denied: []gcpAllowed{{Protocol: "all"}}, DestinationRanges: []string{family.String()}}
		list = append(list, deny)
	}
	var rules []rule
	for _, g := range list {
		r, what, err := g.rule()
		if err != nil || what != "" {
			return "", nil, refused(what)
		}
		rules = append(rules, r)
	}
	cert, err := f.certify(p, rules, rows)
	if err != nil {
		return "", nil, err
	}
	cert.Exceeded, cert.Exact = exceeded, cert.Exact && len(exceeded) == 0
	text, err := written(terraform(list))
	return text, cert, err
}

// gcpName makes a name of small letters, digits and dashes, at most 63.
func gcpName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
	if len(s) > 63 { // the end tells them apart
		s = s[:30] + "-" + s[len(s)-32:]
	}
	return s
}

type tfFile struct {
	Variable map[string]map[string]string     `json:"variable"`
	Resource map[string]map[string]tfFirewall `json:"resource"`
}

// tfFirewall is the resource google_compute_firewall.
type tfFirewall struct {
	Name              string      `json:"name"`
	Description       string      `json:"description,omitempty"`
	Network           string      `json:"network"`
	Direction         string      `json:"direction"`
	Priority          *int        `json:"priority"`
	Allow             []tfAllowed `json:"allow,omitempty"`
	Deny              []tfAllowed `json:"deny,omitempty"`
	SourceRanges      []string    `json:"source_ranges,omitempty"`
	DestinationRanges []string    `json:"destination_ranges,omitempty"`
}

type tfAllowed struct {
	Protocol string   `json:"protocol"`
	Ports    []string `json:"ports,omitempty"`
}

func terraform(list []gcpRule) tfFile {
	t := tfFile{Variable: map[string]map[string]string{"network": {"type": "string", "description": "the network of the hosts"}}, Resource: map[string]map[string]tfFirewall{"google_compute_firewall": {}}}
	convert := func(list []gcpAllowed) (out []tfAllowed) {
		for _, a := range list {
			out = append(out, tfAllowed(a))
		}
		return out
	}
	for _, g := range list {
		t.Resource["google_compute_firewall"][g.Name] = tfFirewall{g.Name, g.Description, "${var.network}", g.Direction, g.Priority, convert(g.Allowed), convert(g.Denied), g.SourceRanges, g.DestinationRanges}
	}
	return t
}

// rule reads a rule, or says what of it is not understood.
func (g gcpRule) rule() (r rule, unknown string, err error) {
	r = rule{name: fmt.Sprintf("%.80s", g.Name), about: g.Description, priority: 1000, local: everywhere(), remote: everywhere()}
	if g.Priority != nil {
		r.priority = *g.Priority
	}
	switch g.Direction {
	case "EGRESS":
		r.out = true
	case "INGRESS", "":
	default:
		return r, "", refused(fmt.Sprintf("%.20q is no direction", g.Direction))
	}
	if len(g.SourceTags)+len(g.TargetTags)+len(g.SourceAccounts)+len(g.TargetAccounts) > 0 {
		return r, "tags and service accounts: whose hosts they are", nil
	}
	if len(g.Allowed) > 0 == (len(g.Denied) > 0) {
		return r, "", refused("a rule either allows or denies")
	}
	r.deny = len(g.Denied) > 0
	for _, a := range slices.Concat(g.Allowed, g.Denied) {
		list, err := gcpProtocol(a)
		if err != nil {
			return r, "", err
		}
		r.protocols = append(r.protocols, list...)
	}
	ends := [2][]netip.Prefix{everywhere(), everywhere()}
	for i, list := range [][]string{g.SourceRanges, g.DestinationRanges} {
		for j, text := range list {
			n, err := network(text)
			if err != nil {
				return r, "", err
			}
			if j == 0 {
				ends[i] = nil
			}
			ends[i] = append(ends[i], n)
		}
	}
	if r.local, r.remote = ends[1], ends[0]; r.out {
		r.local, r.remote = ends[0], ends[1]
	}
	return r, "", nil
}

func gcpProtocol(a gcpAllowed) (out []protocol, err error) {
	numbers := map[string]uint8{"tcp": box.TCP, "udp": box.UDP, "icmp": box.ICMP, "sctp": box.SCTP, "esp": 50, "ah": 51, "ipip": 94}
	name := strings.ToLower(a.Protocol)
	if name == "all" {
		return allProtocols(), nil
	}
	number, ok := numbers[name]
	if !ok {
		if _, err := fmt.Sscanf(name, "%d", &number); err != nil || fmt.Sprint(number) != name {
			return nil, refused(fmt.Sprintf("%.20q is no protocol", a.Protocol))
		}
	}
	p := whole(number)
	for i, text := range a.Ports {
		s, err := span(text)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			p.to = nil
		}
		p.to = append(p.to, s)
	}
	return []protocol{p}, nil
}

// ReadGCP reads a configuration of Terraform in JSON with firewall rules, or what `gcloud compute firewall-rules list --format=json` prints: all rules of one network, which let hosts send what no rule denies.
func ReadGCP(b []byte, p *site.Policy) (*firewall.Ruleset, error) {
	f, err := newFilter(p)
	if err != nil {
		return nil, err
	}
	var list []gcpRule
	var unknown []firewall.Unknown
	if text := strings.TrimSpace(string(b[:min(len(b), 100)])); strings.HasPrefix(text, "[") {
		err = decode(b, &list)
	} else {
		var t struct {
			Resource map[string]map[string]json.RawMessage `json:"resource"`
		}
		if err = decode(b, &t); err == nil && t.Resource["google_compute_firewall"] == nil {
			err = refused("there are no firewall rules in it")
		}
		for _, kind := range slices.Sorted(maps.Keys(t.Resource)) {
			for _, id := range slices.Sorted(maps.Keys(t.Resource[kind])) {
				if kind != "google_compute_firewall" {
					unknown = append(unknown, firewall.Unknown{Where: fmt.Sprintf("%.80s", id), What: fmt.Sprintf("a resource of the type %.80q", kind)})
					continue
				}
				var r tfFirewall
				if err := decode(t.Resource[kind][id], &r); err != nil {
					return nil, err
				}
				g := gcpRule{Name: r.Name, Description: r.Description, Direction: r.Direction, Priority: r.Priority, SourceRanges: r.SourceRanges, DestinationRanges: r.DestinationRanges}
				for _, a := range r.Allow {
					g.Allowed = append(g.Allowed, gcpAllowed(a))
				}
				for _, a := range r.Deny {
					g.Denied = append(g.Denied, gcpAllowed(a))
				}
				list = append(list, g)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if len(list) > maxRules {
		return nil, refused("it has more than 100,000 rules")
	}
	var rules []rule
	for _, g := range list {
		if g.Disabled {
			continue
		}
		r, what, err := g.rule()
		if err != nil {
			return nil, fmt.Errorf("%.80s: %w", g.Name, err)
		}
		if what != "" {
			unknown = append(unknown, firewall.Unknown{Where: r.name, What: what})
			continue
		}
		rules = append(rules, r)
	}
	rules = append(rules, rule{name: "the rule of every network", out: true, priority: 65535, protocols: allProtocols(), local: everywhere(), remote: everywhere()})
	return f.ruleset(rules, unknown), nil
}
