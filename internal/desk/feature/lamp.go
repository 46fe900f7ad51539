package feature

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/linekey"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip/eventlist"
)

// Messages is what waits in the mailbox of a line.
type Messages struct {
	Waiting bool   `json:"waiting"`
	New     uint32 `json:"new"`
	Old     uint32 `json:"old"`
	Error   string `json:"error,omitempty"` // why nobody tells
}

// Lamp is a key that shows something: whether somebody is in a call, whether a call is parked in a place, or whether messages wait.
type Lamp struct {
	Key    int    `json:"key"` // 0: there are more lamps in the list than keys
	Does   string `json:"does"`
	Target string `json:"target"`
	Name   string `json:"name,omitempty"`
	State  string `json:"state"`            // idle, ringing, busy; parked; messages; unknown
	Caller string `json:"caller,omitempty"` // who rings, if the server tells
	Error  string `json:"error,omitempty"`
}

// Presses says in a word or two what it does to press the key now; a lamp alone does nothing.
func (l Lamp) Presses() string {
	has := func(what string) bool { return slices.Contains(strings.Split(l.Does, "+"), what) }
	switch {
	case has("cp") && l.State == lampRinging:
		return "Pick up"
	case has("prk") && l.State == lampParked:
		return "Take"
	case has("prk"):
		return "Park"
	case has("mwi") && !has("sd"):
		return "Listen"
	case has("sd"):
		return "Call"
	}
	return ""
}

// The states of a lamp.
const (
	lampIdle     = "idle"
	lampRinging  = "ringing"
	lampBusy     = "busy"
	lampParked   = "parked"
	lampMessages = "messages"
	lampUnknown  = "unknown"
)

// lamp is a lamp of the desk. d.mu guards it.
type lamp struct {
	Lamp
	f       linekey.Function
	dialogs map[string]phone.DialogState // by id, while they last
}

func newLamp(key int, f linekey.Function) *lamp {
	return &lamp{Lamp: Lamp{Key: key, Does: f.String(), Target: f.Target, Name: f.Name, State: lampUnknown}, f: f, dialogs: map[string]phone.DialogState{}}
}

// The types of what a server tells.
const (
	summaryType = "application/simple-message-summary"
	dialogType  = "application/dialog-info+xml"
)

// Bounds of what lamps keep.
const (
	maxLampDialogs = 64
	maxListLamps   = 256
)

// Watch subscribes to what the lamps show, until ctx ends: messages of each line, the calls of whoever a key watches, and the list of the server's.
func (d *Desk) Watch(ctx context.Context) {
	d.mu.Lock()
	var lines []*line
	for _, l := range d.lines {
		lines = append(lines, l)
	}
	first, _ := d.line(0)
	on := func(f linekey.Function) *line {
		if l := d.lines[f.Line]; l != nil {
			return l
		}
		return first
	}
	for key := 1; key <= maxKey; key++ {
		f, ok := d.cfg.Setting.Keys[key]
		if l := on(f); ok && f.Shows() && l != nil {
			shown := newLamp(key, f)
			d.lamps = append(d.lamps, shown)
			go d.lamp(ctx, l.phone, shown)
		}
	}
	d.mu.Unlock()
	if d.cfg.Setting.List != "" && first != nil {
		go d.follows(ctx, first.phone)
	}
	for _, l := range lines {
		if box, ok := d.cfg.Setting.Mailbox[l.number]; ok && l.phone.Registered() {
			go d.mailbox(ctx, l, box)
		}
	}
}

// subscribe follows a subscription until it is over, or heard says that it has to begin anew.
func subscribe(ctx context.Context, p *phone.Phone, pkg, target, accept string, heard func(phone.Notice) (anew bool)) (anew bool, err error) {
	s, err := p.Subscribe(ctx, pkg, target, accept)
	if err != nil {
		return false, err
	}
	defer s.Close()
	for {
		select {
		case n, ok := <-s.Notices():
			if !ok {
				return false, fault(ringfence.KindUnavailable, "", "the server ended the subscription")
			}
			if heard(n) {
				return true, nil
			}
		case <-ctx.Done():
			return false, nil
		}
	}
}

func (d *Desk) mailbox(ctx context.Context, l *line, box string) {
	_, err := subscribe(ctx, l.phone, "message-summary", box, summaryType, func(n phone.Notice) bool { d.Told(l.number, "message-summary", n.Body); return false })
	if err == nil {
		return
	}
	d.mu.Lock()
	if l.boxes == nil { // a server may tell without being asked
		l.boxes = &Messages{Error: err.Error()}
	}
	d.stir()
	d.mu.Unlock()
}

// Told takes what a server told a line, asked or not.
func (d *Desk) Told(number int, pkg string, body []byte) {
	if pkg != "message-summary" || len(body) == 0 {
		return
	}
	m, err := phone.ParseMessages(body)
	if err != nil {
		return
	}
	d.mu.Lock()
	if l := d.lines[number]; l != nil {
		l.boxes = &Messages{Waiting: m.Waiting, New: m.New, Old: m.Old}
		d.stir()
	}
	d.mu.Unlock()
}

// lamp follows what one key shows.
func (d *Desk) lamp(ctx context.Context, p *phone.Phone, l *lamp) {
	pkg, accept := "dialog", dialogType
	if l.f.Mailbox {
		pkg, accept = "message-summary", summaryType
	}
	_, err := subscribe(ctx, p, pkg, l.f.Target, accept, func(n phone.Notice) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		if l.f.Mailbox {
			if m, err := phone.ParseMessages(n.Body); err == nil {
				l.State, l.Error = map[bool]string{true: lampMessages, false: lampIdle}[m.Waiting], ""
				d.stir()
			}
			return false
		}
		if l.told(n.ContentType, n.Body) {
			d.stir()
		}
		return false
	})
	if err != nil {
		d.mu.Lock()
		l.dark(err.Error())
		d.stir()
		d.mu.Unlock()
	}
}

