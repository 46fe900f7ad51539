package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

func newTrustStatusCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the state of trust on one page",
		Long:    "status shows the authority's own certificates, how many it has signed, whose certificate ends next and how it gets another, and the last\nconnections that were not let in, with the reason and what to do.",
		Example: "  ringfence trust status\n  ringfence trust status --json | jq .refused",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var t api.TrustStatus
			if err := a.ask(cmd.Context(), http.MethodGet, "/trust/status", nil, nil, &t); err != nil {
				return err
			}
			return show(cmd, asJSON, t, func(w io.Writer) { printTrust(w, t) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func printTrust(w io.Writer, t api.TrustStatus) {
	printAuthorities(w, t.Authorities)
	var rows [][]string
	for _, c := range t.Certificates {
		rows = append(rows, []string{c.Role, strconv.Itoa(c.Live), strconv.Itoa(c.Expired), strconv.Itoa(c.Revoked)})
	}
	fmt.Fprintln(w)
	table(w, []string{"ROLE", "LIVE", "EXPIRED", "REVOKED"}, rows)
	rows = nil
	for _, e := range t.Next {
		rows = append(rows, []string{e.Role, e.Name, stamp(e.Until), e.Renew})
	}
	fmt.Fprintln(w)
	table(w, []string{"ENDS NEXT", "NAME", "UNTIL", "RENEWED"}, rows)
	fmt.Fprintln(w)
	if len(t.Refused) == 0 {
		fmt.Fprintln(w, "No connection was refused since the node started.")
		return
	}
	fmt.Fprintln(w, "Not let in, the latest first:")
	for _, r := range t.Refused {
		fmt.Fprintf(w, "  %s  %s  %s  %s\n", stamp(r.At), r.Flow, r.Remote, r.Cause)
		if r.Hint != "" {
			fmt.Fprintf(w, "      %s\n", r.Hint)
		}
	}
}

func printAuthorities(w io.Writer, all []api.Authority) {
	var rows [][]string
	for _, a := range all {
		successor, key := stamp(a.Renewal), "here"
		if a.ByHand {
			successor = "by hand"
		}
		if a.KeyAway {
			key = "elsewhere"
		}
		rows = append(rows, []string{a.Kind, a.Subject, a.Serial, stamp(a.NotAfter), successor, yes(a.Signs), key})
	}
	table(w, []string{"AUTHORITY", "SUBJECT", "SERIAL", "UNTIL", "SUCCESSOR", "SIGNS", "KEY"}, rows)
}

func newTrustListCommand(a *app) *cobra.Command {
	var asJSON bool
	var role, name, state string
	cmd := &cobra.Command{
		Use: "list", Short: "List the certificates that were signed",
		Long:    "list shows the certificates that the node's authority signed, by serial.",
		Example: "  ringfence trust list --state live --role trunk\n  ringfence trust list --name alice-desk --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []api.CertificateRecord{}
			for after := ""; ; {
				q := url.Values{"limit": {"1000"}}
				for k, v := range map[string]string{"after": after, "role": role, "name": name, "state": state} {
					if v != "" {
						q.Set(k, v)
					}
				}
				var page []api.CertificateRecord
				if err := a.ask(cmd.Context(), http.MethodGet, "/certificates", q, nil, &page); err != nil {
					return err
				}
				all = append(all, page...)
				if len(page) < 1000 {
					break
				}
				after = page[len(page)-1].Serial
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, c := range all {
					rows = append(rows, []string{c.Serial, c.Role, c.Name, c.State, stamp(c.NotBefore), stamp(c.NotAfter), c.Reason})
				}
				table(w, []string{"SERIAL", "ROLE", "NAME", "STATE", "FROM", "UNTIL", "REASON"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "only of this role: node, device, admin, proxy, trunk, cti, machine, signer or service")
	cmd.Flags().StringVar(&name, "name", "", "only of this name")
	cmd.Flags().StringVar(&state, "state", "", "only in this state: live, expired or revoked")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"node", "device", "admin", "proxy", "trunk", "cti", "machine", "signer", "service"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions([]string{"live", "expired", "revoked"}, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

func newTrustShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show SERIAL", Short: "Show a certificate", Long: "show prints what is known of a certificate, and the certificate as PEM with the authority that signed it.",
		Example: "  ringfence trust show 5f3c9a1b\n  ringfence trust show 5f3c9a1b --json | jq -r .pem | openssl x509 -noout -text",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var c api.CertificateRecord
			if err := a.ask(cmd.Context(), http.MethodGet, "/certificates/"+url.PathEscape(strings.ToLower(args[0])), nil, nil, &c); err != nil {
				return err
			}
			return show(cmd, asJSON, c, func(w io.Writer) {
				facts(w, "serial", c.Serial, "subject", c.Subject, "role", c.Role, "state", c.State, "from", stamp(c.NotBefore), "until", stamp(c.NotAfter), "revoked", stamp(c.RevokedAt), "reason", c.Reason)
				fmt.Fprint(w, "\n"+c.PEM)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newTrustIssueCommand(a *app) *cobra.Command {
	var in api.NewCertificate
	var csr string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "issue --role ROLE --name NAME --csr FILE", Short: "Certify a key",
		Long: "issue signs a certificate for the key of a certificate request, and prints it with its authority as PEM. The role decides what the certificate may\n" +
			"say and for how long; everything but the key in the request is ignored. The key stays where it was made.",
		Example: "  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout carrier.key -subj /CN=x -out carrier.csr\n" +
			"  ringfence trust issue --role trunk --name carrier-1 --host sbc.carrier.example --csr carrier.csr > carrier.pem",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := os.ReadFile(csr)
			if err != nil {
				return invalid(err.Error(), "make one with: openssl req -new")
			}
			in.CSR = string(text)
			var out api.Issued
			if err := a.ask(cmd.Context(), http.MethodPost, "/certificates", nil, in, &out); err != nil {
				return err
			}
			if !asJSON {
				fmt.Fprintf(cmd.ErrOrStderr(), "serial %s, good until %s\n", out.Serial, stamp(out.Until))
			}
			return show(cmd, asJSON, out, func(w io.Writer) { fmt.Fprint(w, out.PEM) })
		},
	}
	cmd.Flags().StringVar(&in.Role, "role", "", "what its holder is: device, proxy, trunk, cti, admin or machine")
	cmd.Flags().StringVar(&in.Name, "name", "", "its name")
	cmd.Flags().StringVar(&csr, "csr", "", "certificate request (PKCS #10, PEM)")
	cmd.Flags().StringSliceVar(&in.Hosts, "host", nil, "host name or address of a proxy, trunk or machine; may be repeated")
	cmd.Flags().StringSliceVar(&in.URIs, "uri", nil, "SIP URI (RFC 5922); may be repeated")
	cmd.Flags().IntVar(&in.Days, "days", 0, "how long it lives; 0: as is usual for the role")
	for _, f := range []string{"role", "name", "csr"} {
		_ = cmd.MarkFlagRequired(f)
	}
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"device", "proxy", "trunk", "cti", "admin", "machine"}, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

func newTrustRenewCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "renew", Short: "Renew the node's own certificate now",
		Long:    "renew gives the node a new key and certificate at once. It does that by itself after two thirds of a certificate's life; connections that are\nup stay. Phones renew by themselves too.",
		Example: "  ringfence trust renew",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.ask(cmd.Context(), http.MethodPost, "/trust/renewal", nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the node has a new certificate")
			return nil
		},
	}
}

func newTrustCACommand(a *app) *cobra.Command {
	var asJSON bool
	rotate := &cobra.Command{
		Use: "rotate", Short: "Sign a new issuing authority",
		Long: "rotate signs a new issuing authority, and the node's own certificate by it. What the old one signed stays good, so nobody is lost. It happens by\n" +
			"itself when a third of the old one's life is left.",
		Example: "  ringfence trust ca rotate",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.Authority
			if err := a.ask(cmd.Context(), http.MethodPost, "/trust/rotation", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) { printAuthorities(w, all) })
		},
	}
	return group(&cobra.Command{Use: "ca", Short: "The authority itself",
		Long: "ca is about the authority's own certificates: the root, which may be kept elsewhere or be somebody else's, and the issuing authority that signs for everybody.\n" +
			"docs/guides/authority.md shows the three ways to have one.",
		Example: "  ringfence trust ca rotate\n  ringfence trust ca export --chain > ringfence-chain.pem\n  ringfence trust ca offline --out root.key"},
		newTrustInitCommand(a), newTrustRequestCommand(a), newTrustImportCommand(a), jsonFlag(rotate, &asJSON), newTrustExportCommand(a), newTrustOfflineCommand(a), newTrustSignCommand())
}

func newTrustRehearseCommand(a *app) *cobra.Command {
	var asJSON bool
	var at string
	cmd := &cobra.Command{
		Use: "rehearse --at TIME", Short: "Say who would be lost if the clock stood at a time",
		Long: "rehearse says who would stand without a good certificate at a time if nothing were done until then: phones that are not connected, proxies and\n" +
			"trunks that nobody renews, an authority that ends; and who renews by itself. It fails if anybody would be lost.",
		Example: "  ringfence trust rehearse --at +90d\n  ringfence trust rehearse --at 2030-01-31T00:00:00Z --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := readTime(at, time.Now())
			if err != nil {
				return err
			}
			var r api.Rehearsal
			if err := a.ask(cmd.Context(), http.MethodGet, "/trust/rehearsal", url.Values{"at": {t.UTC().Format(time.RFC3339)}}, nil, &r); err != nil {
				return err
			}
			if err := show(cmd, asJSON, r, func(w io.Writer) { printRehearsal(w, r) }); err != nil || r.OK {
				return err
			}
			return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("%d would be lost by %s", len(r.Lost), stamp(r.At)), Hint: "the table says what to do about each"}
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "a time to come: +90d, +36h, or RFC 3339")
	_ = cmd.MarkFlagRequired("at")
	return jsonFlag(cmd, &asJSON)
}

func printRehearsal(w io.Writer, r api.Rehearsal) {
	if r.OK {
		fmt.Fprintf(w, "Nobody would be lost by %s.\n", stamp(r.At))
	} else {
		var rows [][]string
		for _, l := range r.Lost {
			rows = append(rows, []string{l.Role, l.Name, stamp(l.Until), l.Why, l.Do})
		}
		table(w, []string{"LOST", "NAME", "GOOD UNTIL", "WHY", "WHAT TO DO"}, rows)
	}
	if n := len(r.Renewing); n > 0 {
		fmt.Fprintf(w, "%d renew by themselves before.\n", n)
	}
}

// readTime reads a time to come: +90d, +36h, or RFC 3339.
func readTime(text string, now time.Time) (time.Time, error) {
	if after, ok := strings.CutPrefix(text, "+"); ok {
		if days, ok := strings.CutSuffix(after, "d"); ok {
			if n, err := strconv.ParseUint(days, 10, 16); err == nil {
				return now.AddDate(0, 0, int(n)), nil
			}
		}
		if d, err := time.ParseDuration(after); err == nil && d > 0 {
			return now.Add(d), nil
		}
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	return time.Time{}, invalid(fmt.Sprintf("%.40q is no time", text), "write +90d, +36h or 2030-01-31T00:00:00Z")
}
