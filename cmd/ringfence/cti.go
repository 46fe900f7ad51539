package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newCTICommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "cti", Short: "Systems that follow calls",
		Long: "The CTI interface gives the events of calls to other systems, which prove who they are by a client certificate. Who may connect, and whose calls each may follow, is in the configuration\n" +
			"under cti; docs/guides/cti.md.",
		Example: "  ringfence cti sessions\n  ringfence trust issue --role cti --name recorder --csr recorder.csr > recorder.pem\n  ringfence tls add /interface/cti anchors webexclientroot2023"},
		newCTISessionsCommand(a))
}

func newCTISessionsCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "sessions", Short: "List who follows calls now",
		Long:    "sessions prints each connection with the identity that it proved, its subscriptions, what was sent, and how its TLS is.",
		Example: "  ringfence cti sessions\n  ringfence cti sessions --json | jq '.[].tls'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.CTISession
			if err := a.ask(cmd.Context(), http.MethodGet, "/cti/sessions", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, s := range all {
					rows = append(rows, []string{s.Identity, s.Remote, stamp(s.Since), fmt.Sprint(s.Subscriptions), fmt.Sprint(s.Sent), fmt.Sprint(s.Unanswered), s.TLS.Version, s.TLS.Group})
				}
				table(w, []string{"IDENTITY", "REMOTE", "SINCE", "SUBSCRIPTIONS", "SENT", "UNANSWERED", "TLS", "GROUP"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}
