package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/network/posture"
	"ringfence/internal/node/sockets"
)

// probed is what tls probe --json prints.
type probed struct {
	Server string `json:"server"`
	posture.Report
	Weak  []string         `json:"weak"`
	Phone *posture.Meeting `json:"phone,omitempty"`
}

func newTLSProbeCommand() *cobra.Command {
	var name, list, most string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "probe HOST:PORT", Short: "Ask any server which versions, suites and groups it accepts",
		Long: "probe opens some dozen connections to a server, says a hand-made hello on each, and prints what the server takes, in its own order. No handshake is finished, so that suites count\n" +
			"which are spoken nowhere here. With --phone it says what a phone with that cipher list would come to. It fails if the server accepts what nobody should.",
		Example: "  ringfence tls probe pbx.example.com:5061\n  ringfence tls probe 192.0.2.7:5061 --name sbc.example.org --phone 'RSA:!aNULL:!eNULL'\n  ringfence tls probe pbx.example.com:8443 --json",
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
			if err := show(cmd, asJSON, out, func(w io.Writer) { printProbed(w, out) }); err != nil {
				return err
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
	return jsonFlag(cmd, &asJSON)
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
	for _, x := range p.Weak {
		fmt.Fprintf(w, "Weak: %s\n", x)
	}
}
