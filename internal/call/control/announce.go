package control

import (
	"strings"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/player"
	"ringfence/internal/sip/dialog"
)

// Why says why a call fails, as an announcement explains it to the caller.
type Why string

// The reasons that have an announcement of their own.
const (
	UnknownNumber Why = "unknown"     // nobody's number
	Barred        Why = "barred"      // not within what the caller may call
	Busy          Why = "busy"        // busy, or not to be disturbed
	NoAnswer      Why = "no-answer"   // it rang, and nobody answered
	Unreachable   Why = "unreachable" // no phone, or no way there
)

// Sounds finds recordings. Its methods must not block; a nil recording means that there is none.
type Sounds interface {
	// Announcement returns what a caller hears whose call fails.
	Announcement(why Why) *player.Recording
	// Recording returns the sound of a number of the dial plan.
	Recording(number ringfence.Number) *player.Recording
}

// whyOf says which announcement fits a refusal by the dial plan. Other faults of these kinds mean something else: *8 with nothing to pick
// up is no unknown number.
func whyOf(err error) Why {
	switch ringfence.KindOf(err) {
	case ringfence.KindNotFound:
		return UnknownNumber
	case ringfence.KindDenied:
		return Barred
	case ringfence.KindUnavailable:
		return Unreachable
	}
	return ""
}

// whyEnded says which announcement fits the final response that a call comes to. For what the node itself has too little of there is none:
// that would take still more of it.
func whyEnded(e dialog.End) Why {
	switch {
	case e.Status == 606 || strings.Contains(e.Reason, "cause=42;"):
		return ""
	case e.Status == 486 || e.Status == 600 || e.Status == 603:
		return Busy
	case e.Status == 408 || e.Status == 480 && strings.Contains(e.Reason, "cause=19;"):
		return NoAnswer
	case e.Status == 404 || e.Status == 410 || e.Status == 480 || e.Status >= 500:
		return Unreachable
	}
	return ""
}

// announce lets the caller of a call that fails hear why, as early media (RFC 3960), and then does reject. It reports false, and reject is
// still to be done, if there is no announcement for that or the caller could not hear it. An emergency call is never held up by one: its
// caller, or the phone, must be free to try something else at once.
func (call *Call) announce(why Why, reject func()) bool {
	l := call.caller
	if call.ctl.cfg.Sounds == nil || why == "" || call.emergency || call.announced || l.late || l.heard == nil || l.session.State() != dialog.Early || l.session.UAC {
		return false
	}
	sound := call.ctl.cfg.Sounds.Announcement(why)
	if sound == nil {
		return false
	}
	if !l.agreed {
		answer, err := l.pick(own())
		if err != nil {
			call.ctl.cfg.Log.Debug("an announcement cannot be played", "call", call.ID, "why", why, "err", err)
			return false
		}
		l.session.Progress(183, answer)
	}
	if call.early != nil { // what a phone said before it failed
		call.ctl.cfg.Media.Unjoin(l.media)
		call.early = nil
	}
	call.announced = true
	call.because("the caller hears the announcement %q", string(why))
	return l.hearRecording(sound, 1, func() {
		if !call.over && l.session.State() == dialog.Early {
			reject()
		}
	})
}

// hearRecording plays a recording to a leg and then calls then on the shard. It reports false, and will not call it, if the leg's codec
// is none of ours.
func (l *Leg) hearRecording(r *player.Recording, times int, then func()) bool {
	src, err := r.Play(codec.Name(l.choice.Codec.Name), l.choice.Codec.FMTP, times)
	if err == nil {
		shard := l.call.ctl.cfg.Shard
		err = l.media.Play(l.format(), src, func() { shard.Post(then) })
	}
	if err != nil {
		l.call.ctl.cfg.Log.Warn("a recording cannot be played", "leg", l.ID, "err", err)
	}
	return err == nil
}

// recording plays the recording of a number to the caller and hangs up. A caller who waits is answered; one who is connected already was
// transferred here, or was rung by the node first.
func (call *Call) recording(r *dialplan.Recording) error {
	call.To = string(r.Number)
	var sound *player.Recording
	if call.ctl.cfg.Sounds != nil {
		sound = call.ctl.cfg.Sounds.Recording(r.Number)
	}
	if sound == nil {
		return &ringfence.Fault{Op: "call.recording", Kind: ringfence.KindUnavailable, Text: "the recording of " + string(r.Number) + " cannot be played",
			Hint: "see whether its file is there: ringfence config check"}
	}
	l := call.caller
	if l.session.State() == dialog.Confirmed && l.agreed {
		if _, err := l.encoder(); err != nil { // the transferor keeps the call
			return err
		}
	} else if err := l.answerWith(own()); err != nil {
		return err
	}
	call.connected()
	call.transferred(nil)
	over := func() {
		if !call.over {
			call.end(nil, dialog.Reason(16, "the recording is over"), "the recording was played")
		}
	}
	if !l.hearRecording(sound, r.Times, over) {
		over()
	}
	return nil
}
