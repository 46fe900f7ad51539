package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/iptables"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
)

// maxRuleset bounds what is read of a firewall, in bytes.
const maxRuleset = 128<<20 + 1

// printed is what a firewall says, and what that means.
type printed struct {
	text  []byte
	rules *firewall.Ruleset
}

// ruleset reads what a firewall says, from files or, if there are none, from the kernel.
func ruleset(cmd *cobra.Command, t target.Target, names []string, p *site.Policy) (out printed, err error) {
	if len(names) == 0 {
		switch t.Name {
		case "nftables":
			return liveNFT(cmd.Context(), p.Interfaces)
		case "iptables", "ufw":
			return liveIPTables(cmd.Context(), p.Interfaces)
		}
		return out, invalid("--live asks the kernel of this host, which speaks nftables and iptables", "give the file that the device printed instead of --live")
	}
	if err := t.For(p, len(names)); err != nil {
		return out, err
	}
	var files []firewall.File
	for _, name := range names {
		b, err := rulesFile(cmd, name)
		if err != nil {
			return out, err
		}
		files = append(files, firewall.File{Name: name, Text: string(b)})
		out.text = append(out.text, b...)
	}
	out.rules, err = t.Rules(p, files)
	return out, err
}

func rulesFile(cmd *cobra.Command, name string) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the ruleset cannot be read", Err: err}
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxRuleset))
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the ruleset cannot be read", Err: err}
	}
	return b, nil
}

// tool asks a program what the kernel has.
func tool(ctx context.Context, debian, name string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		said := err.Error()
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			said = strings.TrimSpace(string(e.Stderr))
		}
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: name + " does not say what the kernel has: " + said, Hint: "run it as root, where the package " + debian + " is installed", Err: err}
	}
	return out, nil
}

// liveNFT asks nft, and the kernel for tables that nft does not see.
func liveNFT(ctx context.Context, n *box.Interfaces) (printed, error) {
	b, err := tool(ctx, "nftables", "nft", "-j", "-n", "list", "ruleset")
	if err != nil {
		return printed{}, err
	}
	rules, err := nft.Parse(b, n)
	if err != nil {
		return printed{}, err
	}
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		old, err := os.ReadFile("/proc/net/" + name)
		if err == nil && len(strings.TrimSpace(string(old))) > 0 {
			rules.Unknown = append(rules.Unknown, firewall.Unknown{Where: "the kernel", What: "tables of the old iptables, which nft does not see: " + strings.Join(strings.Fields(string(old)), ", ") + "; --format iptables reads them"})
		}
	}
	return printed{b, rules}, nil
}

// liveIPTables asks both kinds of iptables, whichever there is, and nft for the tables that neither sees.
func liveIPTables(ctx context.Context, n *box.Interfaces) (out printed, err error) {
	var dumps []iptables.Dump
	for family, name := range map[uint8]string{box.IPv4: "iptables", box.IPv6: "ip6tables"} {
		kinds := []string{name + "-nft-save", name + "-legacy-save"}
		if _, err := exec.LookPath(kinds[0]); err != nil {
			kinds = []string{name + "-save"}
		}
		for _, program := range kinds {
			b, err := tool(ctx, "iptables", program)
			if err != nil && errors.Is(err, exec.ErrNotFound) && strings.Contains(program, "legacy") {
				continue
			}
			if err != nil {
				return out, err
			}
			dumps = append(dumps, iptables.Dump{Name: program, Family: family, Text: b})
		}
	}
	if _, err := exec.LookPath("ipset"); err == nil { // a rule that needs a set says so
		b, err := tool(ctx, "ipset", "ipset", "save")
		if err != nil {
			return out, err
		}
		dumps = append(dumps, iptables.Dump{Name: "ipset", Text: b})
	}
	for _, d := range dumps {
		out.text = append(out.text, d.Text...)
	}
	rules, err := iptables.Parse(dumps, n)
	if err != nil {
		return out, err
	}
	b, err := tool(ctx, "nftables", "nft", "-j", "-n", "list", "ruleset")
	if errors.Is(err, exec.ErrNotFound) {
		rules.Unknown = append(rules.Unknown, firewall.Unknown{Where: "the kernel", What: "tables of nftables, if there are any, since nft is not installed: apt-get install nftables"})
		return printed{out.text, rules}, nil
	}
	if err != nil {
		return out, err
	}
	if b, err = beside(b); err != nil {
		return out, err
	}
	others, err := nft.Parse(b, n)
	if err != nil {
		return out, err
	}
	rules.Chains, rules.Later = append(rules.Chains, others.Chains...), append(rules.Later, others.Later...)
	rules.Unknown = append(rules.Unknown, others.Unknown...)
	return printed{out.text, rules}, nil
}

// beside leaves out of what nft says the tables that iptables-nft-save shows.
func beside(b []byte) ([]byte, error) {
	var all struct {
		Objects []map[string]struct{ Family, Table, Name string } `json:"nftables"`
	}
	var raw struct {
		Objects []json.RawMessage `json:"nftables"`
	}
	if err := errors.Join(json.Unmarshal(b, &all), json.Unmarshal(b, &raw)); err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "nft says what is no JSON", Err: err}
	}
	kept := []json.RawMessage{}
	for i, object := range all.Objects {
		theirs := false
		for kind, o := range object {
			table := o.Table
			if kind == "table" {
				table = o.Name
			}
			switch table {
			case "filter", "nat", "mangle", "raw", "security":
				theirs = o.Family == "ip" || o.Family == "ip6"
			}
		}
		if !theirs {
			kept = append(kept, raw.Objects[i])
		}
	}
	return json.Marshal(map[string]any{"nftables": kept})
}

// writeFiles writes the files of a rendering into a folder, and says where.
func writeFiles(w io.Writer, dir string, files []firewall.File) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the folder cannot be made", Err: err}
	}
	for _, f := range files {
		name := dir + string(os.PathSeparator) + f.Name
		if err := os.WriteFile(name, []byte(f.Text), 0o644); err != nil {
			return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the file cannot be written", Err: err}
		}
		fmt.Fprintln(w, name)
	}
	return nil
}
