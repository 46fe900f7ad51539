package main

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/pkcs7"
)

func newTrustExportCommand(a *app) *cobra.Command {
	var format string
	var chain bool
	cmd := &cobra.Command{
		Use: "export", Short: "Print the authority's certificates for others to import",
		Long: "export prints the root, which is what others must trust, or with --chain the root and every issuing authority: as PEM, as DER (a single\n" +
			"certificate), or as PKCS #7 (a .p7b file, in PEM). There is no key in it.",
		Example: "  ringfence trust ca export > ringfence.pem\n  ringfence trust ca export --format der > ringfence.cer\n  ringfence trust ca export --chain --format pkcs7 > ringfence.p7b",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"pem", "der", "pkcs7"}, format) {
				return invalid("there is no format "+format, "use pem, der or pkcs7")
			}
			if chain && format == "der" {
				return invalid("a DER file holds one certificate, not a chain", "use --format pem or pkcs7, or leave --chain out")
			}
			var t api.TrustStatus
			if err := a.ask(cmd.Context(), http.MethodGet, "/trust/status", nil, nil, &t); err != nil {
				return err
			}
			var certs [][]byte
			for _, au := range t.Authorities {
				if au.Kind != "root" && !chain {
					continue
				}
				b, _ := pem.Decode([]byte(au.PEM))
				if b == nil {
					return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the node did not tell the certificate of " + au.Subject, Hint: "update the node; `ringfence version` says what runs"}
				}
				certs = append(certs, b.Bytes)
			}
			if len(certs) == 0 {
				return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the node named no root", Hint: "see `ringfence trust status`"}
			}
			out, err := exported(format, certs)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "pem", "pem, der or pkcs7")
	cmd.Flags().BoolVar(&chain, "chain", false, "the issuing authorities too")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"pem", "der", "pkcs7"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// exported writes certificates in a format that the command takes.
func exported(format string, certs [][]byte) ([]byte, error) {
	switch format {
	case "der":
		return certs[0], nil
	case "pkcs7":
		der, err := pkcs7.CertsOnly(certs)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: der}), nil
	}
	var out bytes.Buffer
	for _, c := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
	}
	return out.Bytes(), nil
}
