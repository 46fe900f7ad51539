package feature

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
)

// Verb is what is done.
type Verb string

// The verbs.
const (
	DoDial       Verb = "dial"
	DoSpeed      Verb = "speed" // Key is a speed dial
	DoKey        Verb = "key"   // Key is a line key
	DoAnswer     Verb = "answer"
	DoHangup     Verb = "hangup"
	DoHold       Verb = "hold"
	DoResume     Verb = "resume"
	DoTransfer   Verb = "transfer" // to Number, or to the other side of Other
	DoConference Verb = "conference"
	DoSplit      Verb = "split"
	DoDigits     Verb = "digits"
	DoPickUp     Verb = "pickup"   // what rings at Number; without one, in the group
	DoPark       Verb = "park"     // in Number; without one the server chooses
	DoRetrieve   Verb = "retrieve" // from Number
	DoPage       Verb = "page"     // the group of Number
	DoEndPage    Verb = "page-end"
	DoForward    Verb = "forward"
	DoNotDisturb Verb = "dnd"
)

// Kind says which calls are forwarded.
type Kind string

// The kinds of forwarding.
const (
	All      Kind = "all"
	Busy     Kind = "busy"
	NoAnswer Kind = "no-answer"
)

// Command is one thing that is done at the phone. Without a call it is about the one that it can be about.
type Command struct {
	Do     Verb   `json:"do"`
	Line   int    `json:"line,omitempty"`
	Call   int    `json:"call,omitempty"`
	Other  int    `json:"other,omitempty"`
	Key    int    `json:"key,omitempty"`
	Number string `json:"number,omitempty"`
	Digits string `json:"digits,omitempty"`
	Kind   Kind   `json:"kind,omitempty"`
	On     bool   `json:"on,omitempty"`
}

// MaxCommand bounds the text of a command.
const MaxCommand = 4096

// ParseCommand reads a command in JSON.
func ParseCommand(b []byte) (c Command, err error) {
	if len(b) > MaxCommand {
		return c, fault(ringfence.KindInvalid, "", "a command has %d bytes at most", MaxCommand)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Command{}, &ringfence.Fault{Op: "phone", Kind: ringfence.KindInvalid, Text: "this is no command", Err: err}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Command{}, fault(ringfence.KindInvalid, "", "there is something behind the command")
	}
	if c.Do == "" {
		return Command{}, fault(ringfence.KindInvalid, "", "the command does not say what to do")
	}
	return c, nil
}

// Result is what came of a command.
type Result struct {
	Call int    `json:"call,omitempty"` // that it is about
	Text string `json:"text"`
}

// answerTime is how long a transfer waits for its target.
const answerTime = time.Minute

// Do does what a command says, and returns when it is done: a transfer when its target has answered, a call when it is on its way. ctx bounds the wait; the call that is placed lives as long as life.
func (d *Desk) Do(ctx, life context.Context, c Command) (Result, error) {
	switch c.Do {
	case DoDial:
		if g, ok := d.group(c.Number); ok {
			return d.page(life, g)
		}
		return d.dial(ctx, life, c.Line, c.Number)
	case DoSpeed:
		to, ok := d.cfg.Setting.Speed[c.Key]
		if !ok {
			return Result{}, fault(ringfence.KindNotFound, "set Speed_Dial_2_Number and the like", "there is no speed dial %d", c.Key)
		}
		return d.dial(ctx, life, c.Line, to.Number)
	case DoKey:
		return d.press(ctx, life, c)
	case DoPage, DoEndPage:
		return d.pages(life, c)
	case DoPickUp:
		return d.pickUp(ctx, life, c.Line, c.Number)
	case DoRetrieve:
		return d.retrieve(ctx, life, c.Line, c.Number)
	case DoSplit:
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.conf == nil {
			return Result{}, fault(ringfence.KindConflict, "", "there is no conference")
		}
		d.dissolve()
		d.stir()
		return Result{Text: "the conference is over; both calls go on"}, nil
	case DoForward:
		return d.setForward(c)
	case DoNotDisturb:
		return d.setDoNotDisturb(c)
	case DoConference:
		return d.conference(ctx, c)
	case DoAnswer, DoHangup, DoHold, DoResume, DoTransfer, DoDigits, DoPark:
		return d.withCall(ctx, life, c)
	}
	return Result{}, fault(ringfence.KindInvalid, "ringfence phone do --help", "a phone cannot %.40q", string(c.Do))
}

// line returns a line by its number, or the first one that is registered. d.mu is held.
func (d *Desk) line(number int) (*line, error) {
	if number != 0 {
		if l := d.lines[number]; l != nil {
			return l, nil
		}
		return nil, fault(ringfence.KindNotFound, "ringfence phone do show", "there is no line %d", number)
	}
	var best *line
	for _, l := range d.lines {
		if l.phone.Registered() && (best == nil || l.number < best.number) {
			best = l
		}
	}
	if best == nil {
		return nil, fault(ringfence.KindUnavailable, "ringfence phone status", "no line is registered")
	}
	return best, nil
}

