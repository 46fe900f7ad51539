package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/node/admin/api"
)

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show what this program is",
		Long:    "version shows the version and source revision of this program, the Go it was built with, and whether FIPS 140-3 mode is on\n(GODEBUG=fips140=on; a node has a switch for it: `ringfence up --fips`).",
		Example: "  ringfence version\n  ringfence version --json | jq -r .version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := node.BuildVersion("")
			return show(cmd, asJSON, v, func(w io.Writer) {
				facts(w, "version", v.Version, "revision", v.Revision, "modified", yes(v.Modified), "go", v.Go, "fips", fipsWords(v.FIPS, v.FIPSModule))
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

// fipsWords says whether FIPS 140-3 mode is on, and whose module does it.
func fipsWords(on bool, module string) string {
	if !on {
		return "no"
	}
	return "yes, Go Cryptographic Module " + module
}

func newStatusCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show how the node is",
		Long: "status shows on one page what runs, where it listens, what there is now, what was refused, and every named exception with its end.\n" +
			"Settings that were changed and wait for a restart are named.",
		Example: "  ringfence status\n  ringfence status --json | jq .counts\n  ringfence status --node pbx.example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st api.Status
			if err := a.ask(cmd.Context(), http.MethodGet, "/status", nil, nil, &st); err != nil {
				return err
			}
			return show(cmd, asJSON, st, func(w io.Writer) { printStatus(w, st) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func printStatus(w io.Writer, st api.Status) {
	facts(w, "node", st.Node, "domain", st.Domain, "version", st.Version, "go", st.Go, "fips", fipsWords(st.FIPS, st.FIPSModule), "store", st.Store,
		"started", stamp(st.Started), "uptime", (time.Duration(st.Uptime) * time.Second).String(), "draining", yes(st.Draining))
	if len(st.Restart) > 0 {
		fmt.Fprintln(w, "\nA restart is needed for:", strings.Join(st.Restart, ", "))
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, l := range st.Listeners {
		rows = append(rows, []string{l.Flow, l.Addr, string(l.TLS)})
	}
	table(w, []string{"LISTENER", "ADDRESS", "TLS"}, rows)
	c, r := st.Counts, st.Refused
	fmt.Fprintf(w, "\n%d users, %d devices, %d registrations (%d reachable), %d connections, %d calls\n", c.Users, c.Devices, c.Registrations, c.Reachable, c.Connections, c.Calls)
	fmt.Fprintf(w, "refused: %d calls, %d requests, %d handshakes, %d connections, %d API requests\n", r.Calls, r.Requests, r.Handshakes, r.Connections, r.API)
	if len(st.Exceptions) == 0 {
		fmt.Fprintln(w, "no exceptions: everything is sealed or refused")
		return
	}
	fmt.Fprintln(w)
	rows = nil
	for _, e := range st.Exceptions {
		rows = append(rows, []string{e.Subject, stamp(e.Until), e.Reason})
	}
	table(w, []string{"EXCEPTION", "UNTIL", "REASON"}, rows)
}

func newFlowsCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "flows", Short: "Show the flow table as it really runs",
		Long: "flows lists everything that the node listens on or dials, with ports, DSCP and the kind of seal. Whatever is not in this table is not\n" +
			"opened: the one hand that opens sockets refuses it.",
		Example: "  ringfence flows\n  ringfence flows --json | jq '.[] | select(.direction==\"listen\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var flows []ringfence.Flow
			if err := a.ask(cmd.Context(), http.MethodGet, "/flows", nil, nil, &flows); err != nil {
				return err
			}
			return show(cmd, asJSON, flows, func(w io.Writer) {
				var rows [][]string
				for _, f := range flows {
					where := f.Path
					if f.Addr.IsValid() {
						where = f.Addr.String()
					}
					rows = append(rows, []string{f.Name, string(f.Direction), f.Transport, where, f.Ports.String(), strconv.Itoa(int(f.DSCP)), string(f.TLS), f.Peers, f.Purpose})
				}
				table(w, []string{"FLOW", "DIRECTION", "TRANSPORT", "ADDRESS", "PORTS", "DSCP", "TLS", "PEERS", "PURPOSE"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}
