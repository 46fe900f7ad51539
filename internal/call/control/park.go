package control

import (
	"strconv"
	"time"

	"ringfence"
)

const (
	firstSlot = 701
	lastSlot  = 799
	parkTime  = 3 * time.Minute
)

// park keeps a party in a slot, with music, until somebody dials *71 and the slot. After a while it rings back at who parked it.
func (call *Call) park(left *Leg) error {
	c := call.ctl
	slot := firstSlot
	for c.parked[slot] != nil {
		if slot++; slot > lastSlot {
			return &ringfence.Fault{Op: "call.park", Kind: ringfence.KindOverload, Text: "every parking slot is taken"}
		}
	}
	c.parked[slot] = call
	call.slot = slot
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
		call.slot = 0
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