func (d *Desk) dial(ctx, life context.Context, number int, to string) (Result, error) {
	return d.place(ctx, life, number, to, "")
}

// place places a call; replaces, if it is not empty, names the dialog whose place it takes.
func (d *Desk) place(ctx, life context.Context, number int, to, replaces string) (Result, error) {
	d.mu.Lock()
	l, err := d.line(number)
	d.mu.Unlock()
	if err != nil {
		return Result{}, err
	}
	sound, err := d.cfg.Sound()
	if err != nil {
		return Result{}, err
	}
	c, err := l.phone.Call(ctx, to, phone.CallOptions{Audio: sound.Source, Hear: sound.Sink, Private: d.cfg.Setting.Hidden, Replaces: replaces})
	if err != nil {
		return Result{}, err
	}
	d.mu.Lock()
	own := d.admit(l.number, c)
	own.sound = sound
	d.mu.Unlock()
	go d.follow(life, own)
	return Result{Call: own.ID, Text: "calling " + to}, nil
}

// pick returns a call by its number, or the only one that fits. d.mu is held.
func (d *Desk) pick(id int, what string, fits func(*call) bool) (*call, error) {
	if id != 0 {
		if c := d.calls[id]; c != nil {
			return c, nil
		}
		return nil, fault(ringfence.KindNotFound, "ringfence phone do show", "there is no call %d", id)
	}
	var found *call
	for _, c := range d.calls {
		if fits(c) {
			if found != nil {
				return nil, fault(ringfence.KindConflict, "say which: ringfence phone do show lists them", "there is more than one call that %s", what)
			}
			found = c
		}
	}
	if found == nil {
		return nil, fault(ringfence.KindNotFound, "ringfence phone do show", "there is no call that %s", what)
	}
	return found, nil
}

func (c *call) isUp() bool { return c.State == phone.Up.String() }

// withCall does what is done with one call.
func (d *Desk) withCall(ctx, life context.Context, c Command) (Result, error) {
	what, fits := "is up", (*call).isUp
	switch c.Do {
	case DoAnswer:
		what, fits = "rings here", func(o *call) bool { return o.Incoming && o.State == phone.Ringing.String() }
	case DoHangup:
		what, fits = "can be ended", func(*call) bool { return true }
	case DoHold:
		what, fits = "is up and not held", func(o *call) bool { return o.isUp() && !o.Held }
	case DoResume:
		what, fits = "is held", func(o *call) bool { return o.Held }
	case DoTransfer:
		if c.Other != 0 && c.Call == 0 {
			what, fits = "is up besides that", func(o *call) bool { return o.isUp() && o.ID != c.Other }
		}
	}
	d.mu.Lock()
	own, err := d.pick(c.Call, what, fits)
	if err == nil && own.busy && c.Do != DoHangup { // who wants to leave may
		err = fault(ringfence.KindConflict, "try again in a moment", "something is being done with call %d", own.ID)
	}
	var other *call
	if err == nil && c.Do == DoTransfer && c.Other != 0 {
		other, err = d.pick(c.Other, "", nil)
	}
	if err != nil {
		d.mu.Unlock()
		return Result{}, err
	}
	own.busy = true
	d.mu.Unlock()
	text, err := d.act(ctx, life, c, own, other)
	d.mu.Lock()
	own.busy = false // also after a hang-up in between: then the call is over
	d.mu.Unlock()
	return Result{Call: own.ID, Text: text}, err
}

