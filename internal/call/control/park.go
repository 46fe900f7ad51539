package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

const (
	firstSlot = 701
	lastSlot  = 799
	parkTime  = 3 * time.Minute
)

// park keeps a party in a slot, with music, until somebody dials *71 and the slot. After a while it rings back at who parked it. Without a wish it is the first slot that is free.
func (call *Call) park(left *Leg, wish string) error {
	c := call.ctl
	slot := firstSlot
	if wish != "" {
		var ok bool
		if slot, ok = slotOf(wish); !ok {
			return &ringfence.Fault{Op: "call.park", Kind: ringfence.KindNotFound, Text: strconv.Quote(wish) + " is no parking slot", Hint: fmt.Sprintf("use %d to %d", firstSlot, lastSlot)}
		}
		if c.parked[slot] != nil {
			return &ringfence.Fault{Op: "call.park", Kind: ringfence.KindBusy, Text: "a call is parked in slot " + wish + " already"}
		}
	}
	for c.parked[slot] != nil {
		if slot++; slot > lastSlot {
			return &ringfence.Fault{Op: "call.park", Kind: ringfence.KindOverload, Text: "every parking slot is taken"}
		}
	}
	c.parked[slot] = call
	call.slot = slot
	c.slotChanged(slot)
	call.To = "parked " + strconv.Itoa(slot)
	call.because("%s is parked in slot %d; dial *71%d to take the call", left.User, slot, slot)
	by := call.transfer.by.User
	c.cfg.Shard.After(&call.ringer, parkTime, func() {
		call.unpark()
		call.because("nobody took the call: it rings back at %s", by)
		call.ringUser(by)
	})
	return nil
}

func (call *Call) unpark() {
	if call.slot != 0 {
		delete(call.ctl.parked, call.slot)
		call.ctl.slotChanged(call.slot)
		call.slot = 0
	}
}

// slotPrefix begins what a parking slot is called among the users who are watched: what is dialled to take a call from it, which is nobody's name.
const slotPrefix = "*71"

func slotOf(text string) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= firstSlot && n <= lastSlot && strconv.Itoa(n) == text
}

// Slot returns as whom a parking slot is watched, by its number.
func (c *Control) Slot(n ringfence.Number) (ringfence.UserID, bool) {
	number := strings.TrimPrefix(string(n), slotPrefix)
	_, ok := slotOf(number)
	return ringfence.UserID(slotPrefix + number), ok
}

// slotLines returns the call that is parked in a slot, as a line of it.
func (c *Control) slotLines(user ringfence.UserID) []Line {
	number, _ := strings.CutPrefix(string(user), slotPrefix)
	slot, _ := slotOf(number)
	call := c.parked[slot]
	if call == nil {
		return nil
	}
	return []Line{{ID: string(call.ID), Call: call.ID, State: "confirmed", Start: call.Start}}
}

// slotChanged tells who watches a slot, once the present work is done.
func (c *Control) slotChanged(slot int) {
	if user := ringfence.UserID(slotPrefix + strconv.Itoa(slot)); c.cfg.Changed != nil && c.cfg.Watched(user) {
		c.cfg.Shard.Post(func() { c.cfg.Changed(user) })
	}
}

// retrieve connects the caller with who is parked in a slot.
func (call *Call) retrieve(slot string) error {
	n, _ := strconv.Atoi(slot)
	parked := call.ctl.parked[n]
	if parked == nil {
		return &ringfence.Fault{Op: "call.retrieve", Kind: ringfence.KindNotFound, Text: "no call is parked in slot " + strconv.Quote(slot)}
	}
	me := call.caller
	if err := parked.connect(parked.caller, me); err != nil {
		return err
	}
	parked.ringer.Stop()
	parked.unpark()
	call.give(me, parked)
	me.Side = "callee"
	parked.callee, parked.To = me, string(me.User)
	parked.connected()
	parked.because("%s took the call", me.User)
	call.merged(parked)
	return nil
}

// Parked lists the slots in use and the calls in them, from anywhere.
func (c *Control) Parked() map[int]ringfence.CallID {
	out := map[int]ringfence.CallID{}
	c.cfg.Shard.Do(func() {
		for slot, call := range c.parked {
			out[slot] = call.ID
		}
	})
	return out
}
