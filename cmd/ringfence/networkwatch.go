package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/evidence"
	"ringfence/internal/network/feed"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/network/target"
)

// watchFlags say what is watched, how often, and who hears of it.
type watchFlags struct {
	needs                             needsOf
	format, command, book, key, alert string
	keep                              string
	live, asJSON                      bool
	every                             time.Duration
}

func newNetworkWatchCommand(a *app) *cobra.Command {
	f := &watchFlags{}
	cmd := &cobra.Command{
		Use: "watch [FILE...|--live|--command CMD] --book DIR", Short: "Prove a firewall again and again, keep the evidence, and tell when something drifts",
		Long: "watch proves a firewall as `network prove` does and writes a record into a book: the verdict with its packets, digests of the needs, the site file and the rules, and what changed since the record\n" +
			"before. Records are signed by the book's Ed25519 key and chained, so that none can be changed or left out afterwards; rules are kept whenever they let something else through. With --every it goes on\n" +
			"until it is stopped; without, it does it once, for a timer.\n\n" +
			"When rules, needs, site file or verdict changed, and when no proof could be made, the record is given to the --alert command on its standard input, and a line is printed.\n\n" +
			"Once, its exit code is that of `network prove`. What was recorded is checked by `network evidence`.",
		Example: "  sudo ringfence network watch --live --set webex-calling --site site.yaml --book /var/lib/ringfence-evidence\n" +
			"  ringfence network watch --command 'az network nsg show -g voice -n phones' --format azure --set webex-calling --site site.yaml --book ./book --every 1h --alert 'mail -s firewall noc@example.com'",
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, a, args) },
	}
	f.needs.flags(cmd)
	cmd.Flags().BoolVar(&f.live, "live", false, "the firewall of this host, as its kernel says")
	cmd.Flags().StringVar(&f.command, "command", "", "a command that prints the rules, run by /bin/sh")
	formatFlag(cmd, &f.format)
	cmd.Flags().StringVar(&f.book, "book", "", "the directory of the book; it is made if it is not there")
	cmd.Flags().StringVar(&f.key, "key", "", "file with the book's private key (default: one in the book, made with it)")
	cmd.Flags().DurationVar(&f.every, "every", 0, "go on, and prove again after this time")
	cmd.Flags().StringVar(&f.keep, "keep", "", "also hand each record in at the node of --node or --data, as of this site; see ringfence network findings")
	cmd.Flags().StringVar(&f.alert, "alert", "", "a command that gets the record as JSON when something changed, run by /bin/sh")
	_ = cmd.MarkFlagRequired("book")
	return jsonFlag(cmd, &f.asJSON)
}

// shortestWatch bounds how often a firewall is asked.
const shortestWatch = time.Second

func (f *watchFlags) run(cmd *cobra.Command, a *app, args []string) error {
	sources := min(len(args), 1)
	for _, on := range []bool{f.live, f.command != ""} {
		if on {
			sources++
		}
	}
	switch {
	case sources != 1:
		return invalid("a file, --live or --command says what firewall that is", "see `ringfence network watch --help`")
	case f.every != 0 && f.every < shortestWatch:
		return invalid(fmt.Sprintf("%s is too often", f.every), "give --every 1m, or leave it out")
	case f.every != 0 && slices.Contains(args, "-"):
		return invalid("standard input can be read once only", "name a file, or a command")
	}
	format, err := target.Find(f.format)
	if err != nil {
		return err
	}
	book, err := evidence.Create(f.book, f.key)
	if err != nil {
		return err
	}
	for {
		r, err := f.once(cmd, a, args, format, book)
		if err != nil {
			return err
		}
		if f.every == 0 {
			if r.Proof == nil {
				return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "no proof was made: " + r.Failure, Hint: "the record says so too"}
			}
			return judged(r.Proof)
		}
		select {
		case <-time.After(f.every):
		case <-cmd.Context().Done():
			return nil
		}
	}
}

// once makes one record. That no proof can be made is a record as well.
func (f *watchFlags) once(cmd *cobra.Command, a *app, args []string, format target.Target, book *evidence.Book) (evidence.Record, error) {
	r := evidence.Record{At: time.Now().UTC().Truncate(time.Second), Firewall: format.Name}
	r.Host, _ = os.Hostname()
	rules, err := f.prove(cmd, a, args, format, &r)
	if err != nil {
		r.Failure = err.Error()
	}
	if r, err = book.Append(r, rules); err != nil {
		return r, err
	}
	if err := show(cmd, f.asJSON, r, func(w io.Writer) {
		fmt.Fprintf(w, "%s  record %d: %s", stamp(r.At), r.Number, r.Verdict())
		if len(r.Changed) > 0 {
			fmt.Fprintf(w, ", changed: %s", strings.Join(r.Changed, ", "))
		}
		if r.Failure != "" {
			fmt.Fprintf(w, ": %s", r.Failure)
		}
		fmt.Fprintln(w)
	}); err != nil {
		return r, err
	}
	if f.keep != "" { // the book has it in any case
		if err := a.handIn(cmd, f.keep, "firewall", r.Host+" "+r.Firewall, verdictOf(r), r); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "record %d was not handed in: %v\n", r.Number, err)
		}
	}
	if f.alert != "" && (len(r.Changed) > 0 || r.Failure != "") {
		f.tell(cmd, r)
	}
	return r, nil
}

