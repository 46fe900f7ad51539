package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newACMECommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "acme", Short: "Certificates of the site's own machines, by ACME",
		Long: "acme says which machines of the site may order certificates by ACME (RFC 8555), with certbot or any other client. Each needs a binding: a key id and a key that are\n" +
			"good for one account, and say which names it may have. The node serves it with acme.serve. docs/guides/acme.md shows it.",
		Example: "  ringfence trust acme add web-1 --allow web-1.example.org\n  ringfence trust acme list"},
		newACMEAddCommand(a), newACMEListCommand(a), newACMEWithdrawCommand(a))
}

func newACMEAddCommand(a *app) *cobra.Command {
	var asJSON bool
	var in api.NewACMEBinding
	var expires string
	cmd := &cobra.Command{
		Use: "add NAME --allow NAMES", Short: "Let a machine order certificates", Args: cobra.ExactArgs(1),
		Long: "add prints, once, the key id and the key that a machine makes its account with. --allow says what it may order: a host name, .example.org for every name below, a wildcard as\n" +
			"it stands, an address or a network. That the names are its own it must still show, by http-01, dns-01 or tls-alpn-01.",
		Example: "  ringfence trust acme add web-1 --allow web-1.example.org\n  ringfence trust acme add lab --allow .lab.example.org --allow 192.0.2.0/24 --expires +7d --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name = args[0]
			if expires != "" {
				t, err := readTime(expires, time.Now())
				if err != nil {
					return err
				}
				in.Expires = t
			}
			var b api.ACMEBinding
			if err := a.ask(cmd.Context(), http.MethodPost, "/acme/bindings", nil, in, &b); err != nil {
				return err
			}
			return show(cmd, asJSON, b, func(w io.Writer) {
				facts(w, "server", b.Server, "key id", b.KeyID, "key", b.Key, "may order", strings.Join(b.Allow, " "), "account until", stamp(b.Expires))
				fmt.Fprintf(w, "\nThe key is shown only now. With certbot, which must believe `ringfence trust ca export`:\n  REQUESTS_CA_BUNDLE=ringfence.pem certbot certonly --standalone --server %s \\\n    --eab-kid %s --eab-hmac-key %s -d NAME\n", b.Server, b.KeyID, b.Key)
			})
		},
	}
	cmd.Flags().StringArrayVar(&in.Allow, "allow", nil, "what it may order; may be repeated")
	cmd.Flags().StringVar(&expires, "expires", "", "until when the account can be made, e.g. +7d")
	_ = cmd.MarkFlagRequired("allow")
	return jsonFlag(cmd, &asJSON)
}

func newACMEListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List which machines may order certificates", Args: cobra.NoArgs, Long: "list shows the bindings, what each may order, and the account that was made with it. Certificates are in `ringfence trust list --role machine`.",
		Example: "  ringfence trust acme list\n  ringfence trust acme list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.ACMEBinding
			if err := a.ask(cmd.Context(), http.MethodGet, "/acme/bindings", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, b := range all {
					rows = append(rows, []string{b.Name, b.State, strings.Join(b.Allow, " "), b.KeyID, b.Account, stamp(b.Expires)})
				}
				table(w, []string{"NAME", "STATE", "MAY ORDER", "KEY ID", "ACCOUNT", "ACCOUNT UNTIL"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newACMEWithdrawCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "withdraw NAME", Short: "End what a machine may order", Args: cobra.ExactArgs(1),
		Long:    "withdraw ends the account that was made with a binding, or that could be. Its certificates stay good until they end or are revoked.",
		Example: "  ringfence trust acme withdraw web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, "/acme/bindings/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s can order nothing any more.\n", args[0])
			return nil
		},
	}
}
