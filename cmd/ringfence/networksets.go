package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/published"
	"ringfence/internal/node/admin/api"
)

func newNetworkImportCommand() *cobra.Command {
	var o published.Options
	var format string
	var tcp, udp []string
	cmd := &cobra.Command{
		Use: "import FILE --format FORMAT --set ID", Short: "Make a set of a list that another service publishes",
		Long: "import reads a list of addresses and names (- is standard input) and prints a set, which every other verb takes by its file. What the list does not say is not invented: where it has no ports, they\n" +
			"have to be given. The one that uses the service is the role client of the site file.\n\n" +
			"Formats:\n  microsoft365   https://endpoints.office.com/endpoints/worldwide, with names, networks and ports\n  aws            https://ip-ranges.amazonaws.com/ip-ranges.json\n" +
			"  google         https://www.gstatic.com/ipranges/goog.json or cloud.json\n  plain          networks, addresses and names, one a line, as Zoom publishes them and firewalls take them",
		Example: "  ringfence network import endpoints.json --format microsoft365 --service Skype --set teams > teams.json\n  ringfence network import Zoom.txt --format plain --udp 8801-8810 --tcp 443,8801-8802 --set zoom > zoom.json\n" +
			"  ringfence network render nftables --set ./zoom.json --site zoom-site.yaml",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, x := range []struct {
				texts []string
				ports *[]need.Ports
			}{{tcp, &o.TCP}, {udp, &o.UDP}} {
				for _, text := range x.texts {
					p, err := need.ParsePorts(text)
					if err != nil {
						return err
					}
					*x.ports = append(*x.ports, p)
				}
			}
			b, err := readInput(cmd, args[0], published.MaxSize)
			if err != nil {
				return err
			}
			set, err := published.Read(b, format, o)
			if err != nil {
				return err
			}
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d rows, %d groups of networks, %d names\n", set.ID, len(set.Needs), len(set.Groups), len(set.Domains))
			return e.Encode(api.NetworkSet{Set: *set})
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "what the list is: "+strings.Join(published.Formats(), ", "))
	cmd.Flags().StringVar(&o.ID, "set", "", "the id of the set")
	cmd.Flags().StringSliceVar(&o.Services, "service", nil, "only this service, as the list calls it; may be repeated")
	cmd.Flags().StringSliceVar(&o.Regions, "region", nil, "only this region (aws, google); may be repeated")
	cmd.Flags().BoolVar(&o.Optional, "optional", false, "also what is not required (microsoft365)")
	cmd.Flags().StringSliceVar(&tcp, "tcp", nil, "ports of TCP, where the list has none")
	cmd.Flags().StringSliceVar(&udp, "udp", nil, "ports of UDP, where the list has none")
	_ = cmd.MarkFlagRequired("format")
	_ = cmd.MarkFlagRequired("set")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(published.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// readInput reads a file of bounded size, or standard input.
func readInput(cmd *cobra.Command, path string, most int64) ([]byte, error) {
	if path != "-" {
		return readWhole(path, most)
	}
	b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most+1))
	if err == nil && int64(len(b)) > most {
		err = invalid("the input is too large", "")
	}
	return b, err
}

// difference is what network diff --json prints.
type difference struct {
	Old     string              `json:"old"`
	New     string              `json:"new"`
	Changes []api.NetworkChange `json:"changes"`
	// More and Less are what a firewall of the site has to let through from now on, and no more.
	More []firewall.Difference `json:"more,omitempty"`
	Less []firewall.Difference `json:"less,omitempty"`
	// MoreCount and LessCount say into how many sets of packets they fall, of which the first are told.
	MoreCount int `json:"more_count"`
	LessCount int `json:"less_count"`
}

func newNetworkDiffCommand(a *app) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "diff OLD NEW", Short: "Say what has to change for new needs to be met",
		Long: "diff compares two sets: names of sets, also as they were at the end of a day (webex-calling@2023-12-10), or files. It tells row by row, network by network and name by name what comes, changes and\n" +
			"goes, and whose work that is. With --site it also tells what the site's firewall has to let through from now on, and what no more, packet for packet.\n\n" +
			"The exit code is 0 if nothing has to change, and 4 if something has.",
		Example: "  ringfence network diff webex-calling@2023-12-10 webex-calling\n  ringfence network requirements --json > before.json\n  ringfence network diff ./before.json self --json\n  ringfence network diff webex-calling@2023-12-10 webex-calling --site site.yaml",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			old, err := a.requirements(cmd, args[0], "")
			if err != nil {
				return err
			}
			now, err := a.requirements(cmd, args[1], "")
			if err != nil {
				return err
			}
			out := difference{Old: args[0], New: args[1], Changes: []api.NetworkChange{}}
			for _, c := range need.Diff(&old.Set, &now.Set) {
				out.Changes = append(out.Changes, api.NetworkChange{Change: c, Concerns: append([]string{}, c.Concerns()...)})
			}
			if file != "" {
				if err := out.packets(&old.Set, &now.Set, file); err != nil {
					return err
				}
			}
			if err := show(cmd, asJSON, out, func(w io.Writer) { printDifference(w, out) }); err != nil {
				return err
			}
			if len(out.Changes) > 0 {
				return &ringfence.Fault{Kind: ringfence.KindConflict, Text: fmt.Sprintf("%d things have to change", len(out.Changes)), Hint: "`ringfence network render` writes the rules anew"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "site", "", "the site file: also tell what its firewall has to let through, and what no more")
	return jsonFlag(cmd, &asJSON)
}

// packets finds what a site's firewall has to change. Rows that the site file is silent about are named by prove and render.
func (d *difference) packets(old, now *need.Set, file string) error {
	before, err := resolved(old, file)
	if err != nil {
		return err
	}
	after, err := resolved(now, file)
	if err != nil {
		return err
	}
	before.Interfaces = after.Interfaces // both call them by the same numbers
	more, err := after.Boxes().Subtract(before.Boxes())
	if err != nil {
		return err
	}
	less, err := before.Boxes().Subtract(after.Boxes())
	if err != nil {
		return err
	}
	d.MoreCount, d.LessCount = len(more), len(less)
	d.More, d.Less = firewall.Differences(more, after.Interfaces), firewall.Differences(less, after.Interfaces)
	return nil
}

func printDifference(w io.Writer, d difference) {
	if len(d.Changes) == 0 {
		fmt.Fprintln(w, "Nothing has to change.")
		return
	}
	var rows [][]string
	for _, c := range d.Changes {
		what := c.Subject
		switch {
		case c.Was != "" && c.Is != "":
			what += ": " + c.Was + " becomes " + c.Is
		case c.Was+c.Is != "":
			what += ": " + c.Was + c.Is
		}
		rows = append(rows, []string{c.Change.Change, c.Category, what, join(c.Concerns, ", ")})
	}
	table(w, []string{"CHANGE", "CATEGORY", "WHAT", "CONCERNS"}, rows)
	for _, x := range []struct {
		title string
		list  []firewall.Difference
		count int
	}{{"To be let through from now on", d.More, d.MoreCount}, {"Not needed any more", d.Less, d.LessCount}} {
		if len(x.list) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", x.title)
		for _, p := range x.list {
			fmt.Fprintf(w, "  %s\n      e.g. %s\n", p.Packets, p.Example)
		}
		if x.count > len(x.list) {
			fmt.Fprintf(w, "  and %d more like these\n", x.count-len(x.list))
		}
	}
}
