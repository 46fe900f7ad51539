package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/phoneports"
	"ringfence/internal/network/phonewall"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
)

// phoneAgainst is what a phone is compared with.
type phoneAgainst struct {
	needsOf
	format       string
	as, firewall []string
}

func newNetworkPhoneCommand(a *app) *cobra.Command {
	var asJSON bool
	var with phoneAgainst
	cmd := &cobra.Command{
		Use: "phone CFG.XML", Short: "Say which ports a desk phone's own firewall leaves open, for whom, and who outside reaches them",
		Long: "phone reads the configuration file of a desk phone and prints each port that the phone's firewall leaves open to whoever comes, with the parameters that it comes from, and the lines\n" +
			"of the file that do not do what they seem to. What a file does not set has the phone's default. It fails if the phone would refuse something.\n\n" +
			"With --set each open port is held against the rows of a set: those that somebody opens to the phone, and those that the phone sends from ports of its own. --site takes the rows that the\n" +
			"site wants, the ports that it chose and its own rows. Which roles of the set the phone has is known of the sets that are built in, and said with --as. With --firewall the rules of\n" +
			"the site's firewall tell whether anybody outside gets to those ports (--format says whose rules they are; see `ringfence network prove --help`).\n\n" +
			"The exit code is 2 if the phone would refuse something, 9 if something of the site's firewall was not understood or a row not resolved, 6 if a port is open that no row needs or the site's\n" +
			"firewall lets others in to one, and 4 if the phone drops what a row needs.",
		Example: "  ringfence network phone cfg.xml\n  ringfence network phone cfg.xml --json | jq '.open[].ports'\n  ringfence network phone cfg.xml --set webex-calling\n  ringfence network phone cfg.xml --set dedicated-instance --site site.yaml --as phone\n" +
			"  ringfence network phone cfg.xml --set webex-calling --site site.yaml --firewall running-config.txt --format cisco-asa",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readProfile(args[0])
			if err != nil {
				return err
			}
			v := phonewall.Findings{View: phoneports.Look(set)}
			if v.Compared, err = with.compare(cmd, a, v.View); err != nil {
				return err
			}
			if err := show(cmd, asJSON, v, func(w io.Writer) { printPhone(w, args[0], v) }); err != nil {
				return err
			}
			return phoneJudged(v)
		},
	}
	with.describe(cmd)
	cmd.Flags().StringSliceVar(&with.as, "as", nil, "the roles of the set that the phone has (default: what sets call a phone)")
	_ = cmd.RegisterFlagCompletionFunc("as", func(*cobra.Command, []string, string) (out []string, _ cobra.ShellCompDirective) {
		if set, err := catalogue.Open(with.set); err == nil {
			for name, r := range set.Roles {
				out = append(out, name+"\t"+r.Text)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	})
	cmd.Flags().StringArrayVar(&with.firewall, "firewall", nil, "what the site's firewall prints of its rules; - is standard input")
	formatFlag(cmd, &with.format)
	return jsonFlag(cmd, &asJSON)
}

// compare holds a phone against a set and a site's firewall, as far as they are given.
func (x *phoneAgainst) compare(cmd *cobra.Command, a *app, v phoneports.View) (*phonewall.Comparison, error) {
	switch {
	case x.set == "" && (x.site != "" || len(x.as)+len(x.firewall) > 0):
		return nil, invalid("what the phone is compared with is a set", "give --set, such as --set webex-calling")
	case len(x.firewall) > 0 && x.site == "":
		return nil, invalid("who is inside the firewall and who outside is not said", "give --site; docs/guides/firewalls.md shows a site file")
	case x.set == "":
		return nil, nil
	}
	t, err := target.Find(x.format)
	if err != nil {
		return nil, err
	}
	set, err := a.requirements(cmd, x.set, "")
	if err != nil {
		return nil, err
	}
	as, err := phonewall.Roles(&set.Set, x.as)
	if err != nil {
		return nil, err
	}
	if x.site == "" {
		return phonewall.Compare(v, &set.Set, set.Needs, as)
	}
	b, err := os.ReadFile(x.site)
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the site file cannot be read", Err: err}
	}
	s, err := site.Parse(b, x.site, &set.Set)
	if err != nil {
		return nil, err
	}
	c, err := phonewall.Compare(v, &set.Set, s.Needs(&set.Set), as)
	if err != nil || len(x.firewall) == 0 {
		return c, err
	}
	p := site.Resolve(&set.Set, s)
	said, err := ruleset(cmd, t, x.firewall, p)
	if err != nil {
		return nil, err
	}
	return c, c.Behind(&set.Set, s, p, said.rules)
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

func printPhone(w io.Writer, file string, v phonewall.Findings) {
	switch {
	case v.Compared != nil:
		printPhoneCompared(w, v.Compared)
	case !v.Firewall:
		fmt.Fprintln(w, "The firewall is off: every port stands open.")
	default:
		var rows [][]string
		for _, o := range v.Open {
			rows = append(rows, []string{o.Transport, doorPorts(o.Ports.String(), o.One), o.Service, join(o.Because, ", ")})
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

func doorPorts(ports string, one bool) string {
	if one {
		return "one of " + ports
	}
	return ports
}

func printPhoneCompared(w io.Writer, c *phonewall.Comparison) {
	facts(w, "set", c.Set, "the phone is", join(c.Phone, ", "), "open for nobody", fmt.Sprint(c.Excess), "rows that the phone drops", fmt.Sprint(c.Shut))
	fmt.Fprintln(w)
	heading := []string{"TRANSPORT", "PORTS", "SERVICE", "OPEN FOR", "ROWS", "DO"}
	walled := len(c.Doors) > 0 && c.Doors[0].Site != nil
	if walled {
		heading = append(heading, "FROM OUTSIDE")
	}
	var rows [][]string
	for _, d := range c.Doors {
		ports := ""
		if d.Transport != "icmp" {
			ports = doorPorts(d.Ports.String(), d.One)
		}
		use := map[phonewall.Use]string{phonewall.Needed: "rows", phonewall.Answers: "answers", phonewall.Link: "its own network", phonewall.Nobody: "NOBODY"}[d.Use]
		row := []string{d.Transport, ports, d.Service, use, join(d.Rows, ", "), d.Do}
		if walled {
			row = append(row, map[phonewall.Reach]string{phonewall.Closed: "nobody", phonewall.ByRows: "whom rows name", phonewall.Exposed: "OTHERS"}[d.Site.Open])
		}
		rows = append(rows, row)
	}
	table(w, heading, rows)
	for _, d := range c.Doors {
		if d.Site != nil && d.Site.Through != nil {
			fmt.Fprintf(w, "\nGets in to %s %s: %s: %s\n", d.Transport, d.Ports, d.Site.Through.Example, join(d.Site.Through.Why, "; "))
		}
	}
	if len(c.Rows) > 0 {
		fmt.Fprintln(w, "\nRows to the phone")
		rows = nil
		for _, r := range c.Rows {
			var ports, dropped []string
			for _, p := range r.Ports {
				ports = append(ports, p.String())
			}
			for _, p := range r.Dropped {
				dropped = append(dropped, p.String())
			}
			state := "gets in"
			switch {
			case r.Unknown != "":
				state = "not known: it lacks " + r.Unknown
			case r.Shut && len(dropped) > 0:
				state = "DROPPED: " + join(dropped, ", ")
			case r.Shut:
				state = "DROPPED"
			}
			rows = append(rows, []string{r.ID, r.Transport, join(ports, ", "), state, r.Purpose, join(r.Questions, ", ")})
		}
		table(w, []string{"ROW", "TRANSPORT", "PORTS", "AT THE PHONE", "PURPOSE", "OPEN QUESTIONS"}, rows)
	}
	for _, u := range c.Unknown {
		fmt.Fprintf(w, "\nNot known: %s\n", u)
	}
	fmt.Fprintln(w)
}

// phoneJudged words what was found as the command's end.
func phoneJudged(v phonewall.Findings) error {
	wrong := 0
	for _, x := range v.Problems {
		if x.Error {
			wrong++
		}
	}
	c := v.Compared
	switch {
	case wrong > 0:
		return &ringfence.Fault{Kind: ringfence.KindInvalid, Text: fmt.Sprintf("the phone would refuse or pass over %d things of the file", wrong), Hint: "the list says which, and what to write"}
	case c == nil:
		return nil
	case len(c.Unknown) > 0:
		return &ringfence.Fault{Kind: ringfence.KindUnsupported, Text: fmt.Sprintf("nothing is proved: %d things were not understood or not resolved", len(c.Unknown)), Hint: "write the rules that are named in another way, or complete the site file"}
	case c.Exposed > 0:
		return &ringfence.Fault{Kind: ringfence.KindInsecure, Text: fmt.Sprintf("the site's firewall lets others than those whom rows name in to %d open ports of the phone", c.Exposed), Hint: "`ringfence network audit` works out the change of the site's firewall"}
	case c.Excess > 0:
		return &ringfence.Fault{Kind: ringfence.KindInsecure, Text: fmt.Sprintf("the phone leaves %d ports or ranges open that no row needs", c.Excess), Hint: "the table says what closes each; what the site itself needs are rows under `own` in the site file"}
	case c.Shut > 0:
		return &ringfence.Fault{Kind: ringfence.KindConflict, Text: fmt.Sprintf("the phone drops what %d rows need", c.Shut), Hint: "open the ports with TCP:FIRST:LAST or UDP:FIRST:LAST in Firewall_Config, or leave the rows out in the site file"}
	}
	return nil
}
