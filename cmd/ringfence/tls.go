package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/cipherlist"
	"ringfence/internal/trust/tlspolicy"
)

func newTLSCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "tls", Short: "What TLS settings mean",
		Long: "tls shows and explains what the node's listeners speak. The settings are a tree in the configuration, under tls: one at /system holds for\n" +
			"everything, /system/transport/sip and https, /interface/CLASS and /interface/CLASS/ADDRESS:PORT for less and less, and the most specific wins.\n" +
			"docs/guides/tls-policy.md shows the whole.",
		Example: "  ringfence tls get\n  ringfence tls explain /interface/sip --peer-max 1.2 --peer-suites 'RSA:!aNULL:!eNULL'\n  ringfence tls ciphers 'HIGH:!aNULL:@STRENGTH'"},
		newTLSGetCommand(a), newTLSExplainCommand(a), newTLSCiphersCommand())
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

func newTLSGetCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "get", Short: "Show what each listener speaks", Long: "get prints every setting of each listener and the place of the tree that it comes from.", Example: "  ringfence tls get\n  ringfence tls get --json | jq .set",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p api.TLSPolicy
			if err := a.ask(cmd.Context(), http.MethodGet, "/tls", nil, nil, &p); err != nil {
				return err
			}
			return show(cmd, asJSON, p, func(w io.Writer) {
				var rows [][]string
				for _, l := range p.Listeners {
					for _, d := range l.Decisions {
						rows = append(rows, []string{l.Place, d.Setting, d.Value, d.Place})
					}
				}
				table(w, []string{"LISTENER", "SETTING", "VALUE", "FROM"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newTLSExplainCommand(a *app) *cobra.Command {
	var asJSON, cert bool
	var maximum, suites string
	var groups []string
	cmd := &cobra.Command{
		Use: "explain PATH", Short: "Say why a listener speaks what it speaks, and what a peer would negotiate",
		Long: "explain prints for each setting of a listener the place that won and the ones it won over, and then has a peer of your description shake hands with it:\n" +
			"not the listener itself but its settings, with keys made for the occasion.",
		Example: "  ringfence tls explain /interface/sip\n  ringfence tls explain /interface/https --peer-max 1.2 --peer-suites ECDHE+AESGCM --peer-groups secp256r1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			class, ok := strings.CutPrefix(args[0], "/interface/")
			class, _, _ = strings.Cut(class, "/")
			if !ok {
				return invalid(fmt.Sprintf("%.60q is no listener", args[0]), "write /interface/ and one of "+strings.Join(tlspolicy.Classes(), ", "))
			}
			q := url.Values{"class": {class}}
			for k, v := range map[string]string{"max": maximum, "suites": suites, "groups": strings.Join(groups, ",")} {
				if v != "" {
					q.Set(k, v)
				}
			}
			if cert {
				q.Set("cert", "true")
			}
			var e api.TLSExplanation
			if err := a.ask(cmd.Context(), http.MethodGet, "/tls/explanation", q, nil, &e); err != nil {
				return err
			}
			return show(cmd, asJSON, e, func(w io.Writer) { printExplanation(w, e) })
		},
	}
	cmd.Flags().StringVar(&maximum, "peer-max", "", "the latest version that the peer knows: 1.2 or 1.3")
	cmd.Flags().StringVar(&suites, "peer-suites", "", "the peer's cipher list for TLS 1.2")
	cmd.Flags().StringSliceVar(&groups, "peer-groups", nil, "the peer's groups, best first")
	cmd.Flags().BoolVar(&cert, "peer-cert", false, "the peer has a certificate of this organisation")
	return jsonFlag(cmd, &asJSON)
}

func printExplanation(w io.Writer, e api.TLSExplanation) {
	fmt.Fprintln(w, e.Place)
	for _, d := range e.Decisions {
		fmt.Fprintf(w, "\n%s = %s\n  from %s\n", d.Setting, d.Value, d.Place)
		for _, o := range d.Over {
			fmt.Fprintf(w, "  over %s\n", o)
		}
	}
	o := e.Outcome
	fmt.Fprintln(w)
	if !o.OK {
		fmt.Fprintf(w, "The peer would be refused: %s\n", o.Error)
		return
	}
	fmt.Fprintf(w, "The peer would get %s, %s, %s; it is asked for a certificate: %s.\n", o.Version, o.Suite, o.Group, yes(o.Asked))
}
