package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ringfence"
	"ringfence/internal/desk/feature"
	"ringfence/internal/desk/page"
	"ringfence/internal/node/sockets"
	"ringfence/internal/service/phone"
)

const (
	flowControl = "phone-control"
	controlName = "control.sock"
)

// controlFlow is how a desk phone that runs is told what to do.
func controlFlow(d ringfence.Direction) ringfence.Flow {
	return ringfence.Flow{Name: flowControl, Purpose: "Whoever started a phone tells it what to do.", Room: "cmd/ringfence", Direction: d, Transport: "unix", Peers: "programs of the same user on this host", TLS: ringfence.HostSocket}
}

// sound is what a call says and where it is heard, as the flags of the handset say. Each call has a file of its own: of call.wav the first is call-1.wav.
func (x *desk) sound(out io.Writer) (feature.Sound, error) {
	opt, rec, err := x.options()
	ext := filepath.Ext(x.record)
	record := fmt.Sprintf("%s-%d%s", strings.TrimSuffix(x.record, ext), x.sounds.Add(1), ext)
	return feature.Sound{Source: opt.Audio, Sink: opt.Hear, Talk: func(ctx context.Context, c *phone.Call) {
		if err := x.talk(ctx, out, c, rec, record); err != nil {
			fmt.Fprintln(out, "call:", err)
		}
	}}, err
}

// control lets `ringfence phone do` tell the phone what to do, until ctx ends.
func (x *desk) control(ctx context.Context) error {
	if x.flags.state == "" {
		return nil
	}
	ln, err := x.opener.ListenUnix(ctx, flowControl, filepath.Join(x.flags.state, controlName))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: page.API(ctx, x.features), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx }}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(ln) }()
	return nil
}

// controller speaks to a phone that runs.
type controller struct {
	state  string
	asJSON bool
}

// ask sends a request to the phone, and reads its answer into out.
func (c *controller) ask(ctx context.Context, method, path string, in, out any) error {
	if c.state == "" {
		return invalid("there is no --state", "give the directory that `ringfence phone up --state` was given")
	}
	opener, err := sockets.New([]ringfence.Flow{controlFlow(ringfence.Dials)})
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return opener.DialUnix(ctx, flowControl, filepath.Join(c.state, controlName))
	}}}
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://phone"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return &ringfence.Fault{Kind: ringfence.KindNotFound, Text: "no desk phone runs with " + c.state, Hint: "start it: ringfence phone up --cfg cfg.xml --state " + c.state}
	case err != nil:
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the phone cannot be reached", Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		var p page.Problem
		if err = json.Unmarshal(b, &p); err == nil {
			return p.Fault()
		}
	}
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		return &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "the phone's answer is not understood", Hint: "is it of another version?", Err: err}
	}
	return nil
}

// do has the phone do something, and says what came of it.
func (c *controller) do(cmd *cobra.Command, what feature.Command) error {
	var r feature.Result
	if err := c.ask(cmd.Context(), http.MethodPost, "/do", what, &r); err != nil {
		return err
	}
	return show(cmd, c.asJSON, r, func(w io.Writer) {
		if r.Call != 0 {
			fmt.Fprintf(w, "call %d: ", r.Call)
		}
		fmt.Fprintln(w, r.Text)
	})
}

func number(text, what string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1<<30 {
		return 0, invalid(fmt.Sprintf("%.20q is no %s", text, what), "ringfence phone do show lists them")
	}
	return n, nil
}

func newPhoneDoCommand() *cobra.Command {
	c := &controller{}
	cmd := &cobra.Command{
		Use: "do", Short: "Do something at a desk phone that runs", Args: cobra.NoArgs,
		Long: "do tells a phone that `ringfence phone up --state DIR` runs what to do, by a socket file in that directory which only its owner may use. Calls have numbers, which `do show` lists; where one is left out\n" +
			"it is the only one that fits. What the profile switches off (Conference_Serv, Cfwd_All_Serv and the like) is refused.",
		Example: "  ringfence phone do dial 102 --state desk\n  ringfence phone do hold --state desk\n  ringfence phone do show --state desk --json | jq '.calls[].state'",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&c.state, "state", "", "directory that ringfence phone up --state was given")
	cmd.PersistentFlags().BoolVar(&c.asJSON, "json", false, "print JSON")
	c.callVerbs(cmd)
	c.featureVerbs(cmd)
	return cmd
}

// oneCall adds a verb that is about one call.
func (c *controller) oneCall(parent *cobra.Command, use, short, long, example string, do feature.Verb) {
	parent.AddCommand(&cobra.Command{Use: use + " [CALL]", Short: short, Long: long, Example: example, Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		what := feature.Command{Do: do}
		if len(args) == 1 {
			var err error
			if what.Call, err = number(args[0], "call"); err != nil {
				return err
			}
		}
		return c.do(cmd, what)
	}})
}

