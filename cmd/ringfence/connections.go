package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newRegistrationsCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "registrations", Short: "Show where users can be reached",
		Long:    "registrations lists every binding: address-of-record, device, contact, how the device proved itself, and until when. LIVE says whether\nits connection is up, so that it can be called now.",
		Example: "  ringfence registrations\n  ringfence registrations --json | jq '.[] | select(.live | not)'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []api.Registration
			if err := a.ask(cmd.Context(), http.MethodGet, "/registrations", nil, nil, &list); err != nil {
				return err
			}
			return show(cmd, asJSON, list, func(w io.Writer) {
				var rows [][]string
				for _, r := range list {
					rows = append(rows, []string{r.AOR, string(r.Device), yes(r.Live), string(r.Verdict), string(r.Auth), stamp(r.Expires), r.UserAgent, r.Contact})
				}
				table(w, []string{"ADDRESS-OF-RECORD", "DEVICE", "LIVE", "VERDICT", "AUTH", "EXPIRES", "USER-AGENT", "CONTACT"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newConnectionsCommand(a *app) *cobra.Command {
	var asJSON, detail bool
	cmd := &cobra.Command{
		Use: "connections", Short: "Show the SIP connections",
		Long: "connections lists every SIP connection with its peer and its seal. With --detail it prints the report that administrators of voice\n" +
			"gateways know: the counters, handshake failures among them, and for each peer its connections with TLS version, cipher and curve.",
		Example: "  ringfence connections\n  ringfence connections --detail\n  ringfence connections --json | jq .counters",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c api.Connections
			if err := a.ask(cmd.Context(), http.MethodGet, "/connections", nil, nil, &c); err != nil {
				return err
			}
			return show(cmd, asJSON, c, func(w io.Writer) {
				if detail {
					connectionReport(w, c)
					return
				}
				var rows [][]string
				for _, x := range c.Connections {
					version, suite, group := "", "", ""
					if x.TLS != nil {
						version, suite, group = x.TLS.Version, x.TLS.Suite, x.TLS.Group
					}
					rows = append(rows, []string{strconv.FormatUint(x.ID, 10), x.Remote, x.Peer, x.State, x.Network, version, suite, group, stamp(x.Since)})
				}
				table(w, []string{"ID", "REMOTE", "PEER", "STATE", "VIA", "TLS", "SUITE", "GROUP", "SINCE"}, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&detail, "detail", false, "print the detailed connection report")
	return jsonFlag(cmd, &asJSON)
}

// column is one column of the connection report.
type column struct {
	name  string
	width int
}

func reportColumns() []column {
	return []column{{"Remote-Port", 11}, {"Conn-Id", 7}, {"Conn-State", 11}, {"WriteQ-Size", 11}, {"Local-Address", 38}, {"TLS-Version", 11}, {"Cipher", 30}, {"Curve", 14}}
}

// connectionReport prints the detailed report, in the form that people know from voice gateways, so that scripts which read
// that one can read ours.
func connectionReport(w io.Writer, c api.Connections) {
	n := c.Counters
	queue := n.MaxQueuePeer
	if queue == "" {
		queue = "none"
	}
	fmt.Fprintf(w, "Total active connections      : %d\n", n.Active)
	fmt.Fprintf(w, "No. of send failures          : %d\n", n.SendFailures)
	fmt.Fprintf(w, "No. of remote closures        : %d\n", n.RemoteClosures)
	fmt.Fprintf(w, "No. of conn. failures         : %d\n", n.ConnFailures)
	fmt.Fprintf(w, "No. of inactive conn. ageouts : %d\n", n.InactiveAgeouts)
	fmt.Fprintf(w, "Max. tls send msg queue size of %d, recorded for %s\n", n.MaxQueueBytes, queue)
	fmt.Fprintf(w, "TLS client handshake failures : %d\n", n.ClientHandshakeFailures)
	fmt.Fprintf(w, "TLS server handshake failures : %d\n\n", n.ServerHandshakeFailures)
	fmt.Fprintf(w, "---------Printing Detailed Connection Report---------\n")
	fmt.Fprintf(w, "Note:\n ** its peer has not proved who it is yet\n\n")
	byPeer := map[netip.Addr][]api.Connection{}
	for _, x := range c.Connections {
		at, err := netip.ParseAddrPort(x.Remote)
		if err == nil {
			byPeer[at.Addr()] = append(byPeer[at.Addr()], x)
		}
	}
	peers := make([]netip.Addr, 0, len(byPeer))
	for p := range byPeer {
		peers = append(peers, p)
	}
	slices.SortFunc(peers, netip.Addr.Compare)
	for _, p := range peers {
		fmt.Fprintf(w, "Remote-Agent:%s, Connections-Count:%d\n", p, len(byPeer[p]))
		ruled(w, reportColumns(), reportRows(byPeer[p]))
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "-------------- SIP Transport Layer Listen Sockets --------------\n")
	var rows [][]string
	for i, l := range c.Listeners {
		at, err := netip.ParseAddrPort(l)
		if err == nil {
			l = fmt.Sprintf("[%s]:%d:", at.Addr(), at.Port())
		}
		rows = append(rows, []string{strconv.Itoa(i), l})
	}
	ruled(w, []column{{"Conn-Id", 7}, {"Local-Address", 38}}, rows)
}

func reportRows(list []api.Connection) (rows [][]string) {
	for _, x := range list {
		at, err := netip.ParseAddrPort(x.Remote)
		if err != nil {
			continue
		}
		id := strconv.FormatUint(x.ID, 10)
		if x.Peer == "" {
			id += "**"
		}
		version, cipher, curve := "-", "-", "-"
		if x.TLS != nil {
			version, cipher, curve = reportVersion(x.TLS.Version), reportCipher(x.TLS.Suite), reportCurve(x.TLS.Group)
		}
		rows = append(rows, []string{strconv.Itoa(int(at.Port())), id, x.State, strconv.Itoa(x.Queued), x.Local, version, cipher, curve})
	}
	return rows
}

// ruled prints columns of fixed width under a heading ruled with "=". What is wider than its column moves the rest, and is
// never cut.
func ruled(w io.Writer, cols []column, rows [][]string) {
	line := func(cell func(i int) string) {
		var b strings.Builder
		for i, c := range cols {
			if i > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%-*s", c.width, cell(i))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line(func(i int) string { return cols[i].name })
	line(func(i int) string { return strings.Repeat("=", cols[i].width) })
	for _, r := range rows {
		line(func(i int) string { return r[i] })
	}
}

func reportVersion(s string) string { return strings.Replace(s, "TLS ", "TLSv", 1) }

// reportCipher returns a suite of TLS 1.2 by the name that OpenSSL gives it; those of TLS 1.3 have one name only.
func reportCipher(iana string) string {
	s, ok := strings.CutPrefix(iana, "TLS_")
	exchange, rest, has := strings.Cut(s, "_WITH_")
	if !ok || !has {
		return iana
	}
	rest = strings.TrimSuffix(strings.ReplaceAll(rest, "AES_", "AES"), "_SHA256_SHA256")
	if strings.HasPrefix(rest, "CHACHA20") {
		rest = strings.TrimSuffix(rest, "_SHA256")
	}
	return strings.ReplaceAll(exchange+"-"+rest, "_", "-")
}

// reportCurve returns a group by its short name.
func reportCurve(group string) string {
	switch group {
	case "secp256r1":
		return "P-256"
	case "secp384r1":
		return "P-384"
	case "secp521r1":
		return "P-521"
	case "x25519":
		return "X25519"
	}
	return group
}
