package feature

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/desk/paging"
	"ringfence/internal/service/phone"
)

// Sound is what a call says and where it is heard.
type Sound struct {
	Source phone.Source
	Sink   phone.Sink
	// Talk, if set, is run while the call is up, on a goroutine of its own.
	Talk func(ctx context.Context, c *phone.Call)
}

// Config describes a desk. Setting and Sound are required.
type Config struct {
	Setting Setting
	Sound   func() (Sound, error) // for each call
	Answers bool                  // the desk takes calls by itself, after AnswerAfter
	After   time.Duration
	Say     func(format string, args ...any) // what somebody at the phone would see
	Now     func() time.Time
}

// Desk is the features of one phone.
type Desk struct {
	cfg Config

	mu    sync.Mutex
	lines map[int]*line
	calls map[int]*call
	next  int
	list  []Entry // the latest last
	lamps []*lamp
	pager Pager // or nil
	// listError is why the server tells nothing of its list.
	listError string
	conf      *mixer
	told      map[*phone.Call]Sound // of calls that the phone was told to place, until they are the desk's
	changed   chan struct{}
}

// line is one line of the desk.
type line struct {
	number  int
	name    string
	phone   *phone.Phone
	forward Forwarding
	dnd     bool
	boxes   *Messages
}

// call is a call of the desk.
type call struct {
	Call
	c     *phone.Call
	sound Sound
	busy  bool // something is being done with it
}

// Call is a call as the phone shows it.
type Call struct {
	ID         int       `json:"call"`
	Line       int       `json:"line"`
	Incoming   bool      `json:"incoming"`
	Number     string    `json:"number"`
	Name       string    `json:"name,omitempty"`
	State      string    `json:"state"` // dialling, ringing, up
	Held       bool      `json:"held"`  // by us
	Holds      bool      `json:"holds"` // the other side holds us
	Conference bool      `json:"conference"`
	Since      time.Time `json:"since"`
	Answered   time.Time `json:"answered,omitzero"`
	Verdict    string    `json:"verdict,omitempty"` // sealed or not, once it is up
}

// Entry is a call that is over.
type Entry struct {
	Kind    string        `json:"kind"` // placed, received, missed or forwarded
	Line    int           `json:"line"`
	Number  string        `json:"number"`
	Name    string        `json:"name,omitempty"`
	At      time.Time     `json:"at"`
	Length  time.Duration `json:"-"`
	Seconds int           `json:"seconds"`
	To      string        `json:"to,omitempty"` // where it was forwarded
}

// Line is a line as the phone shows it.
type Line struct {
	Number       int        `json:"line"`
	Name         string     `json:"name"`
	Registered   bool       `json:"registered"`
	DoNotDisturb bool       `json:"do_not_disturb"`
	Forward      Forwarding `json:"forward"`
	Messages     *Messages  `json:"messages,omitempty"`
}

// State is all that can be seen at the phone.
type State struct {
	Lines []Line        `json:"lines"`
	Calls []Call        `json:"calls"`
	Lists []Entry       `json:"lists"` // the latest first
	Lamps []Lamp        `json:"lamps"`
	Speed map[int]Dial  `json:"speed_dials"`
	Pages []paging.Page `json:"pages"`
	// ListError is why nobody tells of the list of lamps.
	ListError string   `json:"list_error,omitempty"`
	Wrong     []string `json:"wrong,omitempty"` // keys that cannot be understood
}

// Bounds of what a phone keeps.
const (
	maxEntries = 180 // as such phones keep
	maxDigits  = 64
)

// New returns a desk without lines.
func New(cfg Config) *Desk {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Desk{cfg: cfg, lines: map[int]*line{}, calls: map[int]*call{}, told: map[*phone.Call]Sound{}, changed: make(chan struct{})}
}

