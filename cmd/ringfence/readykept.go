package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/node/admin/api"
)

func newReadyKeptCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "kept", Short: "Readiness tests that a node keeps",
		Long: "A node keeps what sites found out, the latest 50 tests of each for 400 days, so that whoever plans can see all sites at one place. `ready run --keep SITE` hands a test in, or `ready kept add` does later;\n" +
			"a token of the scope readiness is enough for that, and good for nothing else.",
		Example: "  ringfence token add seoul --scope readiness\n  ringfence ready run --keep seoul --node pbx.example.com --reflector 192.0.2.2 --key-file ready.key\n  ringfence ready kept list"},
		newReadyKeptListCommand(a), newReadyKeptShowCommand(a), newReadyKeptAddCommand(a), newReadyKeptRemoveCommand(a))
}

func newReadyKeptListCommand(a *app) *cobra.Command {
	var site string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the readiness tests of sites, the latest first", Long: "list shows which tests are kept, whether the network was ready, and what failed. The latest hundred are shown.",
		Example: "  ringfence ready kept list\n  ringfence ready kept list --site seoul --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []api.ReadinessKept{}
			q := url.Values{"limit": {"100"}}
			if site != "" {
				q.Set("site", site)
			}
			if err := a.ask(cmd.Context(), http.MethodGet, "/network/readiness", q, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, k := range all {
					rows = append(rows, []string{k.ID, k.Site, k.Set, stamp(k.Began), string(k.Outcome), fmt.Sprintf("%d/%d/%d/%d", k.Passed, k.Failed, k.Warned, k.Skipped), strings.Join(k.Failures, ", ")})
				}
				table(w, []string{"ID", "SITE", "SET", "BEGAN", "OUTCOME", "PASS/FAIL/WARN/SKIP", "FAILED"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "only tests of this site")
	return jsonFlag(cmd, &asJSON)
}

func newReadyKeptShowCommand(a *app) *cobra.Command {
	var asJSON bool
	var junit, html string
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a readiness test that is kept", Long: "show prints what a test found, as `ready report` does; with --html or --junit it writes that to a file.",
		Example: "  ringfence ready kept show 19f2c0a41b7de-5k2m9q\n  ringfence ready kept show 19f2c0a41b7de-5k2m9q --html seoul.html", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r api.Readiness
			if err := a.ask(cmd.Context(), http.MethodGet, "/network/readiness/"+url.PathEscape(args[0]), nil, nil, &r); err != nil {
				return err
			}
			if err := writeReport(&r.Report, junit, html); err != nil || (junit != "" || html != "") && !asJSON {
				return err
			}
			return show(cmd, asJSON, r, r.Report.Text)
		},
	}
	cmd.Flags().StringVar(&html, "html", "", "write a page to this file")
	cmd.Flags().StringVar(&junit, "junit", "", "write JUnit XML to this file")
	return jsonFlag(cmd, &asJSON)
}

func newReadyKeptAddCommand(a *app) *cobra.Command {
	var site string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "add FILE --site SITE", Short: "Hand in a readiness test", Long: "add hands in what `ready run --json` wrote. FILE - is standard input.",
		Example: "  ringfence ready kept add site.json --site seoul", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := readReport(cmd, args[0])
			if err != nil {
				return err
			}
			k, err := a.keepReport(cmd, site, r)
			if err != nil {
				return err
			}
			return show(cmd, asJSON, k, func(w io.Writer) { fmt.Fprintf(w, "kept as %s: %s is %s\n", k.ID, k.Site, k.Outcome) })
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "which site was tested: lower-case letters, digits, dots and dashes")
	_ = cmd.MarkFlagRequired("site")
	return jsonFlag(cmd, &asJSON)
}

func newReadyKeptRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Remove a readiness test that is kept", Long: "remove removes a test.", Example: "  ringfence ready kept remove 19f2c0a41b7de-5k2m9q", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, "/network/readiness/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the readiness test %s is removed\n", args[0])
			return nil
		},
	}
}

func (a *app) keepReport(cmd *cobra.Command, site string, r *verdict.Report) (k api.ReadinessKept, err error) {
	err = a.ask(cmd.Context(), http.MethodPost, "/network/readiness", url.Values{"site": {site}}, r, &k)
	return k, err
}

// readReport reads what `ready run --json` wrote.
func readReport(cmd *cobra.Command, file string) (*verdict.Report, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the report cannot be read: " + file, Hint: "give what `ringfence ready run --json` wrote", Err: err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 9<<20))
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the report cannot be read: " + file, Err: err}
	}
	return verdict.ParseReport(b)
}
