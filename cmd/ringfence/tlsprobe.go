package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/posture"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/sockets"
)

// probed is what tls probe --json prints.
type probed struct {
	Server string `json:"server"`
	posture.Report
	Weak     []string            `json:"weak"`
	Profiles []posture.Distance  `json:"profiles"` // Mozilla's, the strictest first
	Phone    *posture.Meeting    `json:"phone,omitempty"`
	Node     *api.TLSExplanation `json:"node,omitempty"` // what the node's settings for a place would come to
}

func newTLSProbeCommand(a *app) *cobra.Command {
	var name, list, most, place, keep string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "probe HOST:PORT", Short: "Ask any server which versions, suites and groups it accepts",
		Long: "probe opens some dozen connections to a server, says a hand-made hello on each, and prints what the server takes, in its own order. No handshake is finished, so that suites count\n" +
			"which are spoken nowhere here. With --phone it says what a phone with that cipher list would come to, and with --place\n" +
			"what the node would by its settings for what it dials. What stands between the server and Mozilla's profiles is told as well. It fails if the server accepts what nobody should.",
		Example: "  ringfence tls probe pbx.example.com:5061\n  ringfence tls probe 192.0.2.7:5061 --name sbc.example.org --phone 'RSA:!aNULL:!eNULL'\n  ringfence tls probe carrier.example:5061 --place /interface/sip-trunk\n  ringfence tls probe pbx.example.com:8443 --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, port, err := net.SplitHostPort(args[0])
			if err != nil {
				return invalid(fmt.Sprintf("%.80q is no HOST:PORT", args[0]), "write pbx.example.com:5061 or [2001:db8::7]:5061")
			}
			version, ok := map[string]posture.Version{"1.2": posture.TLS12, "1.3": posture.TLS13}[most]
			if !ok {
				return invalid(fmt.Sprintf("%.20q is no version", most), "write 1.2 or 1.3")
			}
			dial, err := probeDial(cmd.Context(), host, port)
			if err != nil {
				return err
			}
			if _, err := netip.ParseAddr(host); err != nil && name == "" {
				name = host
			}
			c := posture.Config{Dial: dial, Name: name}
			if !asJSON {
				c.Asked = func(done, about string) {
					fmt.Fprintf(cmd.ErrOrStderr(), "\rasking for %s: connection %s ", about, done)
				}
			}
			r, err := posture.Probe(cmd.Context(), c)
			if !asJSON {
				fmt.Fprint(cmd.ErrOrStderr(), "\r\033[K")
			}
			if err != nil {
				return err
			}
			out := probed{Server: args[0], Report: r, Weak: append([]string{}, r.Weak()...)}
			if list != "" {
				m, err := r.Meet(list, version)
				if err != nil {
					return err
				}
				out.Phone = &m
			}
			if out.Profiles, err = r.Profiles(); err != nil {
				return err
			}
			if place != "" {
				if out.Node, err = a.meets(cmd.Context(), place, name, r); err != nil {
					return err
				}
			}
			if err := show(cmd, asJSON, out, func(w io.Writer) { printProbed(w, out) }); err != nil {
				return err
			}
			if keep != "" {
				verdict := "good"
				if len(out.Weak) > 0 {
					verdict = "bad"
				}
				if err := a.handIn(cmd, keep, "posture", args[0], verdict, out); err != nil {
					return err
				}
			}
			if len(out.Weak) > 0 {
				return &ringfence.Fault{Kind: ringfence.KindInsecure, Text: fmt.Sprintf("the server accepts %d things that nobody should", len(out.Weak)), Hint: "the list says which; take them out of its settings"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the name to ask for (default: HOST, if it is one)")
	cmd.Flags().StringVar(&list, "phone", "", "the cipher list of a phone, as OpenSSL writes them")
	cmd.Flags().StringVar(&most, "phone-max", "1.2", "the latest version that the phone knows: 1.2 or 1.3")
	cmd.Flags().StringVar(&keep, "keep", "", "also hand it in at the node of --node or --data, as of this site; see ringfence network findings")
	cmd.Flags().StringVar(&place, "place", "", "also ask the node what it would come to with that server, by its settings for this place, such as /interface/sip-trunk")
	_ = cmd.RegisterFlagCompletionFunc("place", completePlaces)
	return jsonFlag(cmd, &asJSON)
}

// meets asks the node what its settings for a place and a server of such a posture would come to.
func (a *app) meets(ctx context.Context, place, name string, r posture.Report) (*api.TLSExplanation, error) {
	q := url.Values{"place": {place}, "max": {"1.2"}}
	var suites, groups []string
	for _, v := range r.Versions {
		if v.Version == posture.TLS13.String() {
			q.Set("max", "1.3")
			groups = v.Groups
		} else {
			suites = append(suites, v.Suites...)
		}
	}
	if len(r.Versions) == 0 || r.Versions[0].Version != posture.TLS13.String() && r.Versions[0].Version != posture.TLS12.String() {
		return nil, &ringfence.Fault{Kind: ringfence.KindInsecure, Text: "the server speaks nothing that this node would", Hint: "TLS 1.2 is the least"}
	}
	if len(suites) > 0 {
		q.Set("suites", strings.Join(suites, ":"))
	}
	if len(groups) > 0 {
		q.Set("groups", strings.Join(groups, ","))
	}
	if name != "" {
		q.Set("names", name)
	}
	var e api.TLSExplanation
	if err := a.ask(ctx, http.MethodGet, "/tls/explanation", q, nil, &e); err != nil {
		return nil, err
	}
	if !e.Dials {
		return nil, invalid(place+" listens, and never meets a server", "name something that the node dials; `ringfence tls get` lists it")
	}
	return &e, nil
}

// probeDial returns how to reach a server, by the first address that its name has.
func probeDial(ctx context.Context, host, port string) (func(context.Context) (net.Conn, error), error) {
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%.20q is no port", port), "write pbx.example.com:5061")
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return nil, &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no address is known for " + host, Err: err, Hint: "check the name"}
	}
	opener, err := sockets.New([]ringfence.Flow{{Name: "cli-probe", Purpose: "asks a server what it accepts", Room: "cmd/ringfence", Direction: ringfence.Dials, Transport: "tcp", Peers: "the server that was named", TLS: ringfence.TLSServer}})
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(addrs[0].Unmap(), uint16(number))
	return func(ctx context.Context) (net.Conn, error) {
		c, err := opener.Dial(ctx, "cli-probe", at)
		if err != nil {
			return nil, &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "nothing answers at " + at.String(), Err: err, Hint: "is it running, and is the port allowed?"}
		}
		return c, nil
	}, nil
}