// Attach gives a line its phone, whose Config.Auto and Config.Screen must be those of the desk with the same number.
func (d *Desk) Attach(number int, name string, p *phone.Phone) {
	l := &line{number: number, name: name, phone: p, forward: d.cfg.Setting.Forward, dnd: d.cfg.Setting.DoNotDisturb}
	d.mu.Lock()
	d.lines[number] = l
	d.stir()
	d.mu.Unlock()
}

// stir tells who waits that something changed. d.mu is held.
func (d *Desk) stir() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Wait waits until f is true of the state.
func (d *Desk) Wait(ctx context.Context, f func(State) bool) error {
	for {
		d.mu.Lock()
		changed := d.changed
		d.mu.Unlock()
		if f(d.State()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fault(ringfence.KindTimeout, "", "it did not come about in time")
		}
	}
}

// State returns all that can be seen.
func (d *Desk) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := State{Lines: []Line{}, Calls: []Call{}, Lists: slices.Clone(d.list), Lamps: []Lamp{}, ListError: d.listError, Speed: d.cfg.Setting.Speed, Wrong: d.cfg.Setting.Wrong}
	slices.Reverse(s.Lists)
	if s.Lists == nil {
		s.Lists = []Entry{}
	}
	if s.Pages = []paging.Page{}; d.pager != nil {
		s.Pages = d.pager.Pages()
	}
	for _, l := range d.lamps {
		s.Lamps = append(s.Lamps, l.Lamp)
	}
	for _, l := range d.lines {
		out := Line{Number: l.number, Name: l.name, Registered: l.phone.Registered(), DoNotDisturb: l.dnd, Forward: l.forward}
		if l.boxes != nil {
			m := *l.boxes
			out.Messages = &m
		}
		s.Lines = append(s.Lines, out)
	}
	for _, c := range d.calls {
		s.Calls = append(s.Calls, c.Call)
	}
	slices.SortFunc(s.Lines, func(a, b Line) int { return a.Number - b.Number })
	slices.SortFunc(s.Calls, func(a, b Call) int { return a.ID - b.ID })
	return s
}

