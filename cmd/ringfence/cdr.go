package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newCDRCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "cdr", Short: "Records of calls that have ended",
		Long:    "A call record says who called whom, when, how it ended, and with which verdict; it keeps the proof of every leg.",
		Example: "  ringfence cdr list --since 24h\n  ringfence cdr export --format csv > calls.csv"},
		newCDRListCommand(a), newCDRShowCommand(a), newCDRExportCommand(a))
}

// spanFlags choose a span of time.
type spanFlags struct {
	since, until string
	limit        int
}

func (f *spanFlags) add(cmd *cobra.Command, limit int) {
	cmd.Flags().StringVar(&f.since, "since", "", "calls that began then or later: 24h (ago), 2030-01-31 or 2030-01-31T12:00:00Z")
	cmd.Flags().StringVar(&f.until, "until", "", "and before then")
	cmd.Flags().IntVar(&f.limit, "limit", limit, "at most so many, the latest ones")
}

// read returns the records that the flags ask for, the latest first.
func (f *spanFlags) read(ctx context.Context, a *app) ([]api.CDR, error) {
	now, q := time.Now(), url.Values{"limit": {strconv.Itoa(f.limit)}}
	for name, s := range map[string]string{"since": f.since, "until": f.until} {
		if s == "" {
			continue
		}
		t, err := when(s, now, -1)
		if err != nil {
			return nil, err
		}
		q.Set(name, t.Format(time.RFC3339))
	}
	all := []api.CDR{}
	err := a.ask(ctx, http.MethodGet, "/cdrs", q, nil, &all)
	return all, err
}

func newCDRListCommand(a *app) *cobra.Command {
	f, asJSON := &spanFlags{}, false
	cmd := &cobra.Command{
		Use: "list", Short: "List call records, the latest first", Long: "list shows call records in columns; `ringfence cdr show` has the proof of each leg.",
		Example: "  ringfence cdr list\n  ringfence cdr list --since 24h --json | jq '.[] | select(.verdict != \"sealed\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := f.read(cmd.Context(), a)
			if err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, c := range all {
					rows = append(rows, []string{string(c.Call), stamp(c.Start), c.From, c.To, strconv.FormatFloat(c.Seconds, 'f', 1, 64), string(c.Verdict), c.Cause})
				}
				table(w, []string{"CALL", "START", "FROM", "TO", "SECONDS", "VERDICT", "CAUSE"}, rows)
			})
		},
	}
	f.add(cmd, 100)
	return jsonFlag(cmd, &asJSON)
}

func newCDRShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show one call record with the proof of its legs", Long: "show prints the record of a call that has ended, with what was verified about each leg.",
		Example: "  ringfence cdr show c5d3a2b1-7",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var c api.CDR
			if err := a.ask(cmd.Context(), http.MethodGet, "/cdrs/"+url.PathEscape(args[0]), nil, nil, &c); err != nil {
				return err
			}
			return show(cmd, asJSON, c, func(w io.Writer) {
				facts(w, "call", string(c.Call), "from", c.From, "to", c.To, "start", stamp(c.Start), "answer", stamp(c.Answer), "end", stamp(c.End),
					"seconds", strconv.FormatFloat(c.Seconds, 'f', 1, 64), "cause", c.Cause, "verdict", string(c.Verdict))
				for _, l := range c.Legs {
					fmt.Fprintf(w, "\n%s  %s\n", l.ID, l.Peer)
					printProof(w, l)
				}
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newCDRExportCommand(a *app) *cobra.Command {
	f, format := &spanFlags{}, ""
	cmd := &cobra.Command{
		Use: "export", Short: "Write call records as CSV or JSON",
		Long: "export writes call records to standard output: as CSV with a heading (one line for each call, with the seal of its first two legs), or as\n" +
			"JSON with everything.",
		Example: "  ringfence cdr export --since 2030-01-01 --until 2030-02-01 > january.csv\n  ringfence cdr export --format json > calls.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "csv" && format != "json" {
				return invalid(fmt.Sprintf("the format %q is neither csv nor json", format), "")
			}
			all, err := f.read(cmd.Context(), a)
			if err != nil {
				return err
			}
			if format == "json" {
				return show(cmd, true, all, nil)
			}
			return writeCSV(cmd.OutOrStdout(), all)
		},
	}
	f.add(cmd, 10_000)
	cmd.Flags().StringVar(&format, "format", "csv", "csv or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"csv", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func writeCSV(out io.Writer, all []api.CDR) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{"call", "start", "answer", "end", "seconds", "from", "to", "direction", "verdict", "cause", "leg_a_peer", "leg_a_tls", "leg_a_srtp", "leg_b_peer", "leg_b_tls", "leg_b_srtp"})
	for _, c := range all {
		row := []string{string(c.Call), stamp(c.Start), stamp(c.Answer), stamp(c.End), strconv.FormatFloat(c.Seconds, 'f', 3, 64), inert(c.From), inert(c.To), c.Direction, string(c.Verdict), inert(c.Cause)}
		for i := range 2 {
			peer, tls, srtp := "", "", ""
			if i < len(c.Legs) {
				l := c.Legs[i]
				peer = l.Peer
				if l.TLS != nil {
					tls = l.TLS.Version + " " + l.TLS.Suite
				}
				if l.Media != nil {
					srtp = l.Media.Suite
				}
			}
			row = append(row, peer, tls, srtp)
		}
		_ = w.Write(row)
	}
	w.Flush()
	return w.Error() // the first error of all writes
}

// inert keeps a spreadsheet from taking what a caller dialled for a formula.
func inert(s string) string {
	if s == "" {
		return s
	}
	switch s[0] {
	case '=', '@', '-', '\t', '\r':
		return "'" + s
	case '+':
		if _, err := strconv.ParseUint(s[1:], 10, 64); err != nil { // a number in international form is harmless
			return "'" + s
		}
	}
	return s
}
