package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

func newLoginCommand(a *app) *cobra.Command {
	var code, ca, pin, name, tokenFile string
	cmd := &cobra.Command{
		Use: "login --node HOST (--code CODE | --token-file FILE) (--pin SHA256 | --ca FILE)", Short: "Get a token for a node elsewhere",
		Long: "login trades the one-time administrator code, which `ringfence up` prints at its first start, for a token, and keeps it with the node's\n" +
			"trust anchor in your configuration directory, readable by you only. Whom to trust must be said: by the anchor's SHA-256 (--pin), which\n" +
			"`ringfence up` and `ringfence trust` print, or by its file (--ca).\n\n" +
			"A new code is made on the node's host with `ringfence token code`. With --token-file it keeps a token that `ringfence token add` made there, for a host that may do less, such as one that tests a site.",
		Example: "  ringfence login --node pbx.example.com --code 3k7d1-9xq2m-4t6vw-8zp0a --pin 9f86d08…\n  ringfence status --node pbx.example.com\n  ringfence login --node pbx.example.com --token-file token.txt --ca ringfence.pem",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.node == "" || (ca == "") == (pin == "") || (code == "") == (tokenFile == "") {
				return invalid("login needs --node, either --code or --token-file, and either --pin or --ca", "see `ringfence login --help`")
			}
			at, err := hostPort(a.node)
			if err != nil {
				return err
			}
			anchor, err := anchorOf(cmd, at, ca, pin)
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(anchor) {
				return invalid("the trust anchor is not a PEM certificate", "fetch it with `ringfence trust ca export` on the node's host")
			}
			c, err := remote(at, &tls.Config{RootCAs: roots}, "")
			if err != nil {
				return err
			}
			defer c.Close()
			var t api.TokenAdded
			if tokenFile != "" {
				if t.Secret, err = readToken(cmd, tokenFile); err == nil {
					_, err = c.Anchor(cmd.Context())
				}
			} else {
				err = c.Do(cmd.Context(), http.MethodPost, "/login", nil, api.Login{Code: code, Name: name}, &t)
			}
			if err != nil {
				return err
			}
			all, err := readLogins()
			if err != nil {
				return err
			}
			all[at] = login{Token: t.Secret, Anchor: string(anchor)}
			if err := writeLogins(all); err != nil {
				return err
			}
			if tokenFile != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "the token for %s is kept; use it with --node %s\n", at, at)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "logged in to %s as %q until %s; use it with --node %s\n", at, t.Name, stamp(t.Expires), at)
			return nil
		},
	}
	cmd.Flags().StringVar(&code, "code", "", "the one-time administrator code")
	cmd.Flags().StringVar(&ca, "ca", "", "file with the node's trust anchor (PEM)")
	cmd.Flags().StringVar(&pin, "pin", "", "SHA-256 of the node's trust anchor, in hexadecimal")
	cmd.Flags().StringVar(&name, "name", whoAmI(), "who you are, as the audit shows it")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file of a token that ringfence token add made, its first line, in place of a code; -: standard input")
	return cmd
}

// readToken reads a token: the first line of a file.
func readToken(cmd *cobra.Command, file string) (string, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the token cannot be read: " + file, Err: err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 1024))
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSpace(line); err != nil || !strings.HasPrefix(line, "rf_") {
		return "", invalid("the first line of "+file+" is no token", "`ringfence token add NAME --scope SCOPE` makes one and shows it once")
	}
	return line, nil
}

// whoAmI suggests a name for a token.
func whoAmI() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += " on " + host
	}
	return name
}

// anchorOf returns the trust anchor of a file, or fetches the one whose fingerprint is given. What is fetched is believed only
// if it fits the fingerprint; the connection it came over is not used for anything else.
func anchorOf(cmd *cobra.Command, at, file, pin string) ([]byte, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "the trust anchor cannot be read", Err: err}
		}
		return b, nil
	}
	want := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(pin))
	if len(want) != 64 || strings.Trim(want, "0123456789abcdef") != "" {
		return nil, invalid("--pin is no SHA-256: 64 hexadecimal digits are needed", "`ringfence trust` on the node's host prints it")
	}
	c, err := remote(at, &tls.Config{InsecureSkipVerify: true}, "") // only to fetch what the fingerprint proves
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := c.Anchor(cmd.Context())
	if err != nil {
		return nil, err
	}
	if fingerprint(b) != want {
		return nil, &ringfence.Fault{Kind: ringfence.KindInsecure, Text: "the node at " + at + " has another trust anchor than the one of --pin", Hint: "compare with `ringfence trust` on the node's host; somebody may be in between"}
	}
	return b, nil
}

func newTokenCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "token", Short: "Who may administer from elsewhere",
		Long:    "A token lets a person or program use the API over HTTPS, with the scope read, write, admin or readiness. On the node's own host, root and the node's\nuser need none.",
		Example: "  ringfence token add monitoring --scope read\n  ringfence token list"},
		newTokenAddCommand(a), newTokenListCommand(a), newTokenRemoveCommand(a), newTokenCodeCommand(a))
}