func fault(kind ringfence.Kind, hint, format string, args ...any) error {
	return &ringfence.Fault{Op: "phone", Kind: kind, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Screen returns what a line's phone asks before a call rings: Config.Screen of the phone.
func (d *Desk) Screen(number int) func(phone.Peer) (int, string) {
	return func(from phone.Peer) (status int, to string) {
		kind, why := "missed", ""
		d.mu.Lock()
		l, others := d.lines[number], 0
		for _, other := range d.calls {
			if other.Line == number {
				others++
			}
		}
		s := d.cfg.Setting
		switch {
		case l == nil: // it came before the line was there
			status = 480
		case s.NoAnonymous && anonymous(from):
			status, kind, why = 433, "", "a caller who hides was refused" // RFC 5079
		case l.forward.All != "":
			status, to, kind, why = 302, l.forward.All, "forwarded", "all calls"
		case l.dnd:
			status, why = 486, from.Number+" was not let through (do not disturb)"
		case others >= s.Appearances || others > 0 && !s.Waiting:
			if status, why = 486, from.Number+" heard that the line is busy"; l.forward.Busy != "" {
				status, to, kind, why = 302, l.forward.Busy, "forwarded", "busy"
			}
		}
		d.mu.Unlock()
		if status == 0 || l == nil {
			return status, to
		}
		go func() { // this runs where the phone's messages do
			if to != "" {
				why = from.Number + " is forwarded to " + to + " (" + why + ")"
			}
			d.cfg.Say("line %d: %s", number, why)
			if kind != "" {
				d.over(Call{Line: number, Incoming: true, Number: from.Number, Name: from.Display, Since: d.cfg.Now()}, kind, to)
			}
		}()
		return status, to
	}
}

// Auto returns what a line's phone runs for each call that rings: Config.Auto of the phone.
func (d *Desk) Auto(number int) func(context.Context, *phone.Call) {
	return func(ctx context.Context, c *phone.Call) { d.comes(ctx, number, c) }
}

// maxTold bounds the calls that somebody else had the phone place, and that have not come up yet.
const maxTold = 8

// Audio returns what gives sound to a call that nobody at the desk placed or answered: Config.Audio of the phone.
func (d *Desk) Audio() func(*phone.Call) (phone.Source, phone.Sink) {
	return func(c *phone.Call) (phone.Source, phone.Sink) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, own := range d.calls {
			if own.c == c { // it has its sound already, if any
				return nil, nil
			}
		}
		sound, err := d.cfg.Sound()
		if err != nil {
			return nil, nil
		}
		if len(d.told) >= maxTold { // calls that came to nothing
			clear(d.told)
		}
		d.told[c] = sound
		return sound.Source, sound.Sink
	}
}

// Transferred takes in a call that is there by somebody else's doing: by a transfer, or by the server.
func (d *Desk) Transferred(ctx context.Context, number int, c *phone.Call) {
	d.mu.Lock()
	own := d.admit(number, c)
	own.sound = d.told[c]
	delete(d.told, c)
	d.mu.Unlock()
	go d.follow(ctx, own)
}

// comes lets a call ring until somebody answers, or forwards it.
func (d *Desk) comes(ctx context.Context, number int, c *phone.Call) {
	d.mu.Lock()
	l := d.lines[number]
	if l == nil {
		d.mu.Unlock()
		_ = c.Reject(480)
		return
	}
	page := c.Page() && d.cfg.Setting.Pages && len(d.calls) == 0 // nobody who speaks is interrupted
	forward, own := l.forward, d.admit(number, c)
	d.mu.Unlock()
	d.cfg.Say("%s %s", c.Peer().Number, map[bool]string{true: "pages", false: "calls"}[page])
	switch {
	case page:
		go func() {
			if err := d.answer(ctx, own); err != nil {
				d.cfg.Say("call %d: %v", own.ID, err)
			}
		}()
	case d.cfg.Answers && (forward.NoAnswer == "" || d.cfg.After < forward.After):
		d.answerLater(ctx, own)
	case forward.NoAnswer != "":
		go d.unanswered(ctx, l, own)
	}
	d.follow(ctx, own)
}

// anonymous reports whether a caller hides (RFC 3323 section 4.1.1.3).
func anonymous(p phone.Peer) bool {
	return strings.EqualFold(p.Number, "anonymous") || strings.HasSuffix(strings.ToLower(p.Address), "@anonymous.invalid") || strings.EqualFold(p.Display, "anonymous")
}

// admit makes a call of the desk's. d.mu is held.
func (d *Desk) admit(number int, c *phone.Call) *call {
	d.next++
	peer := c.Peer()
	own := &call{c: c, Call: Call{ID: d.next, Line: number, Incoming: c.Incoming(), Number: peer.Number, Name: peer.Display, State: phone.Dialling.String(), Since: d.cfg.Now().UTC().Truncate(time.Second)}}
	if own.Incoming {
		own.State = phone.Ringing.String()
	}
	d.calls[own.ID] = own
	d.stir()
	return own
}

// forward sends a caller elsewhere.
func (d *Desk) forward(l *line, c *phone.Call, to, why string) {
	peer := c.Peer()
	if err := c.Redirect(to); err != nil {
		d.cfg.Say("line %d: %s cannot be forwarded to %s: %v", l.number, peer.Number, to, err)
		_ = c.Reject(480)
		return
	}
	d.cfg.Say("line %d: %s is forwarded to %s (%s)", l.number, peer.Number, to, why)
	d.over(Call{Line: l.number, Incoming: true, Number: peer.Number, Name: peer.Display, Since: d.cfg.Now()}, "forwarded", to)
}

// unanswered forwards a call that rang too long.
func (d *Desk) unanswered(ctx context.Context, l *line, own *call) {
	d.mu.Lock()
	to, after := l.forward.NoAnswer, l.forward.After
	d.mu.Unlock()
	wait := time.NewTimer(after)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return
	}
	if state, _ := own.c.State(); state != phone.Ringing {
		return
	}
	d.mu.Lock()
	own.State = "forwarded"
	d.mu.Unlock()
	d.forward(l, own.c, to, "nobody answered")
}

