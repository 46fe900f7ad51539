package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/trustlist"
)

func newTrustListsCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "trustlist", Short: "The trust lists of enterprise phones: ITL and CTL",
		Long: "trustlist is about the lists of certificates that enterprise phones believe: those that the node publishes, and files. It says before a list is published which phones\n" +
			"hold which one and who would be lost. docs/guides/trust-lists.md shows the whole.",
		Example: "  ringfence trustlist status\n  ringfence trustlist plan --rotate a\n  ringfence trustlist show ITLFile.tlv\n  ringfence trustlist plan --from ITLFile.old --to ITLFile.tlv"},
		newListStatusCommand(a), newListShowCommand(a), newListBuildCommand(), newListVerifyCommand(), newListPlanCommand(a), newListPublishCommand(a), newListRotateCommand(a), newListAskCommand())
}

func listFile(name string) (*trustlist.List, error) {
	b, err := load(name)
	if err != nil {
		return nil, err
	}
	return trustlist.Parse(b)
}

// listView is a list as JSON.
type listView struct {
	Name    string             `json:"name"`
	Version string             `json:"version"`
	Signer  string             `json:"signer"`
	Digest  string             `json:"digest"`
	Time    time.Time          `json:"time"`
	Records []trustlist.Record `json:"records"`
}

func viewOf(l *trustlist.List) listView {
	return listView{l.Name, l.Version.String(), l.Signer.Name, l.Digest.String(), l.Time, l.Records}
}

func newListShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show FILE|itl|ctl|json", Short: "Show a list as a phone shows its own",
		Long:    "show reads a file, or takes the list that the node publishes. It prints the header and each record of a list, element by element. It ends with whether the signature holds by the list's own signers, which\nsays that the list is whole, and nothing about who made it.",
		Example: "  ringfence trustlist show itl\n  ringfence trustlist show ITLFile.tlv\n  ringfence trustlist show CTLFile.tlv --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.list(cmd, args[0])
			if err != nil {
				return err
			}
			if err := show(cmd, asJSON, viewOf(l), func(w io.Writer) { _ = l.Show(w) }); err != nil {
				return err
			}
			if _, err := l.VerifyBy(l.Signers()); err != nil {
				return err
			}
			if !asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "\nThe list is whole: signed by %s, a SAST of its own.\n", l.Signer.Name)
			}
			return nil
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newListBuildCommand() *cobra.Command {
	var by signerFlags
	var records []string
	var out, name string
	cmd := &cobra.Command{
		Use: "build --cert FILE --key FILE --record ROLE=FILE…", Short: "Build and sign a list",
		Long: "build writes a list. The signer must be one of its two SASTs; the other is there so that the loss of one key strands nobody. Roles are SAST, CCM,\n" +
			"CCM+TFTP, TFTP, CAPF, APP-SERVER and TVS.",
		Example: "  ringfence trustlist build --cert a.pem --key a.key --record SAST=a.pem --record SAST=b.pem --record CCM+TFTP=node.pem --record TVS=node.pem -o ITLFile.tlv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cert, key, err := by.read()
			if err != nil {
				return err
			}
			var entries []trustlist.Entry
			for _, r := range records {
				role, file, ok := strings.Cut(r, "=")
				if !ok {
					return invalid(fmt.Sprintf("%.60q is no record", r), "write ROLE=FILE")
				}
				e := trustlist.Entry{}
				if e.Role, err = trustlist.ParseRole(role); err != nil {
					return err
				}
				if e.Cert, err = certificateFile(file); err != nil {
					return err
				}
				entries = append(entries, e)
			}
			if name == "" {
				name = baseName(out)
			}
			b, err := trustlist.Build(trustlist.Options{Name: name, Time: time.Now(), Digest: by.digest()}, entries, cert, key)
			if err != nil {
				return err
			}
			return save(cmd, out, b)
		},
	}
	by.add(cmd)
	cmd.Flags().StringArrayVar(&records, "record", nil, "a certificate with its role, as ROLE=FILE; may be repeated")
	cmd.Flags().StringVarP(&out, "out", "o", "ITLFile.tlv", "where to write it; -: standard output")
	cmd.Flags().StringVar(&name, "name", "", "the name in the list, if it is not that of the file")
	for _, f := range []string{"cert", "key", "record"} {
		_ = cmd.MarkFlagRequired(f)
	}
	return cmd
}

