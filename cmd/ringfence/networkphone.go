package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/network/phoneports"
)

func newNetworkPhoneCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "phone CFG.XML", Short: "Say which ports a desk phone's own firewall leaves open",
		Long: "phone reads the configuration file of a desk phone and prints each port that the phone's firewall leaves open to whoever comes, with the parameters that it comes from, and the lines\n" +
			"of the file that do not do what they seem to. What a file does not set has the phone's default. It fails if the phone would refuse something.",
		Example: "  ringfence network phone cfg.xml\n  ringfence network phone cfg.xml --json | jq '.open[].ports'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readProfile(args[0])
			if err != nil {
				return err
			}
			v := phoneports.Look(set)
			if err := show(cmd, asJSON, v, func(w io.Writer) { printPhone(w, args[0], v) }); err != nil {
				return err
			}
			wrong := 0
			for _, x := range v.Problems {
				if x.Error {
					wrong++
				}
			}
			if wrong > 0 {
				return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: fmt.Sprintf("the phone would refuse or pass over %d things of the file", wrong), Hint: "the list says which, and what to write"}
			}
			return nil
		},
	}
	return jsonFlag(cmd, &asJSON)
}

// readProfile reads the parameters that a desk phone's file sets.
func readProfile(file string) (*flatprofile.Set, error) {
	b, err := readWhole(file, flatprofile.MaxSize)
	if err != nil {
		return nil, err
	}
	f, err := flatprofile.Parse(b)
	if err != nil {
		return nil, err
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, file)
	return set, nil
}

func printPhone(w io.Writer, file string, v phoneports.View) {
	if !v.Firewall {
		fmt.Fprintln(w, "The firewall is off: every port stands open.")
	} else {
		var rows [][]string
		for _, o := range v.Open {
			ports := o.Ports.String()
			if o.One {
				ports = "one of " + ports
			}
			rows = append(rows, []string{o.Transport, ports, o.Service, join(o.Because, ", ")})
		}
		table(w, []string{"TRANSPORT", "PORTS", "FOR", "BECAUSE"}, rows)
		fmt.Fprintf(w, "\nAnswers ping: %s. Says of closed UDP ports that they are: %s.\n", yes(v.Ping), yes(v.Unreachable))
	}
	for _, p := range v.Problems {
		kind := "note"
		if p.Error {
			kind = "error"
		}
		where := file
		if p.Line > 0 {
			where = fmt.Sprintf("%s:%d", file, p.Line)
		}
		fmt.Fprintf(w, "%s: %s: %s; %s\n", where, kind, p.Text, p.Fix)
	}
}
