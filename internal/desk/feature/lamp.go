package feature

import (
	"context"
	"strings"

	"ringfence"
	"ringfence/internal/service/phone"
)

// Messages is what waits in the mailbox of a line.
type Messages struct {
	Waiting bool   `json:"waiting"`
	New     uint32 `json:"new"`
	Old     uint32 `json:"old"`
	Error   string `json:"error,omitempty"` // why nobody tells
}

// Lamp is a key that shows whether somebody is in a call.
type Lamp struct {
	Key    int    `json:"key"`
	Target string `json:"target"`
	Name   string `json:"name,omitempty"`
	State  string `json:"state"` // idle, ringing, busy; unknown
	Error  string `json:"error,omitempty"`
}

// The types of what a server tells.
const (
	summaryType = "application/simple-message-summary"
	dialogType  = "application/dialog-info+xml"
)

// Watch subscribes to what the lamps show, until ctx ends: messages of each line, and the calls of whoever a key watches.
func (d *Desk) Watch(ctx context.Context) {
	d.mu.Lock()
	var lines []*line
	for _, l := range d.lines {
		lines = append(lines, l)
	}
	first, _ := d.line(0)
	for key := 1; key <= 16 && first != nil; key++ {
		if f, ok := d.cfg.Setting.Keys[key]; ok && f.Lamp {
			d.lamps = append(d.lamps, Lamp{Key: key, Target: f.Target, Name: f.Name, State: "unknown"})
			i := len(d.lamps) - 1
			go d.lamp(ctx, first.phone, i, f.Target)
		}
	}
	d.mu.Unlock()
	for _, l := range lines {
		if box, ok := d.cfg.Setting.Mailbox[l.number]; ok && l.phone.Registered() {
			go d.mailbox(ctx, l, box)
		}
	}
}

// subscribe follows a subscription until it is over.
func subscribe(ctx context.Context, p *phone.Phone, pkg, target, accept string, heard func(phone.Notice)) error {
	s, err := p.Subscribe(ctx, pkg, target, accept)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		select {
		case n, ok := <-s.Notices():
			if !ok {
				return fault(ringfence.KindUnavailable, "", "the server ended the subscription")
			}
			heard(n)
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *Desk) mailbox(ctx context.Context, l *line, box string) {
	err := subscribe(ctx, l.phone, "message-summary", box, summaryType, func(n phone.Notice) { d.Told(l.number, "message-summary", n.Body) })
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

func (d *Desk) lamp(ctx context.Context, p *phone.Phone, i int, target string) {
	dialogs := map[string]string{} // by id, while they last
	show := func(state, trouble string) {
		d.mu.Lock()
		d.lamps[i].State, d.lamps[i].Error = state, trouble
		d.stir()
		d.mu.Unlock()
	}
	err := subscribe(ctx, p, "dialog", target, dialogType, func(n phone.Notice) {
		if len(n.Body) == 0 || !strings.HasPrefix(n.ContentType, dialogType) {
			return
		}
		info, err := phone.ParseDialogInfo(n.Body)
		if err != nil {
			return
		}
		if info.Full {
			clear(dialogs)
		}
		for _, x := range info.Dialogs {
			if x.State == "terminated" || len(dialogs) >= 64 {
				delete(dialogs, x.ID)
				continue
			}
			dialogs[x.ID] = x.State
		}
		state := "idle"
		for _, x := range dialogs {
			if x == "confirmed" {
				state = "busy"
			} else if state == "idle" {
				state = "ringing"
			}
		}
		show(state, "")
	})
	if err != nil {
		show("unknown", err.Error())
	}
}