func (d *Desk) act(ctx, life context.Context, c Command, own, other *call) (string, error) {
	switch c.Do {
	case DoAnswer:
		return "answered", d.answer(life, own)
	case DoHangup:
		if state, _ := own.c.State(); own.Incoming && state == phone.Ringing {
			return "refused", own.c.Reject(486)
		}
		own.c.Hangup()
		return "hung up", nil
	case DoHold:
		return "held", d.hold(ctx, own, true)
	case DoResume:
		return "taken back", d.hold(ctx, own, false)
	case DoDigits:
		if c.Digits == "" || len(c.Digits) > maxDigits {
			return "", fault(ringfence.KindInvalid, "use 0 to 9, *, #, A to D", "between 1 and %d keys are pressed", maxDigits)
		}
		return "pressed", own.c.SendDigits(c.Digits)
	case DoPark:
		to, err := d.parkNumber(c.Number)
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		return "parked by " + to, own.c.BlindTransfer(ctx, to)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if other != nil {
		if !d.cfg.Setting.Attended {
			return "", fault(ringfence.KindDenied, "", "the profile has Attn_Transfer_Serv = No")
		}
		return "transferred", own.c.AttendedTransfer(ctx, other.c)
	}
	if !d.cfg.Setting.Blind {
		return "", fault(ringfence.KindDenied, "", "the profile has Blind_Transfer_Serv = No")
	}
	if c.Number == "" {
		return "", fault(ringfence.KindInvalid, "ringfence phone do transfer NUMBER, or --to CALL", "where is the call transferred?")
	}
	return "transferred", own.c.BlindTransfer(ctx, c.Number)
}

// hold puts a call on hold, or takes it back.
func (d *Desk) hold(ctx context.Context, own *call, on bool) error {
	change := own.c.Resume
	if on {
		change = own.c.Hold
	}
	if err := change(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	own.Held = on
	d.stir()
	d.mu.Unlock()
	return nil
}

// conference joins two calls and this phone.
func (d *Desk) conference(ctx context.Context, c Command) (Result, error) {
	d.mu.Lock()
	var both []*call
	err := error(nil)
	switch {
	case !d.cfg.Setting.Conference:
		err = fault(ringfence.KindDenied, "", "the profile has Conference_Serv = No")
	case d.conf != nil:
		err = fault(ringfence.KindConflict, "", "there is a conference already, of three at most")
	case c.Call != 0 || c.Other != 0:
		both = []*call{d.calls[c.Call], d.calls[c.Other]}
		if c.Call == c.Other || both[0] == nil || both[1] == nil || !both[0].isUp() || !both[1].isUp() {
			err = fault(ringfence.KindConflict, "ringfence phone do show", "a conference takes two calls that are up")
		}
	default:
		for _, o := range d.calls {
			if o.isUp() {
				both = append(both, o)
			}
		}
		slices.SortFunc(both, func(a, b *call) int { return a.ID - b.ID })
		if len(both) != 2 {
			err = fault(ringfence.KindConflict, "say which: ringfence phone do conference CALL CALL", "a conference takes two calls that are up, and there are %d", len(both))
		}
	}
	d.mu.Unlock()
	if err != nil {
		return Result{}, err
	}
	for _, o := range both {
		if o.Held {
			if err := d.hold(ctx, o, false); err != nil {
				return Result{}, err
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conf != nil || !both[0].isUp() || !both[1].isUp() {
		return Result{}, fault(ringfence.KindConflict, "", "one of the calls is over")
	}
	d.conf = newMixer(2, both[0].sound.Source, both[0].sound.Sink)
	for i, o := range both {
		o.Conference = true
		o.c.SetAudio(d.conf.ports[i], d.conf.ports[i])
	}
	d.stir()
	return Result{Call: both[0].ID, Text: "a conference with " + both[0].Number + " and " + both[1].Number}, nil
}

// setForward switches a forwarding on or, without a number, off.
func (d *Desk) setForward(c Command) (Result, error) {
	if strings.ContainsAny(c.Number, " \t\r\n<>\"\x00") || len(c.Number) > 256 {
		return Result{}, fault(ringfence.KindInvalid, "use a number, a user name or a sip: address", "%.40q cannot be dialled", c.Number)
	}
	if c.Kind != All && c.Kind != Busy && c.Kind != NoAnswer {
		return Result{}, fault(ringfence.KindInvalid, "use all, busy or no-answer", "%.40q says nothing of which calls", string(c.Kind))
	}
	if !d.cfg.Setting.ForwardAllowed[c.Kind] {
		return Result{}, fault(ringfence.KindDenied, "", "the profile does not let this phone forward calls (Cfwd_Setting and Cfwd_All_Serv, Cfwd_Busy_Serv, Cfwd_No_Ans_Serv)")
	}
	return d.eachLine(c.Line, func(l *line) string {
		*map[Kind]*string{All: &l.forward.All, Busy: &l.forward.Busy, NoAnswer: &l.forward.NoAnswer}[c.Kind] = c.Number
		if c.Number == "" {
			return "calls are not forwarded any more"
		}
		return "calls are forwarded to " + c.Number
	})
}

func (d *Desk) setDoNotDisturb(c Command) (Result, error) {
	return d.eachLine(c.Line, func(l *line) string {
		l.dnd = c.On
		if c.On {
			return "callers hear that the phone is busy"
		}
		return "callers are let through"
	})
}

// eachLine does something with one line, or with all.
func (d *Desk) eachLine(number int, do func(*line) string) (r Result, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if number != 0 {
		l, err := d.line(number)
		if err != nil {
			return r, err
		}
		r.Text = do(l)
	} else {
		for _, l := range d.lines {
			r.Text = do(l)
		}
	}
	d.stir()
	return r, nil
}