// prove fills a record, and returns the rules as they were printed.
func (f *watchFlags) prove(cmd *cobra.Command, a *app, args []string, format target.Target, r *evidence.Record) ([]byte, error) {
	set, err := a.requirements(cmd, f.needs.set, "")
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(set.Set)
	if err != nil {
		return nil, err
	}
	r.Set, r.Version, r.Needs = set.ID, set.Version, evidence.Digest(text)
	file, err := os.ReadFile(f.needs.site)
	if err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the site file cannot be read", Err: err}
	}
	r.Site = evidence.Digest(file)
	s, err := site.Parse(file, f.needs.site, &set.Set)
	if err != nil {
		return nil, err
	}
	p := site.Resolve(&set.Set, s)
	var said printed
	if f.command != "" {
		if said.text, err = f.printed(cmd.Context(), cmd.ErrOrStderr()); err == nil {
			said.rules, err = format.Rules(p, []firewall.File{{Text: string(said.text)}})
		}
	} else {
		said, err = ruleset(cmd, format, args, p)
	}
	if err != nil {
		return said.text, err
	}
	result, err := prove.Compare(p, said.rules)
	if err == nil {
		r.Proof = result
	}
	return said.text, err
}

// Bounds of commands that print rules, and of those that hear of a change.
const (
	printPatience = 5 * time.Minute
	alertPatience = time.Minute
)

// printed runs the command that prints the rules.
func (f *watchFlags) printed(ctx context.Context, errs io.Writer) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, printPatience)
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", f.command)
	var out bytes.Buffer
	c.Stdout, c.Stderr, c.WaitDelay = &capped{&out, maxRuleset}, errs, time.Second
	if err := c.Run(); err != nil {
		return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the command that prints the rules failed", Err: err, Hint: "run it by itself: " + f.command}
	}
	return out.Bytes(), nil
}

// tell gives a record to the alert command. That it fails is told, and stops nothing.
func (f *watchFlags) tell(cmd *cobra.Command, r evidence.Record) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		ctx, cancel := context.WithTimeout(cmd.Context(), alertPatience)
		defer cancel()
		c := exec.CommandContext(ctx, "/bin/sh", "-c", f.alert)
		c.Stdin, c.Stdout, c.Stderr, c.WaitDelay = bytes.NewReader(append(text, '\n')), cmd.ErrOrStderr(), cmd.ErrOrStderr(), time.Second
		err = c.Run()
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "nobody was told of record %d: the alert command failed: %v\n", r.Number, err)
	}
}

func newNetworkEvidenceCommand() *cobra.Command {
	return group(&cobra.Command{Use: "evidence", Short: "The book of proofs that network watch keeps",
		Long:    "evidence reads a book. It needs neither the node nor the key that signed.",
		Example: "  ringfence network evidence check ./book --key book.pub\n  ringfence network evidence show ./book 12\n  ringfence network evidence rules ./book --last-exact > good.json"},
		newEvidenceCheckCommand(), newEvidenceShowCommand(), newEvidenceRulesCommand())
}

// bookFlags are those of every verb that reads a book.
type bookFlags struct{ keyFile string }

func (f *bookFlags) flags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.keyFile, "key", "", "file with the book's public key, taken when the book was begun (default: the one in the book)")
	return cmd
}

func (f *bookFlags) records(dir string) ([]evidence.Record, string, error) {
	key, err := evidence.PublicKey(dir)
	if f.keyFile != "" {
		var text []byte
		if text, err = readWhole(f.keyFile, 4096); err == nil {
			key, err = feed.ParseKey(text)
		}
	}
	if err != nil {
		return nil, "", err
	}
	all, err := evidence.Check(dir, key)
	return all, feed.ID(key), err
}

// checkedBook is what network evidence check --json prints.
type checkedBook struct {
	Key     string            `json:"key"`
	Records []evidence.Record `json:"records"`
}

