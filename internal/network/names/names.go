package names

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/network/need"
)

// Options are what a rendering needs beside the set.
type Options struct {
	// Proxy is the web proxy, as host:port, by which the names are reached; empty: directly. For a PAC file.
	Proxy string
	// Otherwise is the web proxy for every other name; empty: directly. For a PAC file.
	Otherwise string
	// Customer is the label that takes the place of <customer> in the zones of name servers; without one such zones are a loss.
	Customer string
	// Set names a set of nftables, FAMILY#TABLE#SET, into which dnsmasq puts the addresses of the names; empty: no sets.
	Set string
}

// Targets returns what names can be rendered for.
func Targets() []string {
	return []string{"pac", "squid", "squid-splice", "panos-no-decrypt", "url-list", "dnsmasq", "unbound", "bind", "windows-dns", "ios-dns"}
}

// Render returns a set's names in the words of a target, and what those cannot say.
func Render(s *need.Set, target string, o Options) (text string, lost []need.Loss, err error) {
	if err := o.check(); err != nil {
		return "", nil, err
	}
	for _, d := range s.Domains {
		if _, _, ok := split(d.Pattern); !ok {
			return "", nil, invalid(d.ID+": "+strconv.Quote(d.Pattern)+" is no host name, with or without *. before it", "")
		}
	}
	switch target {
	case "pac":
		text, lost = pac(s, o)
	case "squid":
		text, lost = squid(s)
	case "squid-splice":
		text = splice(s)
	case "dnsmasq":
		text, lost = dnsmasq(s, o)
	case "unbound":
		text, lost = unbound(s, o)
	case "bind":
		text, lost = bind(s, o)
	case "windows-dns":
		text, lost = windows(s, o)
	case "ios-dns":
		text, lost = ios(s, o)
	case "panos-no-decrypt":
		text, lost = panos(s)
	case "url-list":
		text = list(s)
	default:
		return "", nil, invalid(fmt.Sprintf("%.40q is no target", target), "there are "+strings.Join(Targets(), ", "))
	}
	return text, lost, nil
}

