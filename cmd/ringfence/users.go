package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
)

func newUserCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "user", Short: "People and places that own numbers",
		Long:    "A user owns numbers and devices, and has the settings of calls: forwarding, do not disturb, voicemail, toll class and PIN.",
		Example: "  ringfence user add alice --number 2001 --name \"Alice Adams\"\n  ringfence user list"},
		newUserAddCommand(a), newUserListCommand(a), newUserShowCommand(a), newUserSetCommand(a), newUserRemoveCommand(a))
}

// userFlags are the settings of a user; only those that were given are sent.
type userFlags struct {
	name, toll, pin                     string
	numbers                             []string
	voicemail, dnd                      bool
	always, busy, noAnswer, unreachable string
	seconds                             int
}

func (f *userFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "display name")
	fl.StringSliceVar(&f.numbers, "number", nil, "a number; repeat it for more, the main one first")
	fl.BoolVar(&f.voicemail, "voicemail", false, "the user has a voice mailbox")
	fl.BoolVar(&f.dnd, "dnd", false, "do not disturb")
	fl.StringVar(&f.toll, "toll", "", "the dearest destinations the user may call: internal, local, national, mobile, international or premium")
	fl.StringVar(&f.pin, "pin", "", "PIN of 4 to 16 digits; empty removes it")
	fl.StringVar(&f.always, "forward-always", "", "where every call goes; empty ends it")
	fl.StringVar(&f.busy, "forward-busy", "", "where calls go while the user is busy")
	fl.StringVar(&f.noAnswer, "forward-no-answer", "", "where calls go that nobody answers")
	fl.StringVar(&f.unreachable, "forward-unreachable", "", "where calls go while no phone is registered")
	fl.IntVar(&f.seconds, "no-answer-seconds", 0, "how long it rings before --forward-no-answer applies")
	_ = cmd.RegisterFlagCompletionFunc("toll", cobra.FixedCompletions([]string{"internal", "local", "national", "mobile", "international", "premium"}, cobra.ShellCompDirectiveNoFileComp))
}

func (f *userFlags) numberList() []ringfence.Number {
	out := make([]ringfence.Number, len(f.numbers))
	for i, n := range f.numbers {
		out[i] = ringfence.Number(n)
	}
	return out
}

// change returns what was given on the command line.
func (f *userFlags) change(cmd *cobra.Command) (c api.UserChange) {
	given(cmd, "name", &c.Name, f.name)
	given(cmd, "number", &c.Numbers, f.numberList())
	given(cmd, "voicemail", &c.Voicemail, f.voicemail)
	given(cmd, "dnd", &c.DND, f.dnd)
	given(cmd, "toll", &c.TollClass, f.toll)
	given(cmd, "pin", &c.PIN, f.pin)
	given(cmd, "forward-always", &c.ForwardAlways, f.always)
	given(cmd, "forward-busy", &c.ForwardBusy, f.busy)
	given(cmd, "forward-no-answer", &c.ForwardNoAnswer, f.noAnswer)
	given(cmd, "forward-unreachable", &c.ForwardUnreach, f.unreachable)
	given(cmd, "no-answer-seconds", &c.NoAnswerSeconds, f.seconds)
	return c
}

func given[T any](cmd *cobra.Command, flag string, to **T, v T) {
	if cmd.Flags().Changed(flag) {
		*to = &v
	}
}

func newUserAddCommand(a *app) *cobra.Command {
	f, asJSON := &userFlags{}, false
	cmd := &cobra.Command{
		Use: "add ID", Short: "Add a user",
		Long:    "add makes a user. The id is also the user part of the address-of-record (sip:ID@DOMAIN): lower-case letters, digits, dot, dash and\nunderscore.",
		Example: "  ringfence user add alice --number 2001 --name \"Alice Adams\"\n  ringfence user add lobby --number 2900 --toll local --forward-no-answer 2001",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := api.NewUser{ID: ringfence.UserID(args[0]), Name: f.name, Numbers: f.numberList(), Voicemail: f.voicemail, DND: f.dnd, TollClass: f.toll, PIN: f.pin,
				Forward: &api.Forward{Always: f.always, Busy: f.busy, NoAnswer: f.noAnswer, Unreachable: f.unreachable, NoAnswerSeconds: f.seconds}}
			var u api.User
			if err := a.ask(cmd.Context(), http.MethodPost, "/users", nil, in, &u); err != nil {
				return err
			}
			return show(cmd, asJSON, u, func(w io.Writer) { printUser(w, u) })
		},
	}
	f.add(cmd)
	return jsonFlag(cmd, &asJSON)
}