func newListVerifyCommand() *cobra.Command {
	var cert, held string
	cmd := &cobra.Command{
		Use: "verify FILE (--cert FILE | --held FILE)", Short: "Check who signed a list",
		Long:    "verify checks a list by the certificate of its signer, or as a phone does: by the list that the phone holds.",
		Example: "  ringfence trustlist verify ITLFile.tlv --held ITLFile.old",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := listFile(args[0])
			if err != nil {
				return err
			}
			var signers []*x509.Certificate
			if held != "" {
				old, err := listFile(held)
				if err != nil {
					return err
				}
				signers = old.Signers()
			} else {
				c, err := certificateFile(cert)
				if err != nil {
					return err
				}
				signers = append(signers, c)
			}
			who, err := l.VerifyBy(signers)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s was signed by %s at %s, and nothing was changed since\n", l.Name, who.Subject, stamp(l.Time))
			return nil
		},
	}
	cmd.Flags().StringVar(&cert, "cert", "", "certificate of the signer (PEM)")
	cmd.Flags().StringVar(&held, "held", "", "the list that a phone holds")
	cmd.MarkFlagsOneRequired("cert", "held")
	cmd.MarkFlagsMutuallyExclusive("cert", "held")
	return cmd
}

func newListPlanCommand(a *app) *cobra.Command {
	var from, to, rotate string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "plan [--rotate SIGNER | --from FILE --to FILE]", Short: "Say what phones would make of a list before it is published",
		Long: "plan asks the node what publishing would do: what changes, which phones hold which list, and who would be lost. --rotate plans another signer. With --from and --to it\n" +
			"asks no node, but says whether phones that hold the one file would take the other, and whether a phone that misses this step would still take the next. It fails if\n" +
			"phones would be lost.",
		Example: "  ringfence trustlist plan\n  ringfence trustlist plan --rotate a --json\n  ringfence trustlist plan --from ITLFile.old --to ITLFile.tlv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				q := url.Values{}
				if rotate != "" {
					q.Set("rotate", rotate)
				}
				var p api.ListPlan
				if err := a.ask(cmd.Context(), http.MethodGet, "/trustlists/plan", q, nil, &p); err != nil {
					return err
				}
				if err := show(cmd, asJSON, p, func(w io.Writer) { printListPlan(w, p) }); err != nil {
					return err
				}
				for _, h := range p.Held {
					if h.Lost && p.Changes {
						return &ringfence.Fault{Kind: ringfence.KindDenied, Text: fmt.Sprintf("phones that hold version %d would be lost", h.Version), Hint: "let them fetch the present list first"}
					}
				}
				return nil
			}
			old, err := listFile(from)
			if err != nil {
				return err
			}
			next, err := listFile(to)
			if err != nil {
				return err
			}
			s := trustlist.Plan(old, next)
			if err := show(cmd, asJSON, s, func(w io.Writer) { printStep(w, s) }); err != nil {
				return err
			}
			switch {
			case !s.Taken:
				return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "phones that hold " + from + " would refuse " + to + ", and be lost", Hint: "sign it with a SAST of the list that they hold"}
			case s.Stranded:
				return &ringfence.Fault{Kind: ringfence.KindDenied, Text: "no signer of the old list is left in the new one: phones that miss this step are lost by it", Hint: "change one SAST at a time, and the second when every phone has the first change"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the list that phones hold")
	cmd.Flags().StringVar(&to, "to", "", "the list that is to be published")
	cmd.Flags().StringVar(&rotate, "rotate", "", "plan another signer in this place: a or b")
	cmd.MarkFlagsRequiredTogether("from", "to")
	cmd.MarkFlagsMutuallyExclusive("from", "rotate")
	return jsonFlag(cmd, &asJSON)
}

func printStep(w io.Writer, s trustlist.Step) {
	taken := "no: "
	if s.Taken {
		taken = "yes: "
	}
	fmt.Fprintln(w, "Taken: "+taken+s.Why)
	var rows [][]string
	for _, r := range s.Added {
		rows = append(rows, []string{"+", r.Role.String(), r.Subject, fmt.Sprintf("%x", r.Serial)})
	}
	for _, r := range s.Removed {
		rows = append(rows, []string{"-", r.Role.String(), r.Subject, fmt.Sprintf("%x", r.Serial)})
	}
	if len(rows) > 0 {
		table(w, []string{"", "ROLE", "SUBJECT", "SERIAL"}, rows)
	}
}
