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
	return group(&cobra.Command{Use: "tls", Short: "Show, change and explain TLS settings",
		Long: "tls shows, changes and explains what the node's listeners speak, and the connections that it opens. The settings are a tree in the configuration, under\n" +
			"tls: one at /system holds for everything, /system/transport/sip, https, phones, observe, bus and public, /interface/CLASS and /interface/CLASS/ADDRESS:PORT for less and\n" +
			"less, and the most specific wins. docs/guides/tls-policy.md shows the whole.",
		Example: "  ringfence tls get\n  ringfence tls set /interface/sip min 1.3\n  ringfence tls explain /interface/sip --peer-max 1.2 --peer-suites 'RSA:!aNULL:!eNULL'\n  ringfence tls ciphers 'HIGH:!aNULL:@STRENGTH'"},
		newTLSGetCommand(a), newTLSEditCommand(a, "set"), newTLSEditCommand(a, "add"), newTLSEditCommand(a, "remove"), newTLSExplainCommand(a), newTLSCiphersCommand(), newTLSProbeCommand(a))
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
		Use: "get [PATH]", Short: "Show what is spoken where",
		Long: "get prints every setting of each listener, and of each kind of connection that the node opens, with the place of the tree that it comes from. With a place\n" +
			"it shows what is set there, and what holds for whatever is below it.",
		Example: "  ringfence tls get\n  ringfence tls get /interface/sip\n  ringfence tls get --json | jq .set",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: completePlaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			var p api.TLSPolicy
			if err := a.ask(cmd.Context(), http.MethodGet, "/tls", nil, nil, &p); err != nil {
				return err
			}
			if len(args) == 1 {
				if err := only(&p, args[0]); err != nil {
					return err
				}
			}
			return show(cmd, asJSON, p, func(w io.Writer) {
				var rows [][]string
				for _, l := range p.Endpoints {
					for _, d := range l.Decisions {
						rows = append(rows, []string{l.Place, map[bool]string{false: "listens", true: "connects"}[l.Dials], d.Setting, d.Value, d.Place})
					}
				}
				table(w, []string{"AT", "DOES", "SETTING", "VALUE", "FROM"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

// only leaves what is set at a place, and what is below it.
func only(p *api.TLSPolicy, place string) error {
	e, err := tlspolicy.ParsePlace(place)
	if err != nil {
		return err
	}
	p.Set = tlspolicy.Tree{place: p.Set[place]}
	kept := []api.TLSEndpoint{}
	for _, l := range p.Endpoints {
		at, err := tlspolicy.ParsePlace(l.Place)
		switch {
		case err != nil:
			return err
		case place == "/system", place == "/system/transport/"+at.Transport, e.Class != "" && at.Class == e.Class && (!e.Addr.IsValid() || e.Addr == at.Addr):
			kept = append(kept, l)
		}
	}
	p.Endpoints = kept
	return nil
}

func completePlaces(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		out := []string{"/system", "/system/transport/sip", "/system/transport/https", "/system/transport/observe", "/system/transport/bus", "/system/transport/public"}
		for _, c := range tlspolicy.Classes() {
			out = append(out, "/interface/"+c)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	case 1:
		return tlspolicy.Names(), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// newTLSEditCommand makes tls set, tls add and tls remove.
func newTLSEditCommand(a *app, do string) *cobra.Command {
	var asJSON, force bool
	const live = "\nIt is kept as a version of the configuration, so that `ringfence config undo` takes it back, and holds from the next handshake on: connections that are up stay.\n" +
		"What connects to the bus goes by it from the next start on. A change that shuts out whom a listener is there for is not made, and it says whom, unless --force says to go on."
	cmd := map[string]*cobra.Command{
		"set": {Use: "set PATH SETTING VALUE...", Short: "Set something at a place", Args: cobra.MinimumNArgs(3), Long: "set changes one setting at one place of the tree; a list takes several values." + live,
			Example: "  ringfence tls set /interface/sip min 1.3\n  ringfence tls set /system groups X25519MLKEM768 x25519\n  ringfence tls set /interface/https identity public"},
		"add": {Use: "add PATH SETTING VALUE...", Short: "Add to a list at a place", Args: cobra.MinimumNArgs(3), Long: "add puts values at the end of a list. Where the place says nothing yet, the list begins with what holds there now." + live,
			Example: "  ringfence tls add /interface/sip anchors carrier-root\n  ringfence tls add /system groups secp384r1\n  ringfence tls add /interface/sip suites '!CHACHA20'"},
		"remove": {Use: "remove PATH [SETTING [VALUE...]]", Short: "Take something out of a place", Args: cobra.MinimumNArgs(1), Long: "remove takes values out of a list, or a setting out of a place, or all of a place: then less specific places count." + live,
			Example: "  ringfence tls remove /system groups secp256r1\n  ringfence tls remove /interface/sip min\n  ringfence tls remove /interface/sip"},
	}[do]
	cmd.ValidArgsFunction = completePlaces
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := api.TLSEdit{Do: do, Place: args[0], Force: force}
		if len(args) > 1 {
			in.Setting, in.Values = args[1], args[2:]
		}
		var p api.ConfigPlan
		if err := a.ask(cmd.Context(), http.MethodPost, "/tls", nil, in, &p); err != nil {
			return err
		}
		return show(cmd, asJSON, p, func(w io.Writer) { printPlan(w, p) })
	}
	cmd.Flags().BoolVar(&force, "force", false, "although people are shut out by it")
	return jsonFlag(cmd, &asJSON)
}

func newTLSExplainCommand(a *app) *cobra.Command {
	var asJSON, cert bool
	var maximum, suites string
	var groups, names []string
	cmd := &cobra.Command{
		Use: "explain PATH", Short: "Say why something is spoken, and what a peer would negotiate",
		Long: "explain prints for each setting of a listener, or of a kind of connection that the node opens, the place that won and the ones it won over. Then it has a peer\n" +
			"of your description shake hands with it: not the listener itself but its settings, with keys made for the occasion.",
		Example: "  ringfence tls explain /interface/sip\n  ringfence tls explain /interface/https --peer-max 1.2 --peer-suites ECDHE+AESGCM --peer-groups secp256r1\n" +
			"  ringfence tls explain /interface/sip/192.0.2.7:5061 --peer-cert --peer-name sip:carrier.example",
		Args: cobra.ExactArgs(1), ValidArgsFunction: completePlaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{"place": {args[0]}}
			for k, v := range map[string]string{"max": maximum, "suites": suites, "groups": strings.Join(groups, ","), "names": strings.Join(names, ",")} {
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
	cmd.Flags().BoolVar(&cert, "peer-cert", false, "the peer is a client with a certificate that is believed")
	cmd.Flags().StringSliceVar(&names, "peer-name", nil, "a name in the peer's certificate: a host name, an address or a SIP URI")
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
	for _, text := range e.Withheld {
		fmt.Fprintln(w, "Note: "+text)
	}
	if !o.OK {
		fmt.Fprintf(w, "The peer would be refused: %s\n", o.Error)
		return
	}
	asked := "it is asked"
	if e.Dials {
		asked = "it asks us"
	}
	fmt.Fprintf(w, "The peer would get %s, %s, %s; %s for a certificate: %s.\n", o.Version, o.Suite, o.Group, asked, yes(o.Asked))
}
