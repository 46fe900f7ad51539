package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// show prints v as indented JSON if asked to, and otherwise by text.
func show(cmd *cobra.Command, asJSON bool, v any, text func(w io.Writer)) error {
	out := cmd.OutOrStdout()
	if !asJSON {
		text(out)
		return nil
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// jsonFlag adds --json to a listing.
func jsonFlag(cmd *cobra.Command, to *bool) *cobra.Command {
	cmd.Flags().BoolVar(to, "json", false, "print JSON")
	return cmd
}

// table prints aligned columns with a heading.
func table(w io.Writer, heading []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heading, "\t"))
	for _, r := range rows {
		for i := range r {
			if r[i] == "" {
				r[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	_ = t.Flush() // standard output; if it is gone, nobody is left to tell
}

// facts prints names and values, one on each line.
func facts(w io.Writer, pairs ...string) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		v := pairs[i+1]
		if v == "" {
			v = "-"
		}
		fmt.Fprintf(t, "%s\t%s\n", pairs[i], v)
	}
	_ = t.Flush()
}

// stamp prints a time (RFC 3339, to the second); a zero time is nothing.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func join[T ~string](list []T, sep string) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return strings.Join(out, sep)
}

// compact prints v as JSON on one line.
func compact(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
