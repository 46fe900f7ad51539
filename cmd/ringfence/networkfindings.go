package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/evidence"
	"ringfence/internal/network/prove"
	"ringfence/internal/node/admin/api"
)

func newNetworkFindingsCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "findings", Short: "What a node keeps of what was found out about sites",
		Long: "A node keeps what TLS servers accept and what firewalls came to, the latest 200 findings of a site for 400 days. `tls probe --keep SITE` and `network watch --keep SITE` hand them in, or `add` does later; a token of the\n" +
			"scope readiness is enough for that. Readiness tests have a place of their own: `ringfence ready kept`.",
		Example: "  ringfence tls probe sbc.example.com:5061 --keep seoul\n  ringfence network findings list --site seoul"},
		newFindingsListCommand(a), newFindingsShowCommand(a), newFindingsAddCommand(a), newFindingsRemoveCommand(a))
}

func newFindingsListCommand(a *app) *cobra.Command {
	var site, kind string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List what was found out about sites, the latest first", Long: "list shows what was looked at, and how it was. The latest hundred are shown.",
		Example: "  ringfence network findings list\n  ringfence network findings list --site seoul --kind firewall --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, q := []api.FindingKept{}, url.Values{"limit": {"100"}}
			for name, v := range map[string]string{"site": site, "kind": kind} {
				if v != "" {
					q.Set(name, v)
				}
			}
			if err := a.ask(cmd.Context(), http.MethodGet, "/network/findings", q, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, k := range all {
					rows = append(rows, []string{k.ID, k.Site, k.Kind, k.Subject, k.Verdict, stamp(k.Kept), k.By})
				}
				table(w, []string{"ID", "SITE", "KIND", "SUBJECT", "VERDICT", "KEPT", "BY"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "only of this site")
	cmd.Flags().StringVar(&kind, "kind", "", "only of this kind: posture or firewall")
	_ = cmd.RegisterFlagCompletionFunc("kind", findingKinds)
	return jsonFlag(cmd, &asJSON)
}

func findingKinds(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"posture", "firewall"}, cobra.ShellCompDirectiveNoFileComp
}

func newFindingsShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Print a finding with all of it, as JSON", Long: "show prints a finding as it was handed in.",
		Example: "  ringfence network findings show 19f2c0a41b7de-5k2m9q | jq .finding", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var f api.Finding
			if err := a.ask(cmd.Context(), http.MethodGet, "/network/findings/"+url.PathEscape(args[0]), nil, nil, &f); err != nil {
				return err
			}
			return show(cmd, true, f, nil)
		},
	}
}

func newFindingsAddCommand(a *app) *cobra.Command {
	var site, kind, subject, verdict string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "add FILE --site SITE --kind KIND --subject SUBJECT --verdict VERDICT", Short: "Hand in a finding", Long: "add hands in what `tls probe --json` or `network watch --json` printed. FILE - is standard input.",
		Example: "  ringfence network findings add posture.json --site seoul --kind posture --subject sbc.example.com:5061 --verdict good", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := rulesFile(cmd, args[0])
			if err != nil {
				return err
			}
			var all map[string]any
			if err := json.Unmarshal(b, &all); err != nil {
				return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: args[0] + " is no finding", Err: err, Hint: "give what `ringfence tls probe --json` or `ringfence network watch --json` printed"}
			}
			k, err := a.keepFinding(cmd, site, api.NewFinding{Kind: kind, Subject: subject, Verdict: verdict, Finding: all})
			if err != nil {
				return err
			}
			return show(cmd, asJSON, k, func(w io.Writer) { fmt.Fprintf(w, "kept as %s\n", k.ID) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&site, "site", "", "which site it is about: lower-case letters, digits, dots and dashes")
	f.StringVar(&kind, "kind", "", "posture or firewall")
	f.StringVar(&subject, "subject", "", "what was looked at")
	f.StringVar(&verdict, "verdict", "unknown", "good, bad or unknown")
	for _, name := range []string{"site", "kind", "subject"} {
		_ = cmd.MarkFlagRequired(name)
	}
	_ = cmd.RegisterFlagCompletionFunc("kind", findingKinds)
	_ = cmd.RegisterFlagCompletionFunc("verdict", cobra.FixedCompletions([]string{"good", "bad", "unknown"}, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

func newFindingsRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Remove a finding that is kept", Long: "remove removes a finding.", Example: "  ringfence network findings remove 19f2c0a41b7de-5k2m9q", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, "/network/findings/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the finding %s is removed\n", args[0])
			return nil
		},
	}
}

func (a *app) keepFinding(cmd *cobra.Command, site string, f api.NewFinding) (k api.FindingKept, err error) {
	err = a.ask(cmd.Context(), http.MethodPost, "/network/findings", url.Values{"site": {site}}, f, &k)
	return k, err
}

// handIn hands in what a command found, and says so beside what it prints.
func (a *app) handIn(cmd *cobra.Command, site, kind, subject, verdict string, finding any) error {
	b, err := json.Marshal(finding)
	if err != nil {
		return err
	}
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	k, err := a.keepFinding(cmd, site, api.NewFinding{Kind: kind, Subject: subject, Verdict: verdict, Finding: all})
	if err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "kept as %s of %s\n", k.ID, k.Site)
	}
	return err
}

// verdictOf is a record of a firewall in short.
func verdictOf(r evidence.Record) string {
	switch {
	case r.Proof == nil || r.Proof.Verdict == prove.Unknown:
		return "unknown"
	case r.Proof.Verdict == prove.Exact:
		return "good"
	}
	return "bad"
}
