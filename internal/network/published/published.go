package published

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/network/need"
)

// Options say what of a list is wanted.
type Options struct {
	ID       string   // of the set
	Services []string // only these, as the list calls them; all if empty
	Regions  []string // only these (AWS, Google); all if empty
	Optional bool     // what Microsoft says is not required, too
	TCP, UDP []need.Ports
}

// Client is the role of whoever uses such a service.
const Client = "client"

// Bounds of what is read.
const (
	MaxSize     = 16 << 20 // bytes
	maxNetworks = 20_000
	maxRows     = 2_000
)

// Formats returns the lists that are read.
func Formats() []string { return []string{"microsoft365", "aws", "google", "plain"} }

// Read makes a set of a list.
func Read(b []byte, format string, o Options) (*need.Set, error) {
	if len(b) > MaxSize {
		return nil, fault("the list is larger than 16 MiB", "")
	}
	if o.ID == "" || o.ID == "self" {
		return nil, fault("the set needs an id of its own", "")
	}
	r := &reader{o: o, set: &need.Set{ID: o.ID, Roles: map[string]need.Role{Client: {Text: "whoever uses the service", Side: "customer"}}, Addresses: map[string]string{}}, names: map[string]bool{}}
	var err error
	switch format {
	case "microsoft365":
		err = r.microsoft(b)
	case "aws":
		err = r.aws(b)
	case "google":
		err = r.google(b)
	case "plain":
		err = r.plain(b)
	default:
		err = fault(fmt.Sprintf("%.40q is no list that is known", format), "there are "+strings.Join(Formats(), ", "))
	}
	if err != nil {
		return nil, err
	}
	if len(r.set.Needs) == 0 && len(r.set.Domains) == 0 {
		return nil, fault("nothing is left of the list", "services there are: "+clip(strings.Join(slices.Sorted(maps.Keys(r.names)), ", ")))
	}
	if wrong := r.set.Check(); len(wrong) > 0 {
		return nil, fault("the list does not make sense: "+wrong[0], "")
	}
	return r.set, nil
}

func clip(s string) string { return s[:min(len(s), 500)] }

