package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/marks"
	"ringfence/internal/network/names"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
	"ringfence/internal/node/admin/api"
)

// rendering is what network render --json prints.
type rendering struct {
	Set     string          `json:"set"`
	Version string          `json:"version,omitempty"`
	Target  string          `json:"target"`
	Text    string          `json:"text"`
	Files   []firewall.File `json:"files,omitempty"` // instead of text, where a target has several
	Lost    []need.Loss     `json:"lost"`            // of what decides by names or marks
	// Certificate says of a firewall, packet for packet, how far the text is what was asked for.
	Certificate *firewall.Certificate `json:"certificate,omitempty"`
}

// renderFlags are what renderings need beside the set.
type renderFlags struct {
	set, at, site, out string
	names              names.Options
}

// renderTarget is something that a set can be rendered for.
type renderTarget struct {
	name, about string
	render      func(s *need.Set, f *renderFlags) (text string, lost []need.Loss, err error)
	firewall    func(p *site.Policy) ([]firewall.File, *firewall.Certificate, error) // instead of render; one file without a name, or several
}

func renderTargets() (all []renderTarget) {
	about := map[string]string{"pac": "a proxy auto-configuration file", "squid": "a Squid proxy", "squid-splice": "names that a Squid proxy leaves sealed",
		"panos-no-decrypt": "names that a PAN-OS which takes TLS apart leaves sealed", "url-list": "the same as a list for cloud proxies, one a line",
		"dnsmasq": "a dnsmasq resolver", "unbound": "an unbound resolver", "bind": "a BIND resolver", "windows-dns": "the DNS service of Windows, by PowerShell", "ios-dns": "a router that speaks IOS and answers for its site",
		"nftables-qos": "marks by nftables", "ios-qos": "marks by a router that speaks IOS", "windows-qos": "marks by Windows hosts"}
	for _, t := range target.All() {
		all = append(all, renderTarget{name: t.Name, about: t.About, firewall: t.Render})
	}
	for _, target := range names.Targets() {
		all = append(all, renderTarget{name: target, about: about[target], render: func(s *need.Set, f *renderFlags) (string, []need.Loss, error) {
			return names.Render(s, target, f.names)
		}})
	}
	for _, target := range marks.Targets() {
		all = append(all, renderTarget{name: target, about: about[target], render: func(s *need.Set, _ *renderFlags) (string, []need.Loss, error) {
			return marks.Render(s, target)
		}})
	}
	return all
}

// renderFirewall writes the rules of a firewall, for which a site file says who is where.
func renderFirewall(cmd *cobra.Command, asJSON bool, f *renderFlags, s api.NetworkSet, t renderTarget) error {
	if f.site == "" {
		return invalid("a firewall needs to know who is where", "name the site file with --site; docs/guides/firewalls.md shows one")
	}
	p, err := resolved(&s.Set, f.site)
	if err != nil {
		return err
	}
	if len(p.Missing) > 0 {
		return invalid("the site file says too little:\n"+unresolved(p.Missing), "complete it, or name the rows under `without`")
	}
	files, cert, err := t.firewall(p)
	if err != nil {
		return err
	}
	several := files[0].Name != ""
	switch {
	case several && f.out == "" && !asJSON:
		return invalid(t.name+" has several files", "name a folder for them with --out")
	case !several && f.out != "":
		return invalid(t.name+" has one file, which goes to the standard output", "leave --out out, and write `> FILE`")
	}
	certify(cmd.ErrOrStderr(), cert)
	out := rendering{Set: s.ID, Version: s.Version, Target: t.name, Lost: []need.Loss{}, Certificate: cert}
	if several {
		out.Files = files
	} else {
		out.Text = files[0].Text
	}
	if f.out == "" {
		return show(cmd, asJSON, out, func(w io.Writer) { fmt.Fprint(w, out.Text) })
	}
	var names strings.Builder
	if err := writeFiles(&names, f.out, files); err != nil {
		return err
	}
	return show(cmd, asJSON, out, func(w io.Writer) { fmt.Fprint(w, names.String()) })
}

func newNetworkRenderCommand(a *app) *cobra.Command {
	f := &renderFlags{}
	var asJSON bool
	all := renderTargets()
	var words []string
	long := "render writes a set in the words of a target. The text goes to the standard output; what the target cannot say, or says differently, goes to the standard error, row by row, and with\n--json into the same object. For a firewall that is a certificate: exact, or which packets get through too many or too few. A row that a site file does not resolve is never left out silently.\n\nTargets:\n"
	for _, t := range all {
		words = append(words, t.name+"\t"+t.about)
		long += fmt.Sprintf("  %-14s %s\n", t.name, t.about)
	}
	cmd := &cobra.Command{
		Use: "render TARGET", Short: "Write a set in the words of a firewall, a proxy, a resolver or a router",
		Long:      long,
		Example:   "  ringfence network render nftables --set webex-calling --site site.yaml > site.nft\n  ringfence network render iptables --set webex-calling --site site.yaml --out site\n  ringfence network render pac --set webex-calling --proxy proxy.example.com:3128 > proxy.pac\n  ringfence network render unbound --set dedicated-instance --customer acme > forwarders.conf\n  ringfence network render nftables-qos > marks.nft",
		ValidArgs: words, Args: cobra.MatchAll(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			i := slices.IndexFunc(all, func(t renderTarget) bool { return t.name == args[0] })
			if i < 0 {
				return invalid(fmt.Sprintf("%.40q is no target", args[0]), "see `ringfence network render --help`")
			}
			s, err := a.requirements(cmd, f.set, f.at)
			if err != nil {
				return err
			}
			if all[i].firewall != nil {
				return renderFirewall(cmd, asJSON, f, s, all[i])
			}
			text, out, err := all[i].render(&s.Set, f)
			if err != nil {
				return err
			}
			if !asJSON {
				for _, l := range out {
					fmt.Fprintf(cmd.ErrOrStderr(), "not the same: %s: %s\n", l.Row, l.Why)
				}
			}
			return show(cmd, asJSON, rendering{Set: s.ID, Version: s.Version, Target: args[0], Text: text, Lost: append([]need.Loss{}, out...)}, func(w io.Writer) { fmt.Fprint(w, text) })
		},
	}
	setFlag(cmd, &f.set, "self", append([]string{"self"}, catalogue.Names()...))
	cmd.Flags().StringVar(&f.at, "at", "", "as it was at the end of this day, such as 2023-12-10")
	cmd.Flags().StringVar(&f.site, "site", "", "the site file: the networks behind the roles, and the ports that the site chooses (firewalls)")
	cmd.Flags().StringVar(&f.out, "out", "", "the folder for the files of a target that has several (iptables, ufw, firewalld)")
	cmd.Flags().StringVar(&f.names.Proxy, "proxy", "", "the web proxy of the names of the set, as host:port (pac; default: none)")
	cmd.Flags().StringVar(&f.names.Otherwise, "otherwise", "", "the web proxy of all other names, as host:port (pac; default: none)")
	cmd.Flags().StringVar(&f.names.Customer, "customer", "", "the label of the customer in the zones of name servers (dnsmasq, unbound)")
	cmd.Flags().StringVar(&f.names.Set, "nftset", "", "a set of nftables that takes the addresses of the names, as inet#TABLE#SET (dnsmasq)")
	return jsonFlag(cmd, &asJSON)
}
