package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/network/sheet"
	"ringfence/internal/network/site"
	"ringfence/internal/node/admin/api"
)

func newNetworkCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "network", Short: "What the network must let through",
		Long: "network works from sets of requirements: self is what the node that runs really listens on and dials; webex-calling and dedicated-instance are the published tables of\n" +
			"those services, each row with its line, what was mended in it and what stays contradictory. The sets that are built in need no node.",
		Example: "  ringfence network requirements\n  ringfence network requirements --set webex-calling --format html > ports.html\n  ringfence network changes --since 2023-06-01\n  sudo ringfence network prove --live --set webex-calling --site site.yaml"},
		newNetworkRequirementsCommand(a), newNetworkChangesCommand(), newNetworkDiffCommand(a), newNetworkImportCommand(), newNetworkRenderCommand(a), newNetworkProveCommand(a), newNetworkAuditCommand(a), newNetworkApplyCommand(a), newNetworkWatchCommand(a), newNetworkEvidenceCommand(), newNetworkFindingsCommand(a), newNetworkNATCommand(), newNetworkFeedCommand(a), newNetworkPhoneCommand(a))
}

// requirements returns a set as it is, or as it was at the end of a day.
func (a *app) requirements(cmd *cobra.Command, name, at string) (out api.NetworkSet, err error) {
	if name == "self" {
		if at != "" {
			return out, invalid("the flow table of a node has no history", "leave --at out, or name a set with --set")
		}
		err = a.ask(cmd.Context(), http.MethodGet, "/network/sets/"+url.PathEscape(name), nil, nil, &out)
		return out, err
	}
	if file, day, dated := strings.Cut(name, "@"); at == "" && dated { // as in network diff
		name, at = file, day
	}
	if strings.ContainsAny(name, "/.") {
		if at != "" {
			return out, invalid("a set in a file is as it is", "leave the day out")
		}
		return setFrom(name)
	}
	set, err := catalogue.Open(name)
	if err != nil {
		return out, err
	}
	if at == "" {
		return api.NetworkSet{Set: *set, Version: set.Version()}, nil
	}
	day, err := time.Parse(time.DateOnly, at)
	if err != nil {
		return out, invalid(fmt.Sprintf("%.20q is no day", at), "write 2024-01-31")
	}
	past := catalogue.At(set, day)
	return api.NetworkSet{Set: *past.Set, Version: past.Version(), NotUndone: past.NotUndone}, nil
}

// maxSet bounds a set in a file, in bytes.
const maxSet = 8 << 20

// setFrom reads a set from a file, as network requirements --json and network import print it.
func setFrom(file string) (out api.NetworkSet, err error) {
	b, err := readWhole(file, maxSet)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, &ringfence.Fault{Kind: ringfence.KindInvalid, Text: file + " is no set", Err: err, Hint: "`ringfence network requirements --json` and `ringfence network import` print one"}
	}
	if wrong := out.Check(); len(wrong) > 0 {
		return out, invalid(file+": "+strings.Join(wrong, "\n"+file+": "), "")
	}
	return out, nil
}

