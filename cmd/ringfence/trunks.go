package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"ringfence/internal/node/admin/api"
)

func newTrunkCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "trunk", Short: "Other telephone systems",
		Long: "A trunk is another telephone system: a session border controller, a carrier, a PBX. It is made in the configuration, and its security profile says who it must prove\n" +
			"to be, and what it may ask for; docs/guides/trunks.md.",
		Example: "  ringfence trunk list\n  ringfence trunk show vcube"},
		newTrunkListCommand(a), newTrunkShowCommand(a))
}

func newTrunkListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List them, and whether calls can go there now",
		Long:    "list prints each trunk with its security profile and the state of the way there. A trunk that only calls in has no way out, and is not down.",
		Example: "  ringfence trunk list\n  ringfence trunk list --json | jq '.[] | select(.up | not)'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []api.Trunk
			if err := a.ask(cmd.Context(), http.MethodGet, "/trunks", nil, nil, &all); err != nil {
				return err
			}
			return show(cmd, asJSON, all, func(w io.Writer) {
				var rows [][]string
				for _, t := range all {
					rows = append(rows, []string{t.Name, t.Host, t.Security, string(t.Incoming), string(t.Outgoing), stateOf(t), t.Remote})
				}
				table(w, []string{"TRUNK", "HOST", "SECURITY", "INCOMING", "OUTGOING", "STATE", "REMOTE"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func stateOf(t api.Trunk) string {
	switch {
	case t.Up:
		return "up"
	case t.Outgoing == "off":
		return "calls in only"
	}
	return "down: " + t.Cause
}

func newTrunkShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show one: whom it must prove to be, what it may ask for, how its connection is sealed",
		Long:    "show prints a trunk with what its security profile asks of the other side, whether calls can go there now and otherwise why not, and how the connection is sealed.",
		Example: "  ringfence trunk show vcube\n  ringfence trunk show vcube --json",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeTrunks,
		RunE: func(cmd *cobra.Command, args []string) error {
			var t api.Trunk
			if err := a.ask(cmd.Context(), http.MethodGet, "/trunks/"+url.PathEscape(args[0]), nil, nil, &t); err != nil {
				return err
			}
			return show(cmd, asJSON, t, func(w io.Writer) {
				accepts := "nothing"
				if len(t.Accept) > 0 {
					accepts = join(t.Accept, ", ")
				}
				pairs := []string{"trunk", t.Name, "host", t.Host, "state", stateOf(t), "security profile", t.Security, "incoming", string(t.Incoming), "outgoing", string(t.Outgoing),
					"subjects", join(t.Subjects, ", "), "anchors", join(t.Anchors, ", "), "accepts besides calls", accepts, "prefix", t.Prefix}
				if t.Up {
					pairs = append(pairs, "remote", t.Remote, "since", stamp(t.Since))
				}
				if t.TLS != nil {
					pairs = append(pairs, "sealed by", t.TLS.Version+" "+t.TLS.Suite+" "+t.TLS.Group, "its certificate", t.TLS.PeerSubject)
				}
				facts(w, pairs...)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newProfileCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "profile", Short: "Security profiles of phones and trunks",
		Long:    "A security profile says how securely phones or trunks must speak. Profiles are made in the configuration; some are built in.",
		Example: "  ringfence profile list\n  ringfence device profile alice-desk encrypted"},
		newProfileListCommand(a))
}

func newProfileListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the security mode of the cluster and all profiles",
		Long: "list prints the security mode of the cluster (mixed: everything is sealed, and a phone may have an exception by name and with an end; encrypted: there are no exceptions),\n" +
			"the profiles of phones and of trunks, and the modes of other systems that are not served here, with the reason.",
		Example: "  ringfence profile list\n  ringfence profile list --json | jq .trunks",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s api.Security
			if err := a.ask(cmd.Context(), http.MethodGet, "/security", nil, nil, &s); err != nil {
				return err
			}
			return show(cmd, asJSON, s, func(w io.Writer) {
				fmt.Fprintf(w, "The cluster is %s.\n\n", s.Mode)
				var rows [][]string
				for _, p := range s.Phones {
					auth := "any"
					if len(p.Auth) > 0 {
						auth = join(p.Auth, ", ")
					}
					rows = append(rows, []string{p.Name, string(p.Mode), auth})
				}
				table(w, []string{"PHONE PROFILE", "MODE", "PROVED BY"}, rows)
				fmt.Fprintln(w)
				rows = nil
				for _, t := range s.Trunks {
					subjects, anchors, accepts := "the trunk's host", "own", "calls"
					if len(t.Subjects) > 0 {
						subjects = join(t.Subjects, ", ")
					}
					if len(t.Anchors) > 0 {
						anchors = join(t.Anchors, ", ")
					}
					for _, r := range t.Accept {
						accepts += ", " + string(r)
					}
					rows = append(rows, []string{t.Name, string(t.Incoming), string(t.Outgoing), subjects, anchors, accepts})
				}
				table(w, []string{"TRUNK PROFILE", "INCOMING", "OUTGOING", "SUBJECTS", "ANCHORS", "ACCEPTS"}, rows)
				fmt.Fprintln(w)
				for _, n := range s.Not {
					fmt.Fprintf(w, "Not served: %s: %s.\n", n.Mode, n.Why)
				}
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}