func newTokenAddCommand(a *app) *cobra.Command {
	var asJSON bool
	var scope string
	var days int
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make a token; it is shown once",
		Long:    "add makes a token. Only its hash is kept, so it is shown only now. read looks at everything but the configuration, write also changes users,\ndevices and calls, admin also configuration and tokens; readiness only hands in reports of\nreadiness tests.",
		Example: "  ringfence token add monitoring --scope read --days 365\n  curl -H \"Authorization: Bearer $TOKEN\" --cacert ringfence.pem https://pbx.example.com:8443/metrics",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var t api.TokenAdded
			if err := a.ask(cmd.Context(), http.MethodPost, "/tokens", nil, api.NewToken{Name: args[0], Scope: scope, Days: days}, &t); err != nil {
				return err
			}
			return show(cmd, asJSON, t, func(w io.Writer) {
				facts(w, "token", t.Secret, "id", t.ID, "scope", strings.Join(t.Scopes, ","), "expires", stamp(t.Expires))
			})
		},
	}
	cmd.Flags().StringVar(&scope, "scope", "read", "read, write, admin or readiness")
	cmd.Flags().IntVar(&days, "days", 90, "how long it is good for")
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{"read", "write", "admin", "readiness"}, cobra.ShellCompDirectiveNoFileComp))
	return jsonFlag(cmd, &asJSON)
}

func newTokenListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List tokens", Long: "list shows the tokens without their secrets.", Example: "  ringfence token list",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.Token
			if err := a.ask(cmd.Context(), http.MethodGet, "/tokens", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, t := range all {
					rows = append(rows, []string{t.ID, t.Name, strings.Join(t.Scopes, ","), stamp(t.Expires)})
				}
				table(w, []string{"TOKEN", "NAME", "SCOPE", "EXPIRES"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newTokenRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Remove a token; it stops working at once", Long: "remove deletes a token.", Example: "  ringfence token remove t1f0c9a3e",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, "/tokens/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "token %s is removed\n", args[0])
			return nil
		},
	}
}

func newTokenCodeCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "code", Short: "Make a new one-time administrator code",
		Long:    "code makes a new administrator code for `ringfence login`. It is good once, for 24 hours, and replaces the one before.",
		Example: "  ringfence token code",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c api.AdminCode
			if err := a.ask(cmd.Context(), http.MethodPost, "/admin-code", nil, nil, &c); err != nil {
				return err
			}
			return show(cmd, asJSON, c, func(w io.Writer) { facts(w, "code", c.Code, "expires", stamp(c.Expires)) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newTrustCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "trust", Short: "Show the trust anchor",
		Long:    "trust prints the name, end and SHA-256 of the node's trust anchor, which phones and administrators verify the node by.",
		Example: "  ringfence trust\n  ringfence trust ca export > ringfence.pem",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.anchor(cmd)
			if err != nil {
				return err
			}
			cert, err := readCertificate(b)
			if err != nil {
				return err
			}
			v := struct {
				Subject  string `json:"subject"`
				NotAfter string `json:"not_after"`
				SHA256   string `json:"sha256"`
			}{cert.Subject.String(), stamp(cert.NotAfter), fingerprint(b)}
			return show(cmd, asJSON, v, func(w io.Writer) { facts(w, "subject", v.Subject, "until", v.NotAfter, "SHA-256", v.SHA256) })
		},
	}
	cmd.AddCommand(newTrustStatusCommand(a), newTrustListCommand(a), newTrustShowCommand(a), newTrustIssueCommand(a), newTrustRenewCommand(a), newTrustRevokeCommand(a), newAnchorCommand(a), newIdentityCommand(a), newCAPFCommand(a), newACMECommand(a),
		newTrustRehearseCommand(a), newTrustCACommand(a), newSealCommand(a), newPublicCommand(a), newTrustFileCommand())
	return jsonFlag(cmd, &asJSON)
}

func newTrustRevokeCommand(a *app) *cobra.Command {
	var reason, name string
	cmd := &cobra.Command{
		Use: "revoke SERIAL | --name NAME", Short: "Revoke a certificate, or all of a name",
		Long:    "revoke withdraws one certificate, or every good one of a name, and closes the connections that were made with it. For a phone use\n`ringfence device revoke`.",
		Example: "  ringfence trust revoke 5f3c9a1b --reason \"proxy was replaced\"\n  ringfence trust revoke --name carrier-1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := api.RevokeSerial{Name: name, Reason: reason}
			if len(args) > 0 {
				in.Serial = args[0]
			}
			var e api.Ended
			if err := a.ask(cmd.Context(), http.MethodPost, "/trust/revoke", nil, in, &e); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "certificate %s is revoked: %s\n", in.Serial+in.Name, ended(e))
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "instead of a serial: every good certificate of this name")
	cmd.Flags().StringVar(&reason, "reason", "", "kept with the certificate")
	return cmd
}

func (a *app) anchor(cmd *cobra.Command) (b []byte, err error) {
	err = a.ask(cmd.Context(), http.MethodGet, "/trust/anchor", nil, nil, &b)
	return b, err
}

func newAuditCommand(a *app) *cobra.Command {
	var asJSON bool
	limit := 50
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who did what",
		Long:    "audit lists the latest entries of the audit: logins, changes of users, devices and configuration, signatures and revocations. Entries are only\never added.",
		Example: "  ringfence audit --limit 20\n  ringfence audit --json | jq '.[] | select(.what == \"device.revoke\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.AuditEntry
			if err := a.ask(cmd.Context(), http.MethodGet, "/audit", url.Values{"limit": {strconv.Itoa(limit)}}, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, e := range all {
					rows = append(rows, []string{strconv.FormatInt(e.ID, 10), stamp(e.At), e.Who, e.What, e.Target, e.Outcome})
				}
				table(w, []string{"ID", "AT", "WHO", "WHAT", "TARGET", "OUTCOME"}, rows)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", limit, "at most so many entries")
	return jsonFlag(cmd, &asJSON)
}