// setFlag adds --set, with completion.
func setFlag(cmd *cobra.Command, set *string, value string, names []string) {
	cmd.Flags().StringVar(set, "set", value, "which requirements: "+strings.Join(names, ", ")+", or a file")
	_ = cmd.RegisterFlagCompletionFunc("set", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

func newNetworkRequirementsCommand(a *app) *cobra.Command {
	forms := append(append(sheet.Formats(), sheet.Lists()...), "json")
	var set, at, format, file string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "requirements [--set SET]", Short: "Print what is needed, row by row",
		Long: "requirements prints who opens what to whom, by which ports and with which mark. BELIEVED says how far a row can be trusted: running (it is what the node does), printed, repaired\n" +
			"(damage of the document was mended), or open (the document contradicts itself; what is done about it stands below). With --at the tables are as they were at the end of that day,\n" +
			"as far as the history tells; what it tells in words only is listed as not undone. With --site the networks, rows and ports are those of a site file (docs/guides/firewalls.md).",
		Example: "  ringfence network requirements\n  ringfence network requirements --set webex-calling --site site.yaml --format html > ports.html\n  ringfence network requirements --set webex-calling --at 2023-12-10\n  ringfence network requirements --set dedicated-instance --format markdown > ports.md\n  ringfence network requirements --set webex-calling --json | jq '.needs[].id'\n  ringfence network requirements --set webex-calling --format prefixes > edl.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(forms, format) {
				return invalid(fmt.Sprintf("%.20q is no form", format), "there are "+strings.Join(forms, ", "))
			}
			s, err := a.requirements(cmd, set, at)
			if err != nil {
				return err
			}
			if file != "" {
				if s.Set, err = filled(file, &s.Set); err != nil {
					return err
				}
			}
			var failed error
			err = show(cmd, asJSON || format == "json", s, func(w io.Writer) {
				failed = sheet.Write(w, &s.Set, format)
				if format == "text" && len(s.NotUndone) > 0 {
					fmt.Fprintf(w, "\nNot undone, since the history tells it in words only:\n")
					for _, c := range s.NotUndone {
						fmt.Fprintf(w, "  %s %s: %s\n", c.Date, c.Category, c.Subject)
					}
				}
			})
			if err == nil {
				err = failed
			}
			return err
		},
	}
	setFlag(cmd, &set, "self", append([]string{"self"}, catalogue.Names()...))
	cmd.Flags().StringVar(&at, "at", "", "as it was at the end of this day, such as 2023-12-10")
	cmd.Flags().StringVar(&file, "site", "", "a site file, whose networks, rows and ports are taken")
	cmd.Flags().StringVar(&format, "format", "text", "text, markdown, html, csv or json; or a list for machines, one a line: prefixes or domains")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

// filled is a set with what a site file says.
func filled(file string, set *need.Set) (need.Set, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return *set, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the site file cannot be read", Err: err}
	}
	s, err := site.Parse(b, file, set)
	if err != nil {
		return *set, err
	}
	return *site.Fill(set, s), nil
}

func newNetworkChangesCommand() *cobra.Command {
	var set, since, format string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "changes [--since VERSION|DAY]", Short: "Print the history of a set, and whose work each change is",
		Long: "changes lists what was added, changed and removed after a day or a version, the latest first. CONCERNS says who has to do something: whoever keeps the firewall, the proxy, the DNS\n" +
			"or the marks of quality of service. A date whose confidence is not high was damaged in the document and restored from the order of the entries.",
		Example: "  ringfence network changes\n  ringfence network changes --since 2023-06-01\n  ringfence network changes --since 2024-04-03.71 --json\n  ringfence network changes --format rss > changes.rss",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := catalogue.Open(set)
			if err != nil {
				return err
			}
			changes, err := s.Since(since)
			if err != nil {
				return err
			}
			if format != "text" && !asJSON {
				return sheet.History(cmd.OutOrStdout(), s, changes, format)
			}
			out := api.NetworkChanges{Set: s.ID, Version: s.Version(), Changes: []api.NetworkChange{}}
			for _, c := range changes {
				out.Changes = append(out.Changes, api.NetworkChange{Change: c, Concerns: append([]string{}, c.Concerns()...)})
			}
			return show(cmd, asJSON, out, func(w io.Writer) { printChanges(w, out) })
		},
	}
	setFlag(cmd, &set, "webex-calling", catalogue.Names())
	cmd.Flags().StringVar(&format, "format", "text", "text, csv or rss")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(append([]string{"text"}, sheet.Histories()...), cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().StringVar(&since, "since", "", "a day or a version; only what came later")
	return jsonFlag(cmd, &asJSON)
}

func printChanges(w io.Writer, all api.NetworkChanges) {
	if all.Version == "" {
		fmt.Fprintf(w, "The document of %s has no history.\n", all.Set)
		return
	}
	var rows [][]string
	for _, c := range all.Changes {
		rows = append(rows, []string{c.Date, c.Confidence, c.Change.Change, c.Category, subjectOf(c.Change), join(c.Concerns, ", ")})
	}
	table(w, []string{"DATE", "CONFIDENCE", "CHANGE", "CATEGORY", "WHAT", "CONCERNS"}, rows)
	fmt.Fprintf(w, "\nVersion of %s: %s\n", all.Set, all.Version)
}

// subjectOf says what changed, with what it was about.
func subjectOf(c need.Change) string {
	out := c.Subject
	switch {
	case c.Was != "":
		out += ": " + c.Was + " became " + c.Is
	case len(c.Items) > 4:
		out += fmt.Sprintf(": %s and %d more", strings.Join(c.Items[:3], " "), len(c.Items)-3)
	case len(c.Items) > 0:
		out += ": " + strings.Join(c.Items, " ")
	}
	return out
}
