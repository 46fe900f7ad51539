package feature

import (
	"context"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/service/phone"
)

// maxKey is the last line key that a profile can give a function; those of key expansion modules are 101 and so on.
const maxKey = flatprofile.Keys

// press does what a key does now.
func (d *Desk) press(ctx, life context.Context, c Command) (Result, error) {
	d.mu.Lock()
	f, state := d.cfg.Setting.Keys[c.Key], ""
	var rings phone.DialogState
	ringing := false
	for _, l := range d.lamps {
		if l.Key == c.Key && c.Key != 0 {
			f, state = l.f, l.State
			rings, ringing = l.rings()
		}
	}
	inCall := false
	for _, own := range d.calls {
		inCall = inCall || own.isUp()
	}
	d.mu.Unlock()
	if c.Line == 0 {
		c.Line = f.Line
	}
	switch {
	case f.Parks && (inCall || c.Call != 0):
		c.Do, c.Number = DoPark, f.Target
		return d.withCall(ctx, life, c)
	case f.Parks && state == lampIdle:
		return Result{}, fault(ringfence.KindConflict, "press it in a call to park the call there", "nobody is parked in %s", userOf(f.Target))
	case f.Parks:
		return d.retrieve(ctx, life, c.Line, f.Target)
	case f.PicksUp && ringing:
		return d.takeOver(ctx, life, c.Line, f.Target, rings)
	case f.Mailbox && !f.Dials:
		if d.cfg.Setting.VoiceMail == "" && f.Number == "" {
			return Result{}, fault(ringfence.KindNotFound, "set Voice_Mail_Number, or ext= of the key", "it is not known what to dial for the messages of key %d", c.Key)
		}
		if f.Number == "" {
			f.Number = d.cfg.Setting.VoiceMail
		}
		return d.dial(ctx, life, c.Line, f.Number)
	case f.Dials:
		return d.dial(ctx, life, c.Line, f.Dialled())
	}
	return Result{}, fault(ringfence.KindNotFound, "set Extended_Function_1_ and the like to fnc=sd;ext=NUMBER", "key %d dials nothing", c.Key)
}

// takeOver takes a call that rings elsewhere: from the caller itself if the server told of the dialog (RFC 3891), else by the server's code.
func (d *Desk) takeOver(ctx, life context.Context, line int, at string, rings phone.DialogState) (Result, error) {
	if d.cfg.Setting.Codes.PickUp == "" {
		return Result{}, fault(ringfence.KindDenied, "", "the profile has Call_Pick_Up_Serv = No, or no Attendant_Console_Call_Pickup_Code")
	}
	to, value, ok := rings.Replaces()
	if !ok {
		return d.pickUp(ctx, life, line, at)
	}
	r, err := d.place(ctx, life, line, to, value)
	if err == nil {
		r.Text = "picking up what rings at " + userOf(at) + ", from " + to
	}
	return r, err
}

// pickUp takes a call that rings elsewhere by the server's code: at a number, or, without one, in the group.
func (d *Desk) pickUp(ctx, life context.Context, line int, at string) (Result, error) {
	code, where := d.cfg.Setting.Codes.PickUp, userOf(at)
	if at == "" {
		code = d.cfg.Setting.Codes.PickUpGroup
	}
	if code == "" {
		return Result{}, fault(ringfence.KindDenied, "", "the profile lets this phone pick nothing up (Call_Pick_Up_Serv and Attendant_Console_Call_Pickup_Code; Group_Call_Pick_Up_Serv and Group_Call_Pickup_Code)")
	}
	r, err := d.place(ctx, life, line, code+where, "")
	if err == nil {
		r.Text = "picking up: " + code + where
	}
	return r, err
}

// parkNumber is what a call is transferred to, to park it in a place; without one the server chooses.
func (d *Desk) parkNumber(place string) (string, error) {
	code := d.cfg.Setting.Codes.Park
	if code == "" {
		return "", fault(ringfence.KindDenied, "", "the profile lets this phone park nothing (Call_Park_Serv, Call_Park_Code)")
	}
	return code + userOf(place), nil
}

// retrieve takes a parked call.
func (d *Desk) retrieve(ctx, life context.Context, line int, place string) (Result, error) {
	code := d.cfg.Setting.Codes.Retrieve
	switch {
	case code == "":
		return Result{}, fault(ringfence.KindDenied, "", "the profile lets this phone take no parked call (Call_Park_Serv, Call_Unpark_Code)")
	case userOf(place) == "":
		return Result{}, fault(ringfence.KindInvalid, "ringfence phone do retrieve 701", "where is the call parked?")
	}
	r, err := d.place(ctx, life, line, code+userOf(place), "")
	if err == nil {
		r.Text = "taking what is parked in " + userOf(place)
	}
	return r, err
}
