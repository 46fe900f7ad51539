package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/node/admin/api"
	"ringfence/internal/node/observe/ladder"
)

func newCallCommand(a *app) *cobra.Command {
	return group(&cobra.Command{Use: "call", Short: "Calls that are up",
		Long:    "A call is a small graph of legs; each leg is one SIP dialog with one media session, and has its own proof.",
		Example: "  ringfence call list --watch\n  ringfence call start alice 2002\n  ringfence call explain --from alice --to 2002"},
		newCallStartCommand(a), newCallListCommand(a), newCallShowCommand(a), newCallHangupCommand(a), newCallExplainCommand(a))
}

func newCallStartCommand(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "start FROM TO", Short: "Let one user call another",
		Long:    "start rings the phone of FROM, a user; once it is answered, it dials TO, as if FROM had dialled it. The id of the call is printed at once.",
		Example: "  ringfence call start alice 2002",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.completeUsers,
		RunE: func(cmd *cobra.Command, args []string) error {
			var c api.CallStarted
			if err := a.ask(cmd.Context(), http.MethodPost, "/calls", nil, api.NewCall{From: ringfence.UserID(args[0]), To: args[1]}, &c); err != nil {
				return err
			}
			return show(cmd, asJSON, c, func(w io.Writer) { fmt.Fprintln(w, c.ID) })
		},
	}
	return jsonFlag(cmd, &asJSON)
}

func newCallListCommand(a *app) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the calls that are up",
		Long:    "list shows every call with its state and verdict, the oldest first. With --watch it is shown again every second until you interrupt it;\nwith --json each time is one line.",
		Example: "  ringfence call list\n  ringfence call list --watch\n  ringfence call list --json | jq length",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchCalls(cmd, asJSON)
			}
			var calls []api.Call
			if err := a.ask(cmd.Context(), http.MethodGet, "/calls", nil, nil, &calls); err != nil {
				return err
			}
			return show(cmd, asJSON, calls, func(w io.Writer) { printCalls(w, calls) })
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "go on, once a second")
	return jsonFlag(cmd, &asJSON)
}

func printCalls(w io.Writer, calls []api.Call) {
	var rows [][]string
	for _, c := range calls {
		since := c.Start
		if !c.Answered.IsZero() {
			since = c.Answered
		}
		var media []string
		for _, l := range c.Legs {
			if l.Media != nil && l.State != "ended" {
				media = append(media, fmt.Sprintf("%s %d/%d", l.Codec, l.Media.PacketsIn, l.Media.PacketsOut))
			}
		}
		rows = append(rows, []string{string(c.ID), c.From, c.To, c.State, string(c.Verdict), time.Since(since).Truncate(time.Second).String(), strings.Join(media, ", ")})
	}
	table(w, []string{"CALL", "FROM", "TO", "STATE", "VERDICT", "FOR", "MEDIA IN/OUT"}, rows)
}

// watchCalls shows the list once a second until the command is interrupted.
func (a *app) watchCalls(cmd *cobra.Command, asJSON bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var calls []api.Call
		if err := c.Do(cmd.Context(), http.MethodGet, "/calls", nil, nil, &calls); err != nil {
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		}
		out := cmd.OutOrStdout()
		switch {
		case asJSON:
			if err := compact(out, calls); err != nil {
				return err
			}
		default:
			var b strings.Builder
			if f, ok := out.(*os.File); ok && isTerminal(f) {
				b.WriteString("\x1b[H\x1b[2J") // to the corner, and clear
			}
			fmt.Fprintf(&b, "%s  %d calls\n", stamp(time.Now()), len(calls))
			printCalls(&b, calls)
			if _, err := io.WriteString(out, b.String()); err != nil {
				return nil // nobody reads any more
			}
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil
		}
	}
}

// isTerminal reports whether a file is a character device, as terminals are.
func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// showLadder draws the messages of a call.
func (a *app) showLadder(cmd *cobra.Command, id string, asJSON bool) error {
	var m api.Messages
	if err := a.ask(cmd.Context(), http.MethodGet, "/calls/"+url.PathEscape(id)+"/messages", nil, nil, &m); err != nil {
		return err
	}
	return show(cmd, asJSON, m, func(w io.Writer) {
		_ = ladder.Render(w, m.Messages, 0) // standard output; if it is gone, nobody is left to tell
		if m.Omitted > 0 {
			fmt.Fprintf(w, "%d messages were left out for lack of room\n", m.Omitted)
		}
	})
}

