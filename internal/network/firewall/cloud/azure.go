package cloud

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/site"
)

// What a network security group takes: rules, and the priorities that they may have.
const (
	azureRules   = 1000
	azureFirst   = 100
	azureLast    = 4096
	azureVersion = "2023-09-01"
)

type azureTemplate struct {
	Schema     string           `json:"$schema,omitempty"`
	Version    string           `json:"contentVersion,omitempty"`
	Parameters map[string]any   `json:"parameters,omitempty"`
	Resources  []*azureResource `json:"resources"`
}

type azureResource struct {
	Type       string `json:"type"`
	APIVersion string `json:"apiVersion"`
	Name       string `json:"name"`
	Location   string `json:"location"`
	Properties struct {
		SecurityRules []azureRule `json:"securityRules"`
	} `json:"properties"`
}

// azureRule is a rule as a template has it, with its properties apart.
type azureRule struct {
	Name       string           `json:"name"`
	Properties *azureProperties `json:"properties"`
}

// azurePrinted is a rule in a template, or as the command line prints it, with all in one.
type azurePrinted struct {
	azureRule
	azureProperties
}

func (r azurePrinted) properties() azureProperties {
	if r.Properties != nil {
		return *r.Properties
	}
	return r.azureProperties
}

type azureProperties struct {
	Description       string            `json:"description,omitempty"`
	Protocol          string            `json:"protocol"`
	SourcePort        string            `json:"sourcePortRange,omitempty"`
	SourcePorts       []string          `json:"sourcePortRanges,omitempty"`
	DestinationPort   string            `json:"destinationPortRange,omitempty"`
	DestinationPorts  []string          `json:"destinationPortRanges,omitempty"`
	Source            string            `json:"sourceAddressPrefix,omitempty"`
	Sources           []string          `json:"sourceAddressPrefixes,omitempty"`
	Destination       string            `json:"destinationAddressPrefix,omitempty"`
	Destinations      []string          `json:"destinationAddressPrefixes,omitempty"`
	SourceGroups      []json.RawMessage `json:"sourceApplicationSecurityGroups,omitempty"`
	DestinationGroups []json.RawMessage `json:"destinationApplicationSecurityGroups,omitempty"`
	Access            string            `json:"access"`
	Priority          int               `json:"priority"`
	Direction         string            `json:"direction"`
}

// Azure writes a policy as a network security group for the subnets of the site's hosts, in a template of the Resource Manager. It says source ports as well; of ICMP it knows no types, and nothing of ICMPv6.
func Azure(p *site.Policy) (string, *firewall.Certificate, error) {
	f, err := newFilter(p)
	if err != nil {
		return "", nil, err
	}
	var list []azureRule
	var rules []rule
	rows := map[string][]int{}
	priority := map[string]int{"Inbound": azureFirst, "Outbound": azureFirst}
	add := func(name string, a azureProperties) error {
		a.Priority = min(priority[a.Direction], azureLast)
		priority[a.Direction]++
		r, what, err := a.rule()
		if err != nil || what != "" {
			return refused(what)
		}
		list, rules = append(list, azureRule{Name: name, Properties: &a}), append(rules, r)
		return nil
	}
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
			for _, number := range r.Protocols {
				e, ok := exact(r, number, family)
				if !ok || number == box.ICMPv6 {
					continue
				}
				a := azureProperties{Description: clip(r.ID+": "+r.Purpose, 140), Protocol: azureProtocols()[number], Access: "Allow", SourcePort: "*", DestinationPort: "*"}
				if box.HasPorts(number) {
					a.SourcePort, a.SourcePorts = azurePorts(e.from)
					a.DestinationPort, a.DestinationPorts = azurePorts(e.to)
				}
				a.Source, a.Sources = azureNetworks(compact(from))
				a.Destination, a.Destinations = azureNetworks(compact(to))
				for _, way := range []struct {
					is   bool
					word string
				}{{out, "Outbound"}, {in, "Inbound"}} {
					if !way.is {
						continue
					}
					a.Direction = way.word
					rows[r.ID] = append(rows[r.ID], len(rules))
					if err := add(clip(fmt.Sprintf("%s-%s-v%d-%s", r.ID, strings.ToLower(a.Protocol), family, strings.ToLower(way.word)), 80), a); err != nil {
						return "", nil, err
					}
				}
			}
		}
	}
	for _, way := range []string{"Outbound", "Inbound"} {
		a := azureProperties{Description: "everything else", Protocol: "*", Access: "Deny", Direction: way, SourcePort: "*", DestinationPort: "*", Source: "*", Destination: "*"}
		priority[way] = max(priority[way], azureLast)
		if err := add("nothing-else-"+strings.ToLower(way), a); err != nil {
			return "", nil, err
		}
	}
	t := &azureTemplate{Schema: "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", Version: "1.0.0.0", Resources: []*azureResource{{Type: "Microsoft.Network/networkSecurityGroups", APIVersion: azureVersion, Name: "ringfence-" + p.Set, Location: "[resourceGroup().location]"}}}
	t.Resources[0].Properties.SecurityRules = list
	cert, err := f.certify(p, rules, rows)
	if err != nil {
		return "", nil, err
	}
	if len(list) > azureRules {
		cert.Exceeded, cert.Exact = []firewall.Limit{{Where: t.Resources[0].Name, What: "rules of a network security group", Has: len(list), Allowed: azureRules}}, false
	}
	text, err := written(t)
	return text, cert, err
}

