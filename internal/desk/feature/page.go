package feature

import (
	"context"
	"strings"

	"ringfence"
	"ringfence/internal/desk/paging"
	"ringfence/internal/service/phone"
)

// Pager is what pages by multicast.
type Pager interface {
	Start(ctx context.Context, g paging.Group, says paging.Source) error
	Stop() bool
	Pages() []paging.Page
}

// SetPager gives the desk what it pages by.
func (d *Desk) SetPager(p Pager) {
	d.mu.Lock()
	d.pager = p
	d.mu.Unlock()
}

// Stir tells who waits that pages changed.
func (d *Desk) Stir() {
	d.mu.Lock()
	d.stir()
	d.mu.Unlock()
}

// group returns the group that a number pages, if this phone pages.
func (d *Desk) group(number string) (paging.Group, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pager == nil {
		return paging.Group{}, false
	}
	return d.cfg.Setting.Paging.Find(number)
}

// pages begins or ends a page.
func (d *Desk) pages(life context.Context, c Command) (Result, error) {
	d.mu.Lock()
	pager := d.pager
	d.mu.Unlock()
	switch {
	case d.cfg.Setting.Paging.Refused != nil:
		return Result{}, d.cfg.Setting.Paging.Refused
	case pager == nil:
		return Result{}, fault(ringfence.KindDenied, "set "+paging.ScriptParameter, "the profile has no paging groups")
	case c.Do == DoEndPage && !pager.Stop():
		return Result{}, fault(ringfence.KindConflict, "", "this phone does not page")
	case c.Do == DoEndPage:
		return Result{Text: "the page is over"}, nil
	}
	g, ok := d.group(c.Number)
	if !ok {
		var numbers []string
		for _, g := range d.cfg.Setting.Paging.Groups {
			numbers = append(numbers, g.Number)
		}
		return Result{}, fault(ringfence.KindNotFound, "the groups are "+strings.Join(numbers, ", "), "there is no paging group %.40q", c.Number)
	}
	return d.page(life, g)
}

func (d *Desk) page(life context.Context, g paging.Group) (Result, error) {
	sound, err := d.cfg.Sound()
	if err != nil {
		return Result{}, err
	}
	if sound.Source == nil {
		sound.Source = phone.Silence()
	}
	d.mu.Lock()
	pager := d.pager
	d.mu.Unlock()
	if err := pager.Start(life, g, sound.Source); err != nil {
		return Result{}, err
	}
	return Result{Text: "paging " + g.Number + " IN THE CLEAR at " + g.At.String()}, nil
}

// Busy implements paging.Calls.
func (d *Desk) Busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.calls {
		if c.isUp() && !c.Held {
			return true
		}
	}
	return false
}

// Quiet implements paging.Calls: no line lets anybody through.
func (d *Desk) Quiet() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lines {
		if !l.dnd {
			return false
		}
	}
	return len(d.lines) > 0
}

// Pause implements paging.Calls.
func (d *Desk) Pause(ctx context.Context) (resume func()) {
	d.mu.Lock()
	var held []*call
	for _, c := range d.calls {
		if c.isUp() && !c.Held && !c.busy {
			held = append(held, c)
		}
	}
	d.mu.Unlock()
	for _, c := range held {
		if err := d.hold(ctx, c, true); err != nil {
			d.cfg.Say("call %d: %v", c.ID, err)
		}
	}
	return func() {
		for _, c := range held {
			d.mu.Lock()
			again := c.isUp() && c.Held
			d.mu.Unlock()
			if !again { // somebody took it back, or it is over
				continue
			}
			if err := d.hold(ctx, c, false); err != nil {
				d.cfg.Say("call %d: %v", c.ID, err)
			}
		}
	}
}