func (c *controller) callVerbs(parent *cobra.Command) {
	line, call, to := 0, 0, 0
	dial := &cobra.Command{Use: "dial NUMBER", Short: "Call a number", Args: cobra.ExactArgs(1), Long: "dial calls a number, a user or a sip: address from a line, and returns when the call is on its way. Without --line it is the first line that is registered.",
		Example: "  ringfence phone do dial 102 --state desk\n  ringfence phone do dial 102 --line 2 --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			return c.do(cmd, feature.Command{Do: feature.DoDial, Line: line, Number: args[0]})
		}}
	dial.Flags().IntVar(&line, "line", 0, "number of the line; 0: the first that is registered")
	parent.AddCommand(dial)
	for _, x := range []struct {
		use, short, long string
		do               feature.Verb
	}{{"speed", "Call the number of a speed dial, 2 to 9", "speed calls what Speed_Dial_2_Number to Speed_Dial_9_Number say.", feature.DoSpeed}, {"key", "Press a line key", "key does what the Extended_Function of a line key says. A key with sd dials. One with cp takes the call that rings at whom its lamp shows. One with prk parks the call that is up in its place, or takes the one that is\n" +
		"parked there. One with mwi calls the mailbox. The keys of key expansion modules, which show the list of BLF_List_URI, are 101 and so on.", feature.DoKey}} {
		parent.AddCommand(&cobra.Command{Use: x.use + " N", Short: x.short, Long: x.long, Example: "  ringfence phone do " + x.use + " 2 --state desk", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			n, err := number(args[0], "key")
			if err != nil {
				return err
			}
			return c.do(cmd, feature.Command{Do: x.do, Key: n})
		}})
	}
	c.oneCall(parent, "answer", "Answer a call that rings", "answer takes a call that rings; a phone that was started with --no-answer or --ring leaves calls ringing.", "  ringfence phone do answer --state desk", feature.DoAnswer)
	c.oneCall(parent, "hangup", "End a call, or refuse one that rings", "hangup ends a call, gives one up that is not answered yet, or refuses one that rings with 486.", "  ringfence phone do hangup 1 --state desk", feature.DoHangup)
	c.oneCall(parent, "hold", "Put a call on hold", "hold puts the other side on hold (a=sendonly, RFC 3264 section 8.4): it hears what --tone or --play gives the phone to say, and is not heard.", "  ringfence phone do hold 1 --state desk", feature.DoHold)
	c.oneCall(parent, "resume", "Take a held call back", "resume takes a call back that hold put on hold.", "  ringfence phone do resume 1 --state desk", feature.DoResume)
	c.elsewhere(parent)
	c.pageVerbs(parent)
	transfer := &cobra.Command{Use: "transfer [NUMBER]", Short: "Transfer a call to a number, or join the other sides of two calls", Args: cobra.MaximumNArgs(1),
		Long: "transfer asks the other side of a call to call NUMBER instead, and returns when that was answered (blind transfer, RFC 5589); on failure the call goes on. With --to CALL, a second call of this phone that is up, it\n" +
			"joins the other sides of both, and leaves (attended transfer).",
		Example: "  ringfence phone do transfer 103 --state desk\n  ringfence phone do transfer --call 1 --to 2 --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			what := feature.Command{Do: feature.DoTransfer, Call: call, Other: to}
			if (len(args) == 1) == (to != 0) {
				return invalid("to whom?", "give a NUMBER, or --to CALL")
			}
			if len(args) == 1 {
				what.Number = args[0]
			}
			return c.do(cmd, what)
		}}
	transfer.Flags().IntVar(&call, "call", 0, "the call that is transferred; 0: the only one that is up")
	transfer.Flags().IntVar(&to, "to", 0, "the call whose other side it is transferred to")
	parent.AddCommand(transfer)
	parent.AddCommand(&cobra.Command{Use: "conference [CALL CALL]", Short: "Join two calls and this phone", Args: cobra.MatchAll(cobra.RangeArgs(0, 2), func(_ *cobra.Command, args []string) error {
		if len(args) == 1 {
			return invalid("a conference takes two calls", "ringfence phone do conference 1 2")
		}
		return nil
	}), Long: "conference takes two calls back that may be on hold, and mixes them in this phone: each side hears the two others. It is over when one side hangs up; the other call goes on.",
		Example: "  ringfence phone do conference --state desk\n  ringfence phone do conference 1 2 --state desk", RunE: func(cmd *cobra.Command, args []string) (err error) {
			what := feature.Command{Do: feature.DoConference}
			if len(args) == 2 {
				if what.Call, err = number(args[0], "call"); err == nil {
					what.Other, err = number(args[1], "call")
				}
			}
			if err != nil {
				return err
			}
			return c.do(cmd, what)
		}})
	parent.AddCommand(&cobra.Command{Use: "split", Short: "End a conference; both calls go on", Long: "split ends the mixing of a conference. Both calls stay up, and hear this phone alone.", Example: "  ringfence phone do split --state desk", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.do(cmd, feature.Command{Do: feature.DoSplit}) }})
	digits := &cobra.Command{Use: "digits KEYS", Short: "Press keys in a call", Args: cobra.ExactArgs(1), Long: "digits presses keys in a call, 100 ms each, as telephone-events (RFC 4733).", Example: "  ringfence phone do digits 1234# --state desk", RunE: func(cmd *cobra.Command, args []string) error {
		return c.do(cmd, feature.Command{Do: feature.DoDigits, Call: call, Digits: args[0]})
	}}
	digits.Flags().IntVar(&call, "call", 0, "the call; 0: the only one that is up")
	parent.AddCommand(digits)
}

