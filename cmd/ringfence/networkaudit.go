package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/audit"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
)

func newNetworkAuditCommand(a *app) *cobra.Command {
	var asJSON, diff, back bool
	var format string
	var n needsOf
	cmd := &cobra.Command{
		Use: "audit FILE...", Short: "Say what is wrong with a firewall, and the smallest change that makes it exact",
		Long: "audit reads a firewall that is there, and says what of the needs of a site is missing, which rules are too wide, what of them an earlier version of the set needed and\n" +
			"which change ended that, and what was not understood. Then it writes the smallest change, in the words of the firewall itself, and what takes it back; both were\n" +
			"proved: the firewall with the change is exact, or what is left is named. For ufw, firewalld, iptables and clouds there are findings and no change. Nothing is changed by it.\n\n" +
			"FILE is what the firewall itself says of its rules (- is standard input), in the words of --format:\n\n" + formatsHelp() + "\n" +
			"The exit code is that of `network prove`: 0 exact, 4 missing, 6 wide, 9 unknown.",
		Example: "  ringfence network audit running-config.txt --format cisco-asa --set webex-calling --site site.yaml\n  ringfence network audit pf.conf --format pf --set webex-calling --site site.yaml --diff | patch pf.conf\n" +
			"  ringfence network audit ruleset.json --set webex-calling --site site.yaml --back > back.json\n  ringfence network audit - --format panos --set webex-calling --site site.yaml --json < rules.txt | jq -r '.wide[].rule'",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if diff && back || asJSON && (diff || back) {
				return invalid("only one of --json, --diff and --back says what is printed", "")
			}
			t, err := target.Find(format)
			if err != nil {
				return err
			}
			set, err := a.requirements(cmd, n.set, "")
			if err != nil {
				return err
			}
			text, err := os.ReadFile(n.site)
			if err != nil {
				return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the site file cannot be read", Err: err}
			}
			s, err := site.Parse(text, n.site, &set.Set)
			if err != nil {
				return err
			}
			p := site.Resolve(&set.Set, s)
			var files []firewall.File
			for _, name := range args {
				b, err := rulesFile(cmd, name)
				if err != nil {
					return err
				}
				files = append(files, firewall.File{Name: name, Text: string(b)})
			}
			r, err := t.Audit(p, files, &set.Set, s)
			if err != nil {
				return err
			}
			switch {
			case diff:
				fmt.Fprint(cmd.OutOrStdout(), r.Diff)
			case back:
				fmt.Fprint(cmd.OutOrStdout(), r.Back)
			default:
				if err := show(cmd, asJSON, r, func(w io.Writer) { printAudit(w, r) }); err != nil {
					return err
				}
			}
			if diff || back {
				if r.Left != "" {
					return &ringfence.Fault{Kind: ringfence.KindUnsupported, Text: r.Left, Hint: "run it without --diff and --back for the findings"}
				}
				return nil
			}
			return judged(r.Proof)
		},
	}
	formatFlag(cmd, &format)
	cmd.Flags().BoolVar(&diff, "diff", false, "print the change alone")
	cmd.Flags().BoolVar(&back, "back", false, "print what takes the change back alone")
	return jsonFlag(n.flags(cmd), &asJSON)
}

func printAudit(w io.Writer, r *audit.Report) {
	facts(w, "set", strings.TrimSpace(r.Set+" "+r.Version), "format", r.Format, "verdict", string(r.Verdict), "rules", fmt.Sprint(r.Proof.Rules), "missing", fmt.Sprint(r.Missing), "rules too wide", fmt.Sprint(r.WideCount), "rules that do nothing", fmt.Sprint(len(r.Proof.Idle)))
	for _, u := range r.Proof.Unknown {
		fmt.Fprintf(w, "\nNot understood: %s: %s\n", u.Where, u.What)
	}
	for _, u := range r.Proof.Unresolved {
		fmt.Fprintf(w, "\nNot resolved: %s lacks %s\n", u.Row, u.Missing)
	}
	listFindings(w, "Missing", r.Proof.MissingCount, r.Proof.Missing)
	listFindings(w, "Missing when the connection is up", r.Proof.LaterCount, r.Proof.Later)
	if len(r.Wide) > 0 {
		fmt.Fprintln(w, "\nToo wide")
	}
	for _, x := range r.Wide {
		fmt.Fprintf(w, "  %s\n      lets through %s\n      e.g. %s\n", x.Rule, x.Packets, x.Example)
		for _, s := range x.Stale {
			fmt.Fprintf(w, "      stale: %s needed %s until %s (%s: %s)\n", s.Row, s.Packets, s.Until, s.Change, s.Subject)
		}
	}
	if more := r.WideCount - len(r.Wide); more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	if len(r.Proof.Idle) > 0 {
		fmt.Fprintln(w, "\nRules that do nothing")
		for _, i := range r.Proof.Idle {
			fmt.Fprintf(w, "  %s: %s\n", i.Rule, i.Why)
		}
	}
	if len(r.Changes) > 0 {
		fmt.Fprintln(w, "\nChanges")
		for _, c := range r.Changes {
			rows := ""
			if len(c.Rows) > 0 {
				rows = " for " + join(c.Rows, ", ")
			}
			fmt.Fprintf(w, "  %s%s: %s\n", c.Kind, rows, c.Place)
		}
		fmt.Fprintf(w, "\nThe change\n%s\nThe way back\n%s\nAfter the change the firewall is %s.\n", r.Diff, r.Back, r.After)
	}
	if r.Left != "" {
		fmt.Fprintf(w, "\nLeft: %s\n", r.Left)
	}
}
