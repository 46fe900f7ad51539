package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/trust/cipherlist"
)

func newTLSCommand() *cobra.Command {
	return group(&cobra.Command{Use: "tls", Short: "What TLS settings mean",
		Long:    "tls explains settings of TLS. It asks no node.",
		Example: "  ringfence tls ciphers 'HIGH:!aNULL:@STRENGTH'"},
		newTLSCiphersCommand())
}

func newTLSCiphersCommand() *cobra.Command {
	var asJSON, served bool
	cmd := &cobra.Command{
		Use: "ciphers LIST", Short: "Say what a cipher list of OpenSSL means",
		Long: "ciphers reads a cipher list as `openssl ciphers` does, and prints the suites it means, in its order, under the names of the IANA and of\n" +
			"OpenSSL, with which of them a node can serve and why not the others. Then it says what most likely was not meant: words that match nothing,\n" +
			"RSA as the key exchange, a list of which nothing is left. In a list, suites may be named by either name.",
		Example: "  ringfence tls ciphers 'RSA:!aNULL:!eNULL'\n  ringfence tls ciphers --served 'ECDHE+aRSA:!SHA1'\n  ringfence tls ciphers DEFAULT --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := cipherlist.Parse(args[0])
			if err != nil {
				return err
			}
			if served {
				kept := l.Suites[:0]
				for _, s := range l.Suites {
					if s.Served {
						kept = append(kept, s)
					}
				}
				l.Suites = kept
			}
			return show(cmd, asJSON, l, func(w io.Writer) { printCiphers(w, l) })
		},
	}
	cmd.Flags().BoolVar(&served, "served", false, "only what can be served")
	return jsonFlag(cmd, &asJSON)
}

func printCiphers(w io.Writer, l cipherlist.List) {
	var rows [][]string
	for _, s := range l.Suites {
		why := s.Why
		if s.Served {
			why = "yes"
		}
		rows = append(rows, []string{fmt.Sprintf("%04X", s.Code), s.Name, s.OpenSSL, s.KeyExchange, s.Authentication, s.Encryption, s.MAC, why})
	}
	table(w, []string{"CODE", "SUITE", "OPENSSL", "KEY EXCHANGE", "AUTH", "ENCRYPTION", "MAC", "SERVED"}, rows)
	var names []string
	for _, s := range l.TLS13 {
		names = append(names, s.Name)
	}
	fmt.Fprintf(w, "\nTLS 1.3, whatever the list says: %s\n", strings.Join(names, ", "))
	if l.Level >= 0 {
		fmt.Fprintf(w, "Security level: %d\n", l.Level)
	}
	for _, text := range l.Warnings {
		fmt.Fprintln(w, "Warning: "+text)
	}
}
