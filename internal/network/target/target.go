package target

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/audit"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/asa"
	"ringfence/internal/network/firewall/cloud"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/network/firewall/firewalld"
	"ringfence/internal/network/firewall/iosacl"
	"ringfence/internal/network/firewall/iptables"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/firewall/panos"
	"ringfence/internal/network/firewall/pf"
	"ringfence/internal/network/firewall/ufw"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
)

// Target is a firewall.
type Target struct {
	Name, About string
	Prints      string // what a file to read is
	Host        bool   // it can be the firewall of one host
	Several     bool   // its rules are several files
	Render      func(*site.Policy) ([]firewall.File, *firewall.Certificate, error)
	Read        func([]firewall.File, *site.Policy) (*firewall.Ruleset, error)
	// Edit writes changes of its rules in its own words, and what takes them back; nil where that is not known.
	Edit func([]byte, *box.Interfaces, []entry.Edit) (entry.Patch, error)
}

// All returns every target.
func All() []Target {
	// Most have one file, and need to know no more of a policy than what it calls interfaces.
	render := func(f func(*site.Policy) (string, *firewall.Certificate, error)) func(*site.Policy) ([]firewall.File, *firewall.Certificate, error) {
		return func(p *site.Policy) ([]firewall.File, *firewall.Certificate, error) {
			text, cert, err := f(p)
			return []firewall.File{{Text: text}}, cert, err
		}
	}
	read := func(f func([]byte, *site.Policy) (*firewall.Ruleset, error)) func([]firewall.File, *site.Policy) (*firewall.Ruleset, error) {
		return func(files []firewall.File, p *site.Policy) (*firewall.Ruleset, error) {
			return f([]byte(files[0].Text), p)
		}
	}
	parse := func(f func([]byte, *box.Interfaces) (*firewall.Ruleset, error)) func([]firewall.File, *site.Policy) (*firewall.Ruleset, error) {
		return read(func(b []byte, p *site.Policy) (*firewall.Ruleset, error) { return f(b, p.Interfaces) })
	}
	dumps := func(files []firewall.File, p *site.Policy) (*firewall.Ruleset, error) {
		list := make([]iptables.Dump, len(files))
		for i, f := range files {
			list[i] = iptables.Dump{Name: f.Name, Text: []byte(f.Text)}
		}
		return iptables.Parse(list, p.Interfaces)
	}
	return []Target{
		{"nftables", "the rules of a firewall, by nftables", "what `nft -j -n list ruleset` prints", true, false, render(nft.Render), parse(nft.Parse), nft.Edit},
		{"iptables", "the same by iptables and ipset, as netfilter-persistent keeps them", "what iptables-save, ip6tables-save and `ipset save` print, in one file or in several", true, true, iptables.Render, dumps, nil},
		{"ufw", "the same by ufw: files for /etc/ufw", "what iptables-save, ip6tables-save and `ipset save` print, since ufw makes rules of iptables", true, true, ufw.Render, dumps, nil},
		{"firewalld", "the same by firewalld: files for /etc/firewalld", "what `nft -j -n list ruleset` prints, since firewalld makes rules of nftables", true, false, firewalld.Render, parse(nft.Parse), nil},
		{"cisco-asa", "the commands of a Cisco ASA: access lists with object groups", "what `show running-config` prints", false, false, render(asa.Render), parse(asa.Parse), asa.Edit},
		{"cisco-ios", "the configuration of a router that speaks Cisco IOS: zones, access lists, object groups", "what `show running-config` prints", false, false, render(iosacl.Render), parse(iosacl.Parse), iosacl.Edit},
		{"panos", "set commands of PAN-OS: objects and security rules by zones", "what `show` prints in configuration mode, after `set cli config-output-format set`", false, false, render(panos.Render), parse(panos.Parse), panos.Edit},
		{"pf", "a pf.conf of OpenBSD and FreeBSD", "a pf.conf", true, false, render(pf.Render), parse(pf.Parse), pf.Edit},
		{"aws", "security groups of AWS, by CloudFormation", "what `aws ec2 describe-security-groups` prints, or a template", true, false, render(cloud.AWS), read(cloud.ReadAWS), nil},
		{"azure", "a network security group of Azure, by a template", "what `az network nsg show` prints, or a template", true, false, render(cloud.Azure), read(cloud.ReadAzure), nil},
		{"gcp", "firewall rules of Google's cloud, by Terraform", "what `gcloud compute firewall-rules list --format=json` prints, or a configuration", true, false, render(cloud.GCP), read(cloud.ReadGCP), nil},
	}
}

// Names returns the names of all targets.
func Names() (out []string) {
	for _, t := range All() {
		out = append(out, t.Name)
	}
	return out
}

// Find returns a target by its name.
func Find(name string) (Target, error) {
	all := All()
	i := slices.IndexFunc(all, func(t Target) bool { return t.Name == name })
	if i < 0 {
		return Target{}, fault(fmt.Sprintf("%.40q is no firewall that is known", name), "there are "+strings.Join(Names(), ", "))
	}
	return all[i], nil
}

// For returns an error if a target cannot be the firewall that a policy is for, or files are not what it reads.
func (t Target) For(p *site.Policy, files int) error {
	switch {
	case p.Host && !t.Host:
		return fault(fmt.Sprintf("%s is a device that forwards packets, and the set %s is about one host", t.Name, p.Set), "take the firewall of that host, such as nftables")
	case files == 0, files > 1 && !t.Several:
		return fault(fmt.Sprintf("%s says all in one file, and %d are given", t.Name, files), "give "+t.Prints)
	}
	return nil
}

// Rules reads a firewall.
func (t Target) Rules(p *site.Policy, files []firewall.File) (*firewall.Ruleset, error) {
	if err := t.For(p, len(files)); err != nil {
		return nil, err
	}
	return t.Read(files, p)
}

// Prove compares what a firewall printed with the needs of a site.
func (t Target) Prove(p *site.Policy, files []firewall.File) (*prove.Result, error) {
	rules, err := t.Rules(p, files)
	if err != nil {
		return nil, err
	}
	return prove.Compare(p, rules)
}

// Audit looks at a firewall and works out the smallest change that makes it exact, with the way back, if changes can be written in its words.
func (t Target) Audit(p *site.Policy, files []firewall.File, set *need.Set, s *site.Site) (*audit.Report, error) {
	if err := t.For(p, len(files)); err != nil {
		return nil, err
	}
	var history *need.Set
	if len(set.Changes) > 0 {
		history = set
	}
	f := audit.Format{Edit: t.Edit, Parse: func(b []byte, _ *box.Interfaces) (*firewall.Ruleset, error) {
		if t.Edit == nil { // it is read once, as it is
			return t.Read(files, p)
		}
		return t.Read([]firewall.File{{Text: string(b)}}, p)
	}}
	r, err := audit.Audit(f, []byte(files[0].Text), p, history, s)
	if err == nil {
		r.Format = t.Name
	}
	return r, err
}

func fault(text, hint string) error {
	return &ringfence.Fault{Op: "target", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}