func (d *Desk) answerLater(ctx context.Context, own *call) {
	go func() {
		wait := time.NewTimer(d.cfg.After)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		if err := d.answer(ctx, own); err != nil {
			d.cfg.Say("call %d: %v", own.ID, err)
		}
	}()
}

// answer takes a call that rings.
func (d *Desk) answer(ctx context.Context, own *call) error {
	sound, err := d.cfg.Sound()
	if err != nil {
		return err
	}
	d.mu.Lock()
	own.sound = sound
	d.mu.Unlock()
	return own.c.Answer(ctx, phone.CallOptions{Audio: sound.Source, Hear: sound.Sink})
}

// follow stays with a call until it ends, and keeps what the phone shows of it.
func (d *Desk) follow(ctx context.Context, own *call) {
	ended := false
	for !ended {
		var e phone.CallEvent
		select {
		case e = <-own.c.Events():
		case <-ctx.Done():
			e = phone.CallEvent{Kind: phone.CallChanged, State: phone.Ended}
		}
		d.mu.Lock()
		switch e.Kind {
		case phone.CallChanged:
			if own.State != "forwarded" {
				own.State = e.State.String()
			}
			switch e.State {
			case phone.Up:
				own.Answered = d.cfg.Now().UTC().Truncate(time.Second)
				if talk := own.sound.Talk; talk != nil {
					go talk(ctx, own.c)
				}
			case phone.Ended:
				ended = true
			}
		case phone.CallHeld:
			own.Holds = true
		case phone.CallResumed:
			own.Holds = false
		}
		if peer := own.c.Peer(); peer.Number != "" {
			own.Number, own.Name = peer.Number, peer.Display
		}
		if own.State == phone.Up.String() {
			own.Verdict = string(own.c.Proof().Verdict)
		}
		d.stir()
		d.mu.Unlock()
	}
	d.mu.Lock()
	delete(d.calls, own.ID)
	was := own.Call
	if was.Conference {
		d.dissolve()
	}
	d.stir()
	d.mu.Unlock()
	kind := "placed"
	switch {
	case was.State == "forwarded": // it is in the list already
		return
	case was.Incoming && was.Answered.IsZero():
		kind = "missed"
	case was.Incoming:
		kind = "received"
	}
	d.over(was, kind, "")
}

// over puts a call into the lists.
func (d *Desk) over(c Call, kind, to string) {
	if kind == "missed" && !d.cfg.Setting.KeepMissed[c.Line] {
		return
	}
	e := Entry{Kind: kind, Line: c.Line, Number: c.Number, Name: c.Name, At: c.Since.UTC().Truncate(time.Second), To: to}
	if !c.Answered.IsZero() {
		e.Length = d.cfg.Now().Sub(c.Answered)
		e.Seconds = int(e.Length / time.Second)
	}
	d.mu.Lock()
	if d.list = append(d.list, e); len(d.list) > maxEntries {
		d.list = slices.Delete(d.list, 0, len(d.list)-maxEntries)
	}
	d.stir()
	d.mu.Unlock()
}

// dissolve ends the mixing: who is left hears this phone alone. d.mu is held.
func (d *Desk) dissolve() {
	for _, c := range d.calls {
		if c.Conference {
			c.Conference = false
			source, sink := c.sound.Source, c.sound.Sink
			if source == nil {
				source = phone.Silence()
			}
			if sink == nil {
				sink = phone.Discard()
			}
			c.c.SetAudio(source, sink)
		}
	}
	d.conf = nil
}