func newEvidenceCheckCommand() *cobra.Command {
	f := &bookFlags{}
	var after int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check DIR", Short: "Check a book's signatures and chain, and list what it says",
		Long: "check reads every record of a book: that the key signed it, that it follows the one before, and that the rules it names are there as they were. The key in the book is worth as much as the place\n" +
			"where the book lies: take a copy of key.pub when the book is begun, and name it with --key. With --after, the book must have more records than were seen the last time, so that none can be torn out at\n" +
			"its end. Exit code 6: something was changed or is missing; 4: it has not grown.",
		Example: "  ringfence network evidence check ./book --key book.pub\n  ringfence network evidence check ./book --after 118 --json | jq '.records[] | select(.changed != [])'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, id, err := f.records(args[0])
			if err != nil {
				return err
			}
			if len(all) <= after && after > 0 {
				return &ringfence.Fault{Kind: ringfence.KindConflict, Text: fmt.Sprintf("the book has %d records, and %d were seen before", len(all), after), Hint: "records were torn out, or none was made since"}
			}
			return show(cmd, asJSON, checkedBook{id, append([]evidence.Record{}, all...)}, func(w io.Writer) {
				var rows [][]string
				for _, r := range all {
					rows = append(rows, []string{fmt.Sprint(r.Number), stamp(r.At), r.Host, r.Firewall, r.Set, r.Verdict(), join(r.Changed, ", ")})
				}
				table(w, []string{"RECORD", "AT", "HOST", "FIREWALL", "SET", "VERDICT", "CHANGED"}, rows)
				fmt.Fprintf(w, "\n%d records, each signed by %s and following the one before.\n", len(all), id)
			})
		},
	}
	cmd.Flags().IntVar(&after, "after", 0, "how many records were seen before")
	return jsonFlag(f.flags(cmd), &asJSON)
}

func newEvidenceShowCommand() *cobra.Command {
	f := &bookFlags{}
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show DIR [RECORD]", Short: "Print one record, the last if none is named",
		Long:    "show prints a record with its proof, after the whole book was checked.",
		Example: "  ringfence network evidence show ./book\n  ringfence network evidence show ./book 12 --json",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, _, err := f.records(args[0])
			if err != nil {
				return err
			}
			n := len(all)
			if len(args) == 2 {
				if _, err := fmt.Sscanf(args[1], "%d", &n); err != nil {
					return invalid(fmt.Sprintf("%.20q is no number of a record", args[1]), "")
				}
			}
			if n < 1 || n > len(all) {
				return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: fmt.Sprintf("there is no record %d", n), Hint: fmt.Sprintf("the book has %d", len(all))}
			}
			r := all[n-1]
			return show(cmd, asJSON, r, func(w io.Writer) {
				facts(w, "record", fmt.Sprint(r.Number), "at", stamp(r.At), "host", r.Host, "firewall", r.Firewall, "version", r.Version, "changed", join(r.Changed, ", "), "needs", r.Needs, "site file", r.Site, "rules", r.Rules, "failure", r.Failure)
				if r.Proof != nil {
					printComparison(w, r.Proof)
				}
			})
		},
	}
	return jsonFlag(f.flags(cmd), &asJSON)
}

func newEvidenceRulesCommand() *cobra.Command {
	f := &bookFlags{}
	var n int
	var exact, replace bool
	cmd := &cobra.Command{
		Use: "rules DIR", Short: "Print the rules of a record, as the firewall printed them",
		Long: "rules prints what the firewall said when a record was made, after the whole book was checked: the last, one by its number, or the last that was proved exact, to go back to. What nftables prints\n" +
			"would be loaded beside what is in force; with --replace it takes its place, in one transaction.",
		Example: "  ringfence network evidence rules ./book --record 12\n  ringfence network evidence rules ./book --last-exact --replace | nft -j -f -",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, _, err := f.records(args[0])
			if err != nil {
				return err
			}
			for i := len(all) - 1; i >= 0; i-- {
				r := all[i]
				if n != 0 && r.Number != n || r.Proof == nil || exact && r.Proof.Verdict != prove.Exact {
					continue
				}
				text, err := evidence.Rules(args[0], r)
				if err == nil && replace {
					text, err = inPlace(r.Firewall, text)
				}
				if err == nil {
					_, err = cmd.OutOrStdout().Write(text)
				}
				return err
			}
			return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the book has no such record", Hint: "`ringfence network evidence check` lists them"}
		},
	}
	cmd.Flags().IntVar(&n, "record", 0, "of this record (default: the last)")
	cmd.Flags().BoolVar(&exact, "last-exact", false, "of the last that was proved exact")
	cmd.Flags().BoolVar(&replace, "replace", false, "for nft to put in the place of all that is in force (nftables)")
	cmd.MarkFlagsMutuallyExclusive("record", "last-exact")
	return f.flags(cmd)
}

// inPlace puts a command before the rules that takes out all others: what nft lists is what it adds when it is loaded.
func inPlace(firewall string, listed []byte) ([]byte, error) {
	if firewall != "nftables" {
		return nil, invalid("--replace is for nftables", "the rules are of "+firewall+", whose own command replaces what is in force (`iptables-restore`, the commands of a device)")
	}
	var ruleset struct {
		Commands []json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal(listed, &ruleset); err != nil {
		return nil, invalid("the record's rules are not what `nft -j list ruleset` prints", err.Error())
	}
	ruleset.Commands = slices.Insert(ruleset.Commands, 0, json.RawMessage(`{"flush":{"ruleset":null}}`))
	return json.Marshal(ruleset)
}
