package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
)

// needsOf is where needs come from: a set that is built in, or the flows of the node, and a site file.
type needsOf struct{ set, site string }

func (n *needsOf) flags(cmd *cobra.Command) *cobra.Command {
	n.describe(cmd)
	_ = cmd.MarkFlagRequired("set")
	_ = cmd.MarkFlagRequired("site")
	return cmd
}

// describe adds the flags, which may be left out.
func (n *needsOf) describe(cmd *cobra.Command) {
	names := append([]string{"self"}, catalogue.Names()...)
	cmd.Flags().StringVar(&n.set, "set", "", "whose needs: "+strings.Join(names, ", ")+", or a file")
	cmd.Flags().StringVar(&n.site, "site", "", "the site file: the networks behind the roles, and the ports that the site chooses")
	_ = cmd.RegisterFlagCompletionFunc("set", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

// policy is what a firewall of the site must let through.
func (n *needsOf) policy(cmd *cobra.Command, a *app) (*site.Policy, error) {
	set, err := a.requirements(cmd, n.set, "")
	if err != nil {
		return nil, err
	}
	return resolved(&set.Set, n.site)
}

// resolved makes a policy of a set and a site file.
func resolved(set *need.Set, file string) (*site.Policy, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the site file cannot be read", Err: err}
	}
	s, err := site.Parse(b, file, set)
	if err != nil {
		return nil, err
	}
	return site.Resolve(set, s), nil
}

func unresolved(list []site.Unresolved) string {
	lines := make([]string, len(list))
	for i, u := range list {
		lines[i] = u.Row + " lacks " + u.Missing
	}
	return strings.Join(lines, "\n")
}

func certify(w io.Writer, c *firewall.Certificate) {
	if c.Exact {
		fmt.Fprintf(w, "exact: %d rows, nothing wider, nothing narrower\n", c.Rows)
		return
	}
	loss := func(word, row string, all []firewall.Difference) {
		if len(all) == 0 {
			return
		}
		more := ""
		if len(all) > 1 {
			more = "; and more, which --json has"
		}
		fmt.Fprintf(w, "%s than %s: %s, e.g. %s%s\n", word, row, all[0].Packets, all[0].Example, more)
	}
	for _, l := range c.Losses {
		loss("wider", l.Row, l.Wider)
		loss("narrower", l.Row, l.Narrower)
	}
	for _, l := range c.Exceeded {
		fmt.Fprintf(w, "too many: %s: %d %s, where %d are allowed\n", l.Where, l.Has, l.What, l.Allowed)
	}
}

func newNetworkProveCommand(a *app) *cobra.Command {
	var asJSON, live bool
	var format string
	var n needsOf
	cmd := &cobra.Command{
		Use: "prove FILE...|--live", Short: "Prove a firewall against what a site needs",
		Long: "prove compares, packet for packet, what a firewall lets through with what a site needs. FILE is what the firewall prints of its rules (- is standard input);\n" +
			"--live asks the kernel of this host, which takes root. Each finding has a packet that shows it, and the rule that decides about it. Rules that do nothing are\n" +
			"named, too. The least privilege is a score of what gets through: 100 if it is only what is needed, 0 if it is everything, and in between by the logarithm of how many times more it is.\n\nFormats, and what prints them:\n" + formatsHelp() + "\n" +
			"The exit code is 0 if exactly what is needed gets through, 4 if something that is needed does not, 6 if something gets through that nobody needs, and 9 if\n" +
			"something of the firewall was not understood or of the needs not resolved: then nothing is proved.",
		Example: "  sudo ringfence network prove --live --set webex-calling --site site.yaml\n  nft -j -n list ruleset | ringfence network prove - --set webex-calling --site site.yaml --json\n  az network nsg show -g voice -n phones | ringfence network prove - --format azure --set webex-calling --site site.yaml\n  ringfence network prove --format iptables rules.v4 rules.v6 ipsets --set webex-calling --site site.yaml\n  ringfence network prove running-config.txt --format cisco-asa --set webex-calling --site site.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if live == (len(args) > 0) {
				return invalid("either files or --live say what firewall that is", "see `ringfence network prove --help`")
			}
			t, err := target.Find(format)
			if err != nil {
				return err
			}
			p, err := n.policy(cmd, a)
			if err != nil {
				return err
			}
			said, err := ruleset(cmd, t, args, p)
			if err != nil {
				return err
			}
			r, err := prove.Compare(p, said.rules)
			if err != nil {
				return err
			}
			if err := show(cmd, asJSON, r, func(w io.Writer) { printComparison(w, r) }); err != nil {
				return err
			}
			return judged(r)
		},
	}
	formatFlag(cmd, &format)
	cmd.Flags().BoolVar(&live, "live", false, "the firewall of this host, as its kernel says")
	return jsonFlag(n.flags(cmd), &asJSON)
}