func clip(s string, n int) string { return strings.TrimRight(s[:min(len(s), n)], "-.: ") }

func azureProtocols() map[uint8]string {
	return map[uint8]string{box.TCP: "Tcp", box.UDP: "Udp", box.ICMP: "Icmp"}
}

func azurePorts(list []box.Span) (string, []string) {
	if slices.Equal(list, anything()) {
		return "*", nil
	}
	var out []string
	for _, s := range list {
		out = append(out, word(s))
	}
	return "", out
}

// azureNetworks writes networks; all of IPv4 are not all addresses, which * would be.
func azureNetworks(list []netip.Prefix) (string, []string) {
	if all(list) {
		return list[0].String(), nil
	}
	return "", texts(list)
}

// rule reads a rule, or says what of it is not understood.
func (a azureProperties) rule() (r rule, unknown string, err error) {
	r = rule{about: a.Description, priority: a.Priority}
	switch strings.ToLower(a.Direction) {
	case "outbound":
		r.out = true
	case "inbound":
	default:
		return r, "", refused(fmt.Sprintf("%.20q is no direction", a.Direction))
	}
	switch strings.ToLower(a.Access) {
	case "allow":
	case "deny":
		r.deny = true
	default:
		return r, "", refused(fmt.Sprintf("%.20q is neither Allow nor Deny", a.Access))
	}
	p := protocol{}
	if p.from, err = azureSpans(a.SourcePort, a.SourcePorts); err != nil {
		return r, "", err
	}
	if p.to, err = azureSpans(a.DestinationPort, a.DestinationPorts); err != nil {
		return r, "", err
	}
	switch strings.ToLower(a.Protocol) {
	case "*":
		p.number = box.Range(0, 255)
		if !slices.Equal(p.from, anything()) || !slices.Equal(p.to, anything()) { // only those that have ports
			for _, number := range []uint8{box.TCP, box.UDP} {
				r.protocols = append(r.protocols, protocol{box.One(number), p.from, p.to})
			}
		}
	case "tcp":
		p.number = box.One(box.TCP)
	case "udp":
		p.number = box.One(box.UDP)
	case "icmp":
		p = whole(box.ICMP)
	case "esp":
		p = whole(50)
	case "ah":
		p = whole(51)
	default:
		return r, "the protocol " + fmt.Sprintf("%.20q", a.Protocol), nil
	}
	if r.protocols == nil {
		r.protocols = []protocol{p}
	}
	if len(a.SourceGroups)+len(a.DestinationGroups) > 0 {
		return r, "application security groups", nil
	}
	source, tag1, err := azureAddresses(a.Source, a.Sources)
	if err != nil {
		return r, "", err
	}
	destination, tag2, err := azureAddresses(a.Destination, a.Destinations)
	if err != nil {
		return r, "", err
	}
	for _, tag := range []string{tag1, tag2} {
		if tag != "" {
			return r, "the service tag " + fmt.Sprintf("%.60q", tag), nil
		}
	}
	if r.local, r.remote = destination, source; r.out {
		r.local, r.remote = source, destination
	}
	return r, "", nil
}

