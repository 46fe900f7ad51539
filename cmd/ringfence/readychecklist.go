package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/ready/duties"
)

// maxFinding bounds a file of findings, in bytes.
const maxFinding = 64<<20 + 1

func newReadyChecklistCommand() *cobra.Command {
	var format string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "checklist [FILE...]", Short: "List what the owner of a site has to see to, with evidence",
		Long: "checklist prints the duties that the published document of a Dedicated Instance gives to the partner or the customer: VLANs, guards of switches, 802.1X, marks, firewall, name servers, phones. Files are what\n" +
			"other verbs wrote with --json, and become evidence: `ready run`, `network prove`, `network phone`, `phone dot1x`. A duty is done or undone if a tool found it so, and open if none saw it: then the list says what to\n" +
			"look at. Each has a field for what somebody saw by hand (by_hand in JSON); a checklist that was filled in is a file as well, whose fields are kept. Evidence against a duty weighs more than evidence for it.\n\n" +
			"It ends with 0, or with 4 if a duty is undone.",
		Example: "  ringfence ready checklist --format markdown > duties.md\n  ringfence ready checklist site.json proof.json phone.json access.json\n  ringfence ready checklist filled.json site.json --format html > duties.html\n  ringfence ready checklist site.json --json | jq -r '.duties[] | select(.status != \"done\") | .title'",
		RunE: func(cmd *cobra.Command, args []string) error {
			c := duties.New()
			for _, name := range args {
				b, err := finding(cmd, name)
				if err != nil {
					return err
				}
				if err := c.Parse(b, name); err != nil {
					return err
				}
			}
			if asJSON {
				format = "json"
			}
			out := cmd.OutOrStdout()
			switch format {
			case "text":
				c.Text(out)
			case "markdown":
				c.Markdown(out)
			case "html":
				if err := c.HTML(out); err != nil {
					return err
				}
			case "json":
				if err := show(cmd, true, c, nil); err != nil {
					return err
				}
			default:
				return invalid(fmt.Sprintf("%.40q is no form of a checklist", format), "there are text, markdown, html and json")
			}
			return c.Err()
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text, markdown, html or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "markdown", "html", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

// finding reads what a tool wrote; - is standard input.
func finding(cmd *cobra.Command, name string) ([]byte, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the findings cannot be read: " + name, Err: err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFinding))
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the findings cannot be read: " + name, Err: err}
	}
	return b, nil
}