func printComparison(w io.Writer, r *prove.Result) {
	pairs := []string{"set", r.Set, "verdict", string(r.Verdict), "rules", fmt.Sprint(r.Rules), "missing", fmt.Sprint(r.MissingCount + r.LaterCount), "too wide", fmt.Sprint(r.WideCount)}
	if r.Privilege == nil {
		pairs = append(pairs, "least privilege", "not counted: too many sets of packets")
	} else {
		pairs = append(pairs, "least privilege", fmt.Sprintf("%g of 100", r.Privilege.Score))
		for _, f := range r.Privilege.Families {
			pairs = append(pairs, "  of "+f.Family, privileged(f))
		}
	}
	facts(w, pairs...)
	for _, u := range r.Unknown {
		fmt.Fprintf(w, "\nNot understood: %s: %s\n", u.Where, u.What)
	}
	for _, u := range r.Unresolved {
		fmt.Fprintf(w, "\nNot resolved: %s lacks %s\n", u.Row, u.Missing)
	}
	listFindings(w, "Missing", r.MissingCount, r.Missing)
	listFindings(w, "Missing when the connection is up", r.LaterCount, r.Later)
	listFindings(w, "Too wide", r.WideCount, r.Wide)
	if len(r.Idle) > 0 {
		fmt.Fprintln(w, "\nRules that do nothing")
		for _, i := range r.Idle {
			fmt.Fprintf(w, "  %s: %s\n", i.Rule, i.Why)
		}
	}
	fmt.Fprintln(w)
	rows := make([][]string, len(r.Rows))
	for i, c := range r.Rows {
		rows[i] = []string{c.Row, c.Covered, c.Purpose}
	}
	table(w, []string{"ROW", "GETS THROUGH", "PURPOSE"}, rows)
}

// privileged words how much more gets through than is needed.
func privileged(f prove.FamilyPrivilege) string {
	switch {
	case f.Bits < 0:
		return fmt.Sprintf("%g: nothing of what gets through is needed", f.Score)
	case f.Bits == 0:
		return fmt.Sprintf("%g: only what is needed gets through", f.Score)
	}
	return fmt.Sprintf("%g: 2^%.3g times what is needed gets through (%.4g %% of it is needed)", f.Score, f.Bits, 100*f.Share)
}

// listFindings lists findings, those of one cause twice at most.
func listFindings(w io.Writer, title string, count int, all []prove.Finding) {
	if count == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	shown, told := map[string]int{}, 0
	for _, f := range all {
		key := f.Row + strings.Join(f.Why, " ")
		if shown[key]++; shown[key] > 2 { // --json has them all
			continue
		}
		told++
		row := ""
		if f.Row != "" {
			row = f.Row + ": "
		}
		fmt.Fprintf(w, "  %s%s\n      e.g. %s: %s\n", row, f.Packets, f.Example, strings.Join(f.Why, "; "))
	}
	if count > told {
		fmt.Fprintf(w, "  and %d more like these\n", count-told)
	}
}

// judged words a verdict as the command's end.
func judged(r *prove.Result) error {
	switch r.Verdict {
	case prove.Unknown:
		return &ringfence.Fault{Kind: ringfence.KindUnsupported, Text: fmt.Sprintf("nothing is proved: %d things of the firewall were not understood, %d rows not resolved", len(r.Unknown), len(r.Unresolved)), Hint: "write the rules that are named in another way, or complete the site file"}
	case prove.Wide:
		return &ringfence.Fault{Kind: ringfence.KindInsecure, Text: fmt.Sprintf("the firewall lets through what nobody needs (%d sets of packets; %d that are needed are missing)", r.WideCount, r.MissingCount+r.LaterCount), Hint: "narrow the rules that are named, or add rows of your own under `own` in the site file"}
	case prove.Missing:
		return &ringfence.Fault{Kind: ringfence.KindConflict, Text: fmt.Sprintf("the firewall drops what is needed (%d sets of packets)", r.MissingCount+r.LaterCount), Hint: "`ringfence network audit` works out the change, and `ringfence network render` writes the rules anew"}
	}
	return nil
}