// allUsers reads the list page by page.
func (a *app) allUsers(ctx context.Context) ([]api.User, error) {
	all := []api.User{}
	for after := ""; ; {
		var page []api.User
		q := url.Values{"limit": {"1000"}}
		if after != "" {
			q.Set("after", after)
		}
		if err := a.ask(ctx, http.MethodGet, "/users", q, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < 1000 {
			return all, nil
		}
		after = string(page[len(page)-1].ID)
	}
}

func newUserListCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List users", Long: "list shows every user with numbers and settings, by id.",
		Example: "  ringfence user list\n  ringfence user list --json | jq -r '.[].id'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			users, err := a.allUsers(cmd.Context())
			if err != nil {
				return err
			}
			return show(cmd, asJSON, users, func(w io.Writer) {
				var rows [][]string
				for _, u := range users {
					rows = append(rows, []string{string(u.ID), join(u.Numbers, ","), u.Name, strconv.Itoa(u.Devices), u.TollClass, yes(u.DND), yes(u.Voicemail), u.Forward.Always})
				}
				table(w, []string{"USER", "NUMBERS", "NAME", "DEVICES", "TOLL", "DND", "VOICEMAIL", "FORWARDED"}, rows)
			})
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func printUser(w io.Writer, u api.User) {
	f := u.Forward
	facts(w, "user", string(u.ID), "name", u.Name, "numbers", join(u.Numbers, ", "), "devices", strconv.Itoa(u.Devices), "toll class", u.TollClass,
		"do not disturb", yes(u.DND), "voicemail", yes(u.Voicemail), "PIN set", yes(u.PINSet),
		"forward always", f.Always, "forward busy", f.Busy, "forward no answer", f.NoAnswer, "forward unreachable", f.Unreachable)
}

func newUserShowCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a user", Long: "show prints every setting of a user. A PIN is never shown, only whether one is set.",
		Example: "  ringfence user show alice",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			var u api.User
			if err := a.ask(cmd.Context(), http.MethodGet, "/users/"+url.PathEscape(args[0]), nil, nil, &u); err != nil {
				return err
			}
			return show(cmd, asJSON, u, func(w io.Writer) { printUser(w, u) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newUserSetCommand(a *app) *cobra.Command {
	f, asJSON := &userFlags{}, false
	cmd := &cobra.Command{
		Use: "set ID", Short: "Change settings of a user", Long: "set changes what is given and leaves the rest. --number replaces all numbers.",
		Example: "  ringfence user set alice --toll national\n  ringfence user set alice --forward-always 2002\n  ringfence user set alice --forward-always \"\" --dnd=false",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c := f.change(cmd)
			if c == (api.UserChange{}) {
				return invalid("nothing to change was given", "see `ringfence user set --help`")
			}
			var u api.User
			if err := a.ask(cmd.Context(), http.MethodPatch, "/users/"+url.PathEscape(args[0]), nil, c, &u); err != nil {
				return err
			}
			return show(cmd, asJSON, u, func(w io.Writer) { printUser(w, u) })
		},
	}
	f.add(cmd)
	return jsonFlag(cmd, &asJSON)
}

func newUserRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Short: "Remove a user with its devices",
		Long:    "remove deletes a user with numbers and devices. The certificates of the devices are revoked, and their connections and calls end at once.",
		Example: "  ringfence user remove alice",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			var e api.Ended
			if err := a.ask(cmd.Context(), http.MethodDelete, "/users/"+url.PathEscape(args[0]), nil, nil, &e); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "user %s is removed: %s\n", args[0], ended(e))
			return nil
		},
	}
}

func ended(e api.Ended) string {
	return fmt.Sprintf("%d certificates revoked, %d connections closed, %d calls ended", e.Certificates, e.Connections, e.Calls)
}