func printProbed(w io.Writer, p probed) {
	for _, v := range p.Versions {
		order := ""
		if v.Order != "" {
			order = ", in the order of the " + v.Order
		}
		fmt.Fprintf(w, "%s%s\n", v.Version, order)
		for _, s := range v.Suites {
			fmt.Fprintf(w, "  %s\n", s)
		}
		if len(v.Groups) > 0 {
			fmt.Fprintf(w, "  groups: %s\n", strings.Join(v.Groups, " "))
		}
	}
	if len(p.Refused) > 0 {
		fmt.Fprintf(w, "Refused: %s\n", strings.Join(p.Refused, ", "))
	}
	if m := p.Phone; m != nil {
		fmt.Fprintln(w)
		if m.Version == "" {
			fmt.Fprintln(w, "The phone and the server do not meet.")
		} else {
			fmt.Fprintf(w, "The phone would get %s with %s.\n", m.Version, m.Suite)
		}
		for _, n := range m.Notes {
			fmt.Fprintf(w, "Note: %s\n", n)
		}
	}
	if n := p.Node; n != nil {
		fmt.Fprintln(w)
		if n.Outcome.Error != "" {
			fmt.Fprintf(w, "The node, by %s, would not: %s\n", n.Place, n.Outcome.Error)
		} else {
			fmt.Fprintf(w, "The node, by %s, would get %s with %s, %s.\n", n.Place, n.Outcome.Version, n.Outcome.Suite, n.Outcome.Group)
		}
	}
	if len(p.Profiles) > 0 {
		fmt.Fprintln(w)
	}
	for _, d := range p.Profiles {
		switch {
		case d.Fits && len(d.Missing) == 0:
			fmt.Fprintf(w, "Mozilla %s: fits\n", d.Profile)
		case d.Fits:
			fmt.Fprintf(w, "Mozilla %s: fits, without %s\n", d.Profile, strings.Join(d.Missing, ", "))
		default:
			fmt.Fprintf(w, "Mozilla %s: take out %s\n", d.Profile, someOf(d.Remove, 4))
		}
	}
	for _, x := range p.Weak {
		fmt.Fprintf(w, "Weak: %s\n", x)
	}
}

// someOf joins the first of a list, and says how many more there are.
func someOf(list []string, most int) string {
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
