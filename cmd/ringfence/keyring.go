package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newAnchorCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "anchor", Short: "Authorities of others whom TLS settings may name",
		Long: "anchor keeps certificates of authorities under an alias each. Nobody believes one by its being there: name it at a place of the TLS settings, with\n" +
			"`ringfence tls add PLACE anchors ALIAS`. docs/guides/anchors.md shows it.",
		Example: "  ringfence trust anchor add webexclient2023 CombinedCertChain2023.txt\n  ringfence trust anchor list\n  ringfence tls add /interface/sip anchors webexclient2023-root"},
		newAnchorAddCommand(a), newAnchorListCommand(a), newRemoveAliasCommand(a, "anchor", "/anchors/", "ringfence trust anchor remove webexclient2023-root"))
}

func newAnchorAddCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "add ALIAS FILE", Short: "Add the certificates of a file",
		Long: "add reads a file in PEM or DER form. A file with several certificates is taken apart: one that signed itself becomes ALIAS-root, others ALIAS-issuing, and a\n" +
			"number follows from the second on. A certificate that may not sign others, has expired, or is there already, is refused, and then nothing of the file is kept.",
		Example: "  ringfence trust anchor add carrier carrier-root.pem\n  ringfence trust anchor add webexclient2023 CombinedCertChain2023.txt --json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			var added []api.Anchor
			if err := a.ask(cmd.Context(), http.MethodPost, "/anchors", nil, api.NewAnchor{Alias: args[0], File: file}, &added); err != nil {
				return err
			}
			return show(cmd, asJSON, added, func(w io.Writer) {
				printAnchors(w, added)
				fmt.Fprintf(w, "\nNobody believes them yet. For example: ringfence tls add /interface/sip anchors %s\n", added[0].Alias)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func printAnchors(w io.Writer, all []api.Anchor) {
	var rows [][]string
	for _, x := range all {
		issuer := x.Issuer
		if x.SelfSigned {
			issuer += " [self-signed]"
		}
		rows = append(rows, []string{x.Alias, x.Owner, issuer, stamp(x.NotAfter), x.Used})
	}
	table(w, []string{"Alias", "Owner", "Issuer", "Until", "Named at"}, rows)
}

func newAnchorListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the anchors", Long: "list shows each anchor with its owner, its issuer, and the first place of the TLS settings that names it.",
		Example: "  ringfence trust anchor list\n  ringfence trust anchor list --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.Anchor
			if err := a.ask(cmd.Context(), http.MethodGet, "/anchors", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) { printAnchors(w, all) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newRemoveAliasCommand(a *app, kind, path, example string) *cobra.Command {
	return &cobra.Command{
		Use: "remove ALIAS", Short: "Remove an " + kind, Long: "remove forgets the " + kind + ". One that a TLS setting names stays: change the setting first.", Example: "  " + example, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, path+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The %s %s is removed.\n", kind, args[0])
			return nil
		},
	}
}

func newIdentityCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "identity", Short: "Certificates of others that TLS settings may present",
		Long: "identity keeps certificates with their keys under an alias each, such as one of a public authority for the name that browsers use. Nothing presents one by its\n" +
			"being there: name it with `ringfence tls set PLACE identity ALIAS`. The keys are sealed at rest and never shown. docs/guides/anchors.md shows it.",
		Example: "  ringfence trust identity add public --cert fullchain.pem --key privkey.pem\n  ringfence tls set /interface/https identity public"},
		newIdentityAddCommand(a), newIdentityListCommand(a), newRemoveAliasCommand(a, "identity", "/identities/", "ringfence trust identity remove public"))
}

func newIdentityAddCommand(a *app) *cobra.Command {
	var asJSON, replace bool
	var key string
	var chain []string
	cmd := &cobra.Command{
		Use: "add ALIAS --cert FILE --key FILE", Short: "Add a certificate with its chain and key",
		Long: "add reads a certificate with its chain, in one file or several and in any order, and its key. A chain in another order is put in order, and what does not\n" +
			"belong to it is left out; both are said. A key that belongs to none of the certificates is refused.",
		Example: "  ringfence trust identity add public --cert fullchain.pem --key privkey.pem\n  ringfence trust identity add public --cert cert.pem --cert chain.pem --key privkey.pem --replace",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := api.NewIdentity{Alias: args[0], Replace: replace}
			for _, file := range chain {
				b, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				in.Chain += string(b) + "\n"
			}
			b, err := os.ReadFile(key)
			if err != nil {
				return err
			}
			in.Key = string(b)
			var added api.AddedIdentity
			if err := a.ask(cmd.Context(), http.MethodPost, "/identities", nil, in, &added); err != nil {
				return err
			}
			return show(cmd, asJSON, added, func(w io.Writer) {
				printIdentities(w, []api.Identity{added.Identity})
				for _, n := range added.Notes {
					fmt.Fprintln(w, "Note: "+n)
				}
				if added.Used == "" {
					fmt.Fprintf(w, "\nNothing presents it yet. For example: ringfence tls set /interface/https identity %s\n", added.Alias)
				}
			})
		},
	}
	cmd.Flags().StringArrayVar(&chain, "cert", nil, "file with certificates as PEM; may be given again")
	cmd.Flags().StringVar(&key, "key", "", "file with the private key as PEM")
	cmd.Flags().BoolVar(&replace, "replace", false, "put it in the place of one that is there, as for renewal")
	_ = cmd.MarkFlagRequired("cert")
	_ = cmd.MarkFlagRequired("key")
	return jsonFlag(cmd, &asJSON)
}

func printIdentities(w io.Writer, all []api.Identity) {
	var rows [][]string
	for _, x := range all {
		rows = append(rows, []string{x.Alias, x.Subject, strings.Join(x.Names, " "), x.Issuer, strconv.Itoa(x.Chain), stamp(x.NotAfter), x.Used})
	}
	table(w, []string{"ALIAS", "SUBJECT", "NAMES", "ISSUER", "CHAIN", "UNTIL", "NAMED AT"}, rows)
}

func newIdentityListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the identities", Long: "list shows each identity that was added. The node's own certificate, which TLS settings call node, is not among them: see `ringfence trust status`.",
		Example: "  ringfence trust identity list\n  ringfence trust identity list --json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.Identity
			if err := a.ask(cmd.Context(), http.MethodGet, "/identities", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) { printIdentities(w, all) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}