// elsewhere adds the verbs that are about calls at other phones, and in parking places.
func (c *controller) elsewhere(parent *cobra.Command) {
	line, call := 0, 0
	pickup := &cobra.Command{Use: "pickup [NUMBER]", Short: "Take a call that rings elsewhere", Args: cobra.MaximumNArgs(1),
		Long:    "pickup dials Attendant_Console_Call_Pickup_Code with the number at which it rings, or without a number Group_Call_Pickup_Code, for whatever rings in the group. On a Ringfence node both are *8.",
		Example: "  ringfence phone do pickup 102 --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			return c.do(cmd, feature.Command{Do: feature.DoPickUp, Line: line, Number: strings.Join(args, "")})
		}}
	retrieve := &cobra.Command{Use: "retrieve PLACE", Short: "Take a call that is parked", Args: cobra.ExactArgs(1),
		Long:    "retrieve dials Call_Unpark_Code with the place where a call is parked. On a Ringfence node the code is *71, and places are 701 to 799.",
		Example: "  ringfence phone do retrieve 701 --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			return c.do(cmd, feature.Command{Do: feature.DoRetrieve, Line: line, Number: args[0]})
		}}
	park := &cobra.Command{Use: "park [PLACE]", Short: "Park a call", Args: cobra.MaximumNArgs(1),
		Long:    "park transfers a call to Call_Park_Code with the place, or without one to where the server wants it. On a Ringfence node the code is *70, and places are 701 to 799; parked callers hear music, and are called back after three minutes.",
		Example: "  ringfence phone do park 701 --state desk\n  ringfence phone do park --call 2 --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			return c.do(cmd, feature.Command{Do: feature.DoPark, Call: call, Number: strings.Join(args, "")})
		}}
	park.Flags().IntVar(&call, "call", 0, "the call; 0: the only one that is up")
	for _, v := range []*cobra.Command{pickup, retrieve} {
		v.Flags().IntVar(&line, "line", 0, "number of the line; 0: the first that is registered")
	}
	parent.AddCommand(pickup, park, retrieve)
}

func (c *controller) featureVerbs(parent *cobra.Command) {
	line := 0
	forward := &cobra.Command{Use: "forward all|busy|no-answer NUMBER|off", Short: "Forward calls, or no longer", Args: cobra.ExactArgs(2), ValidArgs: []string{"all", "busy", "no-answer"},
		Long:    "forward sends callers elsewhere: all of them, those who find the line busy, or those whom nobody answers after Cfwd_No_Ans_Delay seconds. The phone answers them 302 with the number. It begins with what the profile says.",
		Example: "  ringfence phone do forward busy 103 --state desk\n  ringfence phone do forward all off --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			to := args[1]
			if to == "off" {
				to = ""
			}
			return c.do(cmd, feature.Command{Do: feature.DoForward, Line: line, Kind: feature.Kind(args[0]), Number: to})
		}}
	dnd := &cobra.Command{Use: "dnd on|off", Short: "Let no calls through, or let them through again", Args: cobra.ExactArgs(1), ValidArgs: []string{"on", "off"}, Long: "dnd on has callers hear 486, and puts them among the missed calls. It begins with DND_Setting.",
		Example: "  ringfence phone do dnd on --state desk", RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "on" && args[0] != "off" {
				return invalid(fmt.Sprintf("%.20q is neither on nor off", args[0]), "ringfence phone do dnd on")
			}
			return c.do(cmd, feature.Command{Do: feature.DoNotDisturb, Line: line, On: args[0] == "on"})
		}}
	for _, v := range []*cobra.Command{forward, dnd} {
		v.Flags().IntVar(&line, "line", 0, "number of the line; 0: all")
		parent.AddCommand(v)
	}
	parent.AddCommand(&cobra.Command{Use: "show", Short: "Show the lines, calls, lists, lamps and messages of a phone", Args: cobra.NoArgs, Long: "show prints what is to be seen at the phone: its lines with forwarding and waiting messages, its calls, busy lamps, and the last calls that were placed, received, missed and forwarded.",
		Example: "  ringfence phone do show --state desk\n  ringfence phone do show --state desk --json", RunE: func(cmd *cobra.Command, _ []string) error {
			var s feature.State
			if err := c.ask(cmd.Context(), http.MethodGet, "/state", nil, &s); err != nil {
				return err
			}
			return show(cmd, c.asJSON, s, func(w io.Writer) { printFeatures(w, s); printLists(w, s) })
		}})
}