func azureSpans(one string, more []string) (out []box.Span, err error) {
	if one != "" || len(more) == 0 {
		more = append([]string{one}, more...)
	}
	for _, text := range more {
		s, err := span(text)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return box.Merge(out), nil
}

// azureAddresses reads networks, or returns the tag that stands in their place.
func azureAddresses(one string, more []string) (out []netip.Prefix, tag string, err error) {
	if one != "" || len(more) == 0 {
		more = append([]string{one}, more...)
	}
	for _, text := range more {
		if text == "*" {
			return everywhere(), "", nil
		}
		if first := strings.ToUpper(text[:min(len(text), 1)]); first >= "A" && first <= "Z" && !strings.Contains(text, ":") {
			return nil, text, nil
		}
		n, err := network(text)
		if err != nil {
			return nil, "", err
		}
		out = append(out, n)
	}
	return compact(out), "", nil
}

// ReadAzure reads a template with one network security group, or what `az network nsg show` prints. Rules behind one that denies everything are never reached, and need not be understood; so it is with the default rules.
func ReadAzure(b []byte, p *site.Policy) (*firewall.Ruleset, error) {
	f, err := newFilter(p)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Resources []struct {
			Type, Name string
			Properties struct {
				SecurityRules []azurePrinted
			}
		}
		Rules   []azurePrinted `json:"securityRules"`
		Default []azurePrinted `json:"defaultSecurityRules"`
	}
	if err := decode(b, &doc); err != nil {
		return nil, err
	}
	list := append(doc.Rules, doc.Default...)
	var unknown []firewall.Unknown
	groups := 0
	for _, r := range doc.Resources {
		if r.Type != "Microsoft.Network/networkSecurityGroups" {
			unknown = append(unknown, firewall.Unknown{Where: fmt.Sprintf("%.80s", r.Name), What: "a resource of the type " + strconv.Quote(fmt.Sprintf("%.80s", r.Type))})
			continue
		}
		list = append(list, r.Properties.SecurityRules...)
		groups++
	}
	switch {
	case groups > 1:
		return nil, refused("it has more than one network security group; read them one by one")
	case len(list) == 0:
		return nil, refused("there are no security rules in it")
	case len(list) > maxRules:
		return nil, refused("it has more than 100,000 rules")
	}
	slices.SortStableFunc(list, func(a, b azurePrinted) int { return cmp.Compare(a.properties().Priority, b.properties().Priority) })
	closed := map[bool]bool{}
	var rules []rule
	for _, a := range list {
		props := a.properties()
		r, what, err := props.rule()
		if err != nil {
			return nil, fmt.Errorf("%.80s: %w", a.Name, err)
		}
		if closed[r.out] {
			continue
		}
		r.name = fmt.Sprintf("%.80s", a.Name)
		if what != "" {
			unknown = append(unknown, firewall.Unknown{Where: r.name, What: what})
			continue
		}
		closed[r.out] = r.deny && props.Protocol == "*" && props.Source == "*" && props.Destination == "*" && slices.Equal(r.protocols[0].from, anything()) && slices.Equal(r.protocols[0].to, anything())
		rules = append(rules, r)
	}
	for _, out := range []bool{true, false} {
		if !closed[out] && len(doc.Default) == 0 { // those that no group is without let hosts of the same network talk, and them to the internet
			unknown = append(unknown, firewall.Unknown{Where: map[bool]string{true: "Outbound", false: "Inbound"}[out], What: "no rule denies the rest, and the default rules are not in the file"})
		}
	}
	return f.ruleset(rules, unknown), nil
}
