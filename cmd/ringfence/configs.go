package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/config"
)

func newConfigCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "config", Short: "The configuration of the node",
		Long: "The configuration is one strict YAML file: an unknown key is an error with its line. A change is checked as a whole, shown as a plan, and\n" +
			"applied as a whole or not at all; every version is kept, and undo goes back.",
		Example: "  ringfence config export > new.yaml\n  ringfence config plan new.yaml\n  ringfence config apply new.yaml --note \"more calls\"\n  ringfence config undo"},
		newConfigCheckCommand(), newConfigPlanCommand(a), newConfigApplyCommand(a), newConfigUndoCommand(a), newConfigExportCommand(a), newConfigVersionsCommand(a))
}

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Check a file; no node is needed",
		Long: "check reads a file as a node would and prints everything that is wrong as FILE:LINE:COLUMN. It changes nothing and needs no node.\n" +
			"With fips: true it also notes what of the TLS settings is not served in that mode.",
		Example: "  ringfence config check new.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readConfig(args[0])
			if err != nil {
				return err
			}
			c, err := config.Parse(b, args[0])
			if err != nil {
				return err
			}
			for _, text := range c.Notes() {
				fmt.Fprintln(cmd.OutOrStdout(), "Note: "+text)
			}
			fmt.Fprintln(cmd.OutOrStdout(), args[0]+" is good")
			return nil
		},
	}
}

// readConfig reads a file, or standard input for "-".
func readConfig(file string) ([]byte, error) {
	const most = 1 << 20
	in := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the file cannot be read", Err: err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the file cannot be read", Err: err}
	}
	if len(b) > most {
		return nil, invalid(file+" is larger than 1 MiB", "")
	}
	return b, nil
}

func newConfigPlanCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "plan FILE", Short: "Show what a file would change",
		Long:    "plan checks a file and shows, key by key, what it would change in the running node, what that does to the flow table, and which changes\ntake a restart. Nothing changes.",
		Example: "  ringfence config plan new.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sendConfig(cmd, "/config/plan", args[0], "", asJSON)
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newConfigApplyCommand(a *app) *cobra.Command {
	var asJSON bool
	var note string
	cmd := &cobra.Command{
		Use: "apply FILE", Short: "Apply a file: all of it or nothing",
		Long: "apply checks a file, keeps it as a version, writes it to the node's configuration file and puts what can change live into force: the dial\n" +
			"plan, the limits of calls and the log level. The rest comes into force at the next start, and `ringfence status` says so until then.",
		Example: "  ringfence config apply new.yaml --note \"more calls\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sendConfig(cmd, "/config", args[0], note, asJSON)
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "why, for the list of versions")
	return jsonFlag(cmd, &asJSON)
}

func (a *app) sendConfig(cmd *cobra.Command, path, file, note string, asJSON bool) error {
	b, err := readConfig(file)
	if err != nil {
		return err
	}
	if _, err := config.Parse(b, file); err != nil { // says where, with the file's own name, before anything is sent
		return err
	}
	var p api.ConfigPlan
	if err := a.ask(cmd.Context(), http.MethodPost, path, nil, api.ConfigText{YAML: string(b), Name: filepath.Base(file), Note: note}, &p); err != nil {
		return err
	}
	return show(cmd, asJSON, p, func(w io.Writer) { printPlan(w, p) })
}

func printPlan(w io.Writer, p api.ConfigPlan) {
	if len(p.Changes) == 0 {
		fmt.Fprintln(w, "no changes")
	}
	for _, c := range p.Changes {
		how := "live"
		if c.Restart {
			how = "at restart"
		}
		fmt.Fprintf(w, "%s (%s)\n  - %s\n  + %s\n", c.Key, how, c.From, c.To)
	}
	if len(p.Flows) > 0 {
		fmt.Fprintln(w, "\nflows:")
	}
	for _, f := range p.Flows {
		fmt.Fprintln(w, "  "+f.Flow)
		if f.From != "" {
			fmt.Fprintln(w, "    - "+f.From)
		}
		if f.To != "" {
			fmt.Fprintln(w, "    + "+f.To)
		}
	}
	for _, r := range p.Risks {
		fmt.Fprintln(w, "\nWarning: "+r)
	}
	for _, text := range p.Notes {
		fmt.Fprintln(w, "\nNote: "+text)
	}
	if p.Version > 0 {
		fmt.Fprintf(w, "\napplied as version %d\n", p.Version)
	}
	if p.Restart {
		fmt.Fprintln(w, "some of it comes into force at the next start")
	}
}

func newConfigUndoCommand(a *app) *cobra.Command {
	var asJSON bool
	var to int64
	cmd := &cobra.Command{
		Use: "undo", Short: "Go back to the version before",
		Long:    "undo applies the version before the present one again; undoing twice goes two versions back. --to names a version.",
		Example: "  ringfence config undo\n  ringfence config undo --to 3",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p api.ConfigPlan
			if err := a.ask(cmd.Context(), http.MethodPost, "/config/undo", nil, api.Undo{To: to}, &p); err != nil {
				return err
			}
			return show(cmd, asJSON, p, func(w io.Writer) { printPlan(w, p) })
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "the version to go back to")
	return jsonFlag(cmd, &asJSON)
}

func newConfigExportCommand(a *app) *cobra.Command {
	var whole bool
	cmd := &cobra.Command{
		Use: "export", Short: "Print the configuration",
		Long:    "export prints the configuration file as it was last applied, or with --whole every setting with its value, defaults included.",
		Example: "  ringfence config export > ringfence.yaml\n  ringfence config export --whole",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c api.ConfigText
			if err := a.ask(cmd.Context(), http.MethodGet, "/config", url.Values{"whole": {strconv.FormatBool(whole)}}, nil, &c); err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), c.YAML)
			return nil
		},
	}
	cmd.Flags().BoolVar(&whole, "whole", false, "every setting with its value")
	return cmd
}

func newConfigVersionsCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "versions", Short: "List the versions, the latest first",
		Long:    "versions lists every configuration that was in force, with who applied it and why. --json has their text.",
		Example: "  ringfence config versions",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.ConfigVersion
			if err := a.ask(cmd.Context(), http.MethodGet, "/config/versions", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, v := range all {
					rows = append(rows, []string{strconv.FormatInt(v.Version, 10), stamp(v.At), v.Author, v.Note})
				}
				table(w, []string{"VERSION", "AT", "AUTHOR", "NOTE"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}
