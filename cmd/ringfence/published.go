package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/trust/trustlist"
	"ringfence/internal/trust/tvs"
)

// list reads a list: the one that the node publishes, by its kind, or a file.
func (a *app) list(cmd *cobra.Command, name string) (*trustlist.List, error) {
	if !slices.Contains([]string{"itl", "ctl", "json"}, name) {
		return listFile(name)
	}
	var l api.TrustLists
	if err := a.ask(cmd.Context(), http.MethodGet, "/trustlists", nil, nil, &l); err != nil {
		return nil, err
	}
	return trustlist.Parse(l.Files[name])
}

func newListStatusCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show what is published, and which phone holds which list",
		Long:    "status shows the version that the node publishes, what is in it, whether a newer one waits, and which version each phone fetched last.",
		Example: "  ringfence trustlist status\n  ringfence trustlist status --json | jq .devices",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l api.TrustLists
			if err := a.ask(cmd.Context(), http.MethodGet, "/trustlists", nil, nil, &l); err != nil {
				return err
			}
			return show(cmd, asJSON, l, func(w io.Writer) {
				facts(w, "version", strconv.FormatInt(l.Version, 10), "made", stamp(l.Made), "why", l.Note, "signer", l.Signer, "waiting", l.Waiting)
				var rows [][]string
				for _, r := range l.Records {
					rows = append(rows, []string{r.Role.String(), r.Subject, fmt.Sprintf("%x", r.Serial)})
				}
				fmt.Fprintln(w)
				table(w, []string{"ROLE", "SUBJECT", "SERIAL"}, rows)
				fmt.Fprintln(w)
				if len(l.Devices) == 0 {
					fmt.Fprintln(w, "No phone has fetched one yet.")
					return
				}
				rows = nil
				for _, d := range l.Devices {
					known := "by its file name"
					if d.Proved {
						known = "by its certificate"
					}
					rows = append(rows, []string{d.Device, d.Kind, strconv.FormatInt(d.Version, 10), stamp(d.Fetched), known})
				}
				table(w, []string{"DEVICE", "LIST", "VERSION", "FETCHED", "KNOWN"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func printListPlan(w io.Writer, p api.ListPlan) {
	if !p.Changes {
		fmt.Fprintln(w, "Nothing would change.")
		return
	}
	fmt.Fprintf(w, "Signed by signer %s.\n", p.Signer)
	var rows [][]string
	for _, r := range p.Added {
		rows = append(rows, []string{"+", r.Role.String(), r.Subject, fmt.Sprintf("%x", r.Serial)})
	}
	for _, r := range p.Removed {
		rows = append(rows, []string{"-", r.Role.String(), r.Subject, fmt.Sprintf("%x", r.Serial)})
	}
	table(w, []string{"", "ROLE", "SUBJECT", "SERIAL"}, rows)
	rows = nil
	for _, h := range p.Held {
		var names []string
		for _, d := range h.Devices {
			names = append(names, d.Device)
		}
		rows = append(rows, []string{strconv.FormatInt(h.Version, 10), strconv.Itoa(len(names)), yes(h.Taken), yes(h.Lost), clipped(strings.Join(names, " "), 60), h.Why})
	}
	if len(rows) > 0 {
		fmt.Fprintln(w)
		table(w, []string{"HELD", "PHONES", "TAKEN", "LOST", "WHO", "WHY"}, rows)
	}
}

func clipped(s string, n int) string {
	if len(s) > n {
		return s[:n] + " …"
	}
	return s
}

func newListPublishCommand(a *app) *cobra.Command {
	var asJSON bool
	var in api.PublishLists
	cmd := &cobra.Command{
		Use: "publish", Short: "Publish a list that waits", Args: cobra.NoArgs,
		Long:    "publish publishes a list that the node has not published by itself because phones would be lost by it. If they still would be it refuses, and --force goes on.",
		Example: "  ringfence trustlist publish\n  ringfence trustlist publish --force",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p api.ListPlan
			if err := a.ask(cmd.Context(), http.MethodPost, "/trustlists", nil, in, &p); err != nil {
				return err
			}
			return show(cmd, asJSON, p, func(w io.Writer) { printListPlan(w, p) })
		},
	}
	cmd.Flags().BoolVar(&in.Force, "force", false, "although phones are lost by it")
	return jsonFlag(cmd, &asJSON)
}

func newListRotateCommand(a *app) *cobra.Command {
	var asJSON bool
	var in api.RotateSigner
	cmd := &cobra.Command{
		Use: "rotate SIGNER", Short: "Replace one of the two signers", Args: cobra.ExactArgs(1), ValidArgs: []string{"a", "b"},
		Long: "rotate makes another key for one of the two signers, and publishes the list that follows, signed by the other one. Phones that hold the list of before take it. If phones hold an\n" +
			"older one that knows neither, it refuses; --force goes on. The node does this by itself when a signer grows old, and never with both at once.",
		Example: "  ringfence trustlist plan --rotate a\n  ringfence trustlist rotate a",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Signer = args[0]
			var p api.ListPlan
			if err := a.ask(cmd.Context(), http.MethodPost, "/trustlists/rotation", nil, in, &p); err != nil {
				return err
			}
			return show(cmd, asJSON, p, func(w io.Writer) { printListPlan(w, p) })
		},
	}
	cmd.Flags().BoolVar(&in.Force, "force", false, "although phones are lost by it")
	return jsonFlag(cmd, &asJSON)
}

// asked is what a verification service said, as JSON.
type asked struct {
	Valid bool             `json:"valid"`
	Roles []trustlist.Role `json:"roles"`
	TTL   int              `json:"ttl_seconds"`
}

func newListAskCommand() *cobra.Command {
	var asJSON bool
	var list, at, device string
	cmd := &cobra.Command{
		Use: "ask CERTIFICATE --at HOST:PORT --list FILE", Short: "Ask a verification service as a phone does", Args: cobra.ExactArgs(1),
		Long: "ask shows a certificate to a Trust Verification Service (TVS) and prints whether it is believed, in which roles, and for how long a phone may remember that. The service is known\n" +
			"by the list, as a phone knows it. It fails if the certificate is not believed.",
		Example: "  ringfence trustlist ask node.pem --at ringfence.example.com:2445 --list ITLFile.tlv",
		RunE: func(cmd *cobra.Command, args []string) error {
			cert, err := certificateFile(args[0])
			if err != nil {
				return err
			}
			held, err := listFile(list)
			if err != nil {
				return err
			}
			d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, VerifyConnection: tvs.OneOf(held.Holders(trustlist.TVS), time.Now)}} // the list vouches for it
			conn, err := d.DialContext(cmd.Context(), "tcp", at)
			if err != nil {
				return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "there is no sealed connection to " + at, Hint: "is it a TVS, and does the list name it as one? see `ringfence trustlist show`", Err: err}
			}
			ans, err := tvs.Verify(cmd.Context(), conn, device, cert)
			if err != nil {
				return err
			}
			out := asked{Valid: ans.Valid, Roles: append([]trustlist.Role{}, ans.Roles...), TTL: int(ans.TTL.Seconds())}
			if err := show(cmd, asJSON, out, func(w io.Writer) {
				if ans.Valid {
					fmt.Fprintf(w, "%s is believed as %v, for %s\n", cert.Subject, ans.Roles, ans.TTL)
				}
			}); err != nil {
				return err
			}
			if !ans.Valid {
				return &ringfence.Fault{Kind: ringfence.KindDenied, Text: cert.Subject.String() + " is not believed", Hint: "it is in no list of this organisation, has expired, or was revoked"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "where the service is, such as ringfence.example.com:2445")
	cmd.Flags().StringVar(&list, "list", "", "the list that a phone holds")
	cmd.Flags().StringVar(&device, "device", "ringfence", "the name that a phone gives")
	_ = cmd.MarkFlagRequired("at")
	_ = cmd.MarkFlagRequired("list")
	return jsonFlag(cmd, &asJSON)
}
