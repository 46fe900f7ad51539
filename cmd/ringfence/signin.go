package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newSignInCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "signin", Short: "Which programs are signed in, and the keys of their tokens",
		Long: "A program signs in by OAuth 2.0: somebody types the activation code of a device that was added with --auth token, once, into a page of the\n" +
			"node. From then on the program has short-lived access tokens instead of a certificate. docs/guides/sign-in.md shows the whole.\n\n" +
			"`start`, `show` and `end` are the other side: they sign the phone of this program in.",
		Example: "  ringfence device add alice-app --user alice --auth token\n  ringfence signin list\n  ringfence signin revoke gV1StGXR8Z5jdHi6B"},
		newSignInListCommand(a), newSignInRevokeCommand(a), newSignInKeysCommand(a), newSignInRotateCommand(a),
		newSignInStartCommand(a), newSignInShowCommand(), newSignInEndCommand())
}

func newSignInListCommand(a *app) *cobra.Command {
	var asJSON bool
	var device string
	cmd := &cobra.Command{
		Use: "list", Short: "List sign-ins", Long: "list shows the sign-ins, the latest first. One that ended stays for 30 days, to tell what happened.",
		Example: "  ringfence signin list\n  ringfence signin list --device alice-app --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if device != "" {
				q.Set("device", device)
			}
			var all []api.SignIn
			if err := a.ask(cmd.Context(), http.MethodGet, "/signins", q, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, s := range all {
					rows = append(rows, []string{s.ID, string(s.Device), s.Program, stamp(s.Created), stamp(s.Used), stamp(s.Expires), stamp(s.Revoked)})
				}
				table(w, []string{"SIGN-IN", "DEVICE", "PROGRAM", "CREATED", "USED", "EXPIRES", "REVOKED"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "only those of this device")
	return jsonFlag(cmd, &asJSON)
}

func newSignInRevokeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a sign-in at once", Long: "revoke ends a sign-in: its tokens stop working, and its registrations, connections and calls end.", Example: "  ringfence signin revoke gV1StGXR8Z5jdHi6B",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, "/signins/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "sign-in %s is revoked\n", args[0])
			return nil
		},
	}
}

func newSignInKeysCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "keys", Short: "List the keys of access tokens", Long: "keys lists the keys that sign and verify access tokens, the newest first. Their public halves are at /oauth/keys.", Example: "  ringfence signin keys",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.TokenKey
			if err := a.ask(cmd.Context(), http.MethodGet, "/signin-keys", nil, nil, &all); err != nil {
				return err
			}
			return showKeys(cmd, asJSON, all)
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func showKeys(cmd *cobra.Command, asJSON bool, all []api.TokenKey) error {
	return show(cmd, asJSON, all, func(w io.Writer) {
		var rows [][]string
		for _, k := range all {
			rows = append(rows, []string{k.ID, yes(k.Signs)})
		}
		table(w, []string{"KEY", "SIGNS"}, rows)
	})
}

func newSignInRotateCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Sign access tokens with a new key",
		Long:    "rotate makes a new key that signs from now on. Tokens of the old key stay good until they expire, within an hour. A new key also comes by\nitself every 30 days.",
		Example: "  ringfence signin rotate",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.TokenKey
			if err := a.ask(cmd.Context(), http.MethodPost, "/signin-keys", nil, nil, &all); err != nil {
				return err
			}
			return showKeys(cmd, asJSON, all)
		},
	}
	return jsonFlag(cmd, &asJSON)
}
