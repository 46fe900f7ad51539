package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/lint"
)

func newPhoneLintCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "lint CFG.XML", Short: "Say what is wrong with the configuration file of a desk phone",
		Long: "lint reads the configuration file of a multiplatform desk phone (cfg.xml) and prints each parameter that is unknown, misspelt, deprecated, dangerous or ill-formed, with its line and\n" +
			"what to write. Where the file is no XML, which a phone takes nothing of, it says why and goes on behind it. docs/guides/desk-phone.md tells of the file.\n\n" +
			"It ends with 2 (invalid) if the phone would refuse or pass over something, else with 6 (insecure) if something is dangerous, else with 0.",
		Example: "  ringfence phone lint cfg.xml\n  ringfence phone lint cfg.xml --json | jq '.findings[] | select(.severity == \"danger\")'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readWhole(args[0], flatprofile.MaxSize)
			if err != nil {
				return err
			}
			r := lint.File(b, flatprofile.Parameters())
			if err := show(cmd, asJSON, r, func(w io.Writer) { printLint(w, args[0], r) }); err != nil {
				return err
			}
			switch wrong, danger := r.Count(lint.Error), r.Count(lint.Danger); {
			case wrong > 0:
				return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: fmt.Sprintf("the phone would refuse or pass over %d things of the file", wrong), Hint: "each line says what to write"}
			case danger > 0:
				return &ringfence.Fault{Kind: ringfence.KindInsecure, Text: fmt.Sprintf("%d things of the file are dangerous", danger), Hint: "each line says what to write"}
			}
			return nil
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func printLint(w io.Writer, file string, r lint.Report) {
	for _, f := range r.Findings {
		where := file
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d", file, f.Line)
		}
		if f.Parameter != "" {
			where += ": " + f.Parameter
		}
		fmt.Fprintf(w, "%s: %s: %s; %s\n", where, f.Severity, f.Text, f.Fix)
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more\n", r.More)
	}
	fmt.Fprintf(w, "%d parameters: %d errors, %d dangerous, %d warnings, %d notes\n", r.Parameters, r.Count(lint.Error), r.Count(lint.Danger), r.Count(lint.Warning), r.Count(lint.Note))
}