// printFeatures prints what a phone shows besides its registration.
func printFeatures(w io.Writer, s feature.State) {
	var rows [][]string
	for _, l := range s.Lines {
		var forward []string
		for _, f := range [][2]string{{"all", l.Forward.All}, {"busy", l.Forward.Busy}, {"no-answer", l.Forward.NoAnswer}} {
			if f[1] != "" {
				forward = append(forward, f[0]+" to "+f[1])
			}
		}
		messages := ""
		if m := l.Messages; m != nil {
			messages = fmt.Sprintf("%d new, %d old", m.New, m.Old)
			if m.Error != "" {
				messages = "not known: " + m.Error
			}
		}
		rows = append(rows, []string{strconv.Itoa(l.Number), l.Name, yes(l.DoNotDisturb), strings.Join(forward, ", "), messages})
	}
	if len(rows) > 0 {
		table(w, []string{"LINE", "NAME", "DND", "FORWARD", "MESSAGES"}, rows)
	}
	rows = nil
	for _, c := range s.Calls {
		state := c.State
		for _, x := range []struct {
			on   bool
			text string
		}{{c.Held, "held"}, {c.Holds, "holds us"}, {c.Conference, "in the conference"}} {
			if x.on {
				state += ", " + x.text
			}
		}
		rows = append(rows, []string{strconv.Itoa(c.ID), strconv.Itoa(c.Line), map[bool]string{true: "from", false: "to"}[c.Incoming] + " " + c.Number, c.Name, state, c.Verdict})
	}
	if len(rows) > 0 {
		table(w, []string{"CALL", "LINE", "WHO", "NAME", "STATE", "PROOF"}, rows)
	}
	rows = nil
	for _, l := range s.Lamps {
		state := l.State
		if l.Error != "" {
			state += ": " + l.Error
		}
		if l.Caller != "" {
			state += ", " + l.Caller + " calls"
		}
		key := "-"
		if l.Key != 0 {
			key = strconv.Itoa(l.Key)
		}
		rows = append(rows, []string{key, l.Does, l.Name, l.Target, state})
	}
	if len(rows) > 0 {
		table(w, []string{"KEY", "DOES", "NAME", "OF", "LAMP"}, rows)
	}
	rows = nil
	for _, p := range s.Pages {
		who := "from " + p.From
		if p.Out {
			who = "from here"
		}
		rows = append(rows, []string{p.Group, p.Name, who, p.State, strconv.Itoa(int(p.Priority)), strconv.Itoa(p.Packets)})
	}
	if len(rows) > 0 {
		table(w, []string{"PAGE", "NAME", "WHO", "STATE", "PRIORITY", "PACKETS"}, rows)
	}
	if s.ListError != "" {
		fmt.Fprintf(w, "the list of lamps is not known: %s\n", s.ListError)
	}
}

func printLists(w io.Writer, s feature.State) {
	var rows [][]string
	for _, e := range s.Lists {
		rows = append(rows, []string{stamp(e.At), e.Kind, strconv.Itoa(e.Line), e.Number, e.Name, (time.Duration(e.Seconds) * time.Second).String(), e.To})
	}
	if len(rows) > 0 {
		table(w, []string{"AT", "KIND", "LINE", "WHO", "NAME", "LENGTH", "FORWARDED TO"}, rows)
	}
	for i := 2; i <= 9; i++ {
		if d, ok := s.Speed[i]; ok {
			fmt.Fprintf(w, "speed dial %d: %s %s\n", i, d.Number, d.Name)
		}
	}
}