func invalid(text, hint string) error {
	return &ringfence.Fault{Op: "names.render", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

func (o Options) check() error {
	host := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$`)
	for _, p := range []string{o.Proxy, o.Otherwise} {
		if p == "" {
			continue
		}
		h, port, err := net.SplitHostPort(p)
		n, err2 := strconv.ParseUint(port, 10, 16)
		if err != nil || err2 != nil || n == 0 || !host.MatchString(h) {
			return invalid(fmt.Sprintf("%.80q is no proxy", p), "write proxy.example.com:3128")
		}
	}
	if o.Customer != "" && !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(o.Customer) {
		return invalid(fmt.Sprintf("%.80q is no label of a domain", o.Customer), "write the first label of the names that the service gave you, in lower case")
	}
	if o.Set != "" && !regexp.MustCompile(`^(inet|ip|ip6)#[A-Za-z0-9_-]{1,31}#[A-Za-z0-9_-]{1,31}$`).MatchString(o.Set) {
		return invalid(fmt.Sprintf("%.80q names no set of nftables", o.Set), "write inet#TABLE#SET")
	}
	return nil
}

// split returns the host of a pattern, and whether names below it count too.
func split(pattern string) (host string, below, ok bool) {
	host, below = strings.CutPrefix(pattern, "*.")
	host = strings.ToLower(host)
	return host, below, regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(host) && len(host) <= 253
}

// direct returns the rows that no web proxy carries, so that the direct way must be open for them.
func direct(s *need.Set) (lost []need.Loss) {
	for _, n := range s.Needs {
		if !n.Web() {
			lost = append(lost, need.Loss{Row: n.ID, Why: n.Protocol + " never goes by a web proxy: open the direct way by a firewall rule"})
		}
	}
	return lost
}

func header(comment string, s *need.Set) string {
	out := comment + " " + s.Title
	if v := s.Version(); v != "" {
		out += ", version " + v
	}
	return out + "\n"
}

func pac(s *need.Set, o Options) (string, []need.Loss) {
	way := func(proxy string) string {
		if proxy == "" {
			return "DIRECT"
		}
		return "PROXY " + proxy
	}
	var b strings.Builder
	b.WriteString(header("//", s))
	b.WriteString("function FindProxyForURL(url, host) {\n\thost = host.toLowerCase();\n\tif (host.charAt(host.length - 1) === \".\") host = host.substring(0, host.length - 1);\n\tvar below = {\n")
	var exact []need.Domain
	for _, d := range s.Domains {
		host, wild, _ := split(d.Pattern)
		if !wild {
			exact = append(exact, d)
			continue
		}
		fmt.Fprintf(&b, "\t\t%q: 1, // %s\n", host, d.ID)
	}
	b.WriteString("\t\t\"\": 0\n\t};\n\tvar exact = {\n")
	for _, d := range exact {
		host, _, _ := split(d.Pattern)
		fmt.Fprintf(&b, "\t\t%q: 1, // %s\n", host, d.ID)
	}
	fmt.Fprintf(&b, "\t\t\"\": 0\n\t};\n\tif (exact.hasOwnProperty(host) && exact[host]) return %q;\n\tfor (var rest = host; rest !== \"\"; ) {\n\t\tif (below.hasOwnProperty(rest) && below[rest]) return %q;\n\t\tvar dot = rest.indexOf(\".\");\n\t\trest = dot < 0 ? \"\" : rest.substring(dot + 1);\n\t}\n\treturn %q;\n}\n",
		way(o.Proxy), way(o.Proxy), way(o.Otherwise))
	return b.String(), direct(s)
}

func squid(s *need.Set) (string, []need.Loss) {
	var b strings.Builder
	b.WriteString(header("#", s))
	ports := map[string]bool{}
	for _, n := range s.Needs {
		if n.Web() {
			for _, p := range n.ToPorts {
				ports[p.String()] = true
			}
		}
	}
	acl := "ringfence_" + strings.ReplaceAll(s.ID, "-", "_")
	all := suffixes(s)
	for _, name := range all {
		fmt.Fprintf(&b, "acl %s dstdomain %s\n", acl, name)
	}
	sorted := make([]string, 0, len(ports))
	for p := range ports {
		sorted = append(sorted, p)
	}
	slices.Sort(sorted)
	if len(sorted) > 0 && len(all) > 0 {
		fmt.Fprintf(&b, "acl %s_ports port %s\n", acl, strings.Join(sorted, " "))
		fmt.Fprintf(&b, "http_access allow %s %s_ports\n", acl, acl)
	}
	return b.String(), direct(s)
}

// suffixes returns the names of a set as Squid has them, with a dot before one that all names below it are meant by. Squid refuses names that another entry holds already.
func suffixes(s *need.Set) (out []string) {
	var wild []string
	for _, d := range s.Domains {
		if host, below, _ := split(d.Pattern); below {
			wild = append(wild, host)
		}
	}
	for _, d := range s.Domains {
		host, below, _ := split(d.Pattern)
		name := host
		if below {
			name = "." + host
		}
		covered := slices.ContainsFunc(wild, func(w string) bool { return strings.HasSuffix(host, "."+w) || !below && host == w })
		if !covered && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// splice has a Squid that takes TLS apart leave the names of a set alone: it looks at the name that a client asks for, and nothing more. What comes after these lines decides about all other names.
func splice(s *need.Set) string {
	var b strings.Builder
	b.WriteString(header("#", s))
	b.WriteString("# before the lines of ssl_bump that are there\nacl ringfence_hello at_step SslBump1\n")
	acl := "ringfence_" + strings.ReplaceAll(s.ID, "-", "_") + "_tls"
	all := suffixes(s)
	for _, name := range all {
		fmt.Fprintf(&b, "acl %s ssl::server_name --client-requested %s\n", acl, name)
	}
	b.WriteString("ssl_bump peek ringfence_hello\n")
	if len(all) > 0 {
		fmt.Fprintf(&b, "ssl_bump splice %s\n", acl)
	}
	return b.String()
}

// zones calls with each name server whose zone can be told.
func zones(s *need.Set, o Options, with func(f need.Forwarder, zone string)) (lost []need.Loss) {
	for _, f := range s.Forwarders {
		zone := f.Zone
		if strings.Contains(zone, "<customer>") {
			if o.Customer == "" {
				lost = append(lost, need.Loss{Row: f.ID, Why: "the zone " + zone + " needs to know who the customer is: --customer"})
				continue
			}
			zone = strings.ReplaceAll(zone, "<customer>", o.Customer)
		}
		with(f, zone)
	}
	return lost
}

func dnsmasq(s *need.Set, o Options) (string, []need.Loss) {
	var b strings.Builder
	b.WriteString(header("#", s))
	lost := zones(s, o, func(f need.Forwarder, zone string) {
		fmt.Fprintf(&b, "# %s %s\nserver=/%s/%s\n", f.ID, f.Site, zone, f.Address)
	})
	if o.Set == "" {
		return b.String(), lost
	}
	for _, d := range s.Domains {
		host, below, _ := split(d.Pattern)
		fmt.Fprintf(&b, "# %s\nnftset=/%s/4#%s\n", d.ID, host, o.Set)
		if !below {
			lost = append(lost, need.Loss{Row: d.ID, Why: "wider: dnsmasq takes the names below " + host + " too, such as x." + host})
		}
	}
	return b.String(), lost
}

// byZone gathers the name servers of each zone, in the order of the set.
func byZone(s *need.Set, o Options) (order []string, servers map[string][]need.Forwarder, lost []need.Loss) {
	servers = map[string][]need.Forwarder{}
	lost = zones(s, o, func(f need.Forwarder, zone string) {
		if servers[zone] == nil {
			order = append(order, zone)
		}
		servers[zone] = append(servers[zone], f)
	})
	return order, servers, lost
}

// undecided are the names that a resolver can do nothing about.
func undecided(s *need.Set, who string) (lost []need.Loss) {
	for _, d := range s.Domains {
		lost = append(lost, need.Loss{Row: d.ID, Why: who + " answers for " + d.Pattern + " as for every name; it decides nothing by it"})
	}
	return lost
}

func unbound(s *need.Set, o Options) (string, []need.Loss) {
	order, servers, lost := byZone(s, o)
	var b strings.Builder
	b.WriteString(header("#", s))
	for _, zone := range order {
		fmt.Fprintf(&b, "forward-zone:\n\tname: %q\n", zone+".")
		for _, f := range servers[zone] {
			fmt.Fprintf(&b, "\tforward-addr: %s # %s %s\n", f.Address, f.ID, f.Site)
		}
	}
	return b.String(), append(lost, undecided(s, "unbound")...)
}

// bind asks nobody else where the name servers of a zone are silent: the names are known to nobody else.
func bind(s *need.Set, o Options) (string, []need.Loss) {
	order, servers, lost := byZone(s, o)
	var b strings.Builder
	b.WriteString(header("//", s))
	for _, zone := range order {
		fmt.Fprintf(&b, "zone %q {\n\ttype forward;\n\tforward only;\n\tforwarders {\n", zone)
		for _, f := range servers[zone] {
			fmt.Fprintf(&b, "\t\t%s; // %s %s\n", f.Address, f.ID, f.Site)
		}
		b.WriteString("\t};\n};\n")
	}
	return b.String(), append(lost, undecided(s, "BIND")...)
}

func windows(s *need.Set, o Options) (string, []need.Loss) {
	order, servers, lost := byZone(s, o)
	var b strings.Builder
	b.WriteString(header("#", s))
	for _, zone := range order {
		var at []string
		for _, f := range servers[zone] {
			at = append(at, f.Address.String())
			fmt.Fprintf(&b, "# %s %s\n", f.ID, f.Site)
		}
		fmt.Fprintf(&b, "Add-DnsServerConditionalForwarderZone -Name '%s' -MasterServers %s\n", zone, strings.Join(at, ","))
	}
	return b.String(), append(lost, undecided(s, "the DNS service of Windows")...)
}

// ios has a router that speaks IOS answer its site: by split DNS, a view for each zone.
func ios(s *need.Set, o Options) (string, []need.Loss) {
	order, servers, lost := byZone(s, o)
	var b strings.Builder
	b.WriteString(header("!", s))
	for i, zone := range order {
		fmt.Fprintf(&b, "ip dns name-list %d permit .*\\.%s\n", i+1, strings.ReplaceAll(regexp.QuoteMeta(zone), `\-`, "-"))
		fmt.Fprintf(&b, "ip dns view ringfence-%d\n", i+1)
		for _, f := range servers[zone] {
			fmt.Fprintf(&b, " ! %s %s\n dns forwarder %s\n", f.ID, f.Site, f.Address)
		}
		b.WriteString(" dns forwarding\n")
	}
	if len(order) > 0 {
		b.WriteString("ip dns view-list ringfence\n")
		for i := range order {
			fmt.Fprintf(&b, " view ringfence-%d %d\n  restrict name-group %d\n", i+1, 10*(i+1), i+1)
		}
		fmt.Fprintf(&b, " view default %d\nip dns server view-group ringfence\nip dns server\n", 10*(len(order)+1))
	}
	return b.String(), append(lost, undecided(s, "the router")...)
}

// list is the names as cloud proxies take them: one a line, with a dot before those that names below are meant by, too.
func list(s *need.Set) string {
	var b strings.Builder
	for _, name := range suffixes(s) {
		b.WriteString(name + "\n")
	}
	return b.String()
}

// panos has a PAN-OS that takes TLS apart leave the names of a set alone. Its rule has to stand before those that decrypt.
func panos(s *need.Set) (string, []need.Loss) {
	var b strings.Builder
	b.WriteString(header("#", s))
	name := "ringfence-" + s.ID
	all := suffixes(s)
	for _, n := range all {
		if below, ok := strings.CutPrefix(n, "."); ok { // a star stands for one label or more, and a slash ends the name
			fmt.Fprintf(&b, "set profiles custom-url-category %s list [ %s/ *.%s/ ]\n", name, below, below)
			continue
		}
		fmt.Fprintf(&b, "set profiles custom-url-category %s list [ %s/ ]\n", name, n)
	}
	if len(all) > 0 {
		fmt.Fprintf(&b, "set profiles custom-url-category %s type \"URL List\"\n", name)
		fmt.Fprintf(&b, "set rulebase decryption rules %s from any to any source any destination any source-user any service any category %s action no-decrypt type ssl-forward-proxy\nmove rulebase decryption rules %s top\n", name, name, name)
	}
	var lost []need.Loss
	for _, d := range s.Domains {
		if host, below, _ := split(d.Pattern); below {
			lost = append(lost, need.Loss{Row: d.ID, Why: "wider: PAN-OS takes " + host + " itself, too"})
		}
	}
	return b.String(), lost
}