func newCallShowCommand(a *app) *cobra.Command {
	var asJSON, asLadder bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show the legs of a call and their proof",
		Long:    "show prints why the call went where it went, and for each leg what was verified: the peer, TLS version, suite and group, and for the media\nthe SRTP suite, DSCP, packets, loss, jitter and an estimate of how it sounds (MOS).",
		Example: "  ringfence call show c5d3a2b1-7\n  ringfence call show c5d3a2b1-7 --json | jq '.legs[].media'\n  ringfence call show c5d3a2b1-7 --ladder",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeCalls,
		RunE: func(cmd *cobra.Command, args []string) error {
			if asLadder {
				return a.showLadder(cmd, args[0], asJSON)
			}
			var c api.Call
			if err := a.ask(cmd.Context(), http.MethodGet, "/calls/"+url.PathEscape(args[0]), nil, nil, &c); err != nil {
				return err
			}
			return show(cmd, asJSON, c, func(w io.Writer) {
				facts(w, "call", string(c.ID), "from", c.From, "to", c.To, "dialled", c.Dialled, "state", c.State, "verdict", string(c.Verdict), "start", stamp(c.Start), "answered", stamp(c.Answered))
				for _, r := range c.Reasons {
					fmt.Fprintln(w, "  because", r)
				}
				for _, l := range c.Legs {
					fmt.Fprintf(w, "\n%s  %s  %s  %s", l.ID, l.Side, l.State, l.Peer)
					if l.Held {
						fmt.Fprint(w, "  (on hold)")
					}
					fmt.Fprintln(w)
					printProof(w, l.Proof)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&asLadder, "ladder", false, "draw the SIP messages of the call, also of one that has ended lately")
	return jsonFlag(cmd, &asJSON)
}

// printProof prints the evidence about a leg.
func printProof(w io.Writer, p ringfence.Proof) {
	pairs := []string{"  verdict", string(p.Verdict)}
	if p.Reason != "" {
		pairs = append(pairs, "  reason", p.Reason)
	}
	pairs = append(pairs, "  identity", string(p.Auth))
	if t := p.TLS; t != nil {
		pairs = append(pairs, "  signalling", t.Version+", "+t.Suite+", "+t.Group, "  peer", t.PeerSubject, "  anchor", t.Anchor)
	}
	if m := p.Media; m != nil {
		pairs = append(pairs, "  media", fmt.Sprintf("%s, DSCP %d, %d packets in, %d out, %d lost, %d rejected, %d overrun, jitter %.1f ms, MOS %.1f",
			mediaSeal(p), m.DSCP, m.PacketsIn, m.PacketsOut, m.Lost, m.Rejected, m.Overrun, m.JitterMS, m.MOS))
	}
	facts(w, pairs...)
}

// mediaSeal says how the media of a leg was sealed, if it was: a leg that rings or was refused has no keys, and one by an exception for its
// media neither.
func mediaSeal(p ringfence.Proof) string {
	switch {
	case p.Media.Suite != "":
		return "SRTP " + p.Media.Suite
	case strings.HasPrefix(p.Reason, "plain RTP ") || strings.HasPrefix(p.Reason, "plain SIP and RTP "):
		return "RTP in the clear"
	}
	return "no keys agreed on"
}

func newCallHangupCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "hangup ID", Short: "End a call", Long: "hangup says goodbye on every leg of a call. Its record names you as the cause.",
		Example: "  ringfence call hangup c5d3a2b1-7",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeCalls,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.ask(cmd.Context(), http.MethodDelete, "/calls/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "call %s has ended\n", args[0])
			return nil
		},
	}
}

func newCallExplainCommand(a *app) *cobra.Command {
	var from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain --from USER --to NUMBER", Short: "Say where a number would go, and why",
		Long:    "explain asks the dial plan, without calling anybody, and prints its decision with every reason in the order it was found.",
		Example: "  ringfence call explain --from alice --to 2002\n  ringfence call explain --from alice --to +442079460000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var e api.Explanation
			if err := a.ask(cmd.Context(), http.MethodGet, "/explain", url.Values{"from": {from}, "to": {to}}, nil, &e); err != nil {
				return err
			}
			return show(cmd, asJSON, e, func(w io.Writer) {
				target := string(e.User) + e.Group + e.Feature + e.Trunk
				if e.Number != "" {
					target = strings.TrimSpace(target + " " + e.Number)
				}
				facts(w, "decision", strings.TrimSpace(e.Action+" "+target), "class", e.Class)
				for i, r := range e.Reasons {
					fmt.Fprintln(w, "  "+strconv.Itoa(i+1)+". "+r)
				}
				if e.Hint != "" {
					fmt.Fprintln(w, "hint: "+e.Hint)
				}
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the user who would call")
	cmd.Flags().StringVar(&to, "to", "", "what would be dialled")
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.RegisterFlagCompletionFunc("from", a.completeUserFlag)
	return jsonFlag(cmd, &asJSON)
}