func fault(text, hint string) error {
	return &ringfence.Fault{Op: "published.read", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

type reader struct {
	o        Options
	set      *need.Set
	names    map[string]bool // of services that the list has
	networks int
}

func (r *reader) wants(service, region string) bool {
	r.names[service] = true
	return (len(r.o.Services) == 0 || slices.ContainsFunc(r.o.Services, func(s string) bool { return strings.EqualFold(s, service) })) &&
		(len(r.o.Regions) == 0 || slices.ContainsFunc(r.o.Regions, func(s string) bool { return strings.EqualFold(s, region) }))
}

// group adds the networks of a role, those inside others left out.
func (r *reader) group(role, text string, texts []string) error {
	var nets []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if a, err2 := netip.ParseAddr(t); err2 == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			return fault(fmt.Sprintf("%.60q is no network", t), "")
		}
		nets = append(nets, p.Masked())
	}
	slices.SortFunc(nets, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	g := need.NetworkGroup{Name: role, Text: text}
	for _, p := range nets {
		if n := len(g.Networks); n > 0 && g.Networks[n-1].Prefix.Overlaps(p) {
			continue
		}
		g.Networks = append(g.Networks, need.Network{Prefix: p})
	}
	if r.networks += len(g.Networks); r.networks > maxNetworks {
		return fault("the list has more than 20,000 networks", "choose services or regions")
	}
	r.set.Roles[role] = need.Role{Text: text, Side: "elsewhere"}
	if len(g.Networks) > 0 {
		r.set.Groups = append(r.set.Groups, g)
		r.set.Addresses[role] = role
	}
	return nil
}

// row adds a row to a role for each transport that has ports.
func (r *reader) row(id, purpose, role string, tcp, udp []need.Ports) error {
	for _, x := range []struct {
		transport string
		ports     []need.Ports
	}{{"tcp", tcp}, {"udp", udp}} {
		if len(x.ports) == 0 {
			continue
		}
		r.set.Needs = append(r.set.Needs, need.Need{ID: id + "-" + x.transport, Purpose: purpose, Protocol: strings.ToUpper(x.transport), Transport: []string{x.transport}, Direction: need.Outbound,
			From: []string{Client}, FromPorts: []need.Ports{need.Ephemeral()}, To: []string{role}, ToPorts: x.ports})
	}
	if len(r.set.Needs) > maxRows {
		return fault("the list has more than 2,000 rows", "choose services")
	}
	return nil
}

// chosen are the ports for lists that name none.
func (r *reader) chosen() error {
	if len(r.o.TCP)+len(r.o.UDP) == 0 {
		return fault("the list has addresses and no ports", "say which with --tcp and --udp")
	}
	return nil
}

// microsoft reads Microsoft's endpoints: sets with names, networks and ports.
func (r *reader) microsoft(b []byte) error {
	var all []struct {
		ID                     int      `json:"id"`
		ServiceArea            string   `json:"serviceArea"`
		ServiceAreaDisplayName string   `json:"serviceAreaDisplayName"`
		URLs                   []string `json:"urls"`
		IPs                    []string `json:"ips"`
		TCP                    string   `json:"tcpPorts"`
		UDP                    string   `json:"udpPorts"`
		Category               string   `json:"category"`
		Required               bool     `json:"required"`
		Notes                  string   `json:"notes"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return fault("these are not Microsoft's endpoints: "+err.Error(), "fetch https://endpoints.office.com/endpoints/worldwide?clientrequestid= with a UUID")
	}
	r.set.Title, r.set.Document = "What Microsoft 365 needs of the network", "endpoints of Microsoft 365"
	domains := map[string]bool{}
	for _, e := range all {
		if !r.wants(e.ServiceArea, "") || !e.Required && !r.o.Optional {
			continue
		}
		id := "m365-" + strconv.Itoa(e.ID)
		tcp, err := portList(e.TCP)
		if err != nil {
			return err
		}
		udp, err := portList(e.UDP)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s, set %d (%s)", cmp.Or(e.ServiceAreaDisplayName, e.ServiceArea), e.ID, strings.ToLower(e.Category))
		if e.Notes != "" {
			text += ": " + e.Notes
		}
		if len(e.IPs) > 0 { // by names alone nothing can be let through a firewall
			if err := r.group(id, text, e.IPs); err != nil {
				return err
			}
			if err := r.row(id, text, id, tcp, udp); err != nil {
				return err
			}
		}
		for _, u := range e.URLs {
			if u = strings.ToLower(u); !domains[u] {
				domains[u] = true
				r.set.Domains = append(r.set.Domains, need.Domain{ID: fmt.Sprintf("m365-d-%d", len(domains)), Pattern: u, Purpose: text})
			}
		}
		if len(domains) > maxRows {
			return fault("the list has more than 2,000 names", "choose services")
		}
	}
	return nil
}

// portList reads "80,443" or "50000-50059".
func portList(s string) (out []need.Ports, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		p, err := need.ParsePorts(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// aws reads the address ranges of AWS.
func (r *reader) aws(b []byte) error {
	type prefix struct {
		IP      string `json:"ip_prefix"`
		IPv6    string `json:"ipv6_prefix"`
		Region  string `json:"region"`
		Service string `json:"service"`
	}
	var all struct {
		SyncToken string   `json:"syncToken"`
		Prefixes  []prefix `json:"prefixes"`
		IPv6      []prefix `json:"ipv6_prefixes"`
	}
	if err := json.Unmarshal(b, &all); err != nil || all.Prefixes == nil {
		return fault("this is not ip-ranges.json of AWS", "fetch https://ip-ranges.amazonaws.com/ip-ranges.json")
	}
	by := map[string][]string{}
	for _, p := range append(all.Prefixes, all.IPv6...) {
		if r.wants(p.Service, p.Region) {
			by[p.Service] = append(by[p.Service], p.IP+p.IPv6)
		}
	}
	return r.services("AWS", "aws-", all.SyncToken, by)
}

// google reads the address ranges of Google and of its cloud.
func (r *reader) google(b []byte) error {
	var all struct {
		SyncToken string `json:"syncToken"`
		Prefixes  []struct {
			IPv4    string `json:"ipv4Prefix"`
			IPv6    string `json:"ipv6Prefix"`
			Service string `json:"service"`
			Scope   string `json:"scope"`
		} `json:"prefixes"`
	}
	if err := json.Unmarshal(b, &all); err != nil || all.Prefixes == nil {
		return fault("this is no list of Google's addresses", "fetch https://www.gstatic.com/ipranges/goog.json, or cloud.json")
	}
	by := map[string][]string{}
	for _, p := range all.Prefixes {
		if service := cmp.Or(p.Service, "Google"); r.wants(service, p.Scope) {
			by[service] = append(by[service], p.IPv4+p.IPv6)
		}
	}
	return r.services("Google", "google-", all.SyncToken, by)
}

func (r *reader) services(who, prefix, version string, by map[string][]string) error {
	if err := r.chosen(); err != nil {
		return err
	}
	r.set.Title, r.set.Document = "What "+who+" needs of the network", "addresses of "+who+", version "+version
	for _, service := range slices.Sorted(maps.Keys(by)) {
		role := prefix + slug(service)
		if err := r.group(role, who+": "+service, by[service]); err != nil {
			return err
		}
		if err := r.row(role, who+": "+service, role, r.o.TCP, r.o.UDP); err != nil {
			return err
		}
	}
	return nil
}

func slug(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s)), "-")
}

// plain reads networks, addresses and names, one a line. What follows a # or a ; is a remark.
func (r *reader) plain(b []byte) error {
	r.set.Title, r.set.Document = "What "+r.o.ID+" needs of the network", "a list of networks and names"
	var nets []string
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		switch _, err := netip.ParsePrefix(line); {
		case line == "":
		case err == nil || isAddr(line):
			nets = append(nets, line)
		case isName(line):
			r.set.Domains = append(r.set.Domains, need.Domain{ID: fmt.Sprintf("name-%d", n), Pattern: strings.ToLower(line), Purpose: "of the list"})
		default:
			return fault(fmt.Sprintf("line %d: %.60q is neither a network nor a name", n, line), "")
		}
		if len(nets)+len(r.set.Domains) > maxNetworks {
			return fault("the list has more than 20,000 lines", "")
		}
	}
	if err := lines.Err(); err != nil {
		return fault("the list cannot be read: "+err.Error(), "")
	}
	if len(nets) == 0 {
		return nil
	}
	if err := r.chosen(); err != nil {
		return err
	}
	if err := r.group("service", "the service of "+r.o.ID, nets); err != nil {
		return err
	}
	return r.row("service", "the service of "+r.o.ID, "service", r.o.TCP, r.o.UDP)
}

func isAddr(s string) bool { _, err := netip.ParseAddr(s); return err == nil }

// isName reports whether a line is a name of DNS, or of all names below one.
func isName(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(strings.ToLower(s), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_*") != "" {
			return false
		}
	}
	return true
}