// dark notes that nobody knows what the lamp shows.
func (l *lamp) dark(why string) {
	clear(l.dialogs)
	l.State, l.Caller, l.Error = lampUnknown, "", why
}

// told takes what a server told of the calls of whom the lamp shows, and reports whether that was to be understood. d.mu is held.
func (l *lamp) told(contentType string, body []byte) bool {
	if len(body) == 0 || !strings.HasPrefix(contentType, dialogType) {
		return false
	}
	info, err := phone.ParseDialogInfo(body)
	if err != nil {
		return false
	}
	if info.Full {
		clear(l.dialogs)
	}
	for _, x := range info.Dialogs {
		if x.State == "terminated" || len(l.dialogs) >= maxLampDialogs {
			delete(l.dialogs, x.ID)
			continue
		}
		l.dialogs[x.ID] = x
	}
	l.State, l.Caller, l.Error = lampIdle, "", ""
	for _, x := range l.dialogs {
		switch {
		case l.f.Parks:
			l.State = lampParked
		case x.State == "confirmed":
			l.State = lampBusy
		case l.State == lampIdle:
			l.State = lampRinging
		}
	}
	if x, ok := l.rings(); ok {
		l.Caller = strings.Map(func(r rune) rune {
			if r < ' ' || r >= 0x7f { // an address has none, and a terminal would obey
				return '?'
			}
			return r
		}, x.Remote[:min(len(x.Remote), 256)])
		if l.State == lampBusy && l.f.PicksUp { // a second call can be picked up as the first can
			l.State = lampRinging
		}
	}
	return true
}

// rings returns a call that rings at whom the lamp shows. d.mu is held.
func (l *lamp) rings() (best phone.DialogState, ok bool) {
	for id, x := range l.dialogs {
		if x.State != "confirmed" && x.Direction != "initiator" && (!ok || id < best.ID) {
			best, ok = x, true
		}
	}
	return best, ok
}

// resubscribe is how long the list waits until it is asked for anew, when something of it was lost.
const resubscribe = 2 * time.Second

// follows keeps the lamps of the server's list, until ctx ends.
func (d *Desk) follows(ctx context.Context, p *phone.Phone) {
	for {
		next := uint32(0)
		known := map[string]*lamp{}
		anew, err := subscribe(ctx, p, "dialog", d.cfg.Setting.List, "multipart/related, "+eventlist.ListType+", "+dialogType, func(n phone.Notice) bool {
			if len(n.Body) == 0 {
				return false
			}
			list, err := eventlist.Parse(n.ContentType, n.Body)
			if err != nil {
				d.cfg.Say("the list of lamps: %v", err)
				return false
			}
			lost := list.Version != next && !list.Full // what a list leaves out is as it was, if nothing was lost on the way (RFC 4662 section 5.2)
			next = list.Version + 1
			d.mu.Lock()
			d.listed(list, known)
			d.mu.Unlock()
			return lost
		})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			d.mu.Lock()
			d.listError = err.Error()
			for _, l := range known {
				l.dark(err.Error())
			}
			d.stir()
			d.mu.Unlock()
			return
		case !anew:
			return
		}
		wait := time.NewTimer(resubscribe)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
		d.mu.Lock()
		d.drop(known, nil)
		d.mu.Unlock()
	}
}

// drop takes lamps of the list away: those that are not in keep. d.mu is held.
func (d *Desk) drop(known map[string]*lamp, keep map[string]bool) {
	var left []*lamp
	for _, l := range d.lamps {
		if known[l.Target] == l && !keep[l.Target] {
			delete(known, l.Target)
			continue
		}
		left = append(left, l)
	}
	d.lamps = left
}

// listed takes news of the list. d.mu is held.
func (d *Desk) listed(list eventlist.List, known map[string]*lamp) {
	d.listError = ""
	if list.Full {
		keep := map[string]bool{}
		for _, r := range list.Resources {
			keep[r.URI] = true
		}
		d.drop(known, keep)
	}
	for _, r := range list.Resources {
		l := known[r.URI]
		if l == nil {
			if len(known) >= maxListLamps {
				continue
			}
			f := d.cfg.Setting.ListFunction
			f.Target, f.Name = r.URI, cmp.Or(r.Name, userOf(r.URI))
			l = newLamp(d.freeKey(), f)
			known[r.URI] = l
			d.lamps = append(d.lamps, l)
		}
		for _, i := range r.Instances {
			if i.State == "terminated" {
				l.dark(cmp.Or("the server does not follow it: "+i.Reason, i.State))
				continue
			}
			l.told(i.Type, i.Body)
		}
	}
	d.stir()
}

// freeKey returns the first key of those for the list that has no lamp, or 0. d.mu is held.
func (d *Desk) freeKey() int {
	taken := map[int]bool{}
	for _, l := range d.lamps {
		taken[l.Key] = true
	}
	for _, key := range d.cfg.Setting.ListKeys {
		if !taken[key] {
			return key
		}
	}
	return 0
}

// userOf returns the user part of an address.
func userOf(address string) string {
	for _, scheme := range []string{"sip:", "sips:"} {
		address = strings.TrimPrefix(address, scheme)
	}
	user, _, _ := strings.Cut(address, "@")
	user, _, _ = strings.Cut(user, ";")
	return user
}
