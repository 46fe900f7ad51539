package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/asa"
	"ringfence/internal/network/firewall/cloud"
	"ringfence/internal/network/firewall/iosacl"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/firewall/panos"
	"ringfence/internal/network/firewall/pf"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
)

// firewallFormat is a firewall whose rules are written and read.
type firewallFormat struct {
	name, about string
	file        string // what a file to read is
	host        bool   // it can be the firewall of one host
	render      func(*site.Policy) (string, *firewall.Certificate, error)
	read        func([]byte, *site.Policy) (*firewall.Ruleset, error)
}

func firewallFormats() []firewallFormat {
	// Most need to know no more of a policy than what it calls interfaces.
	by := func(parse func([]byte, *box.Interfaces) (*firewall.Ruleset, error)) func([]byte, *site.Policy) (*firewall.Ruleset, error) {
		return func(b []byte, p *site.Policy) (*firewall.Ruleset, error) { return parse(b, p.Interfaces) }
	}
	return []firewallFormat{
		{"nftables", "the rules of a firewall, by nftables", "what `nft -j -n list ruleset` prints", true, nft.Render, by(nft.Parse)},
		{"cisco-asa", "the commands of a Cisco ASA: access lists with object groups", "what `show running-config` prints", false, asa.Render, by(asa.Parse)},
		{"pf", "a pf.conf of OpenBSD and FreeBSD", "a pf.conf", true, pf.Render, by(pf.Parse)},
		{"panos", "set commands of PAN-OS: objects and security rules by zones", "what `show` prints in configuration mode, after `set cli config-output-format set`", false, panos.Render, by(panos.Parse)},
		{"cisco-ios", "the configuration of a router that speaks Cisco IOS: zones, access lists, object groups", "what `show running-config` prints", false, iosacl.Render, by(iosacl.Parse)},
		{"aws", "security groups of AWS, by CloudFormation", "what `aws ec2 describe-security-groups` prints, or a template", true, cloud.AWS, cloud.ReadAWS},
		{"azure", "a network security group of Azure, by a template", "what `az network nsg show` prints, or a template", true, cloud.Azure, cloud.ReadAzure},
		{"gcp", "firewall rules of Google's cloud, by Terraform", "what `gcloud compute firewall-rules list --format=json` prints, or a configuration", true, cloud.GCP, cloud.ReadGCP},
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

// formatOf finds a format by its name; only that of the kernel is asked of it live.
func formatOf(name string, live bool) (firewallFormat, error) {
	all := firewallFormats()
	i := slices.IndexFunc(all, func(f firewallFormat) bool { return f.name == name })
	switch {
	case i < 0:
		return firewallFormat{}, invalid(fmt.Sprintf("%.40q is no format of a firewall", name), "see `ringfence network prove --help`")
	case live && name != "nftables":
		return firewallFormat{}, invalid("--live asks the kernel of this host, which speaks nftables", "give the file that the device printed instead of --live")
	}
	return all[i], nil
}

// prove compares what a firewall printed, and what of it is not in there, with the needs of a site.
func (f firewallFormat) prove(p *site.Policy, b []byte, old []firewall.Unknown) (*prove.Result, error) {
	if p.Host && !f.host {
		return nil, invalid(fmt.Sprintf("%s is a device that forwards packets, and the set %s is about one host", f.name, p.Set), "take the firewall of that host, in the format nftables")
	}
	rules, err := f.read(b, p)
	if err != nil {
		return nil, err
	}
	rules.Unknown = append(rules.Unknown, old...)
	return prove.Compare(p, rules)
}
