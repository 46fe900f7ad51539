package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

func newPublicCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "public", Short: "The certificate for public names, by ACME",
		Long: "public is about the certificate of a public authority that the node keeps for names which everybody's programs know, such as the one that browsers use: trust.public in the\n" +
			"configuration says for which names and by which authority. The node orders and renews it by itself. TLS settings present it as the identity public.\n" +
			"docs/guides/public-names.md shows it.",
		Example: "  ringfence trust public status\n  ringfence trust public renew\n  ringfence tls set /interface/https identity public --force"},
		newPublicStatusCommand(a), newPublicRenewCommand(a))
}

func newPublicStatusCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the certificate for public names, and how its orders go", Args: cobra.NoArgs,
		Long: "status shows the names, the certificate that is in use for them and when it is renewed, what the last order did step by step, and why it failed if it did. After a failure the\n" +
			"node tries again by itself: after a quarter of an hour at first, then later and later up to six hours, and never before the authority allows it.",
		Example: "  ringfence trust public status\n  ringfence trust public status --json | jq .until",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p api.PublicNames
			if err := a.ask(cmd.Context(), http.MethodGet, "/public", nil, nil, &p); err != nil {
				return err
			}
			return show(cmd, asJSON, p, func(w io.Writer) {
				printPublic(w, p)
				for i, s := range p.Steps {
					if i == 0 {
						fmt.Fprintln(w, "\nThe last order:")
					}
					printPublicStep(w, s)
				}
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func printPublic(w io.Writer, p api.PublicNames) {
	facts(w, "names", strings.Join(p.Names, " "), "identity", p.Alias, "authority", p.Directory, "challenge", p.Challenge, "account", p.Account, "state", p.State, "certificate", p.Serial, "issuer", p.Issuer, "until", stamp(p.Until),
		"renewal", stamp(p.Renewal), "next attempt", stamp(p.Next), "failures", strconv.Itoa(p.Failures), "error", p.Error)
	if p.Hint != "" {
		fmt.Fprintln(w, "hint: "+p.Hint)
	}
}

func printPublicStep(w io.Writer, s api.PublicStep) {
	fmt.Fprintf(w, "  %s  %s\n", stamp(s.At), s.Text)
}

func newPublicRenewCommand(a *app) *cobra.Command {
	var asJSON, noWait bool
	cmd := &cobra.Command{
		Use: "renew", Short: "Order a new certificate now", Args: cobra.NoArgs,
		Long: "renew begins an order and prints what it does until it is over. The certificate that is there stays in use until there is a new one, which is presented from the next handshake\n" +
			"on. Where the authority said that it takes no order from us for a while, none is made before.",
		Example: "  ringfence trust public renew\n  ringfence trust public renew --no-wait --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p api.PublicNames
			if err := a.ask(cmd.Context(), http.MethodPost, "/public/renewal", nil, nil, &p); err != nil {
				return err
			}
			if !noWait {
				var err error
				if p, err = a.followOrder(cmd, p, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			if err := show(cmd, asJSON, p, func(w io.Writer) { printPublic(w, p) }); err != nil || p.Error == "" || p.State == "ordering" {
				return err
			}
			return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: p.Error, Hint: p.Hint}
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for its end")
	return jsonFlag(cmd, &asJSON)
}

// followOrder prints what an order does until it is over.
func (a *app) followOrder(cmd *cobra.Command, p api.PublicNames, w io.Writer) (api.PublicNames, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), 12*time.Minute) // somewhat more than an order may take
	defer cancel()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	printed := 0
	var began time.Time
	for {
		if len(p.Steps) > 0 && !p.Steps[0].At.Equal(began) {
			printed, began = 0, p.Steps[0].At
		}
		if p.State == "ordering" || printed > 0 { // the steps of the order before are no news
			for ; printed < len(p.Steps); printed++ {
				printPublicStep(w, p.Steps[printed])
			}
		}
		if p.State != "ordering" {
			return p, nil
		}
		select {
		case <-ctx.Done():
			return p, &ringfence.Fault{Kind: ringfence.KindTimeout, Text: "the order goes on", Hint: "see `ringfence trust public status`"}
		case <-tick.C:
		}
		p = api.PublicNames{}
		if err := a.ask(ctx, http.MethodGet, "/public", nil, nil, &p); err != nil {
			return p, err
		}
	}
}
