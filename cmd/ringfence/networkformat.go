package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/asa"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/network/firewall/iosacl"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/firewall/panos"
	"ringfence/internal/network/firewall/pf"
	"ringfence/internal/network/site"
)

// firewallFormat is a firewall whose rules are written and read.
type firewallFormat struct {
	name, about string
	file        string // what a file to read is
	host        bool   // it can be the firewall of one host
	render      func(*site.Policy) (string, *firewall.Certificate, error)
	parse       func([]byte, *box.Interfaces) (*firewall.Ruleset, error)
	edit        func([]byte, *box.Interfaces, []entry.Edit) (entry.Patch, error)
}

func firewallFormats() []firewallFormat {
	return []firewallFormat{
		{"nftables", "the rules of a firewall, by nftables", "what `nft -j -n list ruleset` prints", true, nft.Render, nft.Parse, nft.Edit},
		{"cisco-asa", "the commands of a Cisco ASA: access lists with object groups", "what `show running-config` prints", false, asa.Render, asa.Parse, asa.Edit},
		{"pf", "a pf.conf of OpenBSD and FreeBSD", "a pf.conf", true, pf.Render, pf.Parse, pf.Edit},
		{"panos", "set commands of PAN-OS: objects and security rules by zones", "what `show` prints in configuration mode, after `set cli config-output-format set`", false, panos.Render, panos.Parse, panos.Edit},
		{"cisco-ios", "the configuration of a router that speaks Cisco IOS: zones, access lists, object groups", "what `show running-config` prints", false, iosacl.Render, iosacl.Parse, iosacl.Edit},
	}
}

// formatFlag adds --format, with completion.
func formatFlag(cmd *cobra.Command, to *string) {
	var words []string
	for _, f := range firewallFormats() {
		words = append(words, f.name+"\t"+f.file)
	}
	cmd.Flags().StringVar(to, "format", "nftables", "whose words the file is in; `network prove --help` lists them")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// formatsHelp lists the formats that can be read.
func formatsHelp() (out string) {
	for _, f := range firewallFormats() {
		out += fmt.Sprintf("  %-14s %s\n", f.name, f.file)
	}
	return out
}

// formatOf returns a format by its name.
func formatOf(name string) (firewallFormat, error) {
	all := firewallFormats()
	i := slices.IndexFunc(all, func(f firewallFormat) bool { return f.name == name })
	if i < 0 {
		return firewallFormat{}, invalid(fmt.Sprintf("%.40q is no format of a firewall", name), "see `ringfence network prove --help`")
	}
	return all[i], nil
}

// fits refuses a policy that is about one host, for a device that only forwards.
func (f firewallFormat) fits(p *site.Policy) error {
	if p.Host && !f.host {
		return invalid(fmt.Sprintf("%s is a device that forwards packets, and the set %s is about one host", f.name, p.Set), "take the firewall of that host, in the format nftables or pf")
	}
	return nil
}
